//! The maps of one data plane, opened from their pins or from a loaded program.

use std::path::Path;

use anyhow::{Result, bail};
use lb_common::{
    layout::{
        DestEntry, DestLoad, IfaceEntry, ListEntry, NextHop, ServiceEntry, ServiceState, Settings,
        Stats, StatsPage, SweepStatus,
    },
    reason::Reason,
    tables::Params,
    time::{Tick, tick_of},
};
use serde::{Deserialize, Serialize};

use super::Mapping;

/// Sizes that are fixed when the data plane is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Connections promised (`--connections`); the table has at least twice as many cells.
    pub connections: u32,
    /// Virtual services.
    pub services: u32,
    /// Servers of all services together, those in the trash included.
    pub dests: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            connections: 1 << 18,
            services: 1 << 12,
            dests: 1 << 14,
        }
    }
}

/// Every map of a data plane, mapped into memory where the kernel allows it.
pub struct Maps {
    /// Load-time sizes and secrets, kept in a pinned map of their own.
    pub params: Params,
    /// What the data plane was created for.
    pub sizes: Sizes,
    /// The root word: one record.
    pub root: Mapping<u64>,
    /// IPv4 flow cells: main table, then stash.
    pub flow4: Mapping<[u64; 8]>,
    /// Occupied cells of each block of the IPv4 flow table.
    pub blocks4: Mapping<u64>,
    /// VIP filter, two halves of `FILTER_WORDS`.
    pub filter: Mapping<u64>,
    /// Interfaces, `params.iface_slots`, open addressing (`IfaceKey::home`, `IFACE_WINDOW`).
    pub ifaces: Mapping<IfaceEntry>,
    /// Services, two halves of `params.service_slots`, open addressing
    /// (`ServiceKey::home`, `SERVICE_WINDOW`, wrapping within the half).
    pub services: Mapping<ServiceEntry>,
    /// Lists, two halves of `params.list_entries`.
    pub lists: Mapping<ListEntry>,
    /// Scheduler state by service slot, `sizes.services` records.
    pub service_states: Mapping<ServiceState>,
    /// Servers by slot, `sizes.dests` records.
    pub dests: Mapping<DestEntry>,
    /// Servers' loads by slot.
    pub dest_loads: Mapping<DestLoad>,
    /// Next hops.
    pub next_hops: Mapping<NextHop>,
    /// Time-outs and the heartbeat: one record.
    pub settings: Mapping<Settings>,
    /// Statistics pages: `sizes.dests` of servers, then `sizes.services` of services.
    pub pages: Mapping<StatsPage>,
}

impl Maps {
    /// Opens the pinned maps under `pins`, as a reader that needs no daemon.
    ///
    /// # Errors
    /// When there are no pins, or they are of another layout.
    pub fn open(pins: &Path) -> Result<Self> {
        bail!("no maps under {}", pins.display())
    }

    /// Counters of the server in `slot`, summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses the look-up.
    pub fn dest_stats(&self, slot: u32) -> Result<Stats> {
        bail!("no counters of slot {slot}")
    }

    /// Every reason counter, summed over CPUs, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// When the kernel refuses the look-up.
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>> {
        bail!("no counters")
    }

    /// What the sweep tells about itself.
    ///
    /// # Errors
    /// When the kernel refuses the look-up.
    pub fn sweep(&self) -> Result<SweepStatus> {
        bail!("no sweep")
    }

    /// Sets every word of the root as one store: the switch of the configuration.
    pub fn now() -> Tick {
        tick_of(0)
    }
}
