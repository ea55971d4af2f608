//! The engine's tables over loom's atomics. Only the cells that a test needs
//! exist: a window is as long as the table has cells, so that the number of
//! interleavings stays small. Zero secrets give every key the home cell 0.

use lb_common::{
    flow::word::TIMES,
    layout::{Root, Stats},
    tables::{Cell, Datagram, Destination, Param, Params, Table, Tables},
    time::Tick,
};
use loom::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

/// Main cells that the engine is told of: the stash is in front of nothing.
pub(crate) const CELLS: u32 = 64;

pub(crate) struct LoomTables {
    /// Cells that exist: their index and words.
    cells: Vec<(u32, Vec<AtomicU64>)>,
    block: [AtomicU64; 1],
    loads: Vec<[AtomicU64; 1]>,
}

impl LoomTables {
    /// With these cells of the table, and two servers.
    pub(crate) fn new(cells: &[u32]) -> Self {
        let zeros = || (0..8).map(|_| AtomicU64::new(0)).collect();
        Self {
            cells: cells.iter().map(|&index| (index, zeros())).collect(),
            block: [AtomicU64::new(0)],
            loads: (0..2).map(|_| [AtomicU64::new(0)]).collect(),
        }
    }

    /// Active and inactive connections of a server.
    pub(crate) fn load(&self, slot: usize) -> (u32, u32) {
        let load = self.loads[slot][0].load(Acquire);
        (load as u32, (load >> 32) as u32)
    }

    /// The only block's count.
    pub(crate) fn occupied(&self) -> u64 {
        self.block[0].load(Acquire)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct LoomCell<'a>(&'a [AtomicU64]);

impl Cell for LoomCell<'_> {
    fn load(self, word: usize) -> u64 {
        self.0[word].load(Acquire)
    }

    fn store(self, word: usize, value: u64) {
        // Loom lets a store come before an exchange that it cannot come before:
        // one that read an older value. To the times both are made.
        if word == TIMES {
            self.0[word].swap(value, Release);
        } else {
            self.0[word].store(value, Release);
        }
    }

    fn compare_exchange(self, word: usize, old: u64, new: u64) -> u64 {
        match self.0[word].compare_exchange(old, new, AcqRel, Acquire) {
            Ok(was) | Err(was) => was,
        }
    }

    fn add(self, word: usize, value: u64) {
        self.0[word].fetch_add(value, AcqRel);
    }

    fn set_bits(self, word: usize, bits: u64) {
        self.0[word].fetch_or(bits, AcqRel);
    }

    fn clear_bits(self, word: usize, bits: u64) {
        self.0[word].fetch_and(!bits, AcqRel);
    }
}

impl<'a> Tables for &'a LoomTables {
    type Cell = LoomCell<'a>;

    fn cell(self, table: Table, index: u32) -> Option<LoomCell<'a>> {
        match table {
            Table::Flow4 => {
                let (_, words) = self.cells.iter().find(|(at, _)| *at == index)?;
                Some(LoomCell(words))
            }
            Table::Blocks4 => Some(LoomCell(&self.block)),
            Table::DestLoad => self.loads.get(index as usize).map(|load| LoomCell(load)),
            _ => None,
        }
    }

    fn root(self) -> Root {
        Root::default()
    }

    fn param(self, param: Param) -> u64 {
        Params {
            flow4_cells: CELLS,
            ..Params::default()
        }
        .get(param)
    }

    fn now(self) -> Tick {
        0
    }

    fn random(self) -> u32 {
        4
    }

    fn fragment(self, _: &Datagram) -> Option<(u64, Tick)> {
        None
    }

    fn keep_fragment(self, _: &Datagram, _: u64, _: Tick) {}

    fn destination(self, _: &Destination) -> Option<LoomCell<'a>> {
        None
    }

    fn keep_destination(self, _: &Destination, _: u64, _: u64) {}

    fn count_dest(self, _: u32, _: Stats) {}

    fn count_rule(self, _: u32, _: u64) {}

    fn count_number(self, _: u32) {}
}
