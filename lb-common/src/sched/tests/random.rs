//! Random services, changes and picks against the model.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{
    harness::{Change, Lab},
    model::Model,
};
use crate::layout::SchedulerKind;

#[derive(Clone, Copy, Debug)]
enum Act {
    Pick(usize),
    Add(u32),
    Edit(usize, u32),
    Delete(usize),
    Overload(usize, bool),
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => Just(0),
        6 => 1..8u32,
        2 => prop_oneof![Just(10), Just(50), Just(100), Just(1000)],
    ]
}

fn act() -> impl Strategy<Value = (Act, usize)> {
    let act = prop_oneof![
        4 => (1..12usize).prop_map(Act::Pick),
        2 => weight().prop_map(Act::Add),
        2 => (any::<usize>(), weight()).prop_map(|(server, weight)| Act::Edit(server, weight)),
        1 => any::<usize>().prop_map(Act::Delete),
        1 => any::<(usize, bool)>().prop_map(|(server, on)| Act::Overload(server, on)),
    ];
    (act, 0..3usize)
}

fn check(kind: SchedulerKind) {
    let cases = if cfg!(miri) { 3 } else { 600 };
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let history = vec(act(), 1..if cfg!(miri) { 12 } else { 40 });
    let result = TestRunner::new(config).run(&history, |history| {
        let (mut lab, mut model) = (Lab::new(kind), Model::new(kind));
        let mut names = 'A'..;
        for (act, late) in history {
            let servers = model.names();
            let chosen = |i: usize| servers.get(i % servers.len().max(1)).copied();
            let change = match act {
                Act::Pick(count) => {
                    prop_assert_eq!(lab.picks(count), model.picks(count));
                    continue;
                }
                Act::Overload(i, overloaded) => {
                    if let Some(name) = chosen(i) {
                        lab.overload(name, overloaded);
                        model.overload(name, overloaded);
                    }
                    continue;
                }
                Act::Add(_) if servers.len() >= 30 => None,
                Act::Add(weight) => names.next().map(|name| Change::Add(name, weight)),
                Act::Edit(i, weight) => chosen(i).map(|name| Change::Edit(name, weight)),
                Act::Delete(i) => chosen(i).map(Change::Delete),
            };
            if let Some(change) = change {
                prop_assert_eq!(lab.apply(change, late), model.picks(late));
                model.apply(change);
            }
        }
        prop_assert_eq!(lab.picks(25), model.picks(25));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn round_robin_is_the_model() {
    check(SchedulerKind::Rr);
}

#[test]
fn weighted_round_robin_is_the_model() {
    check(SchedulerKind::Wrr);
}
