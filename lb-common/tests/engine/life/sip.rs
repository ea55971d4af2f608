//! `--pe sip`: templates by Call-ID.

use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::{host::frame::Frame, layout::ServiceFlags, reason::Reason};

use super::persistence::with;
use crate::lab::{Lab, Service, TX, TX_TOO, VIP};

/// DNS's port will do.
const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIP, 53);

fn lab(flags: u16, mask: [u8; 4]) -> Lab {
    with(&[Service {
        flags: ServiceFlags::PERSISTENT | ServiceFlags::SIP | flags,
        persistence: (300, mask),
        ..Service::dns(&[TX, TX_TOO])
    }])
}

fn message(client: u8, port: u16, text: &str) -> Frame {
    let client = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, client), port);
    Frame {
        payload: text.into(),
        ..Frame::udp(client, SERVICE)
    }
}

fn call(client: u8, port: u16, id: &str) -> Frame {
    message(
        client,
        port,
        &format!("INVITE sip:x SIP/2.0\r\nCall-ID: {id}\r\n"),
    )
}

/// The server of a connection that a datagram makes.
fn server(lab: &Lab, frame: &Frame) -> u32 {
    lab.run(frame);
    lab.flow(frame).expect("tracked").slot()
}

#[test]
fn calls_of_a_client_are_told_apart() {
    let lab = lab(0, [255; 4]);
    assert_eq!(server(&lab, &call(1, 100, "a@b")), TX);
    assert_eq!(server(&lab, &call(1, 101, "c@d")), TX_TOO);
    assert_eq!(server(&lab, &call(1, 102, "a@b")), TX);
    assert_eq!(server(&lab, &call(1, 103, "c@d")), TX_TOO);
    assert_eq!((lab.templates(TX), lab.templates(TX_TOO)), (1, 1));
    assert_eq!(
        server(&lab, &call(2, 100, "a@b")),
        TX,
        "another client's turn"
    );
    assert_eq!(server(&lab, &call(3, 100, "a@b")), TX_TOO);
    lab.check_counts();
}

#[test]
fn without_the_client_the_call_alone_counts() {
    let lab = lab(0, [0; 4]);
    for client in 1..20 {
        assert_eq!(server(&lab, &call(client, 100, "a@b")), TX);
    }
    assert_eq!(lab.templates(TX), 1);
    lab.check_counts();
}

#[test]
fn one_packet_scheduling_follows_the_call() {
    let lab = lab(ServiceFlags::ONE_PACKET, [255; 4]);
    for _ in 0..3 {
        assert_eq!(lab.reason(&call(1, 100, "a@b")), Reason::ForwardedTx);
        assert_eq!(lab.reason(&call(1, 100, "c@d")), Reason::ForwardedTx);
    }
    assert!(lab.flow(&call(1, 100, "a@b")).is_none());
    assert_eq!((lab.templates(TX), lab.templates(TX_TOO)), (1, 1));
    let conns = [TX, TX_TOO].map(|slot| lab.tables.stats(slot).conns);
    assert_eq!(conns, [3, 3]);
    lab.check_counts();
}

#[test]
fn what_has_no_call_id_is_dropped() {
    let lab = lab(0, [255; 4]);
    for text in ["", "x", "INVITE sip:x SIP/2.0\r\nCall-ID: a"] {
        assert_eq!(lab.reason(&message(1, 1, text)), Reason::DroppedNoCallId);
    }
    let far = |bytes| format!("x\r\nVia: {}\r\ni: a\r\n", "v".repeat(bytes));
    assert_eq!(lab.reason(&message(1, 1, &far(1000))), Reason::ForwardedTx);
    assert_eq!(lab.templates(TX) + lab.templates(TX_TOO), 1);
}
