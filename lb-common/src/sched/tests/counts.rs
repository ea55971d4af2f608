//! The schedulers that count connections: sequences recorded from Linux 6.1,
//! and random services against a plain model.

use proptest::{collection::vec, prelude::*};

use super::harness::{Change, Lab, Server};
use crate::layout::SchedulerKind::{self, Fo, Lc, Nq, Ovf, Sed, Wlc};

#[test]
fn inactive_connections() {
    for (kind, equal, weighted) in [
        (Lc, "CBACBAC", "CBACBACBACBAC"),
        (Wlc, "CBACBAC", "CBAACACBAACAC"),
        (Sed, "CCCCCCC", "AAAAAAA"),
        (Nq, "CCCCCCC", "CCCCCCC"),
        (Fo, "CCCCCCC", "AAAAAAA"),
        (Ovf, "CCCCCCC", "AAAAAAA"),
    ] {
        let lab = Lab::with(kind, &[1, 1, 1]);
        assert_eq!(lab.open(equal.len(), false), equal, "{kind:?}");
        let lab = Lab::with(kind, &[3, 1, 2]);
        assert_eq!(lab.open(weighted.len(), false), weighted, "{kind:?}");
    }
}

#[test]
fn active_connections() {
    for (kind, recorded) in [
        (Lc, ["CBACBACBACBAC", "CBACBACBACBAC", "CBCBCBCBCBCBC"]),
        (Wlc, ["CBACBACBACBAC", "CBAACACBAACAC", "CBCCBCCCBCCBC"]),
        (Sed, ["CBACBACBACBAC", "ACACBAACACBAA", "CCBCCCBCCBCCC"]),
        (Nq, ["CBACBACBACBAC", "CBAACAACACBAA", "CBCCCCBCCBCCC"]),
        (Ovf, ["CCBBAA-------", "AAAACCCBB----", "CCCCCCBBB----"]),
        (Fo, ["CCCCCCCCCCCCC", "AAAAAAAAAAAAA", "CCCCCCCCCCCCC"]),
    ] {
        for (weights, picks) in [[1, 1, 1], [3, 1, 2], [0, 2, 5]].iter().zip(recorded) {
            let lab = Lab::with(kind, weights);
            assert_eq!(lab.open(13, true), picks, "{kind:?} {weights:?}");
        }
    }
}

/// A server of the model.
#[derive(Clone, Copy)]
struct Loaded {
    server: Server,
    active: u32,
    inactive: u32,
    overloaded: bool,
}

/// The schedulers as the specification puts them.
fn model(kind: SchedulerKind, servers: &[Loaded]) -> char {
    let usable: Vec<&Loaded> = servers
        .iter()
        .filter(|it| !it.overloaded && it.server.weight > 0)
        .collect();
    let overhead = |it: &Loaded| i128::from(it.active) * 256 + i128::from(it.inactive);
    let ratio = |load: &dyn Fn(&Loaded) -> i128| {
        // The least fraction, the first among equals.
        usable.iter().copied().reduce(|best, it| {
            let (one, other) = (load(it), load(best));
            let (weight, best_weight) = (it.server.weight, best.server.weight);
            if other * i128::from(weight) > one * i128::from(best_weight) {
                it
            } else {
                best
            }
        })
    };
    let delay = |it: &Loaded| i128::from(it.active) + 1;
    let heaviest = |servers: &[&Loaded]| {
        let most = servers.iter().map(|it| it.server.weight).max()?;
        servers
            .iter()
            .copied()
            .find(|it| it.server.weight == most)
            .copied()
    };
    let chosen = match kind {
        Lc => {
            let least = usable.iter().map(|it| overhead(it)).min();
            usable
                .iter()
                .copied()
                .find(|it| Some(overhead(it)) == least)
                .copied()
        }
        Wlc => ratio(&overhead).copied(),
        Sed => ratio(&delay).copied(),
        Nq => {
            let idle = usable.iter().copied().find(|it| it.active == 0);
            idle.or_else(|| ratio(&delay)).copied()
        }
        Fo => heaviest(&usable),
        Ovf => {
            let fits = usable
                .iter()
                .copied()
                .filter(|it| it.active <= it.server.weight);
            heaviest(&fits.collect::<Vec<_>>())
        }
        other => panic!("no model of {other:?}"),
    };
    chosen.map_or('-', |it| it.server.name)
}

fn check(kind: SchedulerKind) {
    let server = (
        prop_oneof![1 => Just(0), 4 => 1..5u32, 1 => Just(1000)],
        prop_oneof![2 => Just(0), 3 => 1..6u32, 1 => 6..2000u32],
        prop_oneof![2 => Just(0), 3 => 1..600u32],
        prop::bool::weighted(0.15),
    );
    let config = ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(servers in vec(server, 0..20))| {
        let mut lab = Lab::new(kind);
        let mut loaded = Vec::new();
        for (name, (weight, active, inactive, overloaded)) in ('A'..).zip(servers) {
            lab.apply(Change::Add(name, weight), 0);
            lab.load(name, active, inactive);
            lab.overload(name, overloaded);
            let server = Server { name, weight, last_weight: weight };
            loaded.insert(0, Loaded { server, active, inactive, overloaded });
        }
        for _ in 0..if cfg!(miri) { 2 } else { 12 } {
            let name = model(kind, &loaded);
            prop_assert_eq!(lab.open(1, true), name.to_string());
            for it in loaded.iter_mut().filter(|it| it.server.name == name) {
                it.active += 1;
            }
        }
    });
}

#[test]
fn all_are_the_model() {
    for kind in [Lc, Wlc, Sed, Nq, Fo, Ovf] {
        check(kind);
    }
}
