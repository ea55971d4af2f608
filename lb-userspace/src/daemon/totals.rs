//! The counters of the whole director, by CPU too.

use lb_common::layout::{Stats, StatsPage};

use super::{
    state::{State, add, sub},
    stats,
    tables::Tables,
};
use crate::{
    dataplane::Maps,
    model::{Counters, Rates},
};

/// What `ip_vs_stats` and `ip_vs_stats_percpu` are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Of every server that there is or was, less what `-Z` took off.
    pub total: Counters,
    /// Rates: the sums of the services'.
    pub rates: Rates,
    /// By CPU, since the data plane was created.
    pub cpus: Vec<Counters>,
}

/// What the slots of servers that have no server, and had none lately, counted
/// once. Reading them all takes a system call each, so it is done once.
#[derive(Debug, Default)]
pub struct Idle {
    /// From this slot on nobody used any when they were read.
    from: u32,
    /// Those that had counted something, with their counters by CPU.
    counted: Vec<(u32, Vec<Stats>)>,
}

impl Idle {
    /// Reads the slots from the first that was not used since the start.
    pub fn read(maps: &Maps, state: &State) -> Self {
        let from = state.dest_slots_used();
        let slots = (from..maps.sizes.dests).map(|slot| (slot, by_cpu(maps, slot)));
        let counted = slots.filter(|(_, cpus)| cpus.iter().any(|cpu| *cpu != Stats::default()));
        Self {
            from,
            counted: counted.collect(),
        }
    }
}

/// The totals now; `base` is what was shown as zero by `-Z`.
pub fn totals(maps: &Maps, state: &State, idle: &Idle, base: Counters) -> Totals {
    let used = state.dest_slots_used().max(idle.from);
    let mut cpus: Vec<Stats> = Vec::new();
    let mut count = |slot: &[Stats]| {
        cpus.resize(cpus.len().max(slot.len()), Stats::default());
        for (sum, cpu) in cpus.iter_mut().zip(slot) {
            *sum = add(*sum, *cpu);
        }
    };
    (0..used).for_each(|slot| count(&by_cpu(maps, slot)));
    let idle = idle.counted.iter().filter(|(slot, _)| *slot >= used);
    idle.for_each(|(_, slot)| count(slot));
    let sum = cpus
        .iter()
        .fold(Stats::default(), |sum, cpu| add(sum, *cpu));
    Totals {
        total: sub(sum, base.into()).into(),
        rates: stats::rates(&averages(&Tables::from(maps), state)),
        cpus: cpus.into_iter().map(Counters::from).collect(),
    }
}

/// A page whose averages are the sums of the services'.
fn averages(tables: &Tables<'_>, state: &State) -> StatsPage {
    let mut sum = StatsPage::default();
    for (_, service) in state.services() {
        let page = tables.pages.get(tables.service_page(service.slot));
        for (sum, average) in sum.average.iter_mut().zip(page.average) {
            *sum = sum.wrapping_add(average);
        }
    }
    sum
}

fn by_cpu(maps: &Maps, slot: u32) -> Vec<Stats> {
    maps.dest_stats_by_cpu(slot).unwrap_or_else(|error| {
        tracing::error!("counters of slot {slot}: {error:#}");
        Vec::new()
    })
}

/// What is to be shown as zero from now on.
pub fn base(now: &Totals) -> Counters {
    let sum = now.cpus.iter().map(|cpu| Stats::from(*cpu));
    sum.fold(Stats::default(), add).into()
}
