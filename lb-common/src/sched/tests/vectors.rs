//! Sequences recorded from Linux 6.1 (DR, UDP, servers added in the order A, B,
//! C, each letter the server of the next new connection).

use super::harness::{
    Change::{self, Add, Delete, Edit},
    Lab,
};
use crate::{
    layout::SchedulerKind::{self, Rr, Wrr},
    sched::Picked,
};

/// Each step: a change (none at first) and the picks after it. With `late`,
/// the last pick before a change falls between the daemon's reading of the
/// cursor and the switch.
fn check(kind: SchedulerKind, weights: &[u32], steps: &[(Option<Change>, &str)]) {
    for late in [0, 1] {
        let mut lab = Lab::with(kind, weights);
        let mut ahead = String::new();
        for (i, &(change, wanted)) in steps.iter().enumerate() {
            if let Some(change) = change {
                let seen = ahead + &lab.apply(change, late);
                assert_eq!(seen, steps[i - 1].1, "before {change:?}, late {late}");
            }
            ahead = lab.picks(wanted.len() - late);
        }
        ahead += &lab.picks(late);
        assert_eq!(ahead, steps[steps.len() - 1].1, "late {late}");
    }
}

#[test]
fn round_robin() {
    check(
        Rr,
        &[1, 1, 1],
        &[
            (None, "CBACBAC"),
            (Some(Add('D', 1)), "BADCBAD"),
            (Some(Delete('D')), "CBACB"),
            (Some(Edit('B', 0)), "ACACA"),
            (Some(Delete('A')), "CCC"),
            (Some(Edit('B', 1)), "BCBC"),
        ],
    );
}

#[test]
fn round_robin_ignores_the_size_of_a_weight() {
    check(Rr, &[5, 0, 1], &[(None, "CACACA")]);
}

#[test]
fn weighted_round_robin() {
    let recorded: [(&[u32], &str); 8] = [
        (&[1, 1, 1], "CBACBA"),
        (&[4, 3, 2], "CBAABACBACBAABACBA"),
        (&[5, 1, 1], "CBAAAAACBAAAAA"),
        (&[10, 5], "BAABAABAA"),
        (&[3, 3, 1], "CBABABACBA"),
        (&[2, 0, 4], "CACCAC"),
        (&[100, 50, 25], "CBAAABACBAAABA"),
        (&[7, 3], "BAAAAABABABAAAAABABA"),
    ];
    for (weights, wanted) in recorded {
        check(Wrr, weights, &[(None, wanted)]);
    }
}

#[test]
fn weighted_round_robin_with_edits() {
    check(
        Wrr,
        &[4, 3, 2],
        &[
            (None, "CBAA"),
            (Some(Edit('A', 6)), "ABACBACBAAAABAC"),
            (Some(Edit('B', 0)), "ACAAACAAACAA"),
            (Some(Delete('C')), "AAAA"),
            (Some(Edit('A', 0)), "---"),
            (Some(Edit('B', 3)), "BBBB"),
        ],
    );
}

#[test]
fn nobody_to_choose() {
    for kind in [Rr, Wrr, SchedulerKind::None] {
        assert_eq!(
            Lab::with(kind, &[]).picks(2),
            "--",
            "{kind:?} without servers"
        );
        assert_eq!(
            Lab::with(kind, &[0, 0]).picks(2),
            "--",
            "{kind:?}, all quiesced"
        );
    }
    assert_eq!(Lab::with(SchedulerKind::None, &[1]).picks(1), "-");
}

#[test]
fn a_packet_of_the_configuration_before_is_told_so() {
    let mut lab = Lab::with(Rr, &[1, 1]);
    assert_eq!(lab.picks(1), "B");
    lab.apply(Add('C', 1), 0);
    // Nobody has carried the cursor over yet: the old list still works.
    let word = lab.cursor_word();
    assert!(matches!(lab.try_pick_before(), Picked::Dest { .. }));
    assert_ne!(lab.cursor_word(), word);
    assert_eq!(
        lab.picks(1),
        "C",
        "behind A, the last in the list, that is in front"
    );
    assert_eq!(lab.try_pick_before(), Picked::Stale);
}

#[test]
fn generations_wrap() {
    let mut lab = Lab::with(Rr, &[1, 1, 1]);
    let mut picked = String::new();
    for _ in 0..if cfg!(miri) { 3 } else { 70_000 } {
        lab.apply(Edit('A', 1), 0);
    }
    for _ in 0..6 {
        picked += &lab.apply(Edit('A', 1), 1);
    }
    assert_eq!(picked, "CBACBA");
}

#[test]
fn a_scheduler_bound_anew_starts_at_the_head() {
    // The kernel discards what the scheduler before remembered, also when
    // connections were scheduled while the daemon was compiling.
    for late in [0, 1, 2] {
        let mut lab = Lab::with(Rr, &[1, 1, 1]);
        lab.picks(1);
        lab.rebind(Rr, late);
        assert_eq!(lab.picks(3), "CBA", "rr after {late} late connections");

        let mut lab = Lab::with(Wrr, &[4, 3, 2]);
        lab.picks(5);
        lab.rebind(Wrr, late);
        assert_eq!(
            lab.picks(9),
            "ABACBACBA",
            "wrr after {late} late connections"
        );
    }
}
