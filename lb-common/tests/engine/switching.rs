//! The configuration changes between two packets.

use lb_common::{
    reason::Reason,
    wire::{TCP_ACK, TCP_SYN},
};

use crate::lab::{Lab, REDIRECT, Service, TX, TX_TOO, web};

#[test]
fn the_root_says_which_half_counts() {
    let lab = Lab::with(&[TX]);
    // The idle half is written: nothing changes yet.
    let next = Service {
        generation: 2,
        ..Service::web(&[REDIRECT])
    };
    lab.write(1, &[next]);
    assert_eq!(lab.reason(&web(1, TCP_SYN)), Reason::ForwardedTx);
    lab.configure(
        1,
        &[Service {
            generation: 2,
            ..Service::web(&[REDIRECT])
        }],
    );
    assert_eq!(lab.reason(&web(2, TCP_SYN)), Reason::ForwardedRedirect);
    assert_eq!(
        lab.reason(&web(1, TCP_ACK)),
        Reason::ForwardedTx,
        "connections stay"
    );
    // And back to the other half, without the service's address.
    lab.configure(0, &[]);
    assert_eq!(lab.reason(&web(3, TCP_SYN)), Reason::PassedNoVip);
}

#[test]
fn the_service_is_gone_and_its_connections_stay() {
    let lab = Lab::with(&[TX]);
    lab.run(&web(1, TCP_SYN));
    lab.configure(1, &[Service::dns(&[TX])]);
    assert_eq!(lab.reason(&web(2, TCP_SYN)), Reason::PassedNoService);
    assert_eq!(lab.reason(&web(1, TCP_ACK)), Reason::ForwardedTx);
}

#[test]
fn quiesced_servers_keep_what_they_have() {
    let lab = Lab::with(&[TX, TX_TOO]);
    lab.run(&web(1, TCP_SYN));
    lab.configure(
        1,
        &[Service {
            weight: 0,
            generation: 2,
            ..Service::web(&[TX, TX_TOO])
        }],
    );
    assert_eq!(lab.reason(&web(2, TCP_SYN)), Reason::DroppedNoServer);
    assert_eq!(lab.reason(&web(1, TCP_ACK)), Reason::ForwardedTx);
}

#[test]
fn round_robin_in_list_order() {
    let lab = Lab::with(&[TX_TOO, TX]);
    for port in 1..=6 {
        lab.run(&web(port, TCP_SYN));
        let wanted = if port % 2 == 1 { TX_TOO } else { TX };
        assert_eq!(
            lab.flow(&web(port, 0)).map(|found| found.slot()),
            Some(wanted)
        );
    }
    assert_eq!((lab.load(TX), lab.load(TX_TOO)), ((3, 0), (3, 0)));
}
