//! Servers by every method in both families.

use super::*;
use crate::model::TunnelChecksum;

fn v6_service() -> ServiceId {
    ServiceId::Address {
        protocol: Protocol::Tcp,
        addr: "2001:db8::1".parse().unwrap(),
        port: 80,
    }
}

fn by(addr: &str, method: Method, tunnel: Tunnel) -> Dest {
    let id = DestId {
        addr: addr.parse().unwrap(),
        port: 80,
    };
    let spec = DestSpec {
        method,
        tunnel,
        ..dest(1, 1).spec
    };
    Dest { id, spec }
}

#[test]
fn families_mix_in_tunnels_only_and_servers_are_unicast() {
    let mut state = with_service();
    try_apply(&mut state, Request::AddService(v6_service(), spec("rr"))).unwrap();
    let gue = |port| Tunnel::Gue {
        port,
        checksum: TunnelChecksum::None,
    };
    for (service, dest, want) in [
        (
            id(80),
            by("fd00::1", Method::Masq, Tunnel::Ipip),
            Err(Refusal::Invalid),
        ),
        (
            id(80),
            by("fd00::1", Method::Route, Tunnel::Ipip),
            Err(Refusal::Invalid),
        ),
        (
            v6_service(),
            by("10.8.0.9", Method::Route, Tunnel::Ipip),
            Err(Refusal::Invalid),
        ),
        (
            v6_service(),
            by("fe80::1", Method::Route, Tunnel::Ipip),
            Err(Refusal::Invalid),
        ),
        (
            v6_service(),
            by("::", Method::Masq, Tunnel::Ipip),
            Err(Refusal::Invalid),
        ),
        (
            v6_service(),
            by("ff02::1", Method::Masq, Tunnel::Ipip),
            Err(Refusal::Invalid),
        ),
        (
            v6_service(),
            by("::ffff:10.8.0.1", Method::Masq, Tunnel::Ipip),
            Err(Refusal::Invalid),
        ),
        (
            v6_service(),
            by("fd00::1", Method::Tunnel, gue(0)),
            Err(Refusal::Invalid),
        ),
        (
            v6_service(),
            by("fd00::1", Method::Tunnel, gue(6080)),
            Ok(()),
        ),
        (
            v6_service(),
            by("10.8.0.9", Method::Tunnel, Tunnel::Ipip),
            Ok(()),
        ),
        (id(80), by("fd00::1", Method::Tunnel, Tunnel::Ipip), Ok(())),
    ] {
        let got = try_apply(&mut state, Request::AddDest(service, dest));
        assert_eq!(got, want, "{dest:?}");
    }
    // An edit is checked alike.
    let edit = Request::EditDest(v6_service(), by("10.8.0.9", Method::Masq, Tunnel::Ipip));
    assert_eq!(try_apply(&mut state, edit), Err(Refusal::Invalid));
}

#[test]
fn methods_and_tunnels_survive_the_text() {
    let mut state = state();
    try_apply(&mut state, Request::AddService(v6_service(), spec("rr"))).unwrap();
    let checksum = TunnelChecksum::Remote;
    let dests = [
        by("fd00::1", Method::Masq, Tunnel::Ipip),
        by("10.8.0.1", Method::Tunnel, Tunnel::Ipip),
        by(
            "fd00::3",
            Method::Tunnel,
            Tunnel::Gue {
                port: 6080,
                checksum,
            },
        ),
        by(
            "fd00::4",
            Method::Tunnel,
            Tunnel::Gre {
                checksum: TunnelChecksum::Full,
            },
        ),
        by("fd00::5", Method::Route, Tunnel::Ipip),
    ];
    for dest in dests {
        try_apply(&mut state, Request::AddDest(v6_service(), dest)).unwrap();
    }
    try_apply(&mut state, Request::DeleteDest(v6_service(), dests[0].id)).unwrap();
    let read = State::from_text(&state.to_text(), LIMITS).unwrap();
    let of = |state: &State| state.service(&v6_service()).unwrap().dests.clone();
    let brief = |state: &State| {
        let nodes = of(state);
        nodes
            .iter()
            .map(|node| (node.slot, node.dest, node.masq))
            .collect::<Vec<_>>()
    };
    assert_eq!(brief(&read), brief(&state));
    assert_eq!(
        (
            read.trash().next().unwrap().dest,
            read.trash().next().unwrap().masq
        ),
        (dests[0], true)
    );
    // Text of before NAT was there has no word about it.
    let old = state.to_text().replace(",\"masq\":false", "");
    assert!(State::from_text(&old, LIMITS).is_ok());
}
