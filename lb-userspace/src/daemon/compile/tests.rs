use std::{net::Ipv4Addr, time::Instant};

use lb_common::layout::{ForwardMethod, SERVICE_WINDOW};

use super::*;
use crate::{
    daemon::{state::Limits, tables::memory::Memory},
    model::{Dest, DestId, DestSpec, Method, Protocol, Request, ServiceSpec, Tunnel},
};

fn id(n: u32) -> ServiceId {
    let addr = Ipv4Addr::from(0x0a09_0000 + n / 20).into();
    ServiceId::Address {
        protocol: Protocol::Udp,
        addr,
        port: (n % 20) as u16 + 1,
    }
}

fn service(n: u32, scheduler: &str) -> Request {
    let spec = ServiceSpec {
        scheduler: scheduler.into(),
        sched_flags: 0,
        ops: false,
        persistent: None,
        netmask: u32::MAX,
        pe: None,
        toa: false,
    };
    Request::AddService(id(n), spec)
}

fn dest(last: u32, weight: u32) -> Dest {
    let id = DestId {
        addr: Ipv4Addr::from(0x0a08_0000 + last).into(),
        port: 80,
    };
    Dest {
        id,
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
    side: u32,
}

impl Lab {
    fn new(services: u32, dests: u32) -> Self {
        let memory = Memory::new(services, dests);
        let state = State::new(Limits::of(memory.sizes, &memory.params));
        Self {
            memory,
            state,
            side: 0,
        }
    }

    fn apply(&mut self, request: Request) {
        self.state
            .apply(&request, &self.memory.counters, &self.memory.tables(), 0)
            .unwrap();
    }

    fn compile(&mut self, claimed: &dyn Fn(IpAddr) -> bool) -> Vec<Carry> {
        let tables = self.memory.tables();
        self.side ^= 1;
        self.state.begin();
        self.state.start_generations(|slot| {
            Cursor::from_word(tables.service_states.get(slot).cursor)
                .generation
                .into()
        });
        self.state.number();
        let carries = compile(&tables, &self.state, self.side, claimed, &|_| 0);
        switch(&tables, &self.state, self.side);
        self.state.finish();
        carries
    }

    fn commit(&mut self) {
        let carries = self.compile(&|_| true);
        carry_over(&self.memory.tables(), &carries);
    }

    /// The engine's own probing.
    fn find(&self, id: ServiceId) -> Option<ServiceEntry> {
        let tables = self.memory.tables();
        let key = service_key(id);
        let slots = tables.params.service_slots;
        let home = key.home(tables.params.service_seed, slots);
        let side = Root(tables.root.get(0)).side();
        (0..SERVICE_WINDOW)
            .map(|i| {
                tables
                    .services
                    .get(side * slots + ((home + i) & (slots - 1)))
            })
            .find(|entry| {
                entry.addr == key.addr && entry.port == key.port && entry.protocol == key.protocol
            })
    }

    fn list(&self, id: ServiceId) -> Vec<ListEntry> {
        let tables = self.memory.tables();
        let entry = self.find(id).unwrap();
        let side = Root(tables.root.get(0)).side();
        let start = side * tables.params.list_entries + entry.list_start;
        (start..start + entry.list_len)
            .map(|index| tables.lists.get(index))
            .collect()
    }

    fn filtered(&self, addr: [u8; 4]) -> bool {
        let tables = self.memory.tables();
        let bit = filter_bit(u32::from_ne_bytes(addr), tables.params.filter_seed);
        let side = Root(tables.root.get(0)).side();
        tables.filter.get(side * FILTER_WORDS + bit / 64) >> (bit % 64) & 1 == 1
    }

    /// Whether packets from `addr` are looked at as replies.
    fn replies(&self, addr: &str) -> bool {
        let tables = self.memory.tables();
        let bit = reply_bit(folded(addr.parse().unwrap()), tables.params.filter_seed);
        let side = Root(tables.root.get(0)).side();
        tables.filter.get(side * FILTER_WORDS + bit / 64) >> (bit % 64) & 1 == 1
    }

    fn cursor(&self, n: u32) -> Cursor {
        let slot = self.state.service(&id(n)).unwrap().slot;
        Cursor::from_word(self.memory.tables().service_states.get(slot).cursor)
    }

    fn set_cursor(&self, n: u32, at: u32) {
        let slot = self.state.service(&id(n)).unwrap().slot;
        let word = Cursor {
            at,
            ..self.cursor(n)
        }
        .word();
        self.memory
            .tables()
            .service_states
            .word(slot, 0)
            .store(word, Ordering::Release);
    }
}

#[test]
fn every_service_is_found_on_both_sides() {
    let mut lab = Lab::new(1000, 4000);
    for n in 0..1000 {
        lab.apply(service(n, "rr"));
        for last in 0..3 {
            lab.apply(Request::AddDest(id(n), dest(last, last + 1)));
        }
    }
    for round in 1..=3 {
        lab.commit();
        assert_eq!(Root(lab.memory.tables().root.get(0)).epoch(), round);
        for n in 0..1000 {
            let entry = lab.find(id(n)).unwrap();
            assert_eq!(entry.slot, lab.state.service(&id(n)).unwrap().slot);
            let weights: Vec<u32> = lab.list(id(n)).iter().map(|entry| entry.weight).collect();
            assert_eq!(weights, [3, 2, 1]);
        }
    }
    lab.apply(Request::DeleteService(id(500)));
    lab.commit();
    assert_eq!(lab.find(id(500)), None);
    assert!(lab.find(id(501)).is_some());
}

#[test]
fn only_claimed_addresses_are_filtered_in() {
    let mut lab = Lab::new(8, 8);
    lab.apply(service(0, "rr"));
    lab.apply(service(20, "rr"));
    lab.compile(&|addr| addr == IpAddr::from([10, 9, 0, 0]));
    assert!(lab.filtered([10, 9, 0, 0]) && !lab.filtered([10, 9, 0, 1]));
    let claimed = |number| lab.find(id(number)).unwrap().flags & ServiceFlags::CLAIMED != 0;
    assert!(claimed(0) && !claimed(20));
    // A removed service's connections are still recognized by its address.
    lab.apply(Request::AddDest(id(0), dest(1, 1)));
    lab.apply(Request::DeleteService(id(0)));
    lab.commit();
    assert!(lab.filtered([10, 9, 0, 0]));
}

#[test]
fn replies_of_servers_that_were_ever_reached_by_nat_are_filtered_in() {
    let mut lab = Lab::new(8, 8);
    lab.apply(service(0, "rr"));
    let masq = |last| {
        let mut dest = dest(last, 1);
        dest.spec.method = Method::Masq;
        dest
    };
    let fullnat = |last| {
        let mut dest = dest(last, 1);
        dest.spec.method = Method::Fullnat;
        dest
    };
    for dest in [masq(1), masq(2), fullnat(3), dest(4, 1)] {
        lab.apply(Request::AddDest(id(0), dest));
    }
    lab.commit();
    assert_eq!(
        lab.list(id(0))[1].method & 0xffff,
        ForwardMethod::Fullnat as u32
    );
    let seen =
        |lab: &Lab| ["10.8.0.1", "10.8.0.2", "10.8.0.3", "10.8.0.4"].map(|addr| lab.replies(addr));
    assert_eq!(seen(&lab), [true, true, true, false]);
    // Connections keep the method they were made with: edited, removed, or both.
    lab.apply(Request::EditDest(id(0), dest(1, 1)));
    lab.apply(Request::DeleteDest(id(0), dest(2, 1).id));
    lab.apply(Request::EditDest(id(0), dest(3, 1)));
    lab.apply(Request::DeleteDest(id(0), dest(3, 1).id));
    lab.commit();
    assert_eq!(seen(&lab), [true, true, true, false]);
    // Added again by direct routing, and read back from the saved text.
    lab.apply(Request::AddDest(id(0), dest(2, 1)));
    let limits = Limits::of(lab.memory.sizes, &lab.memory.params);
    lab.state = State::from_text(&lab.state.to_text(), limits).unwrap();
    lab.commit();
    assert_eq!(seen(&lab), [true, true, true, false]);
}

#[test]
fn ipv6_services_are_found_and_filtered_in() {
    let mut lab = Lab::new(8, 8);
    let v6 = ServiceId::Address {
        protocol: Protocol::Tcp,
        addr: "2001:db8::1".parse().unwrap(),
        port: 80,
    };
    let Request::AddService(_, spec) = service(0, "wrr") else {
        panic!()
    };
    lab.apply(Request::AddService(v6, spec));
    let server = Dest {
        id: DestId {
            addr: "fd00::7".parse().unwrap(),
            port: 8080,
        },
        spec: DestSpec {
            method: Method::Masq,
            ..dest(1, 3).spec
        },
    };
    lab.apply(Request::AddDest(v6, server));
    lab.commit();
    let entry = lab.find(v6).unwrap();
    assert_eq!((entry.family, entry.list_len, entry.max_weight), (6, 1, 1));
    assert_eq!(lab.list(v6)[0].method & 0xffff, ForwardMethod::Masq as u32);
    let root = Root(lab.memory.tables().root.get(0));
    assert!(!root.has_services(4) && root.has_services(6));
    let tables = lab.memory.tables();
    let bit = filter_bit(
        folded("2001:db8::1".parse().unwrap()),
        tables.params.filter_seed,
    );
    let half = root.side() * FILTER_WORDS;
    assert_eq!(
        tables.filter.get(half + bit / 64) >> (bit % 64) & 1,
        1,
        "the service's address"
    );
    assert!(lab.replies("fd00::7") && !lab.replies("fd00::8"));
}

#[test]
fn a_family_without_services_is_transparent() {
    let mut lab = Lab::new(8, 8);
    lab.commit();
    assert!(!Root(lab.memory.tables().root.get(0)).has_services(4));
    lab.apply(service(0, "rr"));
    lab.commit();
    let root = Root(lab.memory.tables().root.get(0));
    assert!(root.has_services(4) && !root.has_services(6));
}

#[test]
fn positions_and_cursor_follow_the_list() {
    let mut lab = Lab::new(8, 8);
    lab.apply(service(0, "rr"));
    for last in 1..=3 {
        lab.apply(Request::AddDest(id(0), dest(last, 1)));
    }
    lab.commit();
    assert!(
        lab.list(id(0))
            .iter()
            .all(|entry| entry.old_position == NO_OLD_POSITION)
    );
    lab.set_cursor(0, 2);
    let generation = lab.cursor(0).generation;
    // List 3 2 1, stopped at 2. Remove 3, add 4 and 5: 5 4 2 1.
    lab.apply(Request::DeleteDest(id(0), dest(3, 1).id));
    lab.apply(Request::AddDest(id(0), dest(4, 1)));
    lab.apply(Request::AddDest(id(0), dest(5, 1)));
    let carries = lab.compile(&|_| true);
    let old: Vec<u32> = lab
        .list(id(0))
        .iter()
        .map(|entry| entry.old_position)
        .collect();
    assert_eq!(old, [NO_OLD_POSITION, NO_OLD_POSITION, 1, 2]);
    let entry = lab.find(id(0)).unwrap();
    assert_eq!(Cursor::from_word(entry.seed_from).at, 2);
    let expected = Cursor {
        at: 3,
        generation: generation + 1,
        weight: 0,
    };
    assert_eq!(Cursor::from_word(entry.seed), expected);
    // A packet of the old list moves on before the daemon carries the cursor over.
    lab.set_cursor(0, 3);
    carry_over(&lab.memory.tables(), &carries);
    assert_eq!(lab.cursor(0), Cursor { at: 4, ..expected });
    // And a second time changes nothing.
    carry_over(&lab.memory.tables(), &carries);
    assert_eq!(lab.cursor(0).at, 4);
    // An unrelated transaction leaves it alone.
    lab.apply(service(1, "rr"));
    lab.commit();
    assert_eq!(lab.cursor(0), Cursor { at: 4, ..expected });
    assert_eq!(
        lab.find(id(0)).unwrap().generation as u16,
        expected.generation
    );
}

#[test]
fn cursors_settle_after_a_daemon_died() {
    let mut lab = Lab::new(8, 8);
    lab.apply(service(0, "rr"));
    for last in 1..=3 {
        lab.apply(Request::AddDest(id(0), dest(last, 1)));
    }
    lab.commit();
    lab.set_cursor(0, 2);
    lab.apply(Request::AddDest(id(0), dest(4, 1)));
    lab.compile(&|_| true);
    lab.set_cursor(0, 1);
    settle_cursors(&lab.memory.tables(), lab.side);
    let generation = lab.find(id(0)).unwrap().generation as u16;
    assert_eq!(
        lab.cursor(0),
        Cursor {
            at: 2,
            generation,
            weight: 0
        }
    );
}

#[test]
fn wrr_figures_are_compiled() {
    let mut lab = Lab::new(8, 8);
    lab.apply(service(0, "wrr"));
    lab.commit();
    assert_eq!(
        (
            lab.find(id(0)).unwrap().max_weight,
            lab.find(id(0)).unwrap().gcd
        ),
        (0, 1)
    );
    for (last, weight) in [(1, 10), (2, 5), (3, 0)] {
        lab.apply(Request::AddDest(id(0), dest(last, weight)));
    }
    lab.commit();
    assert_eq!(
        (
            lab.find(id(0)).unwrap().max_weight,
            lab.find(id(0)).unwrap().gcd
        ),
        (6, 5)
    );
    assert_eq!((lab.cursor(0).at, lab.cursor(0).weight), (0, 1));
}

#[test]
fn a_slot_passed_on_starts_a_new_generation() {
    let mut lab = Lab::new(1, 1);
    lab.apply(service(0, "rr"));
    lab.commit();
    let old = lab.cursor(0).generation;
    lab.apply(Request::DeleteService(id(0)));
    lab.commit();
    lab.state.begin();
    lab.apply(service(1, "rr"));
    lab.commit();
    assert_eq!(lab.cursor(1).generation, old + 1);
    assert_eq!(lab.find(id(1)).unwrap().generation as u16, old + 1);
}

/// 10,000 services of 10 servers each. The bound is for unoptimized code on a
/// busy machine; the figures are printed (`--nocapture`).
#[test]
fn a_large_configuration_compiles_at_once() {
    let mut lab = Lab::new(10_000, 100_000);
    for n in 0..10_000 {
        lab.apply(service(n, "wrr"));
        for last in 0..10 {
            lab.apply(Request::AddDest(id(n), dest(last, last + 1)));
        }
    }
    lab.commit();
    // The other half is touched for the first time here.
    lab.commit();
    let start = Instant::now();
    lab.apply(Request::EditDest(id(5), dest(3, 7)));
    lab.commit();
    let compiled = start.elapsed();
    let start = Instant::now();
    let text = lab.state.to_text();
    println!(
        "compiled in {compiled:?}; {} bytes of text in {:?}",
        text.len(),
        start.elapsed()
    );
    assert!(compiled.as_secs() < 2, "{compiled:?}");
}

#[test]
fn what_a_scheduler_wants_prepared_is_in_the_half() {
    let mut lab = Lab::new(4, 16);
    let Request::AddService(id, mut spec) = service(0, "sh") else {
        unreachable!("it adds a service");
    };
    spec.sched_flags = 0x18;
    lab.apply(Request::AddService(id, spec));
    for (last, weight) in [(1, 2), (2, 0), (3, 300)] {
        lab.apply(Request::AddDest(id, dest(last, weight)));
    }
    lab.commit();
    let entry = lab.find(id).unwrap();
    let hints = |lab: &Lab| -> Vec<u32> {
        let list = lab.list(id);
        list.iter().map(|entry| entry.method >> 16).collect()
    };
    assert_eq!(entry.scheduler, SchedulerKind::Sh as u8);
    assert_eq!(entry.flags & 0x38, 0x18);
    assert_eq!((entry.sched[0], entry.sched[1]), (256, 0));
    assert_eq!(hints(&lab), [0, 256, 256], "the newest has every bucket");
    lab.apply(Request::EditDest(id, dest(3, 5)));
    lab.commit();
    assert_eq!(lab.find(id).unwrap().sched[0], 8);
    assert_eq!(hints(&lab), [0, 5, 6], "weight 0 has one bucket");
    let binding = lab.find(id).unwrap().sched[2];
    let Request::AddService(_, spec) = service(0, "wrr") else {
        unreachable!("it adds a service");
    };
    lab.apply(Request::EditService(id, spec));
    lab.commit();
    let entry = lab.find(id).unwrap();
    assert_eq!((entry.flags & 0x38, entry.max_weight), (0, 5));
    assert_ne!(entry.sched[2], binding);
    assert_eq!(hints(&lab), [0xffff, 2, 0xffff], "the next that is heavier");
}
