//! Ends the connections that the filter drops.

use lb_common::{
    engine::filter_verdict,
    facts::Facts,
    family::{Family, V4, V6},
    flow::{self, BLOCK, FlowCell},
    tables::{Cell as _, Tables as _},
};

use super::live::Live;
use crate::dataplane::Maps;

/// Holds every connection against the filter, and releases those that it drops,
/// as a packet that found them over would. Their next packets have no connection
/// and meet the filter themselves. Returns how many there were.
pub fn purge(maps: &Maps) -> u64 {
    let live = Live(maps);
    of_family::<V4>(live) + of_family::<V6>(live)
}

fn of_family<F: Family>(live: Live<'_>) -> u64 {
    let root = live.root();
    if !root.has_rules(F::VERSION) {
        return 0;
    }
    let mut ended = 0;
    let mut block = 0;
    while let Some(occupied) = live.cell(F::BLOCKS, block) {
        if occupied.load(0) != 0 {
            for index in block * BLOCK..(block + 1) * BLOCK {
                ended += u64::from(end::<F>(live, root.0, index));
            }
        }
        block += 1;
    }
    ended
}

/// Ends the connection of one cell, if there is one and the filter drops it.
fn end<F: Family>(live: Live<'_>, root: u64, index: u32) -> bool {
    let Some(cell) = live.cell(F::FLOW, index).map(FlowCell) else {
        return false;
    };
    let state = cell.state();
    if !state.is_live() || state.is_reverse() || state.is_template() {
        return false;
    }
    let key = cell.key::<F>();
    let [src, dst] = F::ends(&key);
    let facts = Facts {
        src,
        dst,
        ports: F::ports(&key),
        family: F::VERSION.into(),
        root,
        ..Facts::default()
    };
    // The swap in there fails if the cell has become another's meanwhile, or
    // only its state changed: then it is looked at again.
    filter_verdict::<F, _>(live, &facts).drops()
        && (flow::release::<F, _>(live, cell, index, state)
            || (cell.state() != state && end::<F>(live, root, index)))
}
