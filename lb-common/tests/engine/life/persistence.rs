//! Persistent services: templates, their life, and who counts them.

use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::{
    family::{Family as _, V4},
    flow::{Control, word},
    host::frame::Frame,
    layout::{DestFlags, ForwardMethod, Knobs, ServiceFlags},
    reason::Reason,
    time::seconds,
    wire::{TCP_ACK as A, TCP_RST as R, TCP_SYN as S},
};

use crate::lab::{Lab, Service, TX, TX_TOO, VIP, dns, web};

const PERSISTENT: u16 = ServiceFlags::PERSISTENT;

/// Web and DNS, persistent, with two servers each.
pub(super) fn lab() -> Lab {
    let web = Service {
        flags: PERSISTENT,
        ..Service::web(&[TX, TX_TOO])
    };
    let dns = Service {
        flags: PERSISTENT,
        ..Service::dns(&[TX, TX_TOO])
    };
    with(&[web, dns])
}

pub(super) fn with(services: &[Service]) -> Lab {
    let lab = Lab::of_services(services);
    for slot in [TX, TX_TOO] {
        lab.edit(slot, |dest| dest.method = ForwardMethod::Route as u8);
    }
    lab
}

fn server(lab: &Lab, frame: &Frame) -> u32 {
    lab.flow(frame).expect("tracked").slot()
}

/// A segment of another client of the same /24 as the usual one.
fn other(port: u16, flags: u8) -> Frame {
    let client = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 200), port);
    Frame::tcp(client, SocketAddrV4::new(VIP, 80), flags)
}

#[test]
fn a_client_stays_with_a_server() {
    let lab = lab();
    for port in 1..=10 {
        assert_eq!(lab.reason(&web(port, S)), Reason::ForwardedTx);
        assert_eq!(server(&lab, &web(port, S)), TX, "port {port}");
    }
    assert_eq!(lab.templates(TX), 1);
    assert_eq!(lab.load(TX), (10, 0));
    assert_eq!(lab.tables.stats(TX).conns, 10, "templates do not count");
    lab.run(&other(1, S));
    assert_eq!(server(&lab, &other(1, S)), TX_TOO, "another client");
    lab.run(&dns(1));
    assert_eq!(server(&lab, &dns(1)), TX, "another service's own turn");
    assert_eq!((lab.templates(TX), lab.templates(TX_TOO)), (2, 1));
    lab.check_counts();
}

#[test]
fn clients_under_a_mask_share_a_template() {
    let web_service = Service {
        flags: PERSISTENT,
        persistence: (300, [255, 255, 255, 0]),
        ..Service::web(&[TX, TX_TOO])
    };
    let lab = with(&[web_service]);
    lab.run(&web(1, S));
    lab.run(&other(1, S));
    assert_eq!(server(&lab, &other(1, S)), TX);
    assert_eq!(lab.templates(TX), 1);
}

#[test]
fn all_ports_of_a_client_go_to_one_server() {
    let any = Service {
        flags: PERSISTENT,
        port: 0,
        ..Service::web(&[TX, TX_TOO])
    };
    let lab = with(&[any]);
    let to = |port: u16, from| {
        let client = crate::lab::client(from);
        Frame::tcp(client, SocketAddrV4::new(VIP, port), S)
    };
    for port in [80, 443, 8080] {
        lab.run(&to(port, port));
        assert_eq!(server(&lab, &to(port, port)), TX, "port {port}");
    }
    assert_eq!((lab.templates(TX), lab.load(TX)), (1, (3, 0)));
    // A service of the very port comes first.
    let any = Service {
        flags: PERSISTENT,
        port: 0,
        slot: 1,
        ..Service::web(&[TX])
    };
    let lab = with(&[Service::web(&[TX_TOO]), any]);
    lab.run(&web(1, S));
    lab.run(&to(81, 2));
    assert_eq!(server(&lab, &web(1, S)), TX_TOO);
    assert_eq!(server(&lab, &to(81, 2)), TX);
    // Without persistence it schedules nothing.
    let any = Service {
        port: 0,
        ..Service::web(&[TX])
    };
    let lab = with(&[any]);
    assert_eq!(lab.reason(&to(80, 1)), Reason::DroppedNoServer);
}

#[test]
fn a_template_lives_as_long_as_the_service_says() {
    let lab = lab();
    lab.run(&dns(1));
    assert_eq!(server(&lab, &dns(1)), TX);
    // Renewed by a new connection, not by packets of one.
    lab.later(seconds(200));
    lab.run(&dns(2));
    lab.later(seconds(299));
    lab.run(&dns(3));
    assert_eq!(server(&lab, &dns(3)), TX);
    // The last connection is renewed for ever; the template lives on with it.
    for _ in 0..5 {
        lab.later(seconds(200));
        lab.sweep();
        lab.run(&dns(3));
    }
    assert_eq!(lab.load(TX), (0, 1));
    assert_eq!(lab.templates(TX), 1);
    lab.run(&dns(4));
    assert_eq!(server(&lab, &dns(4)), TX, "a controlled template");
    lab.check_counts();
    // A minute is its time-out now.
    lab.later(seconds(301));
    lab.sweep();
    lab.later(seconds(65));
    lab.sweep();
    assert_eq!((lab.load(TX), lab.templates(TX)), ((0, 0), 0));
    assert!(lab.cells().is_empty());
    lab.run(&dns(5));
    assert_eq!(server(&lab, &dns(5)), TX_TOO);
}

#[test]
fn from_its_first_end_on_a_template_lives_a_minute() {
    let lab = lab();
    lab.run(&web(1, S));
    lab.run(&web(1, A));
    lab.later(seconds(302) + 1);
    lab.sweep();
    let template = |lab: &Lab| {
        let cells = lab.cells();
        let found = cells.iter().find(|(_, state, _)| state.is_template());
        found.map(|(_, state, words)| (*state, words[word::TIMES] >> 32))
    };
    let (state, timeout) = template(&lab).expect("controlled");
    assert_eq!(timeout as u32, seconds(60));
    assert!(state.is_assured(), "its connection was established");
    lab.run(&web(2, S));
    let (_, timeout) = template(&lab).expect("controlled");
    assert_eq!(timeout as u32, seconds(60), "renewed for a minute");
}

#[test]
fn a_template_of_a_removed_server_is_retired() {
    let lab = lab();
    lab.run(&web(1, S));
    lab.edit(TX, |dest| {
        dest.word &= !(u64::from(DestFlags::AVAILABLE) << 32)
    });
    lab.run(&web(2, S));
    assert_eq!(server(&lab, &web(2, S)), TX_TOO);
    assert_eq!((lab.templates(TX), lab.templates(TX_TOO)), (1, 1));
    lab.check_counts();
    // Back again, it has the old one's connections, not its clients.
    lab.edit(TX, |dest| {
        dest.word |= u64::from(DestFlags::AVAILABLE) << 32
    });
    lab.run(&web(3, S));
    assert_eq!(server(&lab, &web(3, S)), TX_TOO);
    lab.later(seconds(500));
    lab.sweep();
    lab.later(seconds(70));
    lab.sweep();
    assert!(lab.cells().is_empty());
    assert_eq!((lab.templates(TX), lab.templates(TX_TOO)), (0, 0));
}

#[test]
fn a_quiesced_server_keeps_its_clients_unless_told() {
    let quiesce =
        |lab: &Lab| lab.edit(TX, |dest| dest.word |= u64::from(DestFlags::QUIESCED) << 32);
    let lab = lab();
    lab.run(&web(1, S));
    quiesce(&lab);
    lab.run(&web(2, S));
    assert_eq!(server(&lab, &web(2, S)), TX);
    lab.knobs(Knobs::REUSE | Knobs::EXPIRE_QUIESCENT);
    lab.run(&web(3, S));
    assert_eq!(server(&lab, &web(3, S)), TX_TOO);
    assert_eq!(server(&lab, &web(2, S)), TX, "connections stay");
    lab.check_counts();
}

#[test]
fn an_overloaded_server_keeps_its_clients() {
    let lab = lab();
    lab.edit(TX, |dest| dest.thresholds = 1);
    lab.run(&web(1, S));
    lab.run(&web(2, S));
    assert_eq!(server(&lab, &web(2, S)), TX);
    lab.run(&other(1, S));
    lab.run(&dns(1));
    assert_eq!(server(&lab, &dns(1)), TX_TOO, "but gets no new ones");
}

#[test]
fn a_persistent_connections_port_is_not_scheduled_anew() {
    let lab = lab();
    for flags in [S, A, R, S] {
        lab.run(&web(1, flags));
    }
    assert_eq!(server(&lab, &web(1, S)), TX);
    assert_eq!(lab.tables.stats(TX).conns, 1, "it is the same one");
    let words = lab.cells();
    let (_, _, words) = words.iter().find(|cell| cell.1.is_template()).expect("one");
    assert_eq!(Control(words[V4::LINK]).count(), 1);
}

#[test]
fn no_packet_finds_a_template() {
    // Port 0 both ways, as a template of any port has it.
    let any = Service {
        flags: PERSISTENT,
        port: 0,
        ..Service::dns(&[TX, TX_TOO])
    };
    let lab = with(&[any]);
    let zero = Frame::udp(crate::lab::client(0), SocketAddrV4::new(VIP, 0));
    lab.run(&dns(1));
    assert_eq!(lab.reason(&zero), Reason::ForwardedTx);
    assert_eq!(lab.cells().len(), 3, "a template and two connections");
    lab.check_counts();
}
