use super::StateWord;
use crate::{
    family::Family,
    layout::ForwardMethod,
    tables::Cell,
    time::{Tick, is_past},
};

/// Words of a flow cell.
pub mod word {
    /// [`StateWord`](super::StateWord).
    pub const STATE: usize = 0;
    /// As a home cell: a [`HomeWord`](super::HomeWord). Never cleared by a release.
    pub const HOME: usize = 1;
    /// [`Times`](super::Times).
    pub const TIMES: usize = 2;
    /// Server slot in the low half, forward method in three bits above it; of a
    /// connection then, from bit 35, index + 1 of its template, or 0.
    pub const DEST: usize = 3;
    /// Index and generation of the cell this one belongs to (reverse); of a
    /// template, [`Control`](super::Control).
    pub const LINK: usize = 4;
    /// Part of a reverse cell's way; in a connection's own cell
    /// [`Family::LOCAL`](crate::family::Family::LOCAL) of IPv4, by tunnel the way to
    /// the client.
    pub const SPARE: usize = 5;
    /// First word of the key.
    pub const KEY: usize = 6;
}

/// Where a connection's dest word holds the index + 1 of its template.
pub const TEMPLATE_SHIFT: u32 = 35;

/// A reference to a cell: it holds as long as the cell's generation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(pub u64);

impl Link {
    /// To no cell.
    pub const NONE: Self = Self(u64::MAX);

    /// To cell `index` of `generation`.
    #[inline(always)]
    pub const fn new(index: u32, generation: u32) -> Self {
        Self(index as u64 | (generation as u64) << 32)
    }

    /// Index of the cell.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// Its generation.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// When a flow was last used, and for how long it then lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times(pub u64);

impl Times {
    /// Used at `now`, with a time-out in ticks.
    #[inline(always)]
    pub const fn new(now: Tick, timeout: u32) -> Self {
        Self(now as u64 | (timeout as u64) << 32)
    }

    /// The moment at which the flow is dead.
    #[inline(always)]
    pub const fn deadline(self) -> Tick {
        (self.0 as u32).wrapping_add((self.0 >> 32) as u32)
    }

    /// Whether the flow is dead at `now`.
    #[inline(always)]
    pub const fn is_dead(self, now: Tick) -> bool {
        is_past(now, self.deadline())
    }

    /// Whether the sweep may release it at `now`.
    #[inline(always)]
    pub const fn is_releasable(self, now: Tick) -> bool {
        is_past(now, self.deadline().wrapping_add(super::SWEEP_DELAY))
    }
}

/// A cell as the engine sees it.
#[derive(Clone, Copy)]
pub struct FlowCell<C>(pub C);

impl<C> FlowCell<C> {
    /// The dest word of a server slot and method, without a template.
    #[inline(always)]
    pub const fn dest_word(slot: u32, method: ForwardMethod) -> u64 {
        slot as u64 | (method as u64) << 32
    }
}

impl<C: Cell> FlowCell<C> {
    /// The state word.
    #[inline(always)]
    pub fn state(self) -> StateWord {
        StateWord(self.0.load(word::STATE))
    }

    /// Replaces the state word if it is still `old`; whether it was.
    #[inline(always)]
    pub fn set_state(self, old: StateWord, new: StateWord) -> bool {
        self.0.compare_exchange(word::STATE, old.0, new.0) == old.0
    }

    /// Last use and time-out.
    #[inline(always)]
    pub fn times(self) -> Times {
        Times(self.0.load(word::TIMES))
    }

    /// Replaces last use and time-out `old`, if they changed: within one tick a
    /// busy flow is only read. The cell may hold a reverse cell's way by now, so
    /// that a plain store would not do; of two packets that race either is right.
    #[inline(always)]
    pub fn touch(self, old: Times, new: Times) {
        if old != new {
            self.0.compare_exchange(word::TIMES, old.0, new.0);
        }
    }

    /// The dest word.
    #[inline(always)]
    pub fn dest(self) -> u64 {
        self.0.load(word::DEST)
    }

    /// The cell that this one belongs to: a reverse cell's connection, a NAT
    /// connection's reverse cell.
    #[inline(always)]
    pub fn link(self) -> Link {
        Link(self.0.load(word::LINK))
    }

    /// Keeps the local end of a FULLNAT connection: address, and port in network
    /// byte order.
    #[inline(always)]
    pub fn keep_local<F: Family>(self, addr: [u64; 2], port: u16) {
        let [first, second, third] = F::LOCAL;
        if F::VERSION == 4 {
            self.0.store(first, addr[0] | u64::from(port) << 32);
        } else {
            self.0.store(first, addr[0]);
            self.0.store(second, addr[1]);
            self.0.store(third, port.into());
        }
    }

    /// What [`Self::keep_local`] kept.
    #[inline(always)]
    pub fn local<F: Family>(self) -> ([u64; 2], u16) {
        let [first, second, third] = F::LOCAL;
        if F::VERSION == 4 {
            let word = self.0.load(first);
            ([word & 0xffff_ffff, 0], (word >> 32) as u16)
        } else {
            let addr = [self.0.load(first), self.0.load(second)];
            (addr, self.0.load(third) as u16)
        }
    }

    /// Keeps the way to the client of a connection through a tunnel, or what is known
    /// to be in a NAT connection's reverse cell, as
    /// [`client_way`](crate::forward::client_way) packs it, where a FULLNAT
    /// connection has its local end. 0 is none.
    #[inline(always)]
    pub fn keep_client_way<F: Family>(self, packed: u64) {
        self.0.store(F::LOCAL[0], packed);
    }

    /// What [`Self::keep_client_way`] kept.
    #[inline(always)]
    pub fn client_way<F: Family>(self) -> u64 {
        self.0.load(F::LOCAL[0])
    }

    /// Forgets what [`Self::keep_client_way`] kept, `packed`, unless the cell has become
    /// another flow's.
    #[inline(always)]
    pub(super) fn forget_client_way<F: Family>(self, packed: u64) {
        self.0.compare_exchange(F::LOCAL[0], packed, 0);
    }

    /// The key.
    #[inline(always)]
    pub fn key<F: Family>(self) -> F::Key {
        F::key_from(|i| self.0.load(word::KEY + i))
    }

    /// Whether the cell's key words are `key`; says nothing about the phase.
    #[inline(always)]
    pub fn has_key<F: Family>(self, key: &F::Key) -> bool {
        let mut i = F::KEY_WORDS;
        while i > 0 {
            i -= 1;
            if self.0.load(word::KEY + i) != F::key_word(key, i) {
                return false;
            }
        }
        true
    }
}
