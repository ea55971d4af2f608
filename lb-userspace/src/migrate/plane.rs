//! Where lvx sends clients: the engine's schedulers over a data plane's tables, a
//! running director's or such as a configuration would give.

use std::{net::IpAddr, sync::atomic::Ordering};

use lb_common::{
    facts::Facts,
    layout::{
        DestEntry, DestFlags, DestLoad, DestWord, ForwardMethod, ListEntry, Root, SERVICE_WINDOW,
        SchedulerKind, ServiceEntry, ServiceView, Stats,
    },
    sched::{Picked, try_pick},
    tables::{self, Cell, Datagram, Destination, Param, Table},
    time::Tick,
};

use super::{clients::Client, rules::Rules};
use crate::{
    address::words,
    daemon::{
        compile::{compile, switch},
        sched_tables::SchedTables,
        state::service_key,
        tables::{Tables, memory::Memory},
    },
    dataplane::{Mapping, Maps},
    model::{DestId, Family, Protocol, ServiceId},
};

/// A server in a service's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Whom packets are sent to; port 0 keeps the packet's.
    pub id: DestId,
    /// Its weight.
    pub weight: u32,
    /// How new connections reach it.
    pub method: ForwardMethod,
    /// It has as many connections as it may (`-x`).
    pub is_full: bool,
}

/// The tables of a configuration that nothing runs.
pub struct Trial(Memory);

impl Trial {
    /// Compiles what was read.
    ///
    /// # Errors
    /// When memory is short.
    pub fn new(rules: &Rules) -> std::io::Result<Self> {
        let memory = Memory::of(rules.sizes)?;
        let tables = memory.tables();
        let mut state = rules.state.clone();
        let mut runs = SchedTables::restore(&tables);
        state.number();
        runs.publish(&tables, &state);
        compile(&tables, &state, 0, &|_| true, &|slot| runs.first(slot));
        for (_, service) in state.services() {
            for node in &service.dests {
                let (addr, family) = words(node.dest.id.addr);
                let entry = DestEntry {
                    word: DestWord::new(0, DestFlags::AVAILABLE).0,
                    addr,
                    port: node.dest.id.port.to_be(),
                    family,
                    ..DestEntry::default()
                };
                tables.dests.set(node.slot, entry);
            }
        }
        switch(&tables, &state, 0);
        Ok(Self(memory))
    }

    /// Its tables.
    pub fn plane(&self) -> Plane<'_> {
        Plane::of(self.0.tables())
    }
}

/// One half of a data plane's configuration, to be read. Only schedulers that
/// remember nothing are asked here, so nothing is written.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    tables: Tables<'a>,
    root: Root,
}

impl<'a> Plane<'a> {
    /// The current half of a running director.
    pub fn running(maps: &'a Maps) -> Self {
        Self::of(Tables::from(maps))
    }

    fn of(tables: Tables<'a>) -> Self {
        Self {
            tables,
            root: Root(tables.root.get(0)),
        }
    }

    /// Whether packets still read this half.
    pub fn is_current(self) -> bool {
        self.tables.root.get(0) == self.root.0
    }

    fn half(self) -> u32 {
        self.root.side() * self.tables.params.service_slots
    }

    /// Index of a service's entry.
    pub fn find(self, id: ServiceId) -> Option<u32> {
        let key = service_key(id);
        let slots = self.tables.params.service_slots;
        let home = key.home(self.tables.params.service_seed, slots);
        let mut probed = (0..SERVICE_WINDOW).map(|i| self.half() + ((home + i) & (slots - 1)));
        probed.find(|index| {
            tables::Tables::cell(self, Table::Service, *index)
                .is_some_and(|cell| ServiceView(cell).matches(&key))
        })
    }

    /// A service's entry.
    pub fn entry(self, index: u32) -> ServiceEntry {
        self.tables.services.get(index)
    }

    /// All services.
    pub fn services(self) -> impl Iterator<Item = ServiceId> {
        let half = self.half();
        let indexes = half..half + self.tables.params.service_slots;
        indexes.filter_map(move |index| id(&self.entry(index)))
    }

    /// A service's servers, the newest first.
    pub fn list(self, entry: &ServiceEntry) -> Vec<Listed> {
        let start = self.root.side() * self.tables.params.list_entries + entry.list_start;
        let end = (start + entry.list_len).min(self.tables.lists.len());
        (start..end)
            .map(|index| {
                let listed = self.tables.lists.get(index);
                self.listed(listed.slot, listed.weight, listed.method as u8)
            })
            .collect()
    }

    fn listed(self, slot: u32, weight: u32, method: u8) -> Listed {
        let dest = if slot < self.tables.dests.len() {
            self.tables.dests.get(slot)
        } else {
            DestEntry::default()
        };
        Listed {
            id: DestId {
                addr: address(dest.addr, dest.family),
                port: u16::from_be(dest.port),
            },
            weight,
            method: ForwardMethod::from_bits(method),
            is_full: DestWord(dest.word).has(DestFlags::OVERLOAD),
        }
    }

    /// Whom a scheduler that remembers nothing gives a client's new connection to
    /// `vip`.
    pub fn choose(self, index: u32, client: Client, vip: IpAddr) -> Option<DestId> {
        let service = ServiceView(tables::Tables::cell(self, Table::Service, index)?);
        let facts = Facts {
            src: packet_words(client.addr),
            dst: packet_words(vip),
            ports: u64::from(client.port.unwrap_or(0).to_be()) | u64::from(service.port()) << 16,
            ..Facts::default()
        };
        match try_pick(self, &facts, self.root.side(), service) {
            Picked::Dest { slot, .. } => Some(self.listed(slot, 0, 0).id),
            Picked::None | Picked::Contended | Picked::Stale => None,
        }
    }
}

/// An address as packets hold it.
fn packet_words(addr: IpAddr) -> [u64; 2] {
    let ([a, b, c, d], _) = words(addr);
    [
        u64::from(a) | u64::from(b) << 32,
        u64::from(c) | u64::from(d) << 32,
    ]
}

fn address([a, b, c, d]: [u32; 4], family: u8) -> IpAddr {
    let bytes = |word: u32| word.to_ne_bytes();
    if family == 6 {
        let mut all = [0; 16];
        for (four, word) in all.chunks_exact_mut(4).zip([a, b, c, d]) {
            four.copy_from_slice(&bytes(word));
        }
        all.into()
    } else {
        bytes(a).into()
    }
}

fn id(entry: &ServiceEntry) -> Option<ServiceId> {
    let family = match entry.family {
        4 => Family::V4,
        6 => Family::V6,
        _ => return None,
    };
    if entry.protocol == 0 {
        let mark = entry.addr[0];
        return Some(ServiceId::Mark { mark, family });
    }
    Some(ServiceId::Address {
        protocol: Protocol::from_number(entry.protocol)?,
        addr: address(entry.addr, entry.family),
        port: u16::from_be(entry.port),
    })
}

/// The scheduler of an entry.
pub fn scheduler(entry: &ServiceEntry) -> SchedulerKind {
    let mut all = SchedulerKind::ALL.iter().copied();
    all.find(|kind| *kind as u8 == entry.scheduler)
        .unwrap_or(SchedulerKind::None)
}

/// A record of one of the tables.
#[derive(Clone, Copy)]
pub enum PlaneCell<'a> {
    /// Services.
    Service(&'a Mapping<ServiceEntry>, u32),
    /// Lists.
    List(&'a Mapping<ListEntry>, u32),
    /// Servers.
    Dest(&'a Mapping<DestEntry>, u32),
    /// Servers' loads.
    Load(&'a Mapping<DestLoad>, u32),
    /// Schedulers' tables.
    Word(&'a Mapping<u64>, u32),
}

impl Cell for PlaneCell<'_> {
    fn load(self, word: usize) -> u64 {
        let word = match self {
            Self::Service(map, index) => map.word(index, word),
            Self::List(map, index) => map.word(index, word),
            Self::Dest(map, index) => map.word(index, word),
            Self::Load(map, index) => map.word(index, word),
            Self::Word(map, index) => map.word(index, word),
        };
        word.load(Ordering::Acquire)
    }

    // Whoever only looks changes nothing.
    fn store(self, _: usize, _: u64) {}

    fn compare_exchange(self, word: usize, _: u64, _: u64) -> u64 {
        self.load(word)
    }

    fn add(self, _: usize, _: u64) {}

    fn set_bits(self, _: usize, _: u64) {}

    fn clear_bits(self, _: usize, _: u64) {}
}

impl<'a> tables::Tables for Plane<'a> {
    type Cell = PlaneCell<'a>;

    fn cell(self, table: Table, index: u32) -> Option<PlaneCell<'a>> {
        let maps = self.tables;
        let (cell, len) = match table {
            Table::Service => (
                PlaneCell::Service(maps.services, index),
                maps.services.len(),
            ),
            Table::List => (PlaneCell::List(maps.lists, index), maps.lists.len()),
            Table::Dest => (PlaneCell::Dest(maps.dests, index), maps.dests.len()),
            Table::DestLoad => (
                PlaneCell::Load(maps.dest_loads, index),
                maps.dest_loads.len(),
            ),
            Table::SchedTable => (
                PlaneCell::Word(maps.sched_tables, index),
                maps.sched_tables.len(),
            ),
            _ => return None,
        };
        (index < len).then_some(cell)
    }

    fn root(self) -> Root {
        self.root
    }

    fn param(self, param: Param) -> u64 {
        self.tables.params.get(param)
    }

    fn now(self) -> Tick {
        Maps::now()
    }

    fn random(self) -> u32 {
        0
    }

    fn fragment(self, _: &Datagram) -> Option<(u64, Tick)> {
        None
    }

    fn keep_fragment(self, _: &Datagram, _: u64, _: Tick) {}

    fn destination(self, _: &Destination) -> Option<PlaneCell<'a>> {
        None
    }

    fn keep_destination(self, _: &Destination, _: u64, _: u64) {}

    fn count_dest(self, _: u32, _: Stats) {}

    fn count_rule(self, _: u32, _: u64) {}

    fn count_number(self, _: u32) {}
}
