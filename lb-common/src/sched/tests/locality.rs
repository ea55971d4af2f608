//! lblc and lblcr: sequences recorded from Linux 6.1, and what is remembered.

use super::harness::{Change, Flow, Lab};
use crate::{
    layout::SchedulerKind::{Lblc, Lblcr},
    time::seconds,
};

const DAY: u32 = seconds(24 * 3600);

#[test]
fn one_destination() {
    for (kind, recorded) in [
        (Lblc, ["CCBBAAAAAAAAA", "CCCBBAAAAAAAA", "CCCCCCBBBBBBB"]),
        (Lblcr, ["CCBBAAABCABCA", "CCCBBAAAAACAA", "CCCCCCBBBCCBC"]),
    ] {
        for (weights, picks) in [[1, 1, 1], [3, 1, 2], [0, 2, 5]].iter().zip(recorded) {
            let lab = Lab::with(kind, weights);
            assert_eq!(lab.open(13, true), picks, "{kind:?} {weights:?}");
        }
    }
}

fn to(last: u8) -> [Flow; 1] {
    [Flow::to([10, 9, 9, last])]
}

#[test]
fn each_destination_keeps_its_server() {
    for kind in [Lblc, Lblcr] {
        let mut lab = Lab::with(kind, &[1, 1]);
        assert_eq!(lab.flows(to(1)), "B");
        lab.load('B', 1, 0);
        assert_eq!(lab.flows(to(2)), "A");
        lab.load('A', 0, 1);
        // Not busy: as many active connections as its weight.
        assert_eq!(lab.flows(to(1)), "B");
        // The server is edited away and back, and deleted.
        lab.apply(Change::Edit('B', 0), 0);
        assert_eq!(lab.flows(to(1)), "A", "{kind:?}");
        lab.apply(Change::Edit('B', 1), 0);

        assert_eq!(lab.flows(to(1)), "A", "{kind:?}");
        lab.apply(Change::Delete('A'), 0);
        assert_eq!(lab.flows(to(2)), "B");
        // Another binding remembers nothing.
        lab.apply(Change::Add('C', 1), 0);
        assert_eq!(lab.flows(to(2)), "B");
        lab.rebind(kind, 0);
        assert_eq!(lab.flows(to(2)), "C");
    }
}

#[test]
fn an_overloaded_server_is_kept_by_lblc_alone() {
    for (kind, then) in [(Lblc, "B"), (Lblcr, "A")] {
        let lab = Lab::with(kind, &[1, 1]);
        assert_eq!(lab.flows(to(1)), "B");
        lab.overload('B', true);
        assert_eq!(lab.flows(to(1)), then, "{kind:?}");
        assert_eq!(lab.flows(to(2)), "A");
    }
}

#[test]
fn what_is_not_used_for_a_day_is_forgotten() {
    for kind in [Lblc, Lblcr] {
        let mut lab = Lab::with(kind, &[1, 1]);
        assert_eq!(lab.flows(to(1)), "B");
        lab.load('B', 0, 5);
        lab.now += DAY;
        assert_eq!(lab.flows(to(1)), "B");
        lab.now += DAY + 1;
        assert_eq!(lab.flows(to(1)), "A", "{kind:?}");
    }
}

#[test]
fn a_set_shrinks_when_it_did_not_change_for_a_day() {
    let mut lab = Lab::with(Lblcr, &[1, 1, 1]);
    assert_eq!(lab.flows(to(1)), "C");
    // Busy, and A is idle: B joins, being the first of the others.
    lab.load('C', 3, 0);
    assert_eq!(lab.flows(to(1)), "B");
    lab.load('B', 3, 0);
    assert_eq!(lab.flows(to(1)), "A");
    lab.load('A', 1, 0);
    lab.load('C', 1, 0);
    // Used every hour, but not changed: C, the most loaded, goes.
    for _ in 0..26 {
        lab.now += seconds(3600);
        assert_eq!(lab.flows(to(1)), "A");
    }
    // All of the set but the newest are too loaded; C has nothing to do now and
    // would be chosen if it were still in it.
    lab.load('C', 4_u32.wrapping_neg(), 0);
    assert_eq!(lab.flows(to(1)), "A");
}

#[test]
fn a_full_set_loses_its_oldest() {
    let servers = 20;
    let mut lab = Lab::new(Lblcr);
    for name in ('A'..).take(servers) {
        lab.apply(Change::Add(name, 1), 0);
    }
    let mut chosen = String::new();
    for _ in 0..servers {
        let name = lab.flows(to(1));
        lab.load(name.chars().next().unwrap(), 2, 0);
        chosen += &name;
    }
    // Each joined as the one before got busy.
    let newest_first: String = ('A'..)
        .take(servers)
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .collect();
    assert_eq!(chosen, newest_first);
    // T was the first to join. It is idle again, and not of the set any more, but
    // wlc gives it to the set as all members are busy.
    lab.load('T', 2_u32.wrapping_neg(), 0);
    assert_eq!(lab.flows(to(1)), "T");
}
