//! A service whose servers are changed the way the daemon does it.

use crate::{
    host::HostTables,
    layout::{ListEntry, NO_OLD_POSITION, SchedulerKind, ServiceEntry, ServiceFlags, ServiceView},
    sched::{Cursor, Picked, try_pick, wrr},
    tables::{Params, Table, Tables},
};

/// Servers are called by a letter; their slot is the letter's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: char,
    pub(super) weight: u32,
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
            Self::Add(name, weight) => list.insert(0, Server { name, weight }),
            Self::Edit(name, weight) => {
                for server in list.iter_mut().filter(|server| server.name == name) {
                    server.weight = weight;
                }
            }
            Self::Delete(name) => list.retain(|server| server.name != name),
        }
    }
}

/// Entries of one half of the list table.
const ENTRIES: u32 = 32;

pub(super) struct Lab {
    pub(super) tables: HostTables,
    kind: SchedulerKind,
    list: Vec<Server>,
    /// The list of the generation before.
    before: Vec<Server>,
    pub(super) generation: u32,
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
            tables: HostTables::new(params, 1, 1),
            kind,
            list: Vec::new(),
            before: Vec::new(),
            generation: 1,
        };
        let cursor = Cursor {
            generation: 1,
            ..Cursor::default()
        };
        lab.tables.set(Table::ServiceState, 0, state(cursor.word()));
        lab.write(&[], 0, 0);
        lab
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

    fn pick(&self) -> char {
        match self.try_pick() {
            Picked::Dest { slot, .. } => char::from_u32(slot).expect("a letter"),
            Picked::None => '-',
            other => panic!("nobody competes: {other:?}"),
        }
    }

    pub(super) fn try_pick(&self) -> Picked {
        try_pick(&self.tables, self.side(), self.service(self.side()))
    }

    fn service(&self, side: u32) -> ServiceView<<&HostTables as Tables>::Cell> {
        ServiceView((&self.tables).cell(Table::Service, side).expect("exists"))
    }

    fn side(&self) -> u32 {
        self.generation & 1
    }

    /// What a packet would get that still reads the configuration before this one.
    pub(super) fn try_pick_before(&self) -> Picked {
        try_pick(&self.tables, 1 - self.side(), self.service(1 - self.side()))
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

    fn write(&self, old: &[Server], seed_from: u64, seed: u64) {
        let side = self.side();
        for (position, server) in self.list.iter().enumerate() {
            let before = old.iter().position(|was| was.name == server.name);
            let entry = ListEntry {
                slot: u32::from(server.name),
                weight: server.weight,
                old_position: before.map_or(NO_OLD_POSITION, |position| position as u32),
                method: 3,
            };
            self.tables
                .set(Table::List, side * ENTRIES + position as u32, entry);
        }
        let (max_weight, gcd) = self.thresholds(&self.list);
        let service = ServiceEntry {
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
