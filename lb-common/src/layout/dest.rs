use bytemuck::{Pod, Zeroable};

use super::{ForwardMethod, LocalPool};
use crate::{
    tables::Cell,
    time::{Tick, seconds},
};

/// What the packet path must know of a server at every packet, in one word so
/// that a change is one store: the next hop in the low half, flags in the high.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DestWord(pub u64);

/// Flags in a [`DestWord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DestFlags(pub u32);

impl DestFlags {
    /// The server is configured (cleared when it is deleted: packets of its
    /// connections are then dropped, as the kernel does).
    pub const AVAILABLE: u32 = 1;
    /// The service's address belongs to this director at the moment; without
    /// it the packets are the stack's.
    pub const CLAIMED: u32 = 1 << 1;
    /// The server is this director itself: packets are passed up.
    pub const LOCAL: u32 = 1 << 2;
    /// The next hop is resolved.
    pub const RESOLVED: u32 = 1 << 3;
    /// As many connections as its upper threshold allows (`-x`): set and cleared
    /// by packets and the sweep, so that the daemon leaves it alone when it
    /// stores a word.
    pub const OVERLOAD: u32 = 1 << 4;
    /// Its weight is 0.
    pub const QUIESCED: u32 = 1 << 5;
    /// It is known that there is no way to the server, so clients are told. With
    /// neither this nor [`Self::RESOLVED`] it is being asked for.
    pub const UNREACHABLE: u32 = 1 << 6;
}

impl DestWord {
    /// Puts a word together.
    pub const fn new(next_hop: u32, flags: u32) -> Self {
        Self(next_hop as u64 | (flags as u64) << 32)
    }

    /// Index in the next-hop table.
    #[inline(always)]
    pub const fn next_hop(self) -> u32 {
        self.0 as u32
    }

    /// Whether all of `flags` are set.
    #[inline(always)]
    pub const fn has(self, flags: u32) -> bool {
        (self.0 >> 32) as u32 & flags == flags
    }

    /// The flags.
    pub const fn flags(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// This word, overloaded or not.
    #[inline(always)]
    pub const fn overloaded(self, overloaded: bool) -> Self {
        let flag = (DestFlags::OVERLOAD as u64) << 32;
        if overloaded {
            Self(self.0 | flag)
        } else {
            Self(self.0 & !flag)
        }
    }
}

/// A server's slot. It is stable: connections refer to it by index, and it is
/// reused only when none does.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DestEntry {
    /// [`DestWord`].
    pub word: u64,
    /// RIP in network byte order; IPv4 uses the first word.
    pub addr: [u32; 4],
    /// Server port in network byte order; 0 keeps the packet's.
    pub port: u16,
    /// 4 or 6.
    pub family: u8,
    /// [`TunnelKind`] as a number; means something to [`ForwardMethod::Tunnel`](super::ForwardMethod).
    pub tunnel_kind: u8,
    /// Slot of the service.
    pub service_slot: u32,
    /// Incremented whenever the slot gets a new tenant.
    pub generation: u32,
    /// UDP port of a GUE tunnel in network byte order.
    pub tunnel_port: u16,
    /// [`TunnelChecksum`] as a number.
    pub tunnel_checksum: u8,
    /// [`ForwardMethod`](super::ForwardMethod) of new connections, for those that
    /// a template sends here.
    pub method: u8,
    /// [`LocalPool`](super::LocalPool) of
    /// [`ForwardMethod::Fullnat`](super::ForwardMethod).
    pub local: u64,
    /// [`PathMtu`] towards the server, of [`ForwardMethod::Tunnel`](super::ForwardMethod).
    /// Written by packets.
    pub path_mtu: u64,
    /// [`Thresholds`].
    pub thresholds: u64,
}

/// What a router on the way to a tunnel's server has told about its link: the
/// longest outer packet that fits in the low half, in the high half the tick at
/// which that is forgotten. 0 is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PathMtu(pub u64);

impl PathMtu {
    /// For how long it is remembered: the kernel's `route.mtu_expires`.
    pub const LIFE: u32 = seconds(600);

    /// `mtu` bytes, told at `now`.
    #[inline(always)]
    pub const fn new(mtu: u32, now: Tick) -> Self {
        Self(mtu as u64 | (now.wrapping_add(Self::LIFE) as u64) << 32)
    }

    /// The longest packet, if one is remembered at `now`. (One that nobody looked
    /// at while the clock wrapped around holds again for [`Self::LIFE`].)
    #[inline(always)]
    pub const fn at(self, now: Tick) -> Option<u32> {
        let left = ((self.0 >> 32) as u32).wrapping_sub(now);
        if self.0 == 0 || left > Self::LIFE {
            return None;
        }
        Some(self.0 as u32)
    }
}

/// Connections a server takes (`-x`, `-y`): the upper threshold in the low half,
/// the lower one above it; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Thresholds(pub u64);

impl Thresholds {
    /// Puts them together.
    pub const fn new(upper: u32, lower: u32) -> Self {
        Self(upper as u64 | (lower as u64) << 32)
    }

    /// At this many connections no more are given to the server.
    #[inline(always)]
    pub const fn upper(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    /// Below this many, some are again.
    #[inline(always)]
    pub const fn lower(self) -> u64 {
        self.0 >> 32
    }

    /// Whether a server that had been full and now has `total` connections takes
    /// new ones.
    #[inline(always)]
    pub const fn is_relieved(self, total: u64) -> bool {
        if self.lower() != 0 {
            total < self.lower()
        } else {
            total.wrapping_mul(4) < self.upper().wrapping_mul(3)
        }
    }

    /// Whether `total` connections are as many as there may be.
    #[inline(always)]
    pub const fn is_reached(self, total: u64) -> bool {
        self.upper() != 0 && total >= self.upper()
    }
}

/// What is put around a packet (`--tun-type`). Read at every packet: an edit is
/// also for connections that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum TunnelKind {
    /// IP in IP.
    #[default]
    Ipip = 0,
    /// Generic UDP encapsulation.
    Gue = 1,
    /// Generic routing encapsulation.
    Gre = 2,
}

/// Checksum of a tunnel's header (`--tun-nocsum` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None = 0,
    /// UDP's or GRE's own.
    Full = 1,
    /// GUE's remote checksum offload.
    Remote = 2,
}

/// A [`DestEntry`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct DestView<C>(pub C);

impl<C: Cell> DestView<C> {
    /// [`DestEntry::word`].
    #[inline(always)]
    pub fn word(self) -> DestWord {
        DestWord(self.0.load(0))
    }

    /// Word `i` (0 or 1) of [`DestEntry::addr`], two 32-bit words each.
    #[inline(always)]
    pub fn addr(self, i: usize) -> u64 {
        self.0.load(1 + i)
    }

    /// The server in slot `slot`, which this is, as no other one in that slot
    /// will be called: never 0.
    #[inline(always)]
    pub fn tenant(self, slot: u32) -> u64 {
        u64::from(slot).wrapping_add(1) | self.0.load(4) << 32
    }

    /// [`DestEntry::port`].
    #[inline(always)]
    pub fn port(self) -> u16 {
        self.0.load(3) as u16
    }

    /// [`DestEntry::family`].
    #[inline(always)]
    pub fn family(self) -> u8 {
        (self.0.load(3) >> 16) as u8
    }

    /// [`DestEntry::tunnel_kind`].
    #[inline(always)]
    pub fn tunnel_kind(self) -> u8 {
        (self.0.load(3) >> 24) as u8
    }

    /// [`DestEntry::tunnel_port`].
    #[inline(always)]
    pub fn tunnel_port(self) -> u16 {
        (self.0.load(4) >> 32) as u16
    }

    /// [`DestEntry::local`].
    #[inline(always)]
    pub fn local(self) -> LocalPool {
        LocalPool(self.0.load(5))
    }

    /// [`DestEntry::tunnel_checksum`].
    #[inline(always)]
    pub fn tunnel_checksum(self) -> u8 {
        (self.0.load(4) >> 48) as u8
    }

    /// [`DestEntry::path_mtu`].
    #[inline(always)]
    pub fn path_mtu(self) -> PathMtu {
        PathMtu(self.0.load(6))
    }

    /// Replaces [`DestEntry::path_mtu`], if it is still `old`.
    #[inline(always)]
    pub fn set_path_mtu(self, old: PathMtu, new: PathMtu) {
        self.0.compare_exchange(6, old.0, new.0);
    }

    /// [`DestEntry::method`].
    #[inline(always)]
    pub fn method(self) -> ForwardMethod {
        ForwardMethod::from_bits((self.0.load(4) >> 56) as u8)
    }

    /// The server's thresholds.
    #[inline(always)]
    pub fn thresholds(self) -> Thresholds {
        Thresholds(self.0.load(7))
    }

    /// Says whether the server is full; the rest of its word, which the daemon
    /// writes, stays.
    #[inline(always)]
    pub fn set_overloaded(self, overloaded: bool) {
        let flag = u64::from(DestFlags::OVERLOAD) << 32;
        if overloaded {
            self.0.set_bits(0, flag);
        } else {
            self.0.clear_bits(0, flag);
        }
    }
}

/// A server's load: written by packets and by the sweep with atomic additions,
/// exact at rest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DestLoad {
    /// Active connections in the low half, inactive in the high: a connection
    /// that changes sides is one addition.
    pub conns: u64,
    /// Persistence templates bound to the server.
    pub templates: u64,
    /// Zero.
    pub reserved: [u64; 6],
}

impl DestLoad {
    /// One active connection.
    pub const ACTIVE: u64 = 1;
    /// One inactive connection.
    pub const INACTIVE: u64 = 1 << 32;

    /// Active connections.
    pub const fn active(&self) -> u32 {
        self.conns as u32
    }

    /// Connections of a word.
    #[inline(always)]
    pub const fn total(conns: u64) -> u64 {
        (conns & 0xffff_ffff).wrapping_add(conns >> 32)
    }

    /// Inactive connections.
    pub const fn inactive(&self) -> u32 {
        (self.conns >> 32) as u32
    }
}
