//! What `lvx status` shows, from the maps alone.

use lb_common::{
    layout::{DestFlags, DestWord},
    time::{Tick, to_nanoseconds},
};

use super::{Status, publish::Unresolved, state::State, tables::Tables};
use crate::dataplane::Maps;

/// Connections that exist, by the servers' counts.
pub fn connections(tables: &Tables<'_>, state: &State) -> u64 {
    let nodes = state
        .services()
        .flat_map(|(_, service)| &service.dests)
        .map(|node| node.slot);
    let slots = nodes.chain(state.trash().iter().map(|trashed| trashed.slot));
    slots
        .map(|slot| tables.dest_loads.get(slot))
        .map(|load| u64::from(load.active()) + u64::from(load.inactive()))
        .sum()
}

/// Occupied cells of the flow table.
pub fn cells_used(maps: &Maps) -> u64 {
    (0..maps.blocks4.len())
        .map(|block| maps.blocks4.get(block))
        .sum()
}

/// What can be said without a daemon. `unresolved` is the daemon's knowledge.
pub fn status(maps: &Maps, state: &State, netns: u64, unresolved: Option<&Unresolved>) -> Status {
    let tables = Tables::from(maps);
    let cells = u64::from(maps.flow4.len());
    let now = Maps::now();
    let sweep = maps.sweep().ok();
    let reasons = maps.reasons().unwrap_or_default();
    Status {
        daemon: None,
        frozen_for: Some(seconds_since(now, maps.settings.get(0).heartbeat) as u64),
        netns,
        interfaces: Vec::new(),
        services: state.services().len(),
        dests: state.dest_count(),
        connections: maps.sizes.connections.into(),
        cells,
        used: cells_used(maps),
        bytes: cells * size_of::<[u64; 8]>() as u64,
        sweep_age: sweep.map_or(0.0, |sweep| seconds_since(now, sweep.last_tick as Tick)),
        sweep_version: sweep.map_or(0, |sweep| sweep.version),
        unresolved: match unresolved {
            Some(known) => known
                .iter()
                .map(|(addr, why)| (addr.to_string(), why.clone()))
                .collect(),
            None => frozen_unresolved(&tables, state),
        },
        warnings: Vec::new(),
        reasons: reasons
            .into_iter()
            .map(|(reason, count)| (reason.name().into(), count))
            .collect(),
        epoch: state.epoch,
    }
}

/// Ticks are 4 ms; a clock a tick behind counts as the same moment.
fn seconds_since(now: Tick, then: Tick) -> f64 {
    let ticks = (now.wrapping_sub(then) as i32).max(0) as u32;
    to_nanoseconds(ticks) as f64 / 1e9
}

fn frozen_unresolved(tables: &Tables<'_>, state: &State) -> Vec<(String, String)> {
    let nodes = state.services().flat_map(|(_, service)| &service.dests);
    let reachable = |slot| {
        let flags = DestWord(tables.dests.get(slot).word).flags();
        flags & (DestFlags::RESOLVED | DestFlags::LOCAL) != 0
    };
    let mut names: Vec<String> = nodes
        .filter(|node| !reachable(node.slot))
        .map(|node| node.dest.id.addr.to_string())
        .collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| (name, "unresolved when the daemon stopped".into()))
        .collect()
}
