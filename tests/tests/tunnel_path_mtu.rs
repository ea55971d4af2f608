//! A narrow link between the director and a server behind a tunnel: its router
//! tells the director, the director tells the client, and transfers go on.

use std::{net::Ipv4Addr, time::Duration};

use lvx_tests::{
    decap::Decap,
    director::{Director, Start},
    lab::{Answers, Routed, Segment, Server},
    transfer::Payload,
};

const LIMIT: Duration = Duration::from_secs(60);
/// Room for a minimal IPv6 packet in a tunnel over IPv6, and far from 1500.
const NARROW: u32 = 1400;
const BYTES: u64 = 1 << 20;

/// A server behind the gate and a link of [`NARROW`] bytes.
fn server_behind_a_narrow_link(lab: &Routed) -> (Segment, Server) {
    let beyond = Segment::new(&lab.lab, "beyond", 24).expect("the lab works");
    let gate = &lab.gate.ns;
    beyond
        .plug(gate, "eth3", "gate", Ipv4Addr::new(10, 9, 0, 1))
        .expect("the lab works");
    gate.ip(&format!(
        "addr add fd09::1/64 dev eth3 nodad
         link set eth3 mtu {NARROW}"
    ))
    .expect("the lab works");
    let addr = Ipv4Addr::new(10, 9, 0, 10);
    let server = Server::new(&lab.lab, "rs3", &beyond, addr).expect("the lab works");
    let ns = &server.node.ns;
    ns.enable_ipv6().expect("the lab works");
    ns.ip("addr add fd09::10/64 dev eth0 nodad
         route add default via 10.9.0.1
         route add default via fd09::1")
        .expect("the lab works");
    server.direct_routing(Routed::VIP).expect("the lab works");
    ns.ip(&format!("addr add {}/128 dev lo nodad", Routed::VIP6))
        .expect("the lab works");
    ns.wait_for_ipv6(1).expect("the lab works");
    gate.wait_for_ipv6(4).expect("the lab works");
    (beyond, server)
}

fn counted(director: &Director<'_>, reason: &str) -> u64 {
    let status = director.status().expect("a living director");
    let found = status.reasons.into_iter().find(|(name, _)| name == reason);
    found.expect("a known reason").1
}

/// Uploads through one kind of tunnel, in each family that has path MTU discovery:
/// IPv6 in IPv4 is fragmented on the way.
fn uploads(tunnel: &str, around: [u32; 3]) {
    let lab = Routed::new(Answers::ByGate).expect("the lab works");
    let (_beyond, server) = server_behind_a_narrow_link(&lab);
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let director = Director::start_with(&lab.director.ns, start).expect("a director");
    let _decap = Decap::start(&server.node.ns, &["--interface", "eth0"]).expect("lvx decap");
    let payload = Payload::new(&lab.lab, "page", BYTES).expect("the lab works");
    let client = &lab.client.ns;
    let ways = [
        ("172.25.254.100", "172.25.254.100", "10.9.0.10"),
        ("172.25.254.100", "172.25.254.100", "[fd09::10]"),
        ("[fd02::100]", "fd02::100", "[fd09::10]"),
    ];
    for ((vip, target, to), around) in ways.into_iter().zip(around) {
        let inside = format!("{vip} in {to}, {tunnel}");
        let before = counted(&director, "dropped-tunnel-error");
        director.configure(&format!(
            "-A -t {vip}:80 -s rr
             -a -t {vip}:80 -r {to}:80 -i {tunnel}"
        ));
        director.wait_for_ways().expect(&inside);
        client.ip("route flush cache").expect(&inside);
        payload
            .upload(&lab.lab, client, vip, LIMIT)
            .unwrap_or_else(|error| {
                let status = director.lvx(&["status"]).ok();
                panic!("{inside}: {error:#}\n{status}")
            });
        let told = counted(&director, "dropped-tunnel-error") - before;
        assert!(told >= 1, "{inside}: {told}");
        let route = client
            .ip_show(&["route", "get", target])
            .expect("the lab works");
        let fits = NARROW - around;
        assert!(route.contains(&format!("mtu {fits}")), "{inside}: {route}");
        director.configure(&format!("-D -t {vip}:80"));
    }
}

#[test]
fn ipip() {
    uploads("--tun-type ipip", [20, 40, 40]);
}

#[test]
fn gue() {
    uploads("--tun-type gue --tun-port 6080", [32, 52, 52]);
}

#[test]
fn gre() {
    uploads("--tun-type gre --tun-csum", [28, 48, 48]);
}
