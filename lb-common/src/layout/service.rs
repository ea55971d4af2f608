use bytemuck::{Pod, Zeroable};

use crate::tables::Cell;

/// Slots probed for a service. The daemon picks the table's seed so that every
/// service lies within its window.
pub const SERVICE_WINDOW: u32 = 8;

/// Flags of a service, with the kernel's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServiceFlags(pub u16);

impl ServiceFlags {
    /// A client's connections go to one server (`-p`).
    pub const PERSISTENT: u16 = 0x01;
    /// Every datagram is scheduled for itself (`-o`).
    pub const ONE_PACKET: u16 = 0x04;
    /// `-b flag-1`: sh and mh look for another server (`sh-fallback`, `mh-fallback`).
    pub const SCHED_1: u16 = 0x08;
    /// `-b flag-2`: sh and mh hash the client's port too (`sh-port`, `mh-port`).
    pub const SCHED_2: u16 = 0x10;
    /// `-b flag-3`: without a meaning yet, as in the kernel.
    pub const SCHED_3: u16 = 0x20;
    /// The service's address belongs to this director at the moment.
    pub const CLAIMED: u16 = 1 << 15;
    /// The scheduler was bound anew in this generation: the seed is the cursor,
    /// whatever it was before.
    pub const REBOUND: u16 = 1 << 14;
    /// Persistent by SIP's Call-ID (`--pe sip`).
    pub const SIP: u16 = 1 << 12;
    /// FULLNAT servers are told the client's address in a TCP option (`--toa`).
    pub const TOA: u16 = 1 << 13;
}

/// What a service look-up compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// VIP in network byte order; IPv4 uses the first word.
    pub addr: [u32; 4],
    /// Service port in network byte order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
}

impl ServiceKey {
    /// First slot to probe in a table of `slots` (a power of two).
    #[inline(always)]
    pub const fn home(self, seed: u64, slots: u32) -> u32 {
        let folded = self.addr[0] ^ self.addr[1] ^ self.addr[2] ^ self.addr[3];
        let tail = self.tail() as u64;
        let mut x = (folded as u64 | tail << 32) ^ seed;
        x = (x ^ (x >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // One round leaves 50 ports of one address in clusters that no window
        // holds (measured: full at a load of 0.17; with two rounds 0.7 and more).
        x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x >> 40) as u32 & (slots - 1)
    }

    /// The key of the service of a firewall mark: a protocol that no packet of an
    /// address service has.
    #[inline(always)]
    pub const fn of_mark(mark: u32, family: u8) -> Self {
        Self {
            addr: [mark, 0, 0, 0],
            port: 0,
            protocol: 0,
            family,
        }
    }

    /// Port, protocol and family as stored.
    #[inline(always)]
    pub const fn tail(self) -> u32 {
        self.port as u32 | (self.protocol as u32) << 16 | (self.family as u32) << 24
    }
}

/// A virtual service in one half of the configuration.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceEntry {
    /// VIP in network byte order.
    pub addr: [u32; 4],
    /// Port in network byte order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6; 0 is an empty slot.
    pub family: u8,
    /// [`ServiceFlags`].
    pub flags: u16,
    /// [`SchedulerKind`](super::SchedulerKind).
    pub scheduler: u8,
    /// Zero.
    pub reserved0: u8,
    /// Slot of the service: index of its [`ServiceState`].
    pub slot: u32,
    /// Generation of the list: equal to that of the cursor once it is carried over.
    pub generation: u32,
    /// First entry of the list, counted from the start of this half.
    pub list_start: u32,
    /// Entries of the list.
    pub list_len: u32,
    /// wrr: greatest weight − (gcd − 1).
    pub max_weight: u32,
    /// wrr: greatest common divisor of the weights above 0, or 1.
    pub gcd: u32,
    /// The cursor word that `seed` was computed from.
    pub seed_from: u64,
    /// The cursor word of this generation, when the old one is `seed_from`.
    pub seed: u64,
    /// What the scheduler's compile step prepared
    /// ([`Compiled`](crate::sched::Compiled)): its word, its table, and the
    /// number of its binding.
    pub sched: [u64; 3],
    /// Of a persistent service: its templates' time-out in ticks, then two words
    /// that a client's address is masked with, in network byte order.
    pub persistence: [u64; 3],
    /// Zero.
    pub reserved: [u64; 2],
}

/// A [`ServiceEntry`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct ServiceView<C>(pub C);

impl<C: Cell> ServiceView<C> {
    /// Whether this is the service `key`.
    #[inline(always)]
    pub fn matches(self, key: &ServiceKey) -> bool {
        let word = |i: usize| key.addr[i] as u64 | (key.addr[i + 1] as u64) << 32;
        self.is_of([word(0), word(2)], key.tail())
    }

    /// As [`Self::matches`], of an address as in the facts and a
    /// [`ServiceKey::tail`].
    #[inline(always)]
    pub fn is_of(self, addr: [u64; 2], tail: u32) -> bool {
        self.0.load(2) as u32 == tail && self.0.load(0) == addr[0] && self.0.load(1) == addr[1]
    }

    /// Whether it is the service of a firewall mark ([`ServiceKey::of_mark`]).
    #[inline(always)]
    pub fn is_by_mark(self) -> bool {
        (self.0.load(2) >> 16) as u8 == 0
    }

    /// [`ServiceEntry::flags`].
    #[inline(always)]
    pub fn flags(self) -> ServiceFlags {
        ServiceFlags((self.0.load(2) >> 32) as u16)
    }

    /// [`ServiceEntry::scheduler`] as a number.
    #[inline(always)]
    pub fn scheduler(self) -> u8 {
        (self.0.load(2) >> 48) as u8
    }

    /// [`ServiceEntry::slot`].
    #[inline(always)]
    pub fn slot(self) -> u32 {
        self.0.load(3) as u32
    }

    /// [`ServiceEntry::generation`].
    #[inline(always)]
    pub fn generation(self) -> u32 {
        (self.0.load(3) >> 32) as u32
    }

    /// [`ServiceEntry::list_start`].
    #[inline(always)]
    pub fn list_start(self) -> u32 {
        self.0.load(4) as u32
    }

    /// [`ServiceEntry::list_len`].
    #[inline(always)]
    pub fn list_len(self) -> u32 {
        (self.0.load(4) >> 32) as u32
    }

    /// [`ServiceEntry::max_weight`].
    #[inline(always)]
    pub fn max_weight(self) -> u32 {
        self.0.load(5) as u32
    }

    /// [`ServiceEntry::gcd`].
    #[inline(always)]
    pub fn gcd(self) -> u32 {
        (self.0.load(5) >> 32) as u32
    }

    /// [`ServiceEntry::seed_from`].
    #[inline(always)]
    pub fn seed_from(self) -> u64 {
        self.0.load(6)
    }

    /// [`ServiceEntry::seed`].
    #[inline(always)]
    pub fn seed(self) -> u64 {
        self.0.load(7)
    }

    /// The word that the scheduler's compile step prepared.
    #[inline(always)]
    pub fn sched_word(self) -> u64 {
        self.0.load(8)
    }

    /// First word of the scheduler's table, plus 1; 0 is none.
    #[inline(always)]
    pub fn sched_table(self) -> u64 {
        self.0.load(9)
    }

    /// Number of the scheduler's binding: another one when `-E` changed it.
    #[inline(always)]
    pub fn binding(self) -> u64 {
        self.0.load(10)
    }

    /// [`ServiceEntry::port`].
    #[inline(always)]
    pub fn port(self) -> u16 {
        self.0.load(2) as u16
    }

    /// Time-out of the service's templates, in ticks.
    #[inline(always)]
    pub fn persistence(self) -> u32 {
        self.0.load(11) as u32
    }

    /// Word `i` (0 or 1) of what a client's address is masked with.
    #[inline(always)]
    pub fn client_mask(self, i: usize) -> u64 {
        self.0.load(12 + i)
    }
}

/// What a service remembers between packets, outside the halves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceState {
    /// Scheduler cursor ([`Cursor`](crate::sched::Cursor)).
    pub cursor: u64,
    /// Zero.
    pub reserved: [u64; 7],
}
