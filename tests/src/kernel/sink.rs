//! Where a scene is written: maps, or host memory.

use lb_common::{
    host::HostTables,
    layout::{
        DestEntry, FILTER_WORDS, IfaceEntry, ListEntry, LocalAddress, NextHop, Root, ServiceEntry,
        Settings,
    },
    tables::{Params, Table},
};
use lb_userspace::dataplane::Maps;

/// Where a scene is written.
pub trait Sink {
    /// Load-time parameters.
    fn params(&self) -> Params;
    /// Writes a service.
    fn service(&self, index: u32, entry: ServiceEntry);
    /// Writes a list entry.
    fn list(&self, index: u32, entry: ListEntry);
    /// Writes a record of the tables of schedulers.
    fn sched_table(&self, index: u32, record: u64);
    /// Writes a server.
    fn dest(&self, slot: u32, entry: DestEntry);
    /// Writes a next hop.
    fn next_hop(&self, index: u32, entry: NextHop);
    /// Writes a local address of FULLNAT.
    fn local(&self, index: u32, entry: LocalAddress);
    /// Writes an interface.
    fn iface(&self, index: u32, entry: IfaceEntry);
    /// Sets a filter bit of half 0.
    fn filter(&self, bit: u32);
    /// Writes a scheduler's cursor.
    fn cursor(&self, slot: u32, word: u64);
    /// Writes the settings.
    fn settings(&self, settings: Settings);
    /// Writes a word of rule memory, of half 0.
    fn rule(&self, index: u32, word: u64);
    /// Switches to the configuration.
    fn root(&self, root: Root);
}

impl Sink for Maps {
    fn params(&self) -> Params {
        self.params
    }
    fn service(&self, index: u32, entry: ServiceEntry) {
        self.services.set(index, entry);
    }
    fn list(&self, index: u32, entry: ListEntry) {
        self.lists.set(index, entry);
    }
    fn sched_table(&self, index: u32, record: u64) {
        self.sched_tables.set(index, record);
    }
    fn dest(&self, slot: u32, entry: DestEntry) {
        self.dests.set(slot, entry);
    }
    fn next_hop(&self, index: u32, entry: NextHop) {
        self.next_hops.set(index, entry);
    }
    fn local(&self, index: u32, entry: LocalAddress) {
        self.locals.set(index, entry);
    }
    fn iface(&self, index: u32, entry: IfaceEntry) {
        self.ifaces.set(index, entry);
    }
    fn filter(&self, bit: u32) {
        let word = self.filter.get(bit / 64);
        self.filter.set(bit / 64, word | 1 << (bit % 64));
    }
    fn cursor(&self, slot: u32, word: u64) {
        let mut state = self.service_states.get(slot);
        state.cursor = word;
        self.service_states.set(slot, state);
    }
    fn settings(&self, settings: Settings) {
        self.settings.set(0, settings);
    }
    fn rule(&self, index: u32, word: u64) {
        self.rules.set(index, word);
    }
    fn root(&self, root: Root) {
        self.root.set(0, root.0);
    }
}

/// Host memory with the parameters it was made with.
pub struct HostSink<'a>(pub &'a HostTables, pub Params);

impl Sink for HostSink<'_> {
    fn params(&self) -> Params {
        self.1
    }
    fn service(&self, index: u32, entry: ServiceEntry) {
        self.0.set(Table::Service, index, entry);
    }
    fn list(&self, index: u32, entry: ListEntry) {
        self.0.set(Table::List, index, entry);
    }
    fn sched_table(&self, index: u32, record: u64) {
        self.0.set(Table::SchedTable, index, record);
    }
    fn dest(&self, slot: u32, entry: DestEntry) {
        self.0.set(Table::Dest, slot, entry);
    }
    fn next_hop(&self, index: u32, entry: NextHop) {
        self.0.set(Table::NextHop, index, entry);
    }
    fn local(&self, index: u32, entry: LocalAddress) {
        self.0.set(Table::Local, index, entry);
    }
    fn iface(&self, index: u32, entry: IfaceEntry) {
        self.0.set(Table::Iface, index, entry);
    }
    fn filter(&self, bit: u32) {
        assert!(bit / 64 < FILTER_WORDS);
        let word: u64 = self.0.get(Table::Filter, bit / 64);
        self.0.set(Table::Filter, bit / 64, word | 1 << (bit % 64));
    }
    fn cursor(&self, slot: u32, word: u64) {
        let mut state: [u64; 8] = self.0.get(Table::ServiceState, slot);
        state[0] = word;
        self.0.set(Table::ServiceState, slot, state);
    }
    fn settings(&self, settings: Settings) {
        self.0.set(Table::Settings, 0, settings);
    }
    fn rule(&self, index: u32, word: u64) {
        self.0.set(Table::Rules, index, word);
    }
    fn root(&self, root: Root) {
        self.0.set_root(root);
    }
}
