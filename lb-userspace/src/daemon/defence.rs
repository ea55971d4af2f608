//! The defence of a full table, once a second: how much room there is, and
//! `drop_entry`, which drops half-open connections at random.

use lb_common::{
    conn::{Protocol, sctp, tcp},
    family::{Family, V4, V6},
    flow::{self, BLOCK, FlowCell, StateWord},
    tables::{Cell as _, Tables as _},
};
use rand::Rng as _;

use super::live::Live;
use crate::dataplane::{Mapping, Maps};

/// Of so many blocks one is visited a second, as in the kernel of its buckets.
const SHARE: u32 = 32;

/// Connections that would find room below what was promised, in the fuller table.
pub fn room(maps: &Maps) -> u64 {
    let room = |blocks: &Mapping<u64>, cells: u32| {
        let used: u64 = (0..blocks.len()).map(|block| blocks.get(block)).sum();
        u64::from(cells / 2).saturating_sub(used)
    };
    u64::min(
        room(&maps.blocks4, maps.params.flow4_cells),
        room(&maps.blocks6, maps.params.flow6_cells),
    )
}

/// Visits some blocks of both tables and drops what is half-open. Returns how many.
pub fn drop_entries(maps: &Maps) -> u64 {
    let live = Live(maps);
    visit::<V4>(live, maps.blocks4.len()) + visit::<V6>(live, maps.blocks6.len())
}

fn visit<F: Family>(live: Live<'_>, blocks: u32) -> u64 {
    let mut random = rand::rng();
    let mut dropped = 0;
    for _ in 0..blocks.div_ceil(SHARE) {
        let block = random.random_range(0..blocks);
        let occupied = live.cell(F::BLOCKS, block).map_or(0, |cell| cell.load(0));
        if occupied == 0 {
            continue;
        }
        for index in block * BLOCK..(block + 1) * BLOCK {
            dropped += u64::from(drop_one::<F>(live, index));
        }
    }
    dropped
}

/// Drops what is in a cell, if nobody has answered it: a connection that is
/// half-open, a template that none was established from and that has none.
fn drop_one<F: Family>(live: Live<'_>, index: u32) -> bool {
    let Some(cell) = live.cell(F::FLOW, index).map(FlowCell) else {
        return false;
    };
    let state = cell.state();
    let goes = if state.is_template() {
        !state.is_assured() && flow::close::<F, _>(cell, state)
    } else {
        state.is_live() && !state.is_reverse() && is_half_open(&cell.key::<F>(), state, F::ports)
    };
    goes && flow::release::<F, _>(live, cell, index, state)
}

fn is_half_open<K>(key: &K, state: StateWord, ports: impl Fn(&K) -> u64) -> bool {
    let number = state.protocol_state();
    match Protocol::from_number((ports(key) >> 32) as u8) {
        Some(Protocol::Tcp) => matches!(number, tcp::state::SYN_RECV | tcp::state::SYNACK),
        Some(Protocol::Sctp) => matches!(number, sctp::state::INIT1 | sctp::state::INIT),
        Some(Protocol::Udp) | None => false,
    }
}
