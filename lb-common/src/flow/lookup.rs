use super::{FlowCell, HomeWord, Link, StateWord, TEMPLATE_SHIFT, Times, WINDOW, word};
use crate::{
    family::Family,
    tables::{Cell, Param, Step, Tables},
};

/// A live cell as it was when its state word was the same before and after.
#[derive(Clone, Copy)]
pub struct Found<C> {
    /// The cell.
    pub cell: FlowCell<C>,
    /// Its index, stash included.
    pub index: u32,
    /// Its state.
    pub state: StateWord,
    /// Its times.
    pub times: Times,
    /// Its dest word.
    pub dest: u64,
}

impl<C> Found<C> {
    /// Server slot.
    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        self.dest as u32
    }

    /// Forward method as a number.
    #[inline(always)]
    pub const fn method(&self) -> u8 {
        (self.dest >> 32) as u8 & 7
    }

    /// Index + 1 of the connection's template; 0 if it has none.
    #[inline(always)]
    pub const fn template(&self) -> u64 {
        self.dest >> TEMPLATE_SHIFT
    }
}

/// A key's hash: the home cell in the main part comes from the upper half.
#[inline(always)]
pub(super) fn finish<T: Tables>(tables: T, sum: u64) -> u32 {
    (sum.wrapping_mul(tables.param(Param::Multiplier)) >> 32) as u32
}

/// Index of the home cell of `key`.
#[inline(always)]
pub fn home<F: Family, T: Tables>(tables: T, key: &F::Key) -> u32 {
    home_of_sum::<F, T>(tables, F::hash(tables, key))
}

#[inline(always)]
pub(super) fn home_of_sum<F: Family, T: Tables>(tables: T, sum: u64) -> u32 {
    finish(tables, sum) & (tables.param(F::CELLS) as u32).wrapping_sub(1)
}

/// First cell of the stash window of a hash sum, stash-relative. Another
/// multiplication decides: keys that share a home must not share a stash window.
#[inline(always)]
pub fn stash_home<F: Family, T: Tables>(tables: T, sum: u64) -> u32 {
    let stash = tables.param(F::CELLS) as u32 / super::STASH_SHARE;
    let mixed = sum.wrapping_mul(tables.param(Param::Multiplier) ^ 0xd6e8_feb8_6659_fd92);
    (mixed >> 32) as u32 & stash.wrapping_sub(1)
}

/// Finds the live cell of `key`, dead or not: compare [`Found::times`].
#[inline(always)]
pub fn find<F: Family, T: Tables>(tables: T, key: &F::Key) -> Option<Found<T::Cell>> {
    find_or_home::<F, T>(tables, key).ok()
}

/// [`find`]; or how the key's home was before it was searched for in vain
/// ([`Prepared::absent_from`](super::Prepared::absent_from)). The home window is
/// unrolled; the stash is rare.
#[inline(always)]
pub fn find_or_home<F: Family, T: Tables>(
    tables: T,
    key: &F::Key,
) -> Result<Found<T::Cell>, HomeWord> {
    let cells = tables.param(F::CELLS) as u32;
    let sum = F::hash(tables, key);
    let home = home_of_sum::<F, T>(tables, sum);
    let first = tables.cell(F::FLOW, home).ok_or(HomeWord::NONE)?;
    let before = HomeWord(first.load(word::HOME));
    if let Some(found) = probe::<F, T>(FlowCell(first), key, home) {
        return Ok(found);
    }
    let mut i = 1;
    while i < WINDOW {
        let index = home.wrapping_add(i) & cells.wrapping_sub(1);
        if let Some(found) = probe_at::<F, T>(tables, key, index) {
            return Ok(found);
        }
        i += 1;
    }
    find_in_stash::<F, T>(tables, key, sum, before).ok_or(before)
}

/// As [`find`], in loops: for the cold path, where every step is verified once.
#[inline(always)]
pub fn find_rare<F: Family, T: Tables>(tables: T, key: &F::Key) -> Option<Found<T::Cell>> {
    let sum = F::hash(tables, key);
    find_cold::<F, T>(tables, key, sum, home_of_sum::<F, T>(tables, sum))
}

#[inline(always)]
pub(super) fn find_cold<F: Family, T: Tables>(
    tables: T,
    key: &F::Key,
    sum: u64,
    home: u32,
) -> Option<Found<T::Cell>> {
    let window = Window::main::<F, T>(tables, home);
    if let Some(found) = scan::<F, T>(tables, key, window) {
        return Some(found);
    }
    let home = HomeWord(tables.cell(F::FLOW, home)?.load(word::HOME));
    find_in_stash::<F, T>(tables, key, sum, home)
}

#[inline(always)]
fn find_in_stash<F: Family, T: Tables>(
    tables: T,
    key: &F::Key,
    sum: u64,
    home: HomeWord,
) -> Option<Found<T::Cell>> {
    if home.spilled() == 0 {
        return None;
    }
    scan::<F, T>(tables, key, Window::stash::<F, T>(tables, sum))
}

/// [`WINDOW`] cells that wrap around within a part of the table.
#[derive(Clone, Copy)]
pub(super) struct Window {
    base: u64,
    start: u64,
    mask: u64,
}

impl Window {
    /// The window of a home cell.
    #[inline(always)]
    pub(super) fn main<F: Family, T: Tables>(tables: T, home: u32) -> Self {
        let cells = tables.param(F::CELLS);
        Self {
            base: 0,
            start: home.into(),
            mask: cells.wrapping_sub(1),
        }
    }

    /// The stash window of a hash sum.
    #[inline(always)]
    pub(super) fn stash<F: Family, T: Tables>(tables: T, sum: u64) -> Self {
        let cells = tables.param(F::CELLS);
        let stash = cells / u64::from(super::STASH_SHARE);
        let start = stash_home::<F, T>(tables, sum).into();
        Self {
            base: cells,
            start,
            mask: stash.wrapping_sub(1),
        }
    }

    /// Index of its cell `i`.
    #[inline(always)]
    pub(super) fn index(&self, i: u32) -> u32 {
        self.base
            .wrapping_add(self.start.wrapping_add(i.into()) & self.mask) as u32
    }
}

/// The connection that a link leads to, if it is still that one.
#[inline(always)]
pub fn linked<F: Family, T: Tables>(tables: T, link: Link) -> Option<Found<T::Cell>> {
    let cell = FlowCell(tables.cell(F::FLOW, link.index())?);
    let before = cell.state();
    let (times, dest) = (cell.times(), cell.dest());
    let state = cell.state();
    let holds = |state: StateWord| {
        state.is_live() && !state.is_reverse() && state.generation() == link.generation()
    };
    (holds(before) && holds(state)).then_some(Found {
        cell,
        index: link.index(),
        state,
        times,
        dest,
    })
}

#[derive(Clone, Copy)]
struct Scan<F: Family> {
    key: F::Key,
    window: Window,
    found: u64,
}

/// Nothing found: no table has that many cells.
const NOWHERE: u64 = u64::MAX;

impl<F: Family, T: Tables> Step<T> for Scan<F> {
    #[inline(always)]
    fn step(&mut self, tables: T, i: u32) -> bool {
        let index = self.window.index(i);
        if probe_at::<F, T>(tables, &self.key, index).is_none() {
            return true;
        }
        self.found = index.into();
        false
    }
}

#[inline(always)]
fn scan<F: Family, T: Tables>(tables: T, key: &F::Key, window: Window) -> Option<Found<T::Cell>> {
    let mut scan = Scan::<F> {
        key: *key,
        window,
        found: NOWHERE,
    };
    tables.repeat(WINDOW, &mut scan);
    if scan.found == NOWHERE {
        return None;
    }
    // Read once more: the step could only remember where.
    probe_at::<F, T>(tables, key, scan.found as u32)
}

#[inline(always)]
fn probe_at<F: Family, T: Tables>(tables: T, key: &F::Key, index: u32) -> Option<Found<T::Cell>> {
    probe::<F, T>(FlowCell(tables.cell(F::FLOW, index)?), key, index)
}

/// The flow in this cell, if it is live and has this key: state, key, data, state
/// again. A cell that another flow has taken is of another generation.
#[inline(always)]
fn probe<F: Family, T: Tables>(
    cell: FlowCell<T::Cell>,
    key: &F::Key,
    index: u32,
) -> Option<Found<T::Cell>> {
    let before = cell.state();
    if !cell.has_key::<F>(key) {
        return None;
    }
    let (times, dest) = (cell.times(), cell.dest());
    let state = cell.state();
    let same_cell =
        before.is_live() && state.is_live() && state.generation() == before.generation();
    same_cell.then_some(Found {
        cell,
        index,
        state,
        times,
        dest,
    })
}
