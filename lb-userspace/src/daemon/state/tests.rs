use std::collections::HashMap;

use lb_common::layout::Stats;

use super::*;
use crate::model::{DestId, DestSpec, Method, Protocol, Request, Tunnel};

mod health;
mod locals;
mod methods;

/// Counters and references by slot.
#[derive(Default)]
struct World {
    conns: HashMap<u32, u64>,
    references: HashMap<u32, u64>,
}

impl RawStats for World {
    fn raw(&self, slot: u32) -> Stats {
        Stats {
            conns: self.conns.get(&slot).copied().unwrap_or(0),
            ..Stats::default()
        }
    }
}

impl Loads for World {
    fn references(&self, slot: u32) -> u64 {
        self.references.get(&slot).copied().unwrap_or(0)
    }
}

const LIMITS: Limits = Limits {
    sched_tables: 2,
    services: 4,
    dests: 6,
    table: 16,
    seed: 7,
    rules: 1 << 12,
};

fn state() -> State {
    State::new(LIMITS)
}

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
    let id = DestId {
        addr: [10, 8, 0, last].into(),
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

fn try_apply(state: &mut State, request: Request) -> Result<(), Refusal> {
    let world = World::default();
    state.apply(&request, &world, &world, 0)
}

fn apply(state: &mut State, request: Request) {
    try_apply(state, request).unwrap();
}

fn with_service() -> State {
    let mut state = state();
    try_apply(&mut state, Request::AddService(id(80), spec("rr"))).unwrap();
    for last in 1..=3 {
        try_apply(&mut state, Request::AddDest(id(80), dest(last, 1))).unwrap();
    }
    state
}

fn order(state: &State) -> Vec<u8> {
    let service = state.service(&id(80)).unwrap();
    service
        .dests
        .iter()
        .map(|node| match node.dest.id.addr {
            IpAddr::V4(addr) => addr.octets()[3],
            IpAddr::V6(_) => unreachable!(),
        })
        .collect()
}

#[test]
fn the_newest_server_stands_first() {
    let mut state = with_service();
    assert_eq!(order(&state), [3, 2, 1]);
    try_apply(&mut state, Request::EditDest(id(80), dest(2, 9))).unwrap();
    assert_eq!(order(&state), [3, 2, 1]);
    let slot = state.service(&id(80)).unwrap().dests[2].slot;
    try_apply(&mut state, Request::DeleteDest(id(80), dest(1, 1).id)).unwrap();
    try_apply(&mut state, Request::AddDest(id(80), dest(1, 5))).unwrap();
    assert_eq!(order(&state), [1, 3, 2]);
    let revived = state.service(&id(80)).unwrap().dests[0];
    assert_eq!(
        (
            revived.slot,
            revived.dest.spec.weight,
            revived.start,
            revived.fresh
        ),
        (slot, 5, None, false)
    );
    assert_eq!(state.trash().len(), 0);
}

#[test]
fn refusals_are_the_kernels() {
    let mut state = with_service();
    let before = state.to_text();
    let with = |change: fn(&mut Dest)| {
        let mut dest = dest(9, 1);
        change(&mut dest);
        dest
    };
    let other = |change: fn(&mut ServiceSpec)| {
        let mut spec = spec("rr");
        change(&mut spec);
        spec
    };
    let cases: Vec<(Request, Result<(), Refusal>)> = vec![
        (
            Request::AddService(id(80), spec("rr")),
            Err(Refusal::ServiceExists),
        ),
        (
            Request::AddService(id(80), spec("none")),
            Err(Refusal::ServiceExists),
        ),
        (
            Request::AddService(id(81), spec("none")),
            Err(Refusal::NoScheduler),
        ),
        (
            Request::EditService(id(80), spec("none")),
            Err(Refusal::NoScheduler),
        ),
        (
            Request::EditService(id(81), spec("rr")),
            Err(Refusal::NoSuchService),
        ),
        (Request::DeleteService(id(81)), Err(Refusal::NoSuchService)),
        (
            Request::AddDest(id(81), dest(1, 1)),
            Err(Refusal::NoSuchService),
        ),
        (
            Request::AddDest(id(80), dest(1, 1)),
            Err(Refusal::DestExists),
        ),
        (
            Request::EditDest(id(80), dest(9, 1)),
            Err(Refusal::NoSuchDest),
        ),
        (
            Request::DeleteDest(id(80), dest(9, 1).id),
            Err(Refusal::NoSuchDest),
        ),
        (
            Request::AddDest(id(80), with(|d| d.id.addr = [0, 0, 0, 0].into())),
            Err(Refusal::Invalid),
        ),
        (
            Request::AddDest(id(80), with(|d| d.id.addr = [224, 0, 0, 1].into())),
            Err(Refusal::Invalid),
        ),
        (
            Request::AddDest(id(80), with(|d| d.id.addr = [255; 4].into())),
            Err(Refusal::Invalid),
        ),
        (
            Request::AddDest(id(80), with(|d| d.spec.l_threshold = 2)),
            Err(Refusal::Range),
        ),
        (
            Request::AddDest(id(80), with(|d| d.spec.weight = 1 << 31)),
            Err(Refusal::Range),
        ),
        (
            Request::EditDest(id(80), with(|d| d.id.addr = "fd00::1".parse().unwrap())),
            Err(Refusal::Invalid),
        ),
        (
            Request::AddService(id(81), other(|s| s.pe = Some("nosuch".into()))),
            Err(Refusal::NoScheduler),
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(
            try_apply(&mut state, request.clone()),
            expected,
            "{request:?}"
        );
    }
    let local = Request::AddDest(id(80), with(|d| d.spec.method = Method::Local));
    let answer = try_apply(&mut state, local);
    assert!(matches!(answer, Err(Refusal::Unsupported(_))), "{answer:?}");
    assert_eq!(state.to_text(), before);
}

#[test]
fn full_tables_name_their_option() {
    let mut state = with_service();
    for port in 81..84 {
        try_apply(&mut state, Request::AddService(id(port), spec("rr"))).unwrap();
    }
    let refusal = try_apply(&mut state, Request::AddService(id(84), spec("rr"))).unwrap_err();
    assert!(refusal.to_string().contains("--services"), "{refusal}");
    for last in 4..=6 {
        try_apply(&mut state, Request::AddDest(id(80), dest(last, 1))).unwrap();
    }
    // A removed server keeps its slot.
    try_apply(&mut state, Request::DeleteDest(id(80), dest(1, 1).id)).unwrap();
    let refusal = try_apply(&mut state, Request::AddDest(id(80), dest(7, 1))).unwrap_err();
    assert!(refusal.to_string().contains("--dests"), "{refusal}");
    assert_eq!(state.dest_count(), 5);
    // As soon as no packet can choose it, one that nothing refers to makes room.
    state.begin();
    let mut world = World::default();
    let slot = state.trash().next().unwrap().slot;
    world.references.insert(slot, 1);
    let add = Request::AddDest(id(80), dest(7, 1));
    assert!(state.apply(&add, &world, &world, 0).is_err());
    // It is looked at again in the next transaction.
    world.references.clear();
    state.begin();
    state.apply(&add, &world, &world, 0).unwrap();
    assert_eq!(state.service(&id(80)).unwrap().dests[0].slot, slot);
    assert_eq!(state.trash().len(), 0);
}

#[test]
fn the_trash_keeps_what_is_referred_to() {
    let mut state = with_service();
    let mut world = World::default();
    let slot = state.service(&id(80)).unwrap().dests[2].slot;
    world.references.insert(slot, 1);
    world.conns.insert(slot, 40);
    state
        .apply(
            &Request::DeleteDest(id(80), dest(1, 1).id),
            &world,
            &world,
            1000,
        )
        .unwrap();
    assert_eq!(state.trash_due(), Some(1060));
    state.expire_trash(&world, &world, 1060);
    assert_eq!(
        (state.trash().next().unwrap().idle_since, state.trash_due()),
        (None, Some(1120))
    );
    world.references.clear();
    state.expire_trash(&world, &world, 1120);
    assert_eq!(state.trash().next().unwrap().idle_since, Some(1120));
    // Two minutes after the look that found it unreferenced, not before.
    state.expire_trash(&world, &world, 1180);
    assert_eq!(state.trash().len(), 1);
    state.expire_trash(&world, &world, 1240);
    assert_eq!((state.trash().len(), state.trash_due()), (0, None));
    // What it had counted stays with the service.
    assert_eq!(state.service(&id(80)).unwrap().left.conns, 40);
    state.begin();
    state
        .apply(&Request::AddDest(id(80), dest(9, 1)), &world, &world, 1300)
        .unwrap();
    let node = state.service(&id(80)).unwrap().dests[0];
    assert_eq!(
        (node.slot, node.fresh, node.start.map(|s| s.conns)),
        (slot, true, Some(40))
    );
    // The new tenant of the slot starts at 0: 40 counted before it are taken off.
    assert_eq!(state.service(&id(80)).unwrap().left.conns, 0);
}

#[test]
fn a_service_created_again_revives_servers_with_new_statistics() {
    let mut state = with_service();
    let mut world = World::default();
    let old = state.service(&id(80)).unwrap().clone();
    world.conns.insert(old.dests[0].slot, 25);
    state
        .apply(&Request::DeleteService(id(80)), &world, &world, 0)
        .unwrap();
    assert_eq!(state.trash().len(), 3);
    state.begin();
    state
        .apply(&Request::AddService(id(80), spec("rr")), &world, &world, 1)
        .unwrap();
    state
        .apply(
            &Request::AddDest(id(80), old.dests[0].dest),
            &world,
            &world,
            1,
        )
        .unwrap();
    let service = state.service(&id(80)).unwrap();
    assert_eq!(service.dests[0].slot, old.dests[0].slot);
    assert_eq!(service.dests[0].start.map(|start| start.conns), Some(25));
    assert_eq!(service.left.conns.wrapping_add(25), 0);
}

#[test]
fn editing_the_scheduler_alone_resets_the_cursor() {
    let mut state = with_service();
    state.finish();
    try_apply(&mut state, Request::EditService(id(80), spec("rr"))).unwrap();
    assert!(state.service(&id(80)).unwrap().change.is_none());
    try_apply(&mut state, Request::EditService(id(80), spec("wrr"))).unwrap();
    let change = state.service(&id(80)).unwrap().change.clone().unwrap();
    assert_eq!(change.steps, [Step::Bind { weight: 1 }]);
    assert_eq!(change.before.len(), 3);
}

#[test]
fn text_round_trip() {
    let mut state = with_service();
    try_apply(&mut state, Request::AddService(id(443), spec("wrr"))).unwrap();
    try_apply(&mut state, Request::DeleteDest(id(80), dest(2, 1).id)).unwrap();
    state.number();
    state.finish();
    let text = state.to_text();
    let mut read = State::from_text(&text, LIMITS).unwrap();
    assert_eq!(read.to_text(), text);
    assert_eq!((read.epoch, read.trash_due()), (1, Some(60)));
    assert_eq!(order(&read), [3, 1]);
    // Slots in use are not handed out again.
    try_apply(&mut read, Request::AddDest(id(443), dest(7, 1))).unwrap();
    assert_eq!(read.service(&id(443)).unwrap().dests[0].slot, 3);
}

#[test]
fn damaged_text_is_refused() {
    let text = with_service().to_text();
    for (damaged, reason) in [
        (text[..text.len() / 2].to_string(), "damaged"),
        (text.replace("\"format\":1", "\"format\":2"), "format 2"),
        (text.replace("{\"slot\":1,", "{\"slot\":0,"), "clash"),
        (text.replace("{\"slot\":1,", "{\"slot\":99,"), "clash"),
    ] {
        let error = format!("{:#}", State::from_text(&damaged, LIMITS).unwrap_err());
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn clear_moves_every_server_to_the_trash() {
    let mut state = with_service();
    try_apply(&mut state, Request::Clear).unwrap();
    assert_eq!(
        (
            state.services().len(),
            state.trash().len(),
            state.dest_count()
        ),
        (0, 3, 0)
    );
    try_apply(&mut state, Request::Clear).unwrap();
}

/// A mark's service, its rules, and what is left of both.
#[test]
fn destinations_of_marks_outlive_their_rules() {
    use crate::model::{Chain, Family, Rule, RuleChange, Target};
    let mark = ServiceId::Mark {
        mark: 1,
        family: Family::V4,
    };
    let mut state = State::new(LIMITS);
    let rule = |text: &str| {
        let target = Target::Mark {
            flip: 1,
            clear: u32::MAX,
        };
        let what = crate::model::Addresses::Prefix(text.parse().unwrap());
        Rule {
            dst: Some(crate::model::Match { not: false, what }),
            ..Rule::of(Family::V4, target)
        }
    };
    let vip = rule("10.9.9.1");
    let append = |rule: &Rule| Request::Rules(RuleChange::Append(Chain::Mark, vec![rule.clone()]));
    try_apply(&mut state, append(&vip)).unwrap();
    // No mark has a service: no packet is looked at.
    assert!(!state.has_rules(Family::V4) && state.marked(Family::V4).prefixes.is_empty());
    try_apply(&mut state, Request::AddService(mark, spec("rr"))).unwrap();
    try_apply(&mut state, Request::AddDest(mark, dest(1, 1))).unwrap();
    assert!(state.has_rules(Family::V4) && !state.has_rules(Family::V6));
    let addresses = |state: &State| state.marked(Family::V4).addresses().collect::<Vec<_>>();
    assert_eq!(addresses(&state), [IpAddr::from([10, 9, 9, 1])]);
    try_apply(
        &mut state,
        Request::Rules(RuleChange::Flush(Chain::Mark, None)),
    )
    .unwrap();
    assert_eq!(addresses(&state).len(), 1, "connections may remain");
    let text = state.to_text();
    let mut again = State::from_text(&text, LIMITS).unwrap();
    assert_eq!(again.to_text(), text);
    assert_eq!(addresses(&again).len(), 1);
    again.expire_trash(&World::default(), &World::default(), 0);
    assert_eq!(addresses(&again).len(), 0, "none refers to the server");
    // A rule for any destination.
    try_apply(&mut again, append(&rule("10.0.0.0/8"))).unwrap();
    assert!(again.marked(Family::V4).any);
    // Refused whole: the set is missing.
    let mut bad = vip.clone();
    bad.src = Some(crate::model::Match {
        not: false,
        what: crate::model::Addresses::Set("none".into()),
    });
    let change = RuleChange::Append(Chain::Mark, vec![vip, bad]);
    let before = again.list_rules(Chain::Mark, &World::default()).len();
    assert!(try_apply(&mut again, Request::Rules(change)).is_err());
    assert_eq!(
        again.list_rules(Chain::Mark, &World::default()).len(),
        before
    );
}

#[test]
fn tables_of_mh_are_counted() {
    let mut state = state();
    let full = |answer| matches!(answer, Err(Refusal::Full(_)));
    apply(&mut state, Request::AddService(id(80), spec("mh")));
    apply(&mut state, Request::AddService(id(81), spec("rr")));
    apply(&mut state, Request::EditService(id(81), spec("mh")));
    let before = state.to_text();
    assert!(full(try_apply(
        &mut state,
        Request::AddService(id(82), spec("mh"))
    )));
    assert_eq!((state.sched_tables(), state.to_text()), ((2, 2), before));
    apply(&mut state, Request::EditService(id(81), spec("mh")));
    let state = State::from_text(&state.to_text(), LIMITS).unwrap();
    assert_eq!(state.sched_tables(), (2, 2));
    let mut state = state;
    apply(&mut state, Request::DeleteService(id(80)));
    apply(&mut state, Request::EditService(id(81), spec("sh")));
    assert_eq!(state.sched_tables(), (0, 2));
}

#[test]
fn the_latest_weight_above_0_is_kept_and_saved() {
    let mut state = state();
    apply(&mut state, Request::AddService(id(80), spec("mh")));
    let last = |state: &State| state.service(&id(80)).unwrap().dests[0].last_weight;
    apply(&mut state, Request::AddDest(id(80), dest(1, 0)));
    assert_eq!(last(&state), 0);
    apply(&mut state, Request::EditDest(id(80), dest(1, 7)));
    apply(&mut state, Request::EditDest(id(80), dest(1, 0)));
    assert_eq!(last(&state), 7);
    let mut state = State::from_text(&state.to_text(), LIMITS).unwrap();
    assert_eq!(last(&state), 7);
    apply(&mut state, Request::DeleteDest(id(80), dest(1, 0).id));
    apply(&mut state, Request::AddDest(id(80), dest(1, 3)));
    assert_eq!(last(&state), 3);
}

#[test]
fn another_scheduler_is_another_binding() {
    let mut state = state();
    let binding = |state: &State| state.service(&id(80)).unwrap().binding;
    let commit = |state: &mut State| {
        state.number();
        state.finish();
    };
    apply(&mut state, Request::AddService(id(80), spec("lblc")));
    commit(&mut state);
    let first = binding(&state);
    apply(&mut state, Request::AddDest(id(80), dest(1, 1)));
    commit(&mut state);
    assert_eq!(binding(&state), first);
    apply(&mut state, Request::EditService(id(80), spec("lblcr")));
    commit(&mut state);
    assert_ne!(binding(&state), first);
    let saved = State::from_text(&state.to_text(), LIMITS).unwrap();
    assert_eq!(binding(&saved), binding(&state));
}
