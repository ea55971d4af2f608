//! The tables of schedulers that have one (mh): runs of `SCHED_TABLES` that
//! never change while a service refers to them. Both halves of the
//! configuration share a run as long as its service's servers are the same.

use std::collections::{BTreeSet, HashMap};

use lb_common::{
    layout::{Root, SchedulerKind},
    sched::{Server, mh},
};

use super::{
    state::{Node, Service, State},
    tables::Tables,
};
use crate::{
    address::words,
    model::{Family, ServiceId},
};

/// Records of a run.
pub const RUN: u32 = mh::WORDS;

/// Which run holds which service's table.
pub struct SchedTables {
    /// By service slot.
    runs: HashMap<u32, u32>,
    free: Vec<u32>,
    /// Replaced in this transaction; packets read them until the switch.
    replaced: Vec<u32>,
    /// Withdrawn since the last grace period; packets may still read them.
    retired: Vec<u32>,
}

impl SchedTables {
    /// The runs that services of the current half refer to already, as a dead
    /// daemon left them.
    pub fn restore(tables: &Tables<'_>) -> Self {
        let slots = tables.params.service_slots;
        let half = Root(tables.root.get(0)).side() * slots;
        let entries = (half..half + slots).map(|index| tables.services.get(index));
        let runs: HashMap<u32, u32> = entries
            .filter(|entry| entry.family != 0 && entry.sched[1] != 0)
            .map(|entry| (entry.slot, (entry.sched[1] - 1) as u32 / RUN))
            .collect();
        let used: BTreeSet<u32> = runs.values().copied().collect();
        let all = (0..tables.sched_tables.len() / RUN).rev();
        Self {
            free: all.filter(|run| !used.contains(run)).collect(),
            runs,
            replaced: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// Opens a transaction: no packet uses what was withdrawn before.
    pub fn begin(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// Fills a run for each service whose table became another one.
    pub fn publish(&mut self, tables: &Tables<'_>, state: &State) {
        for (id, service) in state.services() {
            let Some(kind) = SchedulerKind::from_name(&service.spec.scheduler) else {
                continue;
            };
            let known = self.runs.get(&service.slot).copied();
            if !kind.has_table() || (known.is_some() && service.change.is_none()) {
                continue;
            }
            let records = packed(&kind.compile(&servers(id, service)).table);
            let holds = |run: u32| {
                let mut indexes = (run * RUN..).zip(&records);
                indexes.all(|(index, record)| tables.sched_tables.get(index) == *record)
            };
            if known.is_some_and(holds) {
                continue;
            }
            // There is a second run for each table that a configuration may have.
            let Some(run) = self.free.pop() else {
                tracing::error!(
                    "{id}: no room for its table: its new connections go by the old one"
                );
                continue;
            };
            for (index, record) in (run * RUN..).zip(&records) {
                tables.sched_tables.set(index, *record);
            }
            self.replaced.extend(self.runs.insert(service.slot, run));
        }
    }

    /// First record of the table of the service in a slot, plus 1; 0 is none.
    pub fn first(&self, slot: u32) -> u64 {
        self.runs
            .get(&slot)
            .map_or(0, |run| u64::from(run * RUN) + 1)
    }

    /// Withdraws what no service of the half that is now current refers to.
    pub fn retain(&mut self, state: &State) {
        let used: BTreeSet<u32> = state
            .services()
            .filter(|(_, service)| has_table(&service.spec.scheduler))
            .map(|(_, service)| service.slot)
            .collect();
        let retired = &mut self.retired;
        retired.append(&mut self.replaced);
        self.runs.retain(|slot, run| {
            let keep = used.contains(slot);
            if !keep {
                retired.push(*run);
            }
            keep
        });
    }
}

/// Whether the scheduler of this name needs a run.
pub fn has_table(scheduler: &str) -> bool {
    SchedulerKind::from_name(scheduler).is_some_and(SchedulerKind::has_table)
}

/// A service's servers as a scheduler's compile step sees them: as in the kernel,
/// only as much of an address as those of the service's family are long.
pub fn servers(id: &ServiceId, service: &Service) -> Vec<Server> {
    let family = match id {
        ServiceId::Address { addr, .. } => Family::of(*addr),
        ServiceId::Mark { family, .. } => *family,
    };
    let seen = |[first, others @ ..]: [u32; 4]| match family {
        Family::V4 => [first, 0, 0, 0],
        Family::V6 => [first, others[0], others[1], others[2]],
    };
    let server = |node: &Node| Server {
        addr: seen(words(node.dest.id.addr).0),
        port: node.dest.id.port,
        weight: node.dest.spec.weight,
        last_weight: node.last_weight,
    };
    service.dests.iter().map(server).collect()
}

/// Four positions a record.
fn packed(table: &[u16]) -> Vec<u64> {
    let word = |four: &[u16]| {
        let shifted = four.iter().zip([0, 16, 32, 48]);
        shifted.fold(0, |word, (position, by)| word | u64::from(*position) << by)
    };
    table.chunks(4).map(word).collect()
}

#[cfg(test)]
mod tests {
    use lb_common::layout::ServiceEntry;

    use super::*;
    use crate::{
        daemon::{state::Limits, tables::memory::Memory},
        model::{
            Dest, DestId, DestSpec, Method, Protocol, Request, ServiceId, ServiceSpec, Tunnel,
        },
    };

    fn id(port: u16) -> ServiceId {
        ServiceId::Address {
            protocol: Protocol::Tcp,
            addr: [10, 9, 9, 1].into(),
            port,
        }
    }

    fn spec(scheduler: &str) -> ServiceSpec {
        ServiceSpec {
            scheduler: scheduler.into(),
            sched_flags: 0,
            ops: false,
            persistent: None,
            netmask: u32::MAX,
            pe: None,
            toa: false,
        }
    }

    fn dest(last: u8, weight: u32) -> Dest {
        Dest {
            id: DestId {
                addr: [10, 8, 0, last].into(),
                port: 80,
            },
            spec: DestSpec {
                method: Method::Route,
                weight,
                u_threshold: 0,
                l_threshold: 0,
                tunnel: Tunnel::Ipip,
            },
        }
    }

    struct Lab {
        memory: Memory,
        state: State,
        runs: SchedTables,
    }

    impl Lab {
        fn new() -> Self {
            let memory = Memory::new(8, 16);
            let runs = SchedTables::restore(&memory.tables());
            let state = State::new(Limits::of(memory.sizes, &memory.params));
            Self {
                memory,
                state,
                runs,
            }
        }

        /// A transaction.
        fn commit(&mut self, requests: &[Request]) {
            let tables = self.memory.tables();
            self.runs.begin();
            self.state.begin();
            for request in requests {
                let stats = &self.memory.counters;
                self.state.apply(request, stats, &tables, 0).unwrap();
            }
            self.runs.publish(&tables, &self.state);
            self.runs.retain(&self.state);
            self.state.finish();
        }

        fn first(&self, port: u16) -> u64 {
            self.runs.first(self.state.service(&id(port)).unwrap().slot)
        }

        /// Position of the server in the first slot of a service's table.
        fn slot(&self, port: u16) -> u64 {
            let record = self.first(port) - 1;
            self.memory.tables().sched_tables.get(record as u32) & 0xffff
        }
    }

    #[test]
    fn a_run_lives_as_long_as_its_servers_stay_as_they_are() {
        let mut lab = Lab::new();
        lab.commit(&[
            Request::AddService(id(80), spec("mh")),
            Request::AddDest(id(80), dest(1, 3)),
            Request::AddDest(id(80), dest(2, 1)),
            Request::AddService(id(81), spec("rr")),
        ]);
        let first = lab.first(80);
        assert_ne!(first, 0);
        assert_eq!(lab.first(81), 0, "rr has none");
        assert!(lab.slot(80) < 2);
        // Weight 0 leaves the table as it is, and so does another service.
        lab.commit(&[
            Request::EditDest(id(80), dest(1, 0)),
            Request::AddDest(id(81), dest(1, 1)),
        ]);
        assert_eq!(lab.first(80), first);
        lab.commit(&[Request::EditDest(id(80), dest(1, 5))]);
        let second = lab.first(80);
        assert_ne!(second, first, "packets may still read the old one");
        lab.commit(&[Request::EditDest(id(80), dest(1, 4))]);
        assert_ne!(lab.first(80), second);
    }

    /// As recorded in `hashes-mixed`: by the first four bytes two servers are one.
    #[test]
    fn an_ipv6_server_of_an_ipv4_service_is_named_by_four_bytes() {
        let mut lab = Lab::new();
        let ipv6 = |last: u16| {
            let mut dest = dest(1, 1);
            dest.id.addr = [0xfd00, 8, 0, 0, 0, 0, 0, last].into();
            dest.spec.method = Method::Tunnel;
            dest
        };
        lab.commit(&[
            Request::AddService(id(80), spec("mh")),
            Request::AddDest(id(80), ipv6(1)),
            Request::AddDest(id(80), ipv6(2)),
        ]);
        let seen = servers(&id(80), lab.state.service(&id(80)).unwrap());
        let first = u32::from_ne_bytes([0xfd, 0, 0, 8]);
        assert!(seen.iter().all(|server| server.addr == [first, 0, 0, 0]));
    }

    #[test]
    fn there_is_room_to_replace_every_table_at_once() {
        let mut lab = Lab::new();
        let ports = 80..80 + lab.memory.sizes.mh_services as u16;
        let mut requests = Vec::new();
        for port in ports.clone() {
            requests.push(Request::AddService(id(port), spec("mh")));
            requests.push(Request::AddDest(id(port), dest(1, 1)));
            requests.push(Request::AddDest(id(port), dest(2, 1)));
        }
        lab.commit(&requests);
        for weight in 2..6 {
            let before: Vec<u64> = ports.clone().map(|port| lab.first(port)).collect();
            let edits = ports
                .clone()
                .map(|port| Request::EditDest(id(port), dest(1, weight)));
            lab.commit(&edits.collect::<Vec<_>>());
            let after: Vec<u64> = ports.clone().map(|port| lab.first(port)).collect();
            assert!(after.iter().all(|run| !before.contains(run)), "{after:?}");
        }
        // Another scheduler, and a deletion, give theirs back.
        lab.commit(&[
            Request::EditService(id(80), spec("lc")),
            Request::DeleteService(id(81)),
        ]);
        assert_eq!(lab.first(80), 0);
        lab.commit(&[
            Request::EditService(id(80), spec("mh")),
            Request::AddService(id(81), spec("mh")),
            Request::EditDest(id(82), dest(1, 9)),
            Request::EditDest(id(83), dest(1, 9)),
        ]);
        let all: BTreeSet<u64> = ports.map(|port| lab.first(port)).collect();
        assert!(all.len() == 4 && !all.contains(&0), "{all:?}");
    }

    #[test]
    fn what_a_dead_daemon_left_is_found_in_the_current_half() {
        let mut lab = Lab::new();
        lab.commit(&[
            Request::AddService(id(80), spec("mh")),
            Request::AddDest(id(80), dest(1, 1)),
        ]);
        let first = lab.first(80);
        let slots = lab.memory.params.service_slots;
        let tables = lab.memory.tables();
        let entry = ServiceEntry {
            family: 4,
            slot: lab.state.service(&id(80)).unwrap().slot,
            sched: [0, first, 0],
            ..ServiceEntry::default()
        };
        tables.services.set(slots + 3, entry);
        let side = Root::new(1, 1, true, false).0;
        tables
            .root
            .word(0, 0)
            .store(side, std::sync::atomic::Ordering::SeqCst);
        lab.runs = SchedTables::restore(&lab.memory.tables());
        lab.commit(&[]);
        assert_eq!(lab.first(80), first);
        lab.commit(&[Request::AddService(id(81), spec("mh"))]);
        assert_ne!(lab.first(81), first);
    }
}
