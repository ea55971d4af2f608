//! Mappings recorded from Linux 6.1 (UDP port 53, servers A, B, C at 10.8.0.1 to
//! .3 or fd00:8::1 to ::3, added in this order).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::harness::{Change, Flow, Lab};
use crate::{
    layout::{
        SchedulerKind::{Dh, Mh, Sh},
        ServiceFlags,
    },
    sched::{Server, hash, mh},
};

const FALLBACK: u16 = ServiceFlags::SCHED_1;
const PORT: u16 = ServiceFlags::SCHED_2;

/// 1.2.3.1 to 1.2.3.40.
fn clients() -> impl Iterator<Item = Flow> {
    (1..=40).map(|last| Flow::from([1, 2, 3, last]))
}

/// 2001:db8:1:2::1 to ::28, 40 of them.
fn clients6() -> impl Iterator<Item = Flow> {
    (1..=0x28).map(|last| Flow::from(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, last)))
}

/// 1.2.3.4, ports 30000 to 30039.
fn ports() -> impl Iterator<Item = Flow> {
    (30_000..30_040).map(|port| Flow {
        port,
        ..Flow::from([1, 2, 3, 4])
    })
}

#[test]
fn the_functions_themselves() {
    assert_eq!(hash::golden(0x0102_0304), 52);
    assert_eq!(hash::golden(u32::from(Ipv4Addr::new(10, 9, 9, 20))), 46);
    assert_eq!(hash::sip(0x0102_0304, 2_654_435_761), 0x4452_d6a7);
    assert_eq!(hash::sip(0x0102_0304, 2_654_446_892), 0x12c0_78aa);
    let network = u32::from_ne_bytes([1, 2, 3, 4]);
    assert_eq!(hash::fold([network.into(), 0]), 0x0102_0304);
}

#[test]
fn source_hashing() {
    for (weights, picks) in [
        (&[1, 1, 1][..], "ABCBCBABACACACBCBCAABABACABACBCAABABCCAB"),
        (&[2, 1, 3], "CACACCACACCCCCCBCBACACAABACACACCACACBCCA"),
        (&[0, 1, 2], "BCBCB-C-CBCBCB-C-C-CBCB-C-C-CBCB-C-C-CBC"),
        (&[300, 1, 1], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        let lab = Lab::flagged(Sh, 0, false, weights);
        assert_eq!(lab.flows(clients()), picks, "{weights:?}");
    }
    let lab = Lab::flagged(Sh, FALLBACK, false, &[1, 0, 2]);
    let picks = "CCCCCACACCCCCCACACACCCCACACACCCCACACACCC";
    assert_eq!(lab.flows(clients()), picks);
    let lab = Lab::flagged(Sh, PORT, false, &[1, 1, 1]);
    let picks = "ABACACBCBCBABABACACACBCACBABCCACABBCACBA";
    assert_eq!(lab.flows(ports()), picks);
    let lab = Lab::flagged(Sh, 0, true, &[1, 1, 1]);
    let picks = "BABACCCCACACACBBABCBABAACACBCACCBABABCCB";
    assert_eq!(lab.flows(clients6()), picks);
}

#[test]
fn maglev_hashing() {
    for (weights, picks) in [
        (&[1, 1, 1][..], "CBBBCCAABABAAAACABACACBCAABABCAABAACCBCA"),
        (&[2, 1, 3], "CCBBCCAAAACAAAACABCCACCCAABAACAABAACCACA"),
        (&[0, 1, 2], "CCBBCCCCCCBCCBCCCBCCCCBCCBBBCCBBBBBCCBCB"),
        (&[300, 1, 7], "AAAAAAAAAABAAAAAAAACAAACAAAAAAAAAAAAAAAA"),
        (&[1, 2, 1], "BBBBCBAABABAAAACABABACBCAABABBBABBBCCBCA"),
    ] {
        let lab = Lab::flagged(Mh, 0, false, weights);
        assert_eq!(lab.flows(clients()), picks, "{weights:?}");
    }
    let mut lab = Lab::flagged(Mh, FALLBACK, false, &[1, 2, 1]);
    lab.apply(Change::Edit('B', 0), 0);
    let picks = "CCACCAAACACAAAACAAACACACAACACACACCCCCCCA";
    assert_eq!(lab.flows(clients()), picks);
    let mut lab = Lab::flagged(Mh, PORT, false, &[1, 2, 1]);
    lab.apply(Change::Edit('B', 0), 0);
    let picks = "--AC-AAA---C--C-A-A--A--C-AC--------AAC-";
    assert_eq!(lab.flows(ports()), picks);
    let lab = Lab::flagged(Mh, 0, true, &[1, 1, 1]);
    let picks = "BBABCBBCBCCCBCABBACCABCBBACCACABBBAACCAB";
    assert_eq!(lab.flows(clients6()), picks);
    let lab = Lab::flagged(Mh, PORT, true, &[2, 1, 3]);
    let picks = "BCCCCACAACCBCABBCBACABCACACCCCCCCBAABBCA";
    assert_eq!(lab.flows(clients6()), picks);
}

#[test]
fn maglev_slots() {
    let slots = |weights: [u32; 3]| {
        // The newest server stands first.
        let servers = [(3, weights[2]), (2, weights[1]), (1, weights[0])];
        let servers = servers.map(|(last, weight)| Server {
            addr: [u32::from_ne_bytes([10, 8, 0, last]), 0, 0, 0],
            port: 53,
            weight,
            last_weight: weight,
        });
        let table = Mh.compile(&servers).table;
        assert_eq!(table.len(), mh::SLOTS as usize);
        [2, 1, 0].map(|position| table.iter().filter(|it| **it == position).count())
    };
    assert_eq!(slots([1, 1, 1]), [1364, 1364, 1365]);
    assert_eq!(slots([2, 1, 3]), [1364, 682, 2047]);
    assert_eq!(slots([0, 1, 2]), [0, 1364, 2729]);
    assert_eq!(slots([300, 1, 7]), [3883, 105, 105]);
}

#[test]
fn maglev_of_nobody() {
    assert_eq!(Lab::flagged(Mh, FALLBACK, false, &[0, 0]).picks(2), "--");
    let mut lab = Lab::flagged(Mh, FALLBACK, false, &[3, 3]);
    lab.apply(Change::Edit('A', 0), 0);
    lab.apply(Change::Edit('B', 0), 0);
    assert_eq!(lab.picks(2), "--");
}

#[test]
fn destination_hashing() {
    let flows = |range: std::ops::Range<u8>| range.map(|last| Flow::to([10, 9, 9, last]));
    let mut lab = Lab::flagged(Dh, 0, false, &[1, 1, 1]);
    assert_eq!(lab.flows(flows(20..30)), "BCACAABCBA");
    lab.apply(Change::Edit('B', 0), 0);
    assert_eq!(lab.flows(flows(20..30)), "-CACAA-C-A");
    let lab = Lab::flagged(Dh, 0, false, &[1, 0, 2]);
    assert_eq!(lab.flows(flows(30..40)), "CA-ACACAA-");
}

/// sh as the specification puts it, with a table.
fn table_of_sh(weights: &[u32]) -> Vec<usize> {
    let mut table = Vec::new();
    if weights.is_empty() {
        return table;
    }
    'full: loop {
        for (position, weight) in weights.iter().enumerate() {
            for _ in 0..(*weight).max(1) {
                table.push(position);
                if table.len() == 256 {
                    break 'full;
                }
            }
        }
    }
    table
}

#[test]
fn source_hashing_is_the_table() {
    use proptest::prelude::*;
    let weights = proptest::collection::vec(
        prop_oneof![3 => 0..4u32, 1 => 4..300u32],
        0..if cfg!(miri) { 6 } else { 400 },
    );
    let config = ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 100 },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(weights in weights, fallback: bool, quiet in 0..9u32)| {
        let flags = if fallback { FALLBACK } else { 0 };
        let mut lab = Lab::flagged(Sh, flags, false, &[]);
        // Of later servers some are quiesced all the same.
        let weights: Vec<u32> = weights
            .iter()
            .enumerate()
            .map(|(i, weight)| if i as u32 % 10 < quiet { 0 } else { *weight })
            .collect();
        for (i, weight) in weights.iter().enumerate() {
            lab.add(char::from_u32(i as u32 + 65).unwrap(), *weight);
        }
        lab.publish();
        let list: Vec<u32> = weights.iter().rev().copied().collect();
        let table = table_of_sh(&list);
        for client in 0..if cfg!(miri) { 4 } else { 60_u32 } {
            let client = client.wrapping_mul(0x0101_3331);
            let first = hash::golden(client) as usize;
            let usable = |bucket: usize| {
                let position = *table.get(bucket % 256)?;
                (list[position] > 0).then_some(position)
            };
            let mut chosen = usable(first);
            if fallback {
                chosen = chosen.or_else(|| (0..256).find_map(|k| usable(2 * first + k)));
            }
            let name = chosen.map_or('-', |position| {
                char::from_u32((weights.len() - 1 - position) as u32 + 65).unwrap()
            });
            let picked = lab.flows([Flow::from(Ipv4Addr::from(client))]);
            prop_assert_eq!(picked, name.to_string());
        }
    });
}
