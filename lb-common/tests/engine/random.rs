//! Anything at all: no panic, one reason a packet, untouched when passed,
//! intact when forwarded.

use lb_common::{
    engine::Verdict,
    host::frame::Frame,
    reason::{Class, Reason},
    wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::lab::{LOCAL, Lab, MAC, QINQ, REDIRECT, TAGGED, TX, UNRESOLVED, VLAN_MAC, dns, web};
use crate::reasons::is_answered;

fn check(lab: &Lab, bytes: &[u8]) -> Result<(), TestCaseError> {
    let before = lab.tables.counted();
    let (verdict, reason, after) = lab.run_bytes(bytes);
    prop_assert_eq!(lab.tables.counted(), before + 1);
    prop_assert_ne!(reason, Reason::DroppedInternal);
    match (reason.class(), verdict) {
        (Class::Passed, Verdict::Pass) => prop_assert_eq!(&after, bytes),
        (Class::Dropped, Verdict::Drop) => {}
        (Class::Dropped, Verdict::Transmit) => {
            prop_assert!(is_answered(reason), "{:?}", reason);
            let right = lb_common::host::sums::check(&after);
            prop_assert!(right.is_ok(), "{:?}", right);
        }
        (Class::Forwarded, Verdict::Transmit | Verdict::Redirect(_)) => {
            let behind = |bytes: &[u8]| {
                let tags = bytes[12..]
                    .chunks(4)
                    .take_while(|tag| [0x81, 0x88].contains(&tag[0]));
                14 + 4 * tags.count()
            };
            let (was, is) = (&bytes[behind(bytes)..], &after[behind(&after)..]);
            prop_assert_eq!(was.len(), is.len());
            prop_assert_eq!(is[8], was[8] - 1);
            prop_assert_eq!(
                (&is[..8], is[9], &is[12..]),
                (&was[..8], was[9], &was[12..])
            );
            let header = usize::from(is[0] & 15) * 4;
            prop_assert_eq!(lb_common::host::frame::checksum(&is[..header]), [0, 0]);
        }
        other => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}

fn run<S: Strategy>(
    cases: u32,
    strategy: S,
    mut test: impl FnMut(&Lab, S::Value) -> Result<(), TestCaseError>,
) {
    let cases = if cfg!(miri) { 20 } else { cases };
    let lab = Lab::with(&[TX, REDIRECT, LOCAL, UNRESOLVED, TAGGED, QINQ]);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let test = std::cell::RefCell::new(&mut test);
    if let Err(failure) =
        TestRunner::new(config).run(&strategy, |value| (test.borrow_mut())(&lab, value))
    {
        panic!("{failure}");
    }
}

#[test]
fn any_bytes() {
    run(20_000, vec(any::<u8>(), 0..200), |lab, bytes| {
        check(lab, &bytes)
    });
}

fn frame() -> impl Strategy<Value = Frame> {
    let flags = prop_oneof![
        Just(TCP_SYN),
        Just(TCP_ACK),
        Just(TCP_FIN | TCP_ACK),
        Just(TCP_RST),
        any::<u8>(),
    ];
    let tags = prop_oneof![
        3 => Just((vec![], MAC)),
        1 => Just((vec![(0x8100, 100)], VLAN_MAC)),
        1 => Just((vec![(0x88a8, 100), (0x8100, 200)], MAC)),
        1 => Just((vec![(0x8100, 0)], MAC)),
    ];
    let options = (0..11usize).prop_map(|words| vec![1; words * 4]);
    (
        any::<bool>(),
        1..40u16,
        flags,
        tags,
        options,
        0..50usize,
        any::<u8>(),
        0..8usize,
    )
        .prop_map(
            |(is_web, port, flags, (tags, mac), options, payload, ttl, padding)| Frame {
                stations: [mac, [2, 0, 0, 0, 0, 2]],
                tags,
                options,
                payload: vec![0x55; payload],
                ttl,
                padding,
                ..if is_web { web(port, flags) } else { dns(port) }
            },
        )
}

#[test]
fn well_formed_frames_while_time_passes() {
    run(20_000, (frame(), 0..3000u32), |lab, (frame, ticks)| {
        lab.later(ticks);
        check(lab, &frame.build())
    });
}

#[test]
fn mutated_frames() {
    let change = (any::<usize>(), any::<u8>(), any::<bool>());
    run(
        20_000,
        (frame(), vec(change, 0..4), 0..40usize),
        |lab, (frame, changes, cut)| {
            let mut bytes = frame.build();
            for (at, value, fix) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
                // Half of the time the header checksum is made right again, so
                // that the walk goes on.
                let l3 = 14 + 4 * frame.tags.len();
                let end = l3 + usize::from(bytes[l3] & 15) * 4;
                if fix && end <= bytes.len() && end >= l3 + 20 {
                    bytes[l3 + 10..l3 + 12].fill(0);
                    let sum = lb_common::host::frame::checksum(&bytes[l3..end]);
                    bytes[l3 + 10..l3 + 12].copy_from_slice(&sum);
                }
            }
            bytes.truncate(bytes.len() - cut.saturating_sub(35));
            check(lab, &bytes)
        },
    );
}
