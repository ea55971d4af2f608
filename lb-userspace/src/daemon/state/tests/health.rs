//! What checks do to the list of servers.

use crate::{
    config,
    daemon::state::{Limits, State},
    model::{Condition, Config, DestId, Refusal, Request, ServiceId, Verdict},
};

use super::{LIMITS, World};

fn wanted(text: &str) -> Config {
    config::read(text)
        .unwrap_or_else(|faults| panic!("{faults:?}"))
        .0
}

fn apply(state: &mut State, text: &str) {
    state
        .apply_config(&wanted(text), &World::default(), &World::default(), 0)
        .unwrap();
}

fn ask(state: &mut State, request: Request) -> Result<(), Refusal> {
    state.apply(&request, &World::default(), &World::default(), 0)
}

fn id() -> ServiceId {
    "tcp:10.0.0.1:80".parse().unwrap()
}

fn server(number: u8) -> DestId {
    DestId {
        addr: [10, 1, 0, number].into(),
        port: 80,
    }
}

/// The list as packets meet it: the newest first, with weights.
fn list(state: &State) -> Vec<(String, u32)> {
    let nodes = state.service(&id()).unwrap().dests.iter();
    nodes
        .map(|node| (node.dest.id.addr.to_string(), node.dest.spec.weight))
        .collect()
}

fn told(state: &mut State, number: u8, up: bool) {
    let verdict = Verdict {
        service: id(),
        dest: server(number),
        up,
        reason: if up {
            "good"
        } else {
            "HTTP 503 instead of 200"
        }
        .into(),
    };
    ask(state, Request::Report(vec![verdict])).unwrap();
}

fn conditions(state: &State) -> Vec<Condition> {
    let all = state.health_list();
    all[0].servers.iter().map(|server| server.state).collect()
}

fn pairs(all: &[(&str, u32)]) -> Vec<(String, u32)> {
    all.iter()
        .map(|(addr, weight)| ((*addr).to_owned(), *weight))
        .collect()
}

fn file(mode: &str) -> String {
    format!(
        "[[service]]\ntcp = \"10.0.0.1:80\"\nscheduler = \"wrr\"\n\
         check = {{ type = \"tcp\", on-failure = \"{mode}\" }}\n\
         sorry = {{ address = \"127.0.0.1\" }}\n\
         server = [{{ address = \"10.1.0.1\", weight = 3 }}, {{ address = \"10.1.0.2\", weight = 2 }}]\n"
    )
}

#[test]
fn servers_come_when_they_answer_and_go_when_they_do_not() {
    let mut state = State::new(LIMITS);
    apply(&mut state, &file("remove"));
    assert_eq!(conditions(&state), [Condition::Waiting; 2]);
    assert_eq!(list(&state), pairs(&[("127.0.0.1", 1)]));
    told(&mut state, 1, false);
    assert_eq!(conditions(&state), [Condition::Down, Condition::Waiting]);
    told(&mut state, 1, true);
    assert_eq!(
        list(&state),
        pairs(&[("10.1.0.1", 3)]),
        "and nobody is sorry"
    );
    told(&mut state, 2, true);
    let both = pairs(&[("10.1.0.2", 2), ("10.1.0.1", 3)]);
    assert_eq!(list(&state), both);
    told(&mut state, 1, false);
    assert_eq!(list(&state), pairs(&[("10.1.0.2", 2)]));
    told(&mut state, 2, false);
    assert_eq!(list(&state), pairs(&[("127.0.0.1", 1)]));
    // What is configured is what it was.
    let configured = state.config(&World::default());
    assert_eq!(configured.services, wanted(&file("remove")).services);
    // Saved and read back, nobody has come to life.
    let mut state = State::from_text(&state.to_text(), LIMITS).unwrap();
    assert_eq!(list(&state), pairs(&[("127.0.0.1", 1)]));
    assert_eq!(conditions(&state), [Condition::Down; 2]);
    assert_eq!(
        state.health_list()[0].servers[0].reason,
        "HTTP 503 instead of 200"
    );
    // The same file again changes nothing.
    state.finish();
    apply(&mut state, &file("remove"));
    assert!(!state.is_dirty());
    told(&mut state, 2, true);
    told(&mut state, 1, true);
    assert_eq!(list(&state), pairs(&[("10.1.0.1", 3), ("10.1.0.2", 2)]));
    let history: Vec<Condition> = state.health_list()[0].servers[0]
        .history
        .iter()
        .map(|past| past.to)
        .collect();
    assert_eq!(
        history,
        [
            Condition::Waiting,
            Condition::Down,
            Condition::Up,
            Condition::Down
        ]
    );
}

#[test]
fn quiesced_servers_stay_with_weight_0() {
    let mut state = State::new(LIMITS);
    apply(&mut state, &file("quiesce"));
    let new = pairs(&[("10.1.0.2", 0), ("10.1.0.1", 0), ("127.0.0.1", 1)]);
    assert_eq!(list(&state), new);
    told(&mut state, 1, true);
    assert_eq!(list(&state), pairs(&[("10.1.0.2", 0), ("10.1.0.1", 3)]));
    told(&mut state, 2, true);
    told(&mut state, 1, false);
    assert_eq!(list(&state), pairs(&[("10.1.0.2", 2), ("10.1.0.1", 0)]));
    assert_eq!(
        state.config(&World::default()).services,
        wanted(&file("quiesce")).services
    );
    // From one mode to the other and back.
    apply(&mut state, &file("remove"));
    assert_eq!(list(&state), pairs(&[("10.1.0.2", 2)]));
    apply(&mut state, &file("quiesce"));
    assert_eq!(list(&state), pairs(&[("10.1.0.1", 0), ("10.1.0.2", 2)]));
    // Without checks all are what they are configured to be.
    let bare = file("quiesce");
    let bare: String = bare
        .lines()
        .filter(|line| !line.starts_with("check") && !line.starts_with("sorry"))
        .map(|line| format!("{line}\n"))
        .collect();
    apply(&mut state, &bare);
    assert_eq!(list(&state), pairs(&[("10.1.0.1", 3), ("10.1.0.2", 2)]));
    assert!(state.health_list().is_empty());
    // Checks that come to servers that are there believe in them.
    apply(&mut state, &file("remove"));
    assert_eq!(conditions(&state), [Condition::Up; 2]);
    assert_eq!(list(&state), pairs(&[("10.1.0.1", 3), ("10.1.0.2", 2)]));
}

#[test]
fn what_is_done_by_hand_to_a_dead_server_is_its_configuration() {
    for mode in ["remove", "quiesce"] {
        let mut state = State::new(LIMITS);
        apply(&mut state, &file(mode));
        told(&mut state, 1, true);
        told(&mut state, 2, true);
        let mut dest = state.service(&id()).unwrap().dests[0].dest;
        assert_eq!(dest.id, server(2));
        told(&mut state, 2, false);
        let before = list(&state);
        dest.spec.weight = 7;
        ask(&mut state, Request::EditDest(id(), dest)).unwrap();
        assert_eq!(list(&state), before, "{mode}: it is still dead");
        let mut state = State::from_text(&state.to_text(), LIMITS).unwrap();
        told(&mut state, 2, true);
        assert!(list(&state).contains(&("10.1.0.2".into(), 7)), "{mode}");
        // Drained while dead, it comes back drained; then its weight comes back.
        told(&mut state, 2, false);
        ask(&mut state, Request::Drain(id(), server(2))).unwrap();
        told(&mut state, 2, true);
        assert!(list(&state).contains(&("10.1.0.2".into(), 0)), "{mode}");
        told(&mut state, 2, false);
        ask(&mut state, Request::Undrain(id(), server(2))).unwrap();
        told(&mut state, 2, true);
        assert!(list(&state).contains(&("10.1.0.2".into(), 7)), "{mode}");
        // Deleted while dead, it does not come back.
        told(&mut state, 2, false);
        ask(&mut state, Request::DeleteDest(id(), server(2))).unwrap();
        told(&mut state, 2, true);
        assert_eq!(list(&state), pairs(&[("10.1.0.1", 3)]), "{mode}");
        let again = ask(&mut state, Request::DeleteDest(id(), server(2)));
        assert_eq!(again, Err(Refusal::NoSuchDest), "{mode}");
        // Added by hand it is there at once, and checked from then on.
        ask(&mut state, Request::AddDest(id(), dest)).unwrap();
        assert_eq!(list(&state), pairs(&[("10.1.0.2", 7), ("10.1.0.1", 3)]));
        let twice = ask(&mut state, Request::AddDest(id(), dest));
        assert_eq!(twice, Err(Refusal::DestExists), "{mode}");
        told(&mut state, 1, false);
        told(&mut state, 2, false);
        let sorry = list(&state);
        assert_eq!(sorry[0], ("127.0.0.1".into(), 1), "{mode}");
        ask(&mut state, Request::DeleteService(id())).unwrap();
        assert!(state.service(&id()).is_none());
        told(&mut state, 1, true);
        assert!(state.service(&id()).is_none());
    }
}

#[test]
fn on_and_off_ask_nobody() {
    let mut state = State::new(LIMITS);
    let off = file("remove").replace("\"tcp\", on", "\"off\", on");
    apply(&mut state, &off);
    assert_eq!(list(&state), pairs(&[("127.0.0.1", 1)]));
    apply(&mut state, &off.replace("off\"", "on\""));
    assert_eq!(list(&state), pairs(&[("10.1.0.2", 2), ("10.1.0.1", 3)]));
    apply(&mut state, &off);
    assert_eq!(list(&state), pairs(&[("127.0.0.1", 1)]));
}

/// A dead server that is taken out keeps its slot while connections refer to it.
#[test]
fn a_server_that_returns_finds_its_connections() {
    let limits = Limits { dests: 4, ..LIMITS };
    let mut state = State::new(limits);
    apply(&mut state, &file("remove"));
    told(&mut state, 1, true);
    let slot = |state: &State| state.dest_slot(&id(), server(1)).unwrap();
    let before = slot(&state);
    told(&mut state, 1, false);
    assert_eq!(slot(&state), before, "its templates can be retired");
    told(&mut state, 1, true);
    assert_eq!(slot(&state), before);
}
