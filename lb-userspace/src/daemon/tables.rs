//! The maps that hold configuration and statistics.

use lb_common::{
    layout::{
        DestEntry, DestLoad, ListEntry, LocalAddress, NextHop, ServiceEntry, ServiceState, Stats,
        StatsPage,
    },
    tables::Params,
};

use super::state::{Loads, RawStats};
use crate::dataplane::{Mapping, Maps, Sizes};

/// The part of [`Maps`] that the compiler and the statistics work on. Tests
/// build it over plain memory.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    /// See [`Maps::params`].
    pub params: &'a Params,
    /// See [`Maps::sizes`].
    pub sizes: Sizes,
    /// See [`Maps::root`].
    pub root: &'a Mapping<u64>,
    /// See [`Maps::filter`].
    pub filter: &'a Mapping<u64>,
    /// See [`Maps::services`].
    pub services: &'a Mapping<ServiceEntry>,
    /// See [`Maps::lists`].
    pub lists: &'a Mapping<ListEntry>,
    /// See [`Maps::sched_tables`].
    pub sched_tables: &'a Mapping<u64>,
    /// See [`Maps::service_states`].
    pub service_states: &'a Mapping<ServiceState>,
    /// See [`Maps::dests`].
    pub dests: &'a Mapping<DestEntry>,
    /// See [`Maps::dest_loads`].
    pub dest_loads: &'a Mapping<DestLoad>,
    /// See [`Maps::next_hops`].
    pub next_hops: &'a Mapping<NextHop>,
    /// See [`Maps::locals`].
    pub locals: &'a Mapping<LocalAddress>,
    /// See [`Maps::rules`].
    pub rules: &'a Mapping<u64>,
    /// See [`Maps::pages`].
    pub pages: &'a Mapping<StatsPage>,
    /// Raw counters of servers.
    pub raw: &'a dyn RawStats,
}

impl<'a> From<&'a Maps> for Tables<'a> {
    fn from(maps: &'a Maps) -> Self {
        Self {
            params: &maps.params,
            sizes: maps.sizes,
            root: &maps.root,
            filter: &maps.filter,
            services: &maps.services,
            lists: &maps.lists,
            sched_tables: &maps.sched_tables,
            service_states: &maps.service_states,
            dests: &maps.dests,
            dest_loads: &maps.dest_loads,
            next_hops: &maps.next_hops,
            locals: &maps.locals,
            rules: &maps.rules,
            pages: &maps.pages,
            raw: maps,
        }
    }
}

impl RawStats for Maps {
    fn raw(&self, slot: u32) -> Stats {
        // Slots are within the table by construction; the look-up of a value
        // that exists does not fail.
        self.dest_stats(slot).unwrap_or_else(|error| {
            tracing::error!("counters of slot {slot}: {error:#}");
            Stats::default()
        })
    }

    fn rule(&self, slot: u32) -> [u64; 2] {
        self.rule_stats(slot).unwrap_or_else(|error| {
            tracing::error!("counters of filter rule {slot}: {error:#}");
            [0; 2]
        })
    }
}

impl Loads for Tables<'_> {
    fn references(&self, slot: u32) -> u64 {
        let load = self.dest_loads.get(slot);
        u64::from(load.active()) + u64::from(load.inactive()) + load.templates
    }
}

impl Tables<'_> {
    /// Index of a service's statistics page.
    pub fn service_page(&self, slot: u32) -> u32 {
        self.sizes.dests + slot
    }
}

/// The same in the memory of this process.
pub(crate) mod memory {
    use std::{cell::RefCell, collections::HashMap, io};

    use lb_common::layout::FILTER_WORDS;

    use super::*;

    /// Tables in memory: for tests, and to see what a configuration would do.
    pub(crate) struct Memory {
        pub(crate) params: Params,
        pub(crate) sizes: Sizes,
        root: Mapping<u64>,
        filter: Mapping<u64>,
        services: Mapping<ServiceEntry>,
        lists: Mapping<ListEntry>,
        sched_tables: Mapping<u64>,
        service_states: Mapping<ServiceState>,
        dests: Mapping<DestEntry>,
        dest_loads: Mapping<DestLoad>,
        next_hops: Mapping<NextHop>,
        locals: Mapping<LocalAddress>,
        rules: Mapping<u64>,
        pages: Mapping<StatsPage>,
        pub(crate) counters: Counted,
    }

    #[derive(Default)]
    pub(crate) struct Counted(pub(crate) RefCell<HashMap<u32, Stats>>);

    impl RawStats for Counted {
        fn raw(&self, slot: u32) -> Stats {
            self.0.borrow().get(&slot).copied().unwrap_or_default()
        }
    }

    impl Memory {
        /// Parameters of tables of these sizes.
        pub(crate) fn params(sizes: Sizes) -> Params {
            Params {
                hash: [0; 12],
                multiplier: 1,
                service_seed: 0x1234_5678_9abc_def1,
                filter_seed: 77,
                flow4_cells: 4096,
                flow6_cells: 1024,
                service_slots: (sizes.services * 4).next_power_of_two(),
                list_entries: sizes.dests,
                iface_slots: 16,
                rule_words: sizes.rule_words,
                reserved: 0,
            }
        }

        /// Tables of these sizes; without flows, whatever the sizes say.
        ///
        /// # Errors
        /// When memory is short.
        pub(crate) fn of(sizes: Sizes) -> io::Result<Self> {
            let params = Self::params(sizes);
            let Sizes {
                services, dests, ..
            } = sizes;
            Ok(Self {
                params,
                sizes,
                root: Mapping::anonymous(1)?,
                filter: Mapping::anonymous(2 * FILTER_WORDS)?,
                services: Mapping::anonymous(2 * params.service_slots)?,
                lists: Mapping::anonymous(2 * dests)?,
                sched_tables: Mapping::anonymous(sizes.sched_records())?,
                service_states: Mapping::anonymous(services)?,
                dests: Mapping::anonymous(dests)?,
                dest_loads: Mapping::anonymous(dests)?,
                next_hops: Mapping::anonymous(64)?,
                locals: Mapping::anonymous(64)?,
                rules: Mapping::anonymous(2 * params.rule_words)?,
                pages: Mapping::anonymous(services + dests)?,
                counters: Counted::default(),
            })
        }

        #[cfg(test)]
        pub(crate) fn new(services: u32, dests: u32) -> Self {
            Self::of(Sizes {
                connections: 2048,
                connections6: 512,
                services,
                dests,
                mh_services: 4,
                rule_words: 1 << 12,
            })
            .unwrap()
        }

        pub(crate) fn tables(&self) -> Tables<'_> {
            Tables {
                params: &self.params,
                sizes: self.sizes,
                root: &self.root,
                filter: &self.filter,
                services: &self.services,
                lists: &self.lists,
                sched_tables: &self.sched_tables,
                service_states: &self.service_states,
                dests: &self.dests,
                dest_loads: &self.dest_loads,
                next_hops: &self.next_hops,
                locals: &self.locals,
                rules: &self.rules,
                pages: &self.pages,
                raw: &self.counters,
            }
        }
    }
}
