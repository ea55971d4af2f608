//! The sweep: frees what is dead. One step a cell, one block a run, run by a
//! BPF timer in the kernel.

use core::marker::PhantomData;

use super::{BLOCK, FlowCell, Link, release, template};
use crate::{
    family::Family,
    layout::{DestFlags, DestView, Knobs, SettingsView, SweepStatus},
    tables::{Cell, Step, Table, Tables},
    time::{TICK_SHIFT, Tick},
};

/// Blocks looked at for an occupied one in a run.
const BLOCKS_A_RUN: u32 = 4096;
/// Shortest and longest interval between runs while there are flows.
const SHORTEST: u64 = 250_000;
const LONGEST: u64 = 4_000_000;
/// Interval while there are none.
const IDLE: u64 = 100_000_000;
/// The time in which all occupied blocks should be passed.
const PASS: u64 = 1_000_000_000;

/// What the sweep remembers from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SweepState {
    /// Block to look at next.
    pub cursor: u64,
    /// Occupied blocks met in this pass so far.
    pub met: u64,
    /// Ends of a pass met since the last occupied block, up to 2: a search may
    /// take several runs.
    passes: u64,
    /// The tick before which there is nothing to do.
    due: u64,
    /// What is told.
    pub status: SweepStatus,
}

/// Looks for the next occupied block.
#[derive(Clone, Copy)]
struct SearchBlock<F> {
    cursor: u64,
    blocks: u64,
    met: u64,
    occupied: u64,
    passes: u64,
    found: u64,
    family: PhantomData<F>,
}

impl<F: Family, T: Tables> Step<T> for SearchBlock<F> {
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        if self.cursor >= self.blocks {
            self.cursor = 0;
            self.occupied = self.met;
            self.met = 0;
            self.passes = self.passes.wrapping_add(1);
        }
        if let Some(block) = tables.cell(F::BLOCKS, self.cursor as u32)
            && block.load(0) != 0
        {
            self.met = self.met.wrapping_add(1);
            self.passes = 0;
            self.found = 1;
            return false;
        }
        self.cursor = self.cursor.wrapping_add(1);
        // Twice round without a flow: there is none.
        self.passes < 2
    }
}

/// Sweeps one block.
#[derive(Clone, Copy)]
struct SweepBlock<F> {
    base: u64,
    now: u64,
    /// Whether connections of removed servers are over.
    nodest: u64,
    freed: u64,
    family: PhantomData<F>,
}

impl<F: Family, T: Tables> Step<T> for SweepBlock<F> {
    #[inline(always)]
    fn step(&mut self, tables: T, i: u32) -> bool {
        let index = (self.base as u32).wrapping_add(i);
        let Some(cell) = tables.cell(F::FLOW, index) else {
            return false;
        };
        let cell = FlowCell(cell);
        let state = cell.state();
        if !state.is_used() {
            return true;
        }
        let now = self.now as Tick;
        let orphan = self.nodest != 0 && !state.is_reverse() && is_orphan(tables, cell.dest());
        let over = if state.is_reverse() {
            !is_held::<F, T>(tables, cell.link::<F>())
        } else if state.is_template() {
            template::is_over::<F, _>(cell, state, now, orphan)
        } else {
            orphan || cell.times().is_releasable(now)
        };
        if over && release::<F, T>(tables, cell, index, state) {
            self.freed = self.freed.wrapping_add(1);
        }
        true
    }
}

/// Whether the server of a dest word was removed.
#[inline(always)]
fn is_orphan<T: Tables>(tables: T, dest: u64) -> bool {
    match tables.cell(Table::Dest, dest as u32) {
        Some(dest) => !DestView(dest).word().has(DestFlags::AVAILABLE),
        None => false,
    }
}

/// Whether `expire_nodest_conn` is set.
#[inline(always)]
fn expires_nodest<T: Tables>(tables: T) -> bool {
    match tables.cell(Table::Settings, 0) {
        Some(settings) => SettingsView(settings).knobs().has(Knobs::EXPIRE_NODEST),
        None => false,
    }
}

/// Whether the cell that a link leads to is still of that generation, be it
/// only about to be published.
#[inline(always)]
fn is_held<F: Family, T: Tables>(tables: T, link: Link) -> bool {
    match tables.cell(F::FLOW, link.index()) {
        Some(cell) => FlowCell(cell).state().generation() == link.generation(),
        None => false,
    }
}

/// As [`run`], unless the table's next run is not due yet: the tables of both
/// families share a timer, and one may be idle.
#[inline(always)]
pub fn run_if_due<F: Family, T: Tables>(tables: T, state: &mut SweepState) -> u64 {
    let now = tables.now();
    let wait = (state.due as Tick).wrapping_sub(now);
    // Far ahead is long ago.
    if wait != 0 && u64::from(wait) <= IDLE >> TICK_SHIFT {
        return u64::from(wait) << TICK_SHIFT;
    }
    let interval = run::<F, T>(tables, state);
    state.due = now.wrapping_add((interval >> TICK_SHIFT) as Tick).into();
    interval
}

/// Sweeps the next occupied block of a table; returns the nanoseconds until the
/// next run should come.
#[inline(always)]
pub fn run<F: Family, T: Tables>(tables: T, state: &mut SweepState) -> u64 {
    let cells = tables.param(F::CELLS) as u32;
    let now = u64::from(tables.now());
    state.status.last_tick = now;
    state.status.runs = state.status.runs.wrapping_add(1);
    let mut search = SearchBlock::<F> {
        cursor: state.cursor,
        blocks: u64::from(super::total_cells(cells) / BLOCK),
        met: state.met,
        occupied: state.status.occupied_blocks,
        passes: state.passes,
        found: 0,
        family: PhantomData,
    };
    tables.repeat(BLOCKS_A_RUN, &mut search);
    state.cursor = search.cursor;
    state.met = search.met;
    state.passes = search.passes;
    state.status.occupied_blocks = search.occupied;
    let interval = if search.found == 0 {
        // Either there is no flow, or the search ended early in a large, nearly
        // empty table and goes on where it stopped.
        let empty = state.passes >= 2;
        if empty {
            state.passes = 1;
        }
        if empty { IDLE } else { LONGEST }
    } else {
        let mut sweep = SweepBlock::<F> {
            base: state.cursor.wrapping_mul(u64::from(BLOCK)),
            now,
            nodest: expires_nodest(tables).into(),
            freed: 0,
            family: PhantomData,
        };
        tables.repeat(BLOCK, &mut sweep);
        state.status.freed = state.status.freed.wrapping_add(sweep.freed);
        state.cursor = state.cursor.wrapping_add(1);
        state.status.visited = state.status.visited.wrapping_add(u64::from(BLOCK));
        let (before, so_far) = (state.status.occupied_blocks, state.met);
        interval(if before > so_far { before } else { so_far })
    };
    state.status.interval = interval;
    interval
}

/// All occupied blocks in about a second, within bounds: above 4,000 occupied
/// blocks (4 million cells) a pass takes longer.
#[inline(always)]
const fn interval(occupied: u64) -> u64 {
    let wanted = match PASS.checked_div(occupied) {
        Some(interval) => interval,
        None => LONGEST,
    };
    if wanted < SHORTEST {
        SHORTEST
    } else if wanted > LONGEST {
        LONGEST
    } else {
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval(0), LONGEST);
        assert_eq!(interval(100), LONGEST);
        assert_eq!(interval(1000), 1_000_000);
        assert_eq!(interval(4_000), 250_000);
        assert_eq!(interval(1_000_000), SHORTEST);
    }
}
