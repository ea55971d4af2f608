//! Tunnels to real servers that run `lvx decap`, on real traffic: every kind,
//! both families in both.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lvx_tests::{
    datagram::{self, Echo},
    decap::Decap,
    director::{Director, Start, left_behind, lvx},
    http,
    lab::{Answers, Routed},
    listing::numbers,
    transfer::Payload,
};

const LIMIT: Duration = Duration::from_secs(60);
const BYTES: u64 = 100 << 20;
const VIPS: [(&str, IpAddr); 2] = [
    ("172.25.254.100", IpAddr::V4(Routed::VIP)),
    ("[fd02::100]", IpAddr::V6(Routed::VIP6)),
];
const SERVERS: [[&str; 2]; 2] = [
    ["192.168.0.10", "192.168.0.20"],
    ["[fd03::10]", "[fd03::20]"],
];

fn director(lab: &Routed) -> Director<'_> {
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    Director::start_with(&lab.director.ns, start).expect("a director")
}

fn decaps(lab: &Routed) -> Vec<Decap<'_>> {
    let words = [
        "--interface",
        "eth0",
        "--vip",
        "172.25.254.100",
        "--vip",
        "fd02::100",
    ];
    lab.servers
        .iter()
        .map(|server| Decap::start(&server.node.ns, &words).expect("lvx decap"))
        .collect()
}

/// Requests and transfers to both addresses, over servers of both families.
fn traffic(tunnel: &str, outcome: &str) {
    let lab = Routed::new(Answers::ByGate).expect("the lab works");
    let director = director(&lab);
    let decaps = decaps(&lab);
    let payload = Payload::new(&lab.lab, "page", BYTES).expect("the lab works");
    let client = &lab.client.ns;
    for (service, vip) in VIPS {
        for [one, two] in SERVERS {
            director.configure(&format!(
                "-A -t {service}:80 -s rr
                 -a -t {service}:80 -r {one}:80 -i {tunnel}
                 -a -t {service}:80 -r {two}:80 -i {tunnel}"
            ));
            let inside = format!("{service} in {one}, {tunnel}");
            let url = format!("http://{service}/");
            assert_eq!(http::curl(client, &url).expect(&inside), "rs2", "{inside}");
            let to = SocketAddr::new(vip, 80);
            let bodies = http::sequence(client, to, 3).unwrap_or_else(|error| {
                let status = director.lvx(&["status"]).ok();
                let frames: Vec<_> = decaps.iter().map(Decap::frames).collect();
                panic!("{inside}: {error:#}\n{status}\n{frames:?}")
            });
            assert_eq!(bodies, ["rs1", "rs2", "rs1"], "{inside}");
            payload.download(client, service, LIMIT).expect(&inside);
            payload
                .upload(&lab.lab, client, service, LIMIT)
                .expect(&inside);
            let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
            let counters = numbers(&stats, &format!("{service}:80")).expect("the lab works");
            // What goes out is the director's word that uploads do not fit.
            let told = if vip.is_ipv4() { 576 } else { 1280 };
            assert_eq!(
                (counters[0], counters[4]),
                (6, told * counters[2]),
                "{stats}"
            );
            director.configure(&format!("-D -t {service}:80"));
        }
    }
    let mut taken = 0;
    for decap in &decaps {
        let frames = decap.frames().expect("the lab works");
        let wrong = |(name, _): &&(String, u64)| name != outcome && name != "passed-other";
        assert_eq!(frames.iter().find(wrong), None, "{frames:?}");
        taken += decap.count(outcome).expect("the lab works");
    }
    assert!(taken > 4 * BYTES / 1500, "{taken}");
}

#[test]
fn ipip() {
    traffic("--tun-type ipip", "unwrapped-ipip");
}

#[test]
fn gue() {
    traffic("--tun-type gue --tun-port 6080", "unwrapped-gue");
}

#[test]
fn gue_with_checksums() {
    traffic("--tun-type gue --tun-port 6080 --tun-csum", "unwrapped-gue");
}

#[test]
fn gre() {
    traffic("--tun-type gre", "unwrapped-gre");
}

#[test]
fn gre_with_checksums() {
    traffic("--tun-type gre --tun-csum", "unwrapped-gre");
}

/// With a smaller segment size announced by the servers nothing is ever too big.
#[test]
fn a_smaller_segment_size_leaves_room_for_the_tunnel() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let director = director(&lab);
    let _decaps = decaps(&lab);
    for server in &lab.servers {
        server
            .node
            .ns
            .ip("route replace default via 192.168.0.1 advmss 1400
                 route replace default via fd03::1 advmss 1380")
            .unwrap();
    }
    let payload = Payload::new(&lab.lab, "page", BYTES).unwrap();
    for ((service, _), [one, _]) in VIPS.into_iter().zip(SERVERS) {
        director.configure(&format!(
            "-A -t {service}:80 -s rr
             -a -t {service}:80 -r {one}:80 -i"
        ));
        payload
            .upload(&lab.lab, &lab.client.ns, service, LIMIT)
            .unwrap();
    }
    let reasons = director.status().unwrap().reasons;
    let too_big = reasons.iter().find(|(name, _)| name == "dropped-too-big");
    assert_eq!(too_big.unwrap().1, 0);
}

/// An error of a router about a server's answer goes through the tunnel too.
#[test]
fn a_routers_error_reaches_the_server() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let director = director(&lab);
    let _decaps = decaps(&lab);
    lab.narrow_the_clients_link(1300).unwrap();
    let payload = Payload::new(&lab.lab, "page", BYTES).unwrap();
    for ((service, _), [one, _]) in VIPS.into_iter().zip(SERVERS) {
        director.configure(&format!(
            "-A -t {service}:80 -s rr
             -a -t {service}:80 -r {one}:80 -i"
        ));
        payload.download(&lab.client.ns, service, LIMIT).unwrap();
    }
    for target in ["10.1.0.2", "fd01::2"] {
        let words = ["route", "get", target];
        let route = lab.servers[0].node.ns.ip_show(&words).unwrap();
        assert!(route.contains("mtu 1300"), "{route}");
    }
}

/// Fragments of a datagram are tunnelled one by one, each whole in its tunnel.
#[test]
fn datagrams_small_and_fragmented() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let director = director(&lab);
    let _decaps = decaps(&lab);
    // Fragments leave room for the tunnel, and answers are cut for the client's link.
    lab.client.ns.ip("link set eth0 mtu 1400").unwrap();
    lab.narrow_the_clients_link(1400).unwrap();
    for server in &lab.servers {
        let lines = "route replace default via 192.168.0.1 mtu 1400
                     route replace default via fd03::1 mtu 1400";
        server.node.ns.ip(lines).unwrap();
    }
    for ((service, vip), [one, two]) in VIPS.into_iter().zip(SERVERS) {
        director.configure(&format!(
            "-A -u {service}:53 -s rr
             -a -u {service}:53 -r {one}:53 -i --tun-type gre
             -a -u {service}:53 -r {two}:53 -i --tun-type gre"
        ));
        director.wait_for_ways().unwrap();
        let to = SocketAddr::new(vip, 53);
        let _echoes: Vec<_> = lab
            .servers
            .iter()
            .map(|server| Echo::start(&server.node.ns, to, &server.name).unwrap())
            .collect();
        for (length, name) in [(16, "rs2"), (1300, "rs1"), (4096, "rs2"), (4096, "rs1")] {
            let answer = datagram::ask(&lab.client.ns, to, length);
            assert_eq!(answer.unwrap(), name, "{length} bytes to {vip}");
        }
    }
}

#[test]
fn only_packets_for_the_vip_come_out_and_nothing_is_left() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let director = director(&lab);
    director.configure(
        "-A -t 172.25.254.100:80 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.10:80 -i",
    );
    let (client, server) = (&lab.client.ns, &lab.servers[0].node.ns);
    let to = SocketAddr::new(VIPS[0].1, 80);
    let short = Duration::from_millis(300);
    let get = || client.enter(|| http::get(to, short));
    get().unwrap_err();

    let decap = Decap::start(server, &["--interface", "eth0", "--vip", "172.25.254.99"]).unwrap();
    get().unwrap_err();
    assert!(decap.count("passed-not-vip").unwrap() > 0);
    assert_eq!(decap.count("unwrapped-ipip").unwrap(), 0);

    // Without a VIP everything comes out; counters stay.
    decap.again(&["--interface", "eth0"]).unwrap().ok();
    assert_eq!(get().unwrap(), "rs1");
    assert!(decap.count("passed-not-vip").unwrap() > 0);
    let shown = lvx(server, &["decap", "--status"]).unwrap().ok();
    assert!(
        shown.starts_with(
            "interfaces    eth0 (native)\n\
             tunnels to    192.168.0.10, fd03::10\n\
             packets to    every address\n\
             GUE port      6080\n"
        ),
        "{shown}"
    );
    // In the generic hook as well.
    drop(decap);
    assert_eq!(
        left_behind(server).unwrap(),
        Vec::<std::path::PathBuf>::new()
    );
    get().unwrap_err();
    let words = ["--interface", "eth0", "--mode", "generic"];
    let decap = Decap::start(server, &words).unwrap();
    assert_eq!(get().unwrap(), "rs1");

    // One program an interface: the director cannot have it too.
    let refused = lvx(server, &["run", "--interface", "eth0"]).unwrap();
    assert_eq!(refused.code, 2);
    assert!(
        refused
            .stderr
            .contains("already carries the XDP program \"lvx_decap\"")
    );
    decap.again(&["--interface", "nope"]).unwrap().refused(2);
    assert_eq!(get().unwrap(), "rs1");
    drop(decap);
    let refused = lvx(server, &["decap", "--status"]).unwrap().refused(2);
    assert!(refused.contains("lvx decap --interface"), "{refused}");
}
