use core::marker::PhantomData;

use super::{
    BLOCK, FlowCell, Found, LOCK_TRIES, Link, StateWord, Times, WINDOW,
    lookup::{self, Window, find_cold},
    release, state, word,
};
use crate::{
    conn::Counted,
    family::Family,
    layout::ForwardMethod,
    tables::{Cell, Step, Table, Tables},
    time::{Tick, seconds},
};

/// Ticks after which a lock's holder must be gone.
const STALE_LOCK: u32 = seconds(2);

/// A connection to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// Server slot.
    pub slot: u32,
    /// How packets reach it.
    pub method: ForwardMethod,
    /// First protocol state.
    pub state: u8,
    /// What it counts as on its server.
    pub counted: Counted,
    /// Time-out in ticks.
    pub timeout: u32,
    /// Whether the server is to be told the client's address.
    pub tells_client: bool,
}

/// What a new cell holds besides its key.
pub trait Content<F: Family> {
    /// Whether the cell that was found under the key may make way.
    fn replaces<T: Tables>(&self, tables: T, found: &Found<T::Cell>, now: Tick) -> bool;
    /// Writes the words of a cell that nobody else touches.
    fn fill<C: Cell>(&self, cell: FlowCell<C>, now: Tick);
    /// What it adds to whose load.
    fn load(&self) -> (u32, u64);
    /// The state word that publishes the busy cell.
    fn live(&self, busy: StateWord) -> StateWord;
}

impl<F: Family> Content<F> for NewFlow {
    #[inline(always)]
    fn replaces<T: Tables>(&self, tables: T, found: &Found<T::Cell>, now: Tick) -> bool {
        if found.state.is_reverse() {
            lookup::linked::<F, T>(tables, found.cell.link()).is_none()
        } else {
            found.times.is_dead(now)
        }
    }

    #[inline(always)]
    fn fill<C: Cell>(&self, cell: FlowCell<C>, now: Tick) {
        cell.0.store(word::TIMES, Times::new(now, self.timeout).0);
        let dest = FlowCell::<C>::dest_word(self.slot, self.method);
        cell.0.store(word::DEST, dest);
        cell.0.store(word::LINK, Link::NONE.0);
        cell.0.store(word::SPARE, 0);
    }

    #[inline(always)]
    fn load(&self) -> (u32, u64) {
        (self.slot, state::load_of(self.counted as u8))
    }

    #[inline(always)]
    fn live(&self, busy: StateWord) -> StateWord {
        let mut live = busy.live(self.state, self.counted);
        if self.tells_client {
            live = live.telling_client();
        }
        if self.method.translates() {
            live.seeing_replies()
        } else {
            live
        }
    }
}

/// Outcome of an insert.
pub enum Inserted<C> {
    /// The flow is in the table, in this cell.
    New(Link),
    /// Another CPU was faster: use its flow.
    Exists(Found<C>),
    /// The window and the stash are full.
    Full,
    /// The lock of the home cell was not to be had.
    Contended,
}

/// Inserts `key`, unless it is there. One of the same key that makes way is
/// released first.
#[inline(always)]
pub fn insert<F: Family, T: Tables, N: Content<F>>(
    tables: T,
    key: &F::Key,
    now: Tick,
    flow: &N,
) -> Inserted<T::Cell> {
    let sum = F::hash(tables, key);
    let home = lookup::home_of_sum::<F, T>(tables, sum);
    let Some(lock) = Lock::take::<F, T>(tables, home, now) else {
        return Inserted::Contended;
    };
    let outcome = match present::<F, T, N>(tables, key, now, flow, sum, home) {
        Some(found) => Inserted::Exists(found),
        None => place::<F, T, N>(tables, key, now, flow, sum, home),
    };
    lock.give_back::<F, T>(tables);
    outcome
}

/// The flow of `key` that is to be used, if there is one; a dead one is released.
#[inline(always)]
fn present<F: Family, T: Tables, N: Content<F>>(
    tables: T,
    key: &F::Key,
    now: Tick,
    flow: &N,
    sum: u64,
    home: u32,
) -> Option<Found<T::Cell>> {
    let found = find_cold::<F, T>(tables, key, sum, home)?;
    if !flow.replaces(tables, &found, now) {
        return Some(found);
    }
    if release::<F, T>(tables, found.cell, found.index, found.state) {
        return None;
    }
    // Either the sweep freed it, or a packet on another CPU, for which it was
    // not dead yet, changed its state: then it lives on, and a second cell
    // would be a duplicate.
    find_cold::<F, T>(tables, key, sum, home)
}

/// The lock of a home cell.
#[derive(Clone, Copy)]
struct Lock {
    home: u64,
    /// The lock word's high half; never 0, which means unlocked.
    ticket: u64,
}

#[derive(Clone, Copy)]
struct TakeLock<F> {
    lock: Lock,
    now: u64,
    taken: u64,
    family: PhantomData<F>,
}

impl<F: Family, T: Tables> Step<T> for TakeLock<F> {
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        let Some(home) = tables.cell(F::FLOW, self.lock.home as u32) else {
            return false;
        };
        let seen = home.load(word::HOME);
        let holder = (seen >> 32) as u32;
        // One that is held for seconds is stale: no program runs that long.
        let free = holder == 0 || (self.now as u32).wrapping_sub(holder) as i32 > STALE_LOCK as i32;
        let locked = seen & 0xffff_ffff | self.lock.ticket;
        if free && home.compare_exchange(word::HOME, seen, locked) == seen {
            self.taken = 1;
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
        let seen = home.load(word::HOME);
        seen & !0xffff_ffff == self.lock.ticket
            && home.compare_exchange(word::HOME, seen, seen & 0xffff_ffff) != seen
    }
}

impl Lock {
    #[inline(always)]
    fn take<F: Family, T: Tables>(tables: T, home: u32, now: Tick) -> Option<Self> {
        let ticket = u64::from(if now == 0 { 1 } else { now }) << 32;
        let lock = Self {
            home: home.into(),
            ticket,
        };
        let mut take = TakeLock::<F> {
            lock,
            now: now.into(),
            taken: 0,
            family: PhantomData,
        };
        tables.repeat(LOCK_TRIES, &mut take);
        (take.taken != 0).then_some(lock)
    }

    #[inline(always)]
    fn give_back<F: Family, T: Tables>(self, tables: T) {
        tables.repeat(
            LOCK_TRIES,
            &mut GiveLockBack::<F> {
                lock: self,
                family: PhantomData,
            },
        );
    }
}

/// Claims a free cell in the window, else in the stash, and publishes the flow.
#[inline(always)]
fn place<F: Family, T: Tables, N: Content<F>>(
    tables: T,
    key: &F::Key,
    now: Tick,
    flow: &N,
    sum: u64,
    home: u32,
) -> Inserted<T::Cell> {
    if let Some((index, seen)) = claim::<F, T>(tables, Window::main::<F, T>(tables, home)) {
        fill::<F, T, N>(tables, index, seen, key, now, flow);
        return Inserted::New(Link::new(index, seen.generation()));
    }
    let window = Window::stash::<F, T>(tables, sum);
    let (Some((index, seen)), Some(home)) =
        (claim::<F, T>(tables, window), tables.cell(F::FLOW, home))
    else {
        return Inserted::Full;
    };
    // Before the flow can be seen: look-ups that find the count 0 do not come here.
    home.add(word::HOME, 1);
    fill::<F, T, N>(tables, index, seen, key, now, flow);
    Inserted::New(Link::new(index, seen.generation()))
}

#[derive(Clone, Copy)]
struct Claim<F> {
    window: Window,
    index: u64,
    seen: u64,
    done: u64,
    family: PhantomData<F>,
}

impl<F: Family, T: Tables> Step<T> for Claim<F> {
    #[inline(always)]
    fn step(&mut self, tables: T, i: u32) -> bool {
        let index = self.window.index(i);
        let Some(cell) = tables.cell(F::FLOW, index) else {
            return true;
        };
        let cell = FlowCell(cell);
        let seen = cell.state();
        if !seen.is_free() || !cell.set_state(seen, seen.busy()) {
            return true;
        }
        self.index = index.into();
        self.seen = seen.0;
        self.done = 1;
        false
    }
}

/// A cell of the window, now busy and ours, and the state it was free in.
#[inline(always)]
fn claim<F: Family, T: Tables>(tables: T, window: Window) -> Option<(u32, StateWord)> {
    let mut claim = Claim::<F> {
        window,
        index: 0,
        seen: 0,
        done: 0,
        family: PhantomData,
    };
    tables.repeat(WINDOW, &mut claim);
    (claim.done != 0).then_some((claim.index as u32, StateWord(claim.seen)))
}

/// Fills and publishes a claimed cell.
#[inline(always)]
fn fill<F: Family, T: Tables, N: Content<F>>(
    tables: T,
    index: u32,
    seen: StateWord,
    key: &F::Key,
    now: Tick,
    flow: &N,
) {
    let Some(cell) = tables.cell(F::FLOW, index) else {
        return;
    };
    let cell = FlowCell(cell);
    let mut k = 0;
    while k < F::KEY_WORDS {
        cell.0.store(word::KEY + k, F::key_word(key, k));
        k += 1;
    }
    flow.fill(cell, now);
    // Every count goes up before the flow can be seen, so that no release can
    // take one down first.
    if let Some(block) = tables.cell(F::BLOCKS, index / BLOCK) {
        block.add(0, 1);
    }
    let (slot, load) = flow.load();
    if load != 0
        && let Some(dest) = tables.cell(Table::DestLoad, slot)
    {
        dest.add(0, load);
    }
    // Cannot fail: nobody else touches a busy cell.
    cell.set_state(seen.busy(), flow.live(seen.busy()));
}
