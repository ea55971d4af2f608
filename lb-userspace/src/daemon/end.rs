//! Ends connections by hand (`lvx conns --kill`), and takes templates away
//! (`lvx drain`).

use lb_common::{
    family::{Family, V4, V6},
    flow::{self, FlowCell, StateWord, Times},
    tables::Tables as _,
};

use super::{
    connections::{Found, flow_of, found, owners},
    live::Live,
    state::State,
};
use crate::{
    dataplane::Maps,
    model::{self, FlowFilter},
};

/// Ends the connections that `filter` asks for, as if their time were over: the
/// next packet of one has none and is looked at anew. Templates are taken out of
/// the look-ups, and go when their last connection has. Returns how many.
pub fn kill(maps: &Maps, state: &State, filter: &FlowFilter) -> u64 {
    let owners = owners(state);
    let wanted = |found: &Found| filter.matches(&flow_of(found, &owners));
    end(maps, &wanted)
}

/// Takes the templates of the server in `slot` out of the look-ups: its clients
/// are scheduled anew. Their connections stay. Returns how many there were.
pub fn retire(maps: &Maps, slot: u32) -> u64 {
    end(maps, &|found| {
        found.slot == slot && found.state.is_template()
    })
}

fn end(maps: &Maps, wanted: &dyn Fn(&Found) -> bool) -> u64 {
    let of = |family| found(maps, family).filter(|found| wanted(found));
    let four = of(model::Family::V4).map(|found| end_one::<V4>(Live(maps), &found));
    let six = of(model::Family::V6).map(|found| end_one::<V6>(Live(maps), &found));
    four.chain(six).filter(|ended| *ended).count() as u64
}

/// Ends one that is still the same. Only its state may have changed since.
fn end_one<F: Family>(live: Live<'_>, found: &Found) -> bool {
    let Some(cell) = live.cell(F::FLOW, found.index).map(FlowCell) else {
        return false;
    };
    loop {
        let state: StateWord = cell.state();
        if !state.is_live() || state.generation() != found.state.generation() {
            return false;
        }
        if !state.is_template() {
            if flow::release::<F, _>(live, cell, found.index, state) {
                return true;
            }
        } else if cell.set_state(state, state.retired()) {
            // Nobody renews one that no look-up finds.
            cell.touch(cell.times(), Times::new(live.now(), 0));
            return true;
        }
    }
}
