//! What a home cell knows of the flows whose home it is: the lock that inserts take.

use core::marker::PhantomData;

use super::{LOCK_TRIES, word};
use crate::{
    family::Family,
    tables::{Cell, Step, Tables},
    time::{Tick, seconds},
};

/// Ticks after which a lock's holder must be gone.
const STALE_LOCK: u32 = seconds(2);

/// A home cell's word: bits 0–15 flows of this home in the stash, 16–31 how often the
/// lock was given back, 32–63 the lock: the locker's tick, 0 is free.
///
/// As long as it is the same and not locked, no flow of this home was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeWord(pub u64);

impl HomeWord {
    /// No word of a home that is not locked.
    pub const NONE: Self = Self(u64::MAX);
    /// One flow in the stash.
    pub(super) const SPILL: u64 = 1;

    const SPILLED: u64 = 0xffff;
    const TURN: u64 = 1 << 16;
    const LOCK: u64 = !0xffff_ffff;

    /// Whether somebody inserts.
    #[inline(always)]
    pub const fn is_locked(self) -> bool {
        self.0 & Self::LOCK != 0
    }

    /// Flows of this home in the stash.
    #[inline(always)]
    pub const fn spilled(self) -> u64 {
        self.0 & Self::SPILLED
    }

    /// Whether no more can be counted.
    #[inline(always)]
    pub(super) const fn is_full(self) -> bool {
        self.spilled() == Self::SPILLED
    }

    /// When it was locked.
    #[inline(always)]
    const fn holder(self) -> Tick {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    const fn locked(self, ticket: u64) -> Self {
        Self(self.0 & !Self::LOCK | ticket)
    }

    #[inline(always)]
    const fn unlocked(self) -> Self {
        Self(self.0.wrapping_add(Self::TURN) & !Self::LOCK)
    }
}

/// The lock of a home cell.
#[derive(Clone, Copy)]
pub(super) struct Lock {
    home: u64,
    /// The lock word's high half; never 0, which means unlocked.
    ticket: u64,
}

#[derive(Clone, Copy)]
struct TakeLock<F> {
    lock: Lock,
    now: u64,
    taken: u64,
    before: u64,
    family: PhantomData<F>,
}

impl<F: Family, T: Tables> Step<T> for TakeLock<F> {
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        let Some(home) = tables.cell(F::FLOW, self.lock.home as u32) else {
            return false;
        };
        let seen = HomeWord(home.load(word::HOME));
        let age = (self.now as u32).wrapping_sub(seen.holder()) as i32;
        // One that is held for seconds is stale: no program runs that long.
        let free = !seen.is_locked() || age > STALE_LOCK as i32;
        let locked = seen.locked(self.lock.ticket);
        if free && home.compare_exchange(word::HOME, seen.0, locked.0) == seen.0 {
            self.taken = 1;
            self.before = seen.0;
        }
        self.taken == 0
    }
}

#[derive(Clone, Copy)]
struct GiveLockBack<F> {
    lock: Lock,
    family: PhantomData<F>,
}

impl<F: Family, T: Tables> Step<T> for GiveLockBack<F> {
    /// Tries again when the spill count changed meanwhile; leaves a lock alone
    /// that was taken over as stale.
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        let Some(home) = tables.cell(F::FLOW, self.lock.home as u32) else {
            return false;
        };
        let seen = HomeWord(home.load(word::HOME));
        seen.0 & HomeWord::LOCK == self.lock.ticket
            && home.compare_exchange(word::HOME, seen.0, seen.unlocked().0) != seen.0
    }
}

impl Lock {
    /// The lock, and what the word was before.
    #[inline(always)]
    pub(super) fn take<F: Family, T: Tables>(
        tables: T,
        home: u32,
        now: Tick,
    ) -> Option<(Self, HomeWord)> {
        let ticket = u64::from(if now == 0 { 1 } else { now }) << 32;
        let lock = Self {
            home: home.into(),
            ticket,
        };
        let mut take = TakeLock::<F> {
            lock,
            now: now.into(),
            taken: 0,
            before: 0,
            family: PhantomData,
        };
        // Contention is rare, and a loop is a call.
        if take.step(tables, 0) {
            tables.repeat(LOCK_TRIES, &mut take);
        }
        (take.taken != 0).then_some((lock, HomeWord(take.before)))
    }

    #[inline(always)]
    pub(super) fn give_back<F: Family, T: Tables>(self, tables: T) {
        let mut give = GiveLockBack::<F> {
            lock: self,
            family: PhantomData,
        };
        if give.step(tables, 0) {
            tables.repeat(LOCK_TRIES, &mut give);
        }
    }
}
