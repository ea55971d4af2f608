//! What `lvx status` shows, from the maps alone.

use std::{collections::BTreeSet, net::IpAddr};

use bytemuck::Pod;
use lb_common::{
    layout::{DestFlags, DestWord, Root, ServiceFlags},
    time::{Tick, to_nanoseconds},
};

use super::{FlowTable, Status, Sweep, publish::Unresolved, state::State, tables::Tables};
use crate::{
    dataplane::{Mapping, Maps},
    model::ServiceId,
};

/// Connections that exist, by the servers' counts.
pub fn connections(tables: &Tables<'_>, state: &State) -> u64 {
    let nodes = state
        .services()
        .flat_map(|(_, service)| &service.dests)
        .map(|node| node.slot);
    let slots = nodes.chain(state.trash().map(|trashed| trashed.slot));
    slots
        .map(|slot| tables.dest_loads.get(slot))
        .map(|load| u64::from(load.active()) + u64::from(load.inactive()))
        .sum()
}

/// Sizes and fill of the flow tables, IPv4's first.
pub fn flow_tables(maps: &Maps) -> [FlowTable; 2] {
    let sizes = maps.sizes;
    [
        flow_table(&maps.flow4, &maps.blocks4, sizes.connections),
        flow_table(&maps.flow6, &maps.blocks6, sizes.connections6),
    ]
}

fn flow_table<C: Pod>(flows: &Mapping<C>, blocks: &Mapping<u64>, connections: u32) -> FlowTable {
    let cells = u64::from(flows.len());
    FlowTable {
        connections: connections.into(),
        cells,
        used: (0..blocks.len()).map(|block| blocks.get(block)).sum(),
        bytes: cells * size_of::<C>() as u64,
    }
}

/// What can be said without a daemon. `unresolved` is the daemon's knowledge.
pub fn status(maps: &Maps, state: &State, netns: u64, unresolved: Option<&Unresolved>) -> Status {
    let tables = Tables::from(maps);
    let [flow4, flow6] = flow_tables(maps);
    let (mh_services, mh_room) = state.sched_tables();
    let now = Maps::now();
    let sweeps = maps.sweeps().unwrap_or_default();
    let [sweep4, sweep6] = sweeps.map(|sweep| Sweep {
        age: seconds_since(now, sweep.last_tick as Tick),
        version: sweep.version,
    });
    let reasons = maps.reasons().unwrap_or_default();
    Status {
        daemon: None,
        frozen_for: Some(seconds_since(now, maps.settings.get(0).heartbeat) as u64),
        netns,
        interfaces: Vec::new(),
        places: Vec::new(),
        services: state.services().len(),
        dests: state.dest_count(),
        flow4,
        flow6,
        mh_services,
        mh_room,
        mh_bytes: 8 * u64::from(tables.sched_tables.len()),
        sweep4,
        sweep6,
        unresolved: match unresolved {
            Some(known) => known
                .iter()
                .map(|(addr, why)| (addr.to_string(), why.clone()))
                .collect(),
            None => frozen_unresolved(&tables, state),
        },
        warnings: unclaimed(&tables, state).into_iter().collect(),
        reasons: reasons
            .into_iter()
            .map(|(reason, count)| (reason.name().into(), count))
            .collect(),
        epoch: state.epoch,
    }
}

/// A line that names the service addresses whose packets go to the stack, as
/// packets see it.
fn unclaimed(tables: &Tables<'_>, state: &State) -> Option<String> {
    let half = Root(tables.root.get(0)).side() * tables.params.service_slots;
    let vips: BTreeSet<IpAddr> = state
        .services()
        .filter_map(|(id, _)| match id {
            ServiceId::Address { addr, .. } => Some((*addr, half + state.place(id)?)),
            ServiceId::Mark { .. } => None,
        })
        .filter(|(_, index)| tables.services.get(*index).flags & ServiceFlags::CLAIMED == 0)
        .map(|(addr, _)| addr)
        .collect();
    let names: Vec<String> = vips.iter().map(IpAddr::to_string).collect();
    (!names.is_empty()).then(|| {
        format!(
            "no address of this director, so packets to it go to the stack: {} \
             ('ip address add' takes it, 'lvx run --vip-scope any' does without)",
            names.join(", ")
        )
    })
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
