//! Several CPUs at one cursor: every pick is one of a serial sequence.

use std::{collections::BTreeMap, thread};

use super::harness::Lab;
use crate::{layout::SchedulerKind, sched::Picked};

/// How often each server is chosen when two threads make `each` picks.
fn race(lab: &Lab, each: usize) -> BTreeMap<char, usize> {
    let one = || {
        let mut chosen: BTreeMap<char, usize> = BTreeMap::new();
        let mut left = each;
        while left > 0 {
            match lab.try_pick() {
                Picked::Dest { slot, .. } => {
                    *chosen
                        .entry(char::from_u32(slot).expect("a letter"))
                        .or_default() += 1;
                    left -= 1;
                }
                Picked::Contended => {}
                other => panic!("{other:?}"),
            }
        }
        chosen
    };
    let mut sum = BTreeMap::new();
    thread::scope(|scope| {
        for handle in [scope.spawn(one), scope.spawn(one)] {
            for (name, count) in handle.join().expect("no panic") {
                *sum.entry(name).or_default() += count;
            }
        }
    });
    sum
}

const ROUNDS: usize = if cfg!(miri) { 3 } else { 3000 };

#[test]
fn round_robin_shares_exactly() {
    let chosen = race(&Lab::with(SchedulerKind::Rr, &[1, 1, 1, 1]), 2 * ROUNDS);
    assert_eq!(
        chosen,
        BTreeMap::from(['A', 'B', 'C', 'D'].map(|name| (name, ROUNDS)))
    );
}

#[test]
fn weighted_round_robin_shares_exactly() {
    let lab = Lab::with(SchedulerKind::Wrr, &[4, 3, 1]);
    // The first round is the plain one of a new service.
    assert_eq!(lab.picks(3), "CBA");
    let chosen = race(&lab, 4 * ROUNDS);
    let wanted = [('A', 4 * ROUNDS), ('B', 3 * ROUNDS), ('C', ROUNDS)];
    assert_eq!(chosen, BTreeMap::from(wanted));
}
