//! The configuration as the daemon holds it.

mod apply;
mod config;
mod kept;
mod locals;
mod placement;
mod rules;
mod slots;
mod text;
mod trash;

#[cfg(test)]
mod tests;

use std::{collections::btree_map::Values, net::IpAddr};

use indexmap::IndexMap;
use lb_common::{layout::Stats, tables::Params};

pub use apply::{Loads, RawStats};
pub(crate) use apply::{add, sub};
pub use kept::Kept;
pub use placement::service_key;
pub use trash::Trashed;

use self::{placement::Placement, rules::Rules, slots::Slots, trash::Trash};
use super::cursor::{Step, Wrr, is_bound};
use crate::{
    dataplane::Sizes,
    model::{Declared, Dest, LocalRange, Refusal, ServiceId, ServiceSpec, Settings},
};

/// What the tables can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Services.
    pub services: u32,
    /// Servers, those in the trash included.
    pub dests: u32,
    /// Slots of the service table: a power of two.
    pub table: u32,
    /// Services whose scheduler has a table (mh).
    pub sched_tables: u32,
    /// Seed of the service table.
    pub seed: u64,
    /// Words of one half of rule memory.
    pub rules: u32,
}

impl Limits {
    /// Of a data plane.
    pub fn of(sizes: Sizes, params: &Params) -> Self {
        Self {
            services: sizes.services,
            dests: sizes.dests.min(params.list_entries),
            table: params.service_slots,
            sched_tables: sizes.mh_services,
            seed: params.service_seed,
            rules: params.rule_words,
        }
    }
}

/// A virtual service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Slot of its scheduler state and statistics.
    pub slot: u32,
    /// Its parameters.
    pub spec: ServiceSpec,
    /// Generation of its list.
    pub generation: u32,
    /// Generation in which its scheduler was bound.
    pub binding: u32,
    /// Totals of servers that left it, less what slots had counted before they
    /// came to it (wrapping).
    pub left: Stats,
    /// Its servers, the newest first.
    pub dests: Vec<Node>,
    /// What changed since the last compilation.
    pub change: Option<Change>,
    /// Its line in the saved text; empty when that must be written anew.
    line: String,
}

impl Service {
    /// wrr's figures of the list as it is.
    pub fn wrr(&self) -> Wrr {
        Wrr::of(self.dests.iter().map(|node| node.dest.spec.weight))
    }
}

/// What happened to a service's list or scheduler within a transaction.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Created in this transaction: nobody knows its slot yet.
    pub created: bool,
    /// Slots of the servers in the list before.
    pub before: Vec<u32>,
    /// What happened, for the cursor.
    pub steps: Vec<Step>,
}

/// A server in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Slot in the dest tables.
    pub slot: u32,
    /// The server.
    pub dest: Dest,
    /// It is or was reached by NAT: connections keep the method they were made
    /// with, so its replies may need translation whatever it is now.
    pub masq: bool,
    /// Counters that the slot had before it came to this service (the service
    /// was created again): set when the dest's own statistics start at zero.
    pub start: Option<Stats>,
    /// The slot is new to this server.
    pub fresh: bool,
    /// Its latest weight that was not 0, or that with which it was added: mh
    /// keeps a quiesced server's slots.
    pub last_weight: u32,
}

/// Services, servers and removed servers that connections still refer to.
#[derive(Clone, Debug)]
pub struct State {
    /// Number of the last transaction.
    pub epoch: u64,
    limits: Limits,
    services: IndexMap<ServiceId, Service>,
    trash: Trash,
    /// Pools of local addresses by service; `None` is the director's.
    locals: IndexMap<Option<ServiceId>, Vec<LocalRange>>,
    /// Time-outs and settings.
    settings: Settings,
    rules: Rules,
    /// Services that files declare.
    declared: IndexMap<ServiceId, Declared>,
    service_slots: Slots,
    dest_slots: Slots,
    /// Services whose scheduler has a table.
    sched_tables: u32,
    placement: Placement,
    dirty: bool,
}

impl State {
    /// Nothing configured.
    pub fn new(limits: Limits) -> Self {
        Self {
            epoch: 0,
            limits,
            services: IndexMap::new(),
            trash: Trash::default(),
            locals: IndexMap::new(),
            settings: Settings::default(),
            rules: Rules::new(limits.rules),
            declared: IndexMap::new(),
            service_slots: Slots::new(limits.services, []),
            dest_slots: Slots::new(limits.dests, []),
            sched_tables: 0,
            placement: Placement::new(limits.table, limits.seed),
            dirty: false,
        }
    }

    /// Services in the order of their creation.
    pub fn services(&self) -> impl ExactSizeIterator<Item = (&ServiceId, &Service)> {
        self.services.iter()
    }

    /// One service.
    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.services.get(id)
    }

    /// Removed servers that keep their slot.
    pub fn trash(&self) -> Values<'_, u64, Trashed> {
        self.trash.dests()
    }

    /// Services whose scheduler has a table, and how many may.
    pub fn sched_tables(&self) -> (u32, u32) {
        (self.sched_tables, self.limits.sched_tables)
    }

    /// Time-outs and settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Services as files declare them.
    pub fn declared(&self) -> impl Iterator<Item = &Declared> {
        self.declared.values()
    }

    /// Number of configured servers.
    pub fn dest_count(&self) -> usize {
        self.services
            .values()
            .map(|service| service.dests.len())
            .sum()
    }

    /// Slot of a configured service in the service table.
    pub fn place(&self, id: &ServiceId) -> Option<u32> {
        self.placement.place(id)
    }

    /// Addresses whose whereabouts matter: VIPs, servers (removed ones with
    /// connections included) and local addresses.
    pub fn targets(&self) -> impl Iterator<Item = IpAddr> {
        let vip = |id: &ServiceId| match id {
            ServiceId::Address { addr, .. } => Some(*addr),
            ServiceId::Mark { .. } => None,
        };
        let dests = self.services.values().flat_map(|service| &service.dests);
        let trash = self.trash.dests();
        (self.services.keys().filter_map(vip))
            .chain(
                trash
                    .clone()
                    .filter_map(move |trashed| vip(&trashed.service)),
            )
            .chain(dests.map(|node| node.dest.id.addr))
            .chain(trash.map(|trashed| trashed.dest.id.addr))
            .chain(
                self.locals
                    .values()
                    .flatten()
                    .flat_map(|range| range.addresses()),
            )
    }

    /// Whether anything changed since the last compilation.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Opens a transaction: no packet uses what the last one gave back.
    pub fn begin(&mut self) {
        self.service_slots.settle();
        self.dest_slots.settle();
        self.trash.settle();
        self.settle_rules();
    }

    /// Numbers the transaction: the epoch, and the generation of each list that changed.
    pub fn number(&mut self) {
        self.epoch += 1;
        for service in self
            .services
            .values_mut()
            .filter(|service| service.change.is_some())
        {
            service.generation = service.generation.wrapping_add(1);
            let change = service.change.as_ref();
            if change.is_some_and(|change| is_bound(&change.steps)) {
                service.binding = service.generation;
                service.line.clear();
            }
        }
    }

    /// Starts a new service's generation after that of its slot's last tenant.
    pub fn start_generations(&mut self, last: impl Fn(u32) -> u32) {
        for service in self.services.values_mut() {
            if service.change.as_ref().is_some_and(|change| change.created) {
                service.generation = last(service.slot);
            }
        }
    }

    /// Closes the transaction: the data plane has what is configured.
    pub fn finish(&mut self) {
        self.dirty = false;
        for service in self
            .services
            .values_mut()
            .filter(|service| service.change.is_some())
        {
            service.change = None;
            for node in &mut service.dests {
                node.fresh = false;
                node.start = None;
            }
        }
    }

    fn refuse_full(table: &str, count: u32, option: &str) -> Refusal {
        Refusal::Full(format!(
            "lvx: the table of {table} is full ({count}): \
             'lvx down', then 'lvx run' with a greater {option}"
        ))
    }
}
