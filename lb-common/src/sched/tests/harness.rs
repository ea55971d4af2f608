//! A service whose servers are changed the way the daemon does it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    facts::Facts,
    host::HostTables,
    layout::{
        DestEntry, DestFlags, DestLoad, DestWord, ListEntry, NO_OLD_POSITION, SchedulerKind,
        ServiceEntry, ServiceFlags, ServiceView,
    },
    sched::{self, Cursor, Picked, mh, try_pick, wrr},
    tables::{Params, Table, Tables},
};

/// Servers are called by a letter; their slot is the letter's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: char,
    pub(super) weight: u32,
    /// The latest weight that was not 0, or the first.
    pub(super) last_weight: u32,
}

/// A change of a service's servers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Add(char, u32),
    Edit(char, u32),
    Delete(char),
}

impl Change {
    /// Makes the change in a list whose newest server stands first.
    pub(super) fn make(self, list: &mut Vec<Server>) {
        match self {
            Self::Add(name, weight) => {
                let server = Server {
                    name,
                    weight,
                    last_weight: weight,
                };
                list.insert(0, server);
            }
            Self::Edit(name, weight) => {
                for server in list.iter_mut().filter(|server| server.name == name) {
                    server.weight = weight;
                    if weight > 0 {
                        server.last_weight = weight;
                    }
                }
            }
            Self::Delete(name) => list.retain(|server| server.name != name),
        }
    }
}

/// Entries of one half of the list table.
const ENTRIES: u32 = 512;
/// The servers' port.
const PORT: u16 = 53;

/// Source of a packet, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) from: IpAddr,
    pub(super) port: u16,
    pub(super) to: IpAddr,
}

impl Flow {
    pub(super) fn from(from: impl Into<IpAddr>) -> Self {
        Self {
            from: from.into(),
            port: 40_000,
            to: [10, 9, 9, 1].into(),
        }
    }

    pub(super) fn to(to: impl Into<IpAddr>) -> Self {
        Self {
            to: to.into(),
            ..Self::from([1, 2, 3, 4])
        }
    }

    fn facts(self, now: u32) -> Facts {
        Facts {
            src: address(self.from),
            dst: address(self.to),
            ports: u64::from(self.port.to_be()) | u64::from(PORT.to_be()) << 16 | 17 << 32,
            now: now.into(),
            ..Facts::default()
        }
    }
}

fn address(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [u32::from_ne_bytes(v4.octets()).into(), 0],
        IpAddr::V6(v6) => bytemuck::cast(v6.octets()),
    }
}

pub(super) struct Lab {
    pub(super) tables: HostTables,
    kind: SchedulerKind,
    list: Vec<Server>,
    /// The list of the generation before.
    before: Vec<Server>,
    pub(super) generation: u32,
    binding: u32,
    pub(super) flags: u16,
    pub(super) ipv6: bool,
    pub(super) now: u32,
}

impl Lab {
    pub(super) fn new(kind: SchedulerKind) -> Self {
        let params = Params {
            service_slots: 1,
            list_entries: ENTRIES,
            iface_slots: 1,
            rule_words: 1,
            reserved: 0,
            ..Params::default()
        };
        let lab = Self {
            tables: HostTables::new(params, 1024, 2),
            kind,
            list: Vec::new(),
            before: Vec::new(),
            generation: 1,
            binding: 1,
            flags: 0,
            ipv6: false,
            now: 1,
        };
        let cursor = Cursor {
            generation: 1,
            ..Cursor::default()
        };
        lab.tables.set(Table::ServiceState, 0, state(cursor.word()));
        lab.write(&[], 0, 0);
        lab
    }

    /// With flags of the scheduler.
    pub(super) fn flagged(kind: SchedulerKind, flags: u16, ipv6: bool, weights: &[u32]) -> Self {
        let mut lab = Self::new(kind);
        lab.flags = flags;
        lab.ipv6 = ipv6;
        for (name, &weight) in ('A'..).zip(weights) {
            lab.apply(Change::Add(name, weight), 0);
        }
        lab
    }

    /// Adds a server that packets see after [`Lab::publish`].
    pub(super) fn add(&mut self, name: char, weight: u32) {
        Change::Add(name, weight).make(&mut self.list);
    }

    /// Has packets see the list as it is, with a cursor at its head.
    pub(super) fn publish(&mut self) {
        self.generation += 1;
        self.write(&[], 0, 0);
    }

    /// With servers added one at a time, in this order.
    pub(super) fn with(kind: SchedulerKind, weights: &[u32]) -> Self {
        let mut lab = Self::new(kind);
        for (name, &weight) in ('A'..).zip(weights) {
            lab.apply(Change::Add(name, weight), 0);
        }
        lab
    }

    /// Makes a change the way the daemon does. `late` connections are scheduled
    /// after the daemon has read the cursor and before packets see the change:
    /// then the prepared seed is of no use, and the packet path carries the
    /// cursor over.
    pub(super) fn apply(&mut self, change: Change, late: usize) -> String {
        let old = self.list.clone();
        let mut new = old.clone();
        change.make(&mut new);
        let word = self.cursor_word();
        let seed = self.seed(word, &old, &new);
        let picked = self.picks(late);
        self.list = new;
        self.generation += 1;
        self.write(&old, word, seed);
        self.before = old;
        picked
    }

    /// Binds another scheduler the way the daemon does, with `late` connections
    /// scheduled between its reading of the cursor and the switch.
    pub(super) fn rebind(&mut self, kind: SchedulerKind, late: usize) -> String {
        let word = self.cursor_word();
        let picked = self.picks(late);
        self.kind = kind;
        self.generation += 1;
        self.binding = self.generation;
        let (max_weight, _) = self.thresholds(&self.list);
        let weight = if kind == SchedulerKind::Wrr {
            max_weight as i32
        } else {
            0
        };
        let bound = Cursor {
            at: 0,
            weight,
            generation: self.generation as u16,
        };
        let list = self.list.clone();
        self.write(&list, word, bound.word());
        let mut service: ServiceEntry = self.tables.get(Table::Service, self.side());
        service.flags |= ServiceFlags::REBOUND;
        self.tables.set(Table::Service, self.side(), service);
        self.before = list;
        picked
    }

    /// Names of the servers chosen for `count` new connections; `-` is none.
    pub(super) fn picks(&self, count: usize) -> String {
        (0..count).map(|_| self.pick()).collect()
    }

    /// Names of the servers chosen for these flows.
    pub(super) fn flows(&self, flows: impl IntoIterator<Item = Flow>) -> String {
        flows.into_iter().map(|flow| self.pick_for(flow)).collect()
    }

    /// Opens `count` connections, one after the other, each counted at its server.
    pub(super) fn open(&self, count: usize, active: bool) -> String {
        let one = |_| {
            let name = self.pick();
            self.load(name, u32::from(active), u32::from(!active));
            name
        };
        (0..count).map(one).collect()
    }

    /// Adds to a server's connections (wrapping, so that it also takes off).
    pub(super) fn load(&self, name: char, active: u32, inactive: u32) {
        if name == '-' {
            return;
        }
        let load: DestLoad = self.tables.get(Table::DestLoad, name.into());
        let sum = u64::from(load.active().wrapping_add(active))
            | u64::from(load.inactive().wrapping_add(inactive)) << 32;
        let load = DestLoad { conns: sum, ..load };
        self.tables.set(Table::DestLoad, name.into(), load);
    }

    /// Marks a server as overloaded, or not.
    pub(super) fn overload(&self, name: char, overloaded: bool) {
        let flags = DestFlags::AVAILABLE | if overloaded { DestFlags::OVERLOAD } else { 0 };
        let dest = DestEntry {
            word: DestWord::new(0, flags).0,
            ..DestEntry::default()
        };
        self.tables.set(Table::Dest, name.into(), dest);
    }

    pub(super) fn pick(&self) -> char {
        self.pick_for(Flow::from([1, 2, 3, 4]))
    }

    fn pick_for(&self, flow: Flow) -> char {
        let facts = flow.facts(self.now);
        match try_pick(&self.tables, &facts, self.side(), self.service(self.side())) {
            Picked::Dest { slot, .. } => char::from_u32(slot).expect("a letter"),
            Picked::None => '-',
            other => panic!("nobody competes: {other:?}"),
        }
    }

    pub(super) fn try_pick(&self) -> Picked {
        let facts = Flow::from([1, 2, 3, 4]).facts(self.now);
        try_pick(&self.tables, &facts, self.side(), self.service(self.side()))
    }

    fn service(&self, side: u32) -> ServiceView<<&HostTables as Tables>::Cell> {
        ServiceView((&self.tables).cell(Table::Service, side).expect("exists"))
    }

    fn side(&self) -> u32 {
        self.generation & 1
    }

    /// What a packet would get that still reads the configuration before this one.
    pub(super) fn try_pick_before(&self) -> Picked {
        let facts = Flow::from([1, 2, 3, 4]).facts(self.now);
        let side = 1 - self.side();
        try_pick(&self.tables, &facts, side, self.service(side))
    }

    pub(super) fn cursor_word(&self) -> u64 {
        self.tables
            .get::<crate::layout::ServiceState>(Table::ServiceState, 0)
            .cursor
    }

    fn thresholds(&self, list: &[Server]) -> (u32, u32) {
        wrr::thresholds(list.iter().map(|server| server.weight))
    }

    /// The cursor word for the next generation when the present one is `word`.
    fn seed(&self, word: u64, old: &[Server], new: &[Server]) -> u64 {
        let mut cursor = Cursor::from_word(word);
        if cursor.generation != self.generation as u16 {
            // No packet has picked since the last change.
            let service: ServiceEntry = self.tables.get(Table::Service, self.side());
            cursor = if service.seed_from == word {
                Cursor::from_word(service.seed)
            } else {
                self.carry(cursor, &self.before, old)
            };
        }
        assert_eq!(cursor.generation, self.generation as u16);
        self.carry(cursor, old, new).word()
    }

    /// Where a cursor of the list `old` stands in the list `new`.
    fn carry(&self, cursor: Cursor, old: &[Server], new: &[Server]) -> Cursor {
        let generation = cursor.generation.wrapping_add(1);
        let carried = if self.kind == SchedulerKind::Wrr {
            let (max, gcd) = self.thresholds(new);
            wrr::carry(cursor, max, gcd)
        } else {
            let survivor = old[..cursor.at as usize]
                .iter()
                .rev()
                .find_map(|was| new.iter().position(|server| server.name == was.name));
            let at = survivor.map_or(0, |position| position as u32 + 1);
            Cursor { at, ..cursor }
        };
        Cursor {
            generation,
            ..carried
        }
    }

    fn servers(&self) -> Vec<sched::Server> {
        let server = |server: &Server| {
            let number = server.name as u32 - 'A' as u32 + 1;
            let addr = if self.ipv6 {
                Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, number as u16).into()
            } else {
                IpAddr::from(Ipv4Addr::from(0x0a08_0000 + number))
            };
            sched::Server {
                addr: bytemuck::cast(address(addr)),
                port: PORT,
                weight: server.weight,
                last_weight: server.last_weight,
            }
        };
        self.list.iter().map(server).collect()
    }

    fn write(&self, old: &[Server], seed_from: u64, seed: u64) {
        let side = self.side();
        let compiled = self.kind.compile(&self.servers());
        for (position, server) in self.list.iter().enumerate() {
            let before = old.iter().position(|was| was.name == server.name);
            let entry = ListEntry {
                slot: u32::from(server.name),
                weight: server.weight,
                old_position: before.map_or(NO_OLD_POSITION, |position| position as u32),
                method: 3,
            };
            let hint = compiled.hints.get(position).copied().unwrap_or(0);
            let index = side * ENTRIES + position as u32;
            self.tables.set(Table::List, index, entry.with_hint(hint));
        }
        let run = side * mh::WORDS;
        for (index, four) in (run..).zip(compiled.table.chunks(4)) {
            let word = four
                .iter()
                .rev()
                .fold(0, |word, &it| word << 16 | u64::from(it));
            self.tables.set(Table::SchedTable, index, word);
        }
        let table = if compiled.table.is_empty() {
            0
        } else {
            u64::from(run) + 1
        };
        let (max_weight, gcd) = self.thresholds(&self.list);
        let service = ServiceEntry {
            flags: self.flags,
            sched: [compiled.word, table, self.binding.into()],
            scheduler: self.kind as u8,
            generation: self.generation,
            list_len: self.list.len() as u32,
            max_weight,
            gcd,
            seed_from,
            seed,
            ..ServiceEntry::default()
        };
        self.tables.set(Table::Service, side, service);
    }
}

fn state(cursor: u64) -> crate::layout::ServiceState {
    crate::layout::ServiceState {
        cursor,
        ..Default::default()
    }
}
