//! How full the maps are (`lvx maps`).

use std::path::Path;

use anyhow::Result;
use lb_common::sched::mh;

use super::state::State;
use crate::{
    dataplane::{Mapping, Maps, pinned_maps},
    model::{Chain, MapUsage},
};

/// Every pinned map, by name.
///
/// # Errors
/// When the pins cannot be read.
pub fn usage(maps: &Maps, state: &State, pins: &Path) -> Result<Vec<MapUsage>> {
    let usage = pinned_maps(pins)?.into_iter().map(|map| {
        let (holds, used) = describe(&map.name, maps, state);
        MapUsage {
            holds: holds.into(),
            used,
            capacity: map.entries.into(),
            bytes: map.bytes,
            name: map.name,
        }
    });
    Ok(usage.collect())
}

fn describe(name: &str, maps: &Maps, state: &State) -> (&'static str, Option<u64>) {
    let sum = |blocks: &Mapping<u64>| (0..blocks.len()).map(|block| blocks.get(block)).sum();
    let filled = |blocks: &Mapping<u64>| {
        (0..blocks.len())
            .filter(|block| blocks.get(*block) != 0)
            .count()
    };
    let services = state.services().len() as u64;
    let servers = (state.dest_count() + state.trash().len()) as u64;
    match name {
        "FLOW4" => (
            "IPv4 connections and templates (NAT takes two cells)",
            Some(sum(&maps.blocks4)),
        ),
        "FLOW6" => (
            "IPv6 connections and templates (NAT takes two cells)",
            Some(sum(&maps.blocks6)),
        ),
        "BLOCKS4" => (
            "occupied cells of each block of FLOW4",
            Some(filled(&maps.blocks4) as u64),
        ),
        "BLOCKS6" => (
            "occupied cells of each block of FLOW6",
            Some(filled(&maps.blocks6) as u64),
        ),
        "SERVICES" => (
            "services by address or mark, two halves",
            Some(2 * services),
        ),
        "SERVICE_STATES" => ("scheduler state of services", Some(services)),
        "LISTS" => (
            "servers of services, two halves",
            Some(2 * state.dest_count() as u64),
        ),
        "DESTS" => ("servers, removed ones included", Some(servers)),
        "DEST_LOADS" => ("connections of servers", Some(servers)),
        "DEST_STATS" => ("counters of servers, by CPU", Some(servers)),
        "PAGES" => (
            "rates and zero points of servers and services",
            Some(servers + services),
        ),
        "NEXT_HOPS" => {
            let hops = (0..maps.next_hops.len()).map(|index| maps.next_hops.get(index));
            (
                "next hops",
                Some(hops.filter(|hop| hop.ifindex != 0).count() as u64),
            )
        }
        "LOCALS" => {
            let all = (0..maps.locals.len()).map(|index| maps.locals.get(index));
            (
                "local addresses of FULLNAT",
                Some(all.filter(|one| one.addr != [0; 4]).count() as u64),
            )
        }
        "IFACES" => {
            let all = (0..maps.ifaces.len()).map(|index| maps.ifaces.get(index));
            (
                "interfaces and VLANs",
                Some(all.filter(|one| one.key != 0).count() as u64),
            )
        }
        "SCHED_TABLES" => {
            let (services, _) = state.sched_tables();
            (
                "tables of mh",
                Some(u64::from(services) * u64::from(mh::WORDS)),
            )
        }
        "RULES" => (
            "mark and filter rules, two halves",
            Some(2 * state.compiled_rules().words.len() as u64),
        ),
        "RULE_STATS" => (
            "counters of filter rules, by CPU",
            Some(state.list_rules(Chain::Filter, maps).len() as u64),
        ),
        "FILTER" => ("addresses that are looked up at all, two halves", None),
        "DESTINATIONS" => ("destinations of lblc and lblcr", None),
        "CALLS" => ("Call-IDs of SIP, for listings", None),
        "FRAGMENTS" => ("datagrams in fragments", None),
        "ROOT" => ("which half packets read", None),
        "SETTINGS" => ("time-outs, settings, heartbeat", None),
        "REASONS" => ("packets by what became of them", None),
        "SWEEP" => ("the timer that ends connections", None),
        "PARAMS_KEPT" | "LIMITS" => ("sizes and secrets", None),
        "LOOP" | "FACTS" | "BYTES" => ("working memory of a packet", None),
        _ => ("", None),
    }
}
