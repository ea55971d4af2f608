//! Counters, rates and `-Z`.
//!
//! Packets count servers only. A service's counters are the sum of its servers'
//! (those in its trash included) and of what servers that are gone left behind.
//! Averages and `-Z` marks stand in pinned pages, so that they outlive the daemon.

use std::collections::HashMap;

use lb_common::layout::{Stats, StatsPage};

use super::{
    state::{Service, State, add, sub},
    tables::Tables,
};
use crate::model::{Counters, Rates, Refusal, ServiceId};

/// Scale of the averages of connections and packets.
const COUNT_SHIFT: u32 = 9;
/// Scale of the averages of bytes.
const BYTE_SHIFT: u32 = 4;

/// What removed servers, still in the trash, have counted, by service slot.
pub type TrashTotals = HashMap<u32, Stats>;

/// Sums the counters of the trash.
pub fn trash_totals(tables: &Tables<'_>, state: &State) -> TrashTotals {
    let mut totals = TrashTotals::new();
    for trashed in state.trash() {
        if let Some(service) = trashed.service_slot {
            let total = totals.entry(service).or_default();
            *total = add(*total, tables.raw.raw(trashed.slot));
        }
    }
    totals
}

/// Raw counters of a service and of each of its servers.
pub fn raw(tables: &Tables<'_>, service: &Service, trash: &TrashTotals) -> (Stats, Vec<Stats>) {
    let dests: Vec<Stats> = service
        .dests
        .iter()
        .map(|node| tables.raw.raw(node.slot))
        .collect();
    let gone = trash.get(&service.slot).copied().unwrap_or_default();
    (
        dests
            .iter()
            .fold(add(service.left, gone), |sum, raw| add(sum, *raw)),
        dests,
    )
}

/// One pass of the estimator over everything; due every two seconds.
pub fn estimate_all(tables: &Tables<'_>, state: &State) {
    let trash = trash_totals(tables, state);
    for (_, service) in state.services() {
        let (total, dests) = raw(tables, service, &trash);
        update(tables, tables.service_page(service.slot), |page| {
            estimate(page, total)
        });
        for (node, raw) in service.dests.iter().zip(dests) {
            update(tables, node.slot, |page| estimate(page, raw));
        }
    }
}

/// Starts the estimator after a pause: what was counted meanwhile is in the
/// counters, but must not look like the rate of two seconds.
pub fn resume(tables: &Tables<'_>, state: &State) {
    let trash = trash_totals(tables, state);
    for (_, service) in state.services() {
        let (total, dests) = raw(tables, service, &trash);
        let skip = |raw| move |page: StatsPage| StatsPage { last: raw, ..page };
        update(tables, tables.service_page(service.slot), skip(total));
        for (node, raw) in service.dests.iter().zip(dests) {
            update(tables, node.slot, skip(raw));
        }
    }
}

/// `-Z`: shown counters and rates start at 0 again.
///
/// # Errors
/// When there is no such service.
pub fn zero(tables: &Tables<'_>, state: &State, id: Option<&ServiceId>) -> Result<(), Refusal> {
    let trash = trash_totals(tables, state);
    let mark = |service: &Service| {
        let (total, dests) = raw(tables, service, &trash);
        let reset = |raw| {
            move |page: StatsPage| StatsPage {
                base: raw,
                average: [0; 5],
                ..page
            }
        };
        update(tables, tables.service_page(service.slot), reset(total));
        for (node, raw) in service.dests.iter().zip(dests) {
            update(tables, node.slot, reset(raw));
        }
    };
    match id {
        Some(id) => mark(state.service(id).ok_or(Refusal::NoSuchService)?),
        None => state.services().for_each(|(_, service)| mark(service)),
    }
    Ok(())
}

/// The counters to show.
pub fn counters(page: &StatsPage, raw: Stats) -> Counters {
    sub(raw, page.base).into()
}

/// The rates to show: half a unit is added before scaling down.
pub fn rates(page: &StatsPage) -> Rates {
    let count = |i: usize| (page.average[i] + 0x1ff) >> (COUNT_SHIFT + 1);
    let bytes = |i: usize| (page.average[i] + 0xf) >> (BYTE_SHIFT + 1);
    Rates {
        conns: count(0),
        in_packets: count(1),
        out_packets: count(2),
        in_bytes: bytes(3),
        out_bytes: bytes(4),
    }
}

/// The page after a pass of the estimator: the average moves a quarter of the
/// way to what the last two seconds brought, rounded down.
fn estimate(page: StatsPage, raw: Stats) -> StatsPage {
    let delta = sub(raw, page.last);
    let samples = [
        delta.conns << COUNT_SHIFT,
        delta.in_packets << COUNT_SHIFT,
        delta.out_packets << COUNT_SHIFT,
        delta.in_bytes << BYTE_SHIFT,
        delta.out_bytes << BYTE_SHIFT,
    ];
    let mut average = page.average;
    for (average, sample) in average.iter_mut().zip(samples) {
        let step = (sample.wrapping_sub(*average) as i64) >> 2;
        *average = average.wrapping_add(step as u64);
    }
    StatsPage {
        last: raw,
        average,
        ..page
    }
}

fn update(tables: &Tables<'_>, index: u32, change: impl FnOnce(StatsPage) -> StatsPage) {
    let old = tables.pages.get(index);
    let new = change(old);
    if new != old {
        tables.pages.set(index, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_fades_as_in_the_kernel() {
        let mut page = StatsPage::default();
        let raw = Stats {
            conns: 100,
            in_packets: 100,
            in_bytes: 4000,
            ..Stats::default()
        };
        let mut shown = Vec::new();
        for _ in 0..6 {
            page = estimate(page, raw);
            shown.push(rates(&page).conns);
        }
        assert_eq!(shown, [12, 9, 7, 5, 4, 3]);
        assert_eq!(page.last, raw);
    }

    #[test]
    fn a_steady_rate_is_approached_from_below() {
        let mut page = StatsPage::default();
        for pass in 1..=60 {
            let raw = Stats {
                conns: 20 * pass,
                in_bytes: 3000 * pass,
                ..Stats::default()
            };
            page = estimate(page, raw);
        }
        assert_eq!((rates(&page).conns, rates(&page).in_bytes), (10, 1500));
    }

    #[test]
    fn wrapping_counters_are_shown_right() {
        let raw = Stats {
            conns: 3,
            ..Stats::default()
        };
        let page = StatsPage {
            base: Stats {
                conns: u64::MAX,
                ..Stats::default()
            },
            ..StatsPage::default()
        };
        assert_eq!(counters(&page, raw).conns, 4);
    }
}
