use serde::{Deserialize, Serialize};

use super::{Counters, Rates};

/// What `/proc/net/ip_vs_stats` and `ip_vs_stats_percpu` are about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Of every server that there is or was, less what `-Z` took off.
    pub total: Counters,
    /// Rates.
    pub rates: Rates,
    /// By CPU, since the data plane was created.
    pub cpus: Vec<Counters>,
}

/// A map of the data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUsage {
    /// Its name, as it is pinned.
    pub name: String,
    /// What it holds.
    pub holds: String,
    /// Entries in use, where that is a meaningful number.
    pub used: Option<u64>,
    /// Entries that there is room for.
    pub capacity: u64,
    /// Bytes of memory, by the kernel's account.
    pub bytes: u64,
}
