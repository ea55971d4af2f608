//! The network changes while lvx runs: packets go the right way again within a
//! second, and none goes to a station that is not meant.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Director, Start},
    http,
    lab::{Namespace, Segment, TwoArm},
    packet::{Tap, is_to},
    transfer::Payload,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(TwoArm::VIP, 80);
const SECOND: Duration = Duration::from_secs(1);
/// One request; when its first packet is lost it fails before TCP repeats that.
const TRY: Duration = Duration::from_millis(150);
/// A server behind whoever the director's route names: by direct routing only
/// its station address counts.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 10);

fn director(lab: &TwoArm, server: Ipv4Addr) -> Director<'_> {
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let director = Director::start_with(&lab.director.ns, start).expect("a director");
    director.configure(&format!(
        "-A -t {SERVICE} -s rr
         -a -t {SERVICE} -r {server} -g"
    ));
    director
}

/// How long it takes until a request is answered by this server.
#[track_caller]
fn answers(client: &Namespace, server: &str, since: Instant) -> Duration {
    loop {
        let answer = client.enter(|| http::get(SERVICE, TRY));
        if answer.as_ref().is_ok_and(|body| body == server) {
            return since.elapsed();
        }
        assert!(
            since.elapsed() < 10 * SECOND,
            "{server} does not answer: {answer:?}"
        );
        sleep(Duration::from_millis(5));
    }
}

/// A change, after which this server answers within a second and goes on doing so.
#[track_caller]
fn within_a_second(lab: &TwoArm, what: &str, server: &str, change: impl FnOnce()) {
    change();
    let took = answers(&lab.client.ns, server, Instant::now());
    println!("{what}: right again after {took:.0?}");
    assert!(took < SECOND, "{what}: {took:?}");
    for _ in 0..20 {
        let body = lab.client.ns.enter(|| http::get(SERVICE, SECOND));
        assert_eq!(body.expect("an answer"), server, "{what}");
    }
}

/// What a tap has seen until now is of no interest.
fn drain(tap: &Tap) {
    while tap
        .next(SECOND / 20, |_| true)
        .expect("its interface")
        .is_some()
    {}
}

fn counted(director: &Director<'_>, reason: &str) -> u64 {
    let status = director.status().expect("a living director");
    let found = status.reasons.into_iter().find(|(name, _)| name == reason);
    found.expect("a known reason").1
}

#[test]
fn links_that_go_and_come() {
    let lab = TwoArm::new().unwrap();
    let ns = &lab.director.ns;
    let director = director(&lab, lab.servers[0].node.addr);
    answers(&lab.client.ns, "rs1", Instant::now());
    let ip = |line: &str| ns.ip(line).unwrap();

    ip("link set eth1 down");
    sleep(SECOND / 5);
    assert!(lab.client.ns.enter(|| http::get(SERVICE, TRY)).is_err());
    let told = director.status().unwrap().unresolved;
    assert!(!told.is_empty(), "it is told");
    within_a_second(&lab, "the servers' link up", "rs1", || {
        ip("link set eth1 up")
    });
    ip("link set eth0 down");
    sleep(SECOND / 5);
    within_a_second(&lab, "the clients' link up", "rs1", || {
        ip("link set eth0 up")
    });

    let plug = |segment: &Segment, interface: &str, addr| {
        segment.plug(ns, interface, "director", addr).unwrap();
        segment.take_xdp("director").unwrap();
    };
    ip("link del eth1");
    sleep(SECOND / 5);
    within_a_second(&lab, "the servers' interface made anew", "rs1", || {
        plug(&lab.inside, "eth1", TwoArm::DIP);
    });
    ip("link del eth0");
    sleep(SECOND / 5);
    within_a_second(&lab, "the clients' interface made anew", "rs1", || {
        plug(&lab.outside, "eth0", lab.director.addr);
        lab.director.add_address(TwoArm::VIP, "eth0").unwrap();
    });
    assert_eq!(director.status().unwrap().interfaces.len(), 2);
}

#[test]
fn stations_and_routes_that_change() {
    let lab = TwoArm::new().unwrap();
    let ns = &lab.director.ns;
    for server in &lab.servers {
        // As a fail-over announces itself.
        let knob = "net/ipv4/conf/all/arp_notify";
        server.node.ns.sysctl(knob, "1").unwrap();
    }
    let by = |kind: &str, server: usize| {
        let gateway = lab.servers[server].node.addr;
        ns.ip(&format!("route {kind} {BEHIND}/32 via {gateway}"))
            .unwrap();
    };
    by("add", 0);
    let director = director(&lab, BEHIND);
    answers(&lab.client.ns, "rs1", Instant::now());

    // Nothing goes to the old station once the new one is known.
    let old = lab.servers[0].node.mac();
    within_a_second(&lab, "the gateway's new MAC address", "rs1", || {
        let moved = "link set eth0 address 02:00:00:00:00:33";
        lab.servers[0].node.ns.ip(moved).unwrap();
    });
    let taps = [0, 1].map(|server| Tap::open(&lab.servers[server].node.ns, "eth0").unwrap());
    http::sequence(&lab.client.ns, SERVICE, 20).unwrap();
    let is_old = |frame: &[u8]| is_to(frame, SERVICE) && frame[..6] == old;
    assert_eq!(taps[0].count(SECOND / 4, is_old).unwrap(), 0);

    within_a_second(&lab, "the route by another gateway", "rs2", || {
        by("replace", 1)
    });
    drain(&taps[0]);
    http::sequence(&lab.client.ns, SERVICE, 20).unwrap();
    // By the first server's tap too: a bridge shows it what is for nobody it knows.
    let wrong = taps[0].count(SECOND / 4, |frame| is_to(frame, SERVICE));
    assert_eq!(wrong.unwrap(), 0);

    // No route: a counted drop, and nothing on the servers' segment.
    let unresolved = || counted(&director, "dropped-unresolved");
    let before = unresolved();
    ns.ip(&format!("route replace unreachable {BEHIND}/32"))
        .unwrap();
    sleep(SECOND / 5);
    drain(&taps[1]);
    for _ in 0..5 {
        assert!(lab.client.ns.enter(|| http::get(SERVICE, TRY)).is_err());
    }
    assert_eq!(
        taps[1]
            .count(SECOND / 10, |frame| is_to(frame, SERVICE))
            .unwrap(),
        0
    );
    assert!(
        unresolved() >= before + 5,
        "{:?}",
        director.status().unwrap().reasons
    );
    within_a_second(&lab, "the route is back", "rs1", || {
        by("replace", 0);
    });
}

#[test]
fn a_server_that_answers_arp_no_more_gets_nothing() {
    let lab = TwoArm::new().unwrap();
    let director = director(&lab, lab.servers[0].node.addr);
    answers(&lab.client.ns, "rs1", Instant::now());
    let server = &lab.servers[0].node;
    // It is there and says nothing.
    server.ns.ip("link set eth0 arp off").unwrap();
    lab.director
        .ns
        .ip(&format!("neigh flush to {}", server.addr))
        .unwrap();
    let started = Instant::now();
    while director.status().unwrap().unresolved.is_empty() {
        assert!(started.elapsed() < 10 * SECOND);
        sleep(SECOND / 20);
    }
    println!("told after {:.1?}", started.elapsed());
    let tap = Tap::open(&server.ns, "eth0").unwrap();
    for _ in 0..5 {
        assert!(lab.client.ns.enter(|| http::get(SERVICE, TRY)).is_err());
    }
    assert_eq!(
        tap.count(SECOND / 10, |frame| is_to(frame, SERVICE))
            .unwrap(),
        0
    );
    // It speaks again, and says so.
    server
        .ns
        .sysctl("net/ipv4/conf/all/arp_notify", "1")
        .unwrap();
    within_a_second(&lab, "the server speaks again", "rs1", || {
        server
            .ns
            .ip("link set eth0 arp on\nlink set eth0 down\nlink set eth0 up")
            .unwrap();
        server.default_route(Ipv4Addr::new(192, 168, 0, 1)).unwrap();
    });
}

#[test]
fn an_mtu_that_changes() {
    let lab = TwoArm::new().unwrap();
    let director = director(&lab, lab.servers[0].node.addr);
    answers(&lab.client.ns, "rs1", Instant::now());
    let payload = Payload::new(&lab.lab, "page", 1 << 20).unwrap();
    let host = TwoArm::VIP.to_string();
    let upload = || {
        payload
            .upload(&lab.lab, &lab.client.ns, &host, 20 * SECOND)
            .unwrap()
    };
    upload();
    assert_eq!(counted(&director, "dropped-too-big"), 0);
    lab.director.ns.ip("link set eth1 mtu 1300").unwrap();
    sleep(SECOND / 2);
    upload();
    let told = counted(&director, "dropped-too-big");
    assert!(told > 0, "the client is told what fits");
    let route = lab.client.ns.ip_show(&["route", "get", &host]).unwrap();
    assert!(route.contains("mtu 1300"), "{route}");
    lab.director.ns.ip("link set eth1 mtu 1500").unwrap();
    lab.client.ns.ip("route flush cache").unwrap();
    sleep(SECOND / 2);
    upload();
    assert_eq!(
        counted(&director, "dropped-too-big"),
        told,
        "whole frames fit again"
    );
}
