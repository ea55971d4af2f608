//! Narrow links: errors of routers reach who must send smaller packets, and the
//! director says itself what does not fit. Without that, transfers would hang.

use std::time::Duration;

use lvx_tests::{
    director::{Director, Start},
    lab::{Answers, Routed},
    transfer::Payload,
};

const LIMIT: Duration = Duration::from_secs(30);
/// Room for a minimal IPv6 packet, and far from 1500.
const NARROW: u32 = 1300;
const BYTES: u64 = 20 << 20;

/// VIP:80 of both families by one method, `-g` or `-m`.
fn director<'lab>(lab: &'lab Routed, method: &str) -> Director<'lab> {
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let director = Director::start_with(&lab.director.ns, start).expect("a director");
    let port = if method == "-m" { 8080 } else { 80 };
    director.configure(&format!(
        "-A -t 172.25.254.100:80 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.10:{port} {method}
         -A -t [fd02::100]:80 -s rr
         -a -t [fd02::100]:80 -r [fd03::10]:{port} {method}"
    ));
    director
}

/// Packets counted under a reason.
fn counted(director: &Director<'_>, reason: &str) -> u64 {
    let status = director.status().expect("a living director");
    let found = status.reasons.into_iter().find(|(name, _)| name == reason);
    found.expect("a known reason").1
}

fn download_over_a_narrow_link(answers: Answers, method: &str) {
    let lab = Routed::new(answers).expect("the lab works");
    let director = director(&lab, method);
    lab.narrow_the_clients_link(NARROW).expect("the lab works");
    let payload = Payload::new(&lab.lab, "page", BYTES).expect("the lab works");
    for host in ["172.25.254.100", "[fd02::100]"] {
        payload
            .download(&lab.client.ns, host, LIMIT)
            .expect("the lab works");
    }
    // The server has learned it from the router's error, which came through the director.
    let server = &lab.servers[0].node.ns;
    for family in ["-4", "-6"] {
        let target = if family == "-4" {
            "10.1.0.2"
        } else {
            "fd01::2"
        };
        let route = server
            .ip_show(&[family, "route", "get", target])
            .expect("the lab works");
        assert!(route.contains(&format!("mtu {NARROW}")), "{route}");
    }
    assert_eq!(counted(&director, "dropped-too-big"), 0);
}

#[test]
fn a_routers_error_reaches_the_server_by_nat() {
    download_over_a_narrow_link(Answers::ByDirector, "-m");
}

#[test]
fn a_routers_error_reaches_the_server_by_direct_routing() {
    download_over_a_narrow_link(Answers::ByGate, "-g");
}

fn upload_over_a_narrow_link(answers: Answers, method: &str) {
    let lab = Routed::new(answers).expect("the lab works");
    lab.narrow_the_servers_link(NARROW).expect("the lab works");
    let director = director(&lab, method);
    let payload = Payload::new(&lab.lab, "page", BYTES).expect("the lab works");
    for (host, told) in [("172.25.254.100", 1), ("[fd02::100]", 2)] {
        payload
            .upload(&lab.lab, &lab.client.ns, host, LIMIT)
            .expect("the lab works");
        assert!(counted(&director, "dropped-too-big") >= told);
    }
    for target in ["172.25.254.100", "fd02::100"] {
        let route = lab
            .client
            .ns
            .ip_show(&["route", "get", target])
            .expect("the lab works");
        assert!(route.contains(&format!("mtu {NARROW}")), "{route}");
    }
}

#[test]
fn the_director_tells_clients_what_fits_by_nat() {
    upload_over_a_narrow_link(Answers::ByDirector, "-m");
}

#[test]
fn the_director_tells_clients_what_fits_by_direct_routing() {
    upload_over_a_narrow_link(Answers::ByGate, "-g");
}

/// By NAT the director also routes answers: what does not fit on the way to the
/// client is the server's to send smaller.
#[test]
fn the_director_tells_servers_what_fits() {
    let lab = Routed::new(Answers::ByDirector).unwrap();
    lab.director
        .ns
        .ip(&format!("link set eth0 mtu {NARROW}"))
        .unwrap();
    let director = director(&lab, "-m");
    let payload = Payload::new(&lab.lab, "page", BYTES).unwrap();
    for host in ["172.25.254.100", "[fd02::100]"] {
        payload.download(&lab.client.ns, host, LIMIT).unwrap();
    }
    assert!(counted(&director, "dropped-too-big") >= 2);
}
