//! States, time-outs, counts and the end of connections.

use lb_common::{
    conn::tcp::state::{CLOSE, ESTABLISHED, FIN_WAIT, SYN_RECV, TIME_WAIT},
    family::V4,
    flow::{
        SWEEP_DELAY,
        sweep::{SweepState, run},
    },
    host::frame::Frame,
    layout::{DestFlags, ForwardMethod, Settings, Stats},
    reason::Reason,
    tables::{Table, Tables},
    time::seconds,
    wire::{TCP_ACK as A, TCP_FIN as F, TCP_RST as R, TCP_SYN as S},
};

use crate::lab::{Lab, TX, TX_TOO, dns, web};

/// Sends the flags one after the other and checks, after each, state, time-out
/// in seconds, and whether the connection is active.
fn walk(steps: &[(u8, u8, u32, bool)]) {
    let lab = Lab::with(&[TX]);
    for &(flags, state, timeout, active) in steps {
        lab.later(7);
        assert_eq!(
            lab.reason(&web(1, flags)),
            Reason::ForwardedTx,
            "{flags:#x}"
        );
        let found = lab.flow(&web(1, 0)).expect("tracked");
        assert_eq!(found.state.protocol_state(), state, "after {flags:#x}");
        let deadline = (&lab.tables).now().wrapping_add(seconds(timeout));
        assert_eq!(found.times.deadline(), deadline, "after {flags:#x}");
        assert_eq!(
            lab.load(TX),
            if active { (1, 0) } else { (0, 1) },
            "after {flags:#x}"
        );
    }
}

#[test]
fn walks_seen_on_a_real_kernel() {
    walk(&[
        (S, SYN_RECV, 60, true),
        (S, SYN_RECV, 60, true),
        (A, ESTABLISHED, 900, true),
        (S, ESTABLISHED, 900, true),
        (F | A, FIN_WAIT, 120, false),
        (A, FIN_WAIT, 120, false),
        (S, SYN_RECV, 60, true),
        (R, SYN_RECV, 60, true),
        (F, TIME_WAIT, 120, false),
    ]);
    walk(&[
        (S, SYN_RECV, 60, true),
        (A, ESTABLISHED, 900, true),
        (R, CLOSE, 10, false),
    ]);
    walk(&[(S | F | A, SYN_RECV, 60, true), (0, CLOSE, 10, false)]);
}

#[test]
fn udp_is_inactive_for_300_seconds() {
    let lab = Lab::with(&[TX]);
    for _ in 0..3 {
        lab.later(100);
        assert_eq!(lab.reason(&dns(9)), Reason::ForwardedTx);
        let found = lab.flow(&dns(9)).expect("tracked");
        assert_eq!(found.times.deadline(), (&lab.tables).now() + seconds(300));
        assert_eq!(lab.load(TX), (0, 1));
    }
    let wanted = Stats {
        conns: 1,
        in_packets: 3,
        in_bytes: 96,
        ..Stats::default()
    };
    assert_eq!(lab.tables.stats(TX), wanted);
}

#[test]
fn counters_take_the_ip_length() {
    let lab = Lab::with(&[TX]);
    lab.run(&Frame {
        padding: 6,
        ..web(1, S)
    });
    lab.run(&Frame {
        payload: vec![0; 100],
        tags: vec![(0x8100, 0)],
        ..web(1, A)
    });
    lab.run(&web(2, S));
    let wanted = Stats {
        conns: 2,
        in_packets: 3,
        in_bytes: 40 + 140 + 40,
        ..Stats::default()
    };
    assert_eq!(lab.tables.stats(TX), wanted);
}

#[test]
fn an_error_about_a_request_counts_as_a_reply_but_with_nat() {
    for (method, count) in [(ForwardMethod::Route, 1), (ForwardMethod::Masq, 0)] {
        let lab = Lab::with(&[TX]);
        lab.forward_by(method, 1);
        lab.run(&web(1, S));
        assert_eq!(
            lab.reason(&Frame {
                ttl: 1,
                ..web(1, A)
            }),
            Reason::DroppedTtl
        );
        let stats = lab.tables.stats(TX);
        assert_eq!(stats.in_packets, 2, "{method:?}");
        assert_eq!(stats.out_packets, count, "{method:?}");
    }
}

#[test]
fn a_connection_ends_at_its_deadline() {
    let lab = Lab::with(&[TX, TX_TOO]);
    lab.run(&web(1, S));
    lab.run(&web(1, A));
    lab.later(seconds(900) - 1);
    assert_eq!(
        lab.reason(&web(1, A)),
        Reason::ForwardedTx,
        "the last moment"
    );
    lab.later(seconds(900));
    assert_eq!(lab.reason(&web(1, A)), Reason::PassedNoConnection);
    assert_eq!(lab.load(TX), (1, 0), "until the sweep comes");
    // A new connection of the same key takes its place and its counts.
    assert_eq!(lab.reason(&web(1, S)), Reason::ForwardedTx);
    assert_eq!(lab.flow(&web(1, S)).map(|found| found.slot()), Some(TX_TOO));
    assert_eq!((lab.load(TX), lab.load(TX_TOO)), ((0, 0), (1, 0)));
    lab.later(seconds(60) + SWEEP_DELAY);
    let mut state = SweepState::default();
    run::<V4, _>(&lab.tables, &mut state);
    assert_eq!((lab.load(TX), lab.load(TX_TOO)), ((0, 0), (0, 0)));
    assert!(lab.flow(&web(1, S)).is_none());
}

#[test]
fn time_outs_are_read_at_each_packet() {
    let lab = Lab::with(&[TX]);
    lab.run(&web(1, S));
    lab.run(&web(1, A));
    let mut settings: Settings = lab.tables.get(Table::Settings, 0);
    settings.tcp[ESTABLISHED as usize] = 5;
    lab.tables.set(Table::Settings, 0, settings);
    let deadline = |lab: &Lab| lab.flow(&web(1, A)).expect("tracked").times.deadline();
    assert_eq!(deadline(&lab), (&lab.tables).now() + seconds(900));
    lab.run(&web(1, A));
    assert_eq!(deadline(&lab), (&lab.tables).now() + 5);
}

#[test]
fn a_reused_port() {
    // Mode 1 of conn_reuse_mode: after RST another server, in FIN_WAIT the same.
    let lab = Lab::with(&[TX, TX_TOO]);
    let server = |lab: &Lab, port| lab.flow(&web(port, S)).expect("tracked").slot();
    for flags in [S, A, R] {
        lab.run(&web(1, flags));
    }
    assert_eq!(server(&lab, 1), TX);
    lab.run(&web(1, S));
    assert_eq!(server(&lab, 1), TX_TOO);
    assert_eq!((lab.load(TX), lab.load(TX_TOO)), ((0, 0), (1, 0)));
    assert_eq!(
        (lab.tables.stats(TX).conns, lab.tables.stats(TX_TOO).conns),
        (1, 1)
    );

    for flags in [S, A, F | A, S] {
        lab.run(&web(2, flags));
    }
    assert_eq!(server(&lab, 2), TX);
    let state = lab.flow(&web(2, S)).expect("tracked").state;
    assert_eq!(state.protocol_state(), SYN_RECV);

    // From TIME_WAIT, too.
    for flags in [S, F, S] {
        lab.run(&web(3, flags));
    }
    assert_eq!(server(&lab, 3), TX, "TX_TOO had it before");
    // A SYN with RST in CLOSE is a SYN as far as re-use goes, and starts nothing.
    for flags in [S, A, R] {
        lab.run(&web(4, flags));
    }
    assert_eq!(lab.reason(&web(4, S | R)), Reason::PassedNoConnection);
    assert!(lab.flow(&web(4, S)).is_none());
}

#[test]
fn a_removed_server_drops_and_its_connection_lives_on() {
    let lab = Lab::with(&[TX]);
    lab.run(&web(1, S));
    let before = lab.tables.stats(TX);
    lab.dest(TX, Lab::flags(TX) & !DestFlags::AVAILABLE);
    assert_eq!(lab.reason(&web(1, A)), Reason::DroppedNoDest);
    assert_eq!(lab.tables.stats(TX), before);
    // Added back, it is the same server.
    lab.dest(TX, Lab::flags(TX));
    assert_eq!(lab.reason(&web(1, A)), Reason::ForwardedTx);
    assert_eq!(lab.load(TX), (1, 0));
}

#[test]
fn a_vip_that_moved_away_is_the_stacks() {
    let lab = Lab::with(&[TX]);
    lab.run(&web(1, S));
    lab.dest(TX, Lab::flags(TX) & !DestFlags::CLAIMED);
    assert_eq!(lab.reason(&web(1, A)), Reason::PassedNotClaimed);
    lab.dest(TX, Lab::flags(TX));
    assert_eq!(lab.reason(&web(1, A)), Reason::ForwardedTx);
}
