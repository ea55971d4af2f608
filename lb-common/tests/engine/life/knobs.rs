//! `conn_reuse_mode`, `expire_nodest_conn`, `sloppy_tcp`.

use lb_common::{
    conn::tcp::state::{CLOSE, ESTABLISHED, SYN_RECV, SYNACK},
    layout::{DestFlags, Knobs},
    reason::Reason,
    wire::{TCP_ACK as A, TCP_FIN as F, TCP_RST as R, TCP_SYN as S},
};

use crate::lab::{Lab, TX, TX_TOO, dns, web};

#[test]
fn of_so_many_packets_that_start_a_connection_one_is_dropped() {
    let lab = Lab::with(&[TX]);
    lab.settings(|settings| settings.drop_rate = 3);
    let reasons: Vec<Reason> = (1..=7).map(|port| lab.reason(&dns(port))).collect();
    let dropped: Vec<usize> = (0..7)
        .filter(|at| reasons[*at] == Reason::DroppedDefence)
        .collect();
    assert_eq!(dropped, [0, 3, 6]);
    for _ in 0..5 {
        assert_eq!(lab.reason(&dns(2)), Reason::ForwardedTx, "a connection's");
    }
    lab.settings(|settings| settings.drop_rate = 0);
    assert_eq!(lab.reason(&dns(1)), Reason::ForwardedTx);
}

#[test]
fn under_secure_tcp_the_other_table_counts() {
    let lab = Lab::with(&[TX]);
    lab.knobs(Knobs::REUSE | Knobs::SECURE_TCP);
    lab.run(&web(1, S));
    let state = |lab: &Lab| {
        let found = lab.flow(&web(1, S)).expect("tracked");
        found.state.protocol_state()
    };
    assert_eq!(state(&lab), SYNACK);
    lab.run(&web(1, A));
    assert_eq!(state(&lab), ESTABLISHED);
    lab.check_counts();
}

/// The server of a connection that went through `flags` and then saw a SYN;
/// before it was the first server's.
fn after(knobs: u32, flags: &[u8]) -> u32 {
    let lab = Lab::with(&[TX, TX_TOO]);
    lab.knobs(knobs);
    for flags in flags {
        lab.run(&web(1, *flags));
    }
    lab.run(&web(1, S));
    let found = lab.flow(&web(1, S)).expect("tracked");
    lab.check_counts();
    found.slot()
}

#[test]
fn modes_of_port_reuse() {
    let (reuse, all) = (Knobs::REUSE, Knobs::REUSE | Knobs::REUSE_FIN_WAIT);
    for (knobs, in_fin_wait, in_close) in [(0, TX, TX), (reuse, TX, TX_TOO), (all, TX_TOO, TX_TOO)]
    {
        assert_eq!(after(knobs, &[S, A, F | A]), in_fin_wait, "{knobs}");
        assert_eq!(after(knobs, &[S, A, R]), in_close, "{knobs}");
        assert_eq!(after(knobs, &[S, F]), in_close, "{knobs}, TIME_WAIT");
        assert_eq!(after(knobs, &[S, A]), TX, "{knobs}, established");
    }
}

fn flag(lab: &Lab, flag: u32, set: bool) {
    let bit = u64::from(flag) << 32;
    lab.edit(TX, |dest| {
        dest.word = if set {
            dest.word | bit
        } else {
            dest.word & !bit
        }
    });
}

#[test]
fn a_quiesced_servers_connection_opens_elsewhere() {
    for (knobs, server) in [(Knobs::REUSE, TX), (Knobs::EXPIRE_NODEST, TX_TOO)] {
        let lab = Lab::with(&[TX, TX_TOO]);
        lab.knobs(knobs);
        lab.run(&web(1, S));
        lab.run(&web(1, A));
        flag(&lab, DestFlags::QUIESCED, true);
        lab.run(&web(1, A));
        lab.run(&web(1, S));
        assert_eq!(lab.flow(&web(1, S)).expect("tracked").slot(), server);
    }
}

#[test]
fn connections_of_a_removed_server() {
    let lab = Lab::with(&[TX, TX_TOO]);
    lab.run(&web(1, S));
    lab.run(&dns(1));
    flag(&lab, DestFlags::AVAILABLE, false);
    assert_eq!(lab.reason(&dns(1)), Reason::DroppedNoDest);
    lab.sweep();
    assert!(lab.flow(&dns(1)).is_some());
    lab.knobs(Knobs::EXPIRE_NODEST);
    // The same packet starts anew where it may.
    assert_eq!(lab.reason(&dns(1)), Reason::ForwardedTx);
    assert_eq!(lab.flow(&dns(1)).expect("tracked").slot(), TX_TOO);
    assert_eq!(lab.reason(&web(1, A)), Reason::PassedNoConnection);
    lab.check_counts();
}

#[test]
fn the_sweep_ends_connections_of_a_removed_server() {
    let lab = Lab::with(&[TX]);
    lab.run(&web(1, S));
    flag(&lab, DestFlags::AVAILABLE, false);
    lab.knobs(Knobs::EXPIRE_NODEST);
    lab.sweep();
    assert!(lab.cells().is_empty());
    lab.check_counts();
}

#[test]
fn what_starts_a_connection_sloppily() {
    let state = |flags| {
        let lab = Lab::with(&[TX]);
        lab.knobs(Knobs::SLOPPY_TCP);
        lab.run(&web(1, flags));
        lab.flow(&web(1, flags))
            .map(|found| found.state.protocol_state())
    };
    assert_eq!(state(A), Some(ESTABLISHED));
    assert_eq!(state(F), Some(CLOSE));
    assert_eq!(state(0), Some(CLOSE));
    assert_eq!(state(S | A), Some(SYN_RECV));
    assert_eq!(state(R), None);
    assert_eq!(state(S | R), None);
}
