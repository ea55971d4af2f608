//! Frames of 9000 bytes, which reach XDP in several pieces.

use std::time::Duration;

use lvx_tests::{
    director::{Director, Start},
    lab::{Answers, Routed},
    listing::numbers,
    transfer::Payload,
};

const LIMIT: Duration = Duration::from_secs(60);
const MTU: u32 = 9000;
const BYTES: u64 = 100 << 20;

fn transfers(answers: Answers, method: &str) {
    let lab = Routed::new(answers).expect("the lab works");
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    // First with the usual MTU: a veth takes a larger one only with a program that
    // takes frames in pieces.
    let director = Director::start_with(&lab.director.ns, start).expect("a director");
    lab.set_mtu(MTU).expect("every device takes it");
    let native = |name: &str| (name.to_owned(), "native".to_owned());
    assert_eq!(
        director.status().expect("a living director").interfaces,
        [native("eth0"), native("eth1")]
    );
    let port = if method == "-m" { 8080 } else { 80 };
    let payload = Payload::new(&lab.lab, "big", BYTES).expect("room for it");
    for (service, server) in [
        ("172.25.254.100", "192.168.0.10"),
        ("[fd02::100]", "[fd03::10]"),
    ] {
        director.configure(&format!(
            "-A -t {service}:80 -s rr
             -a -t {service}:80 -r {server}:{port} {method}"
        ));
        let client = &lab.client.ns;
        payload
            .download(client, service, LIMIT)
            .expect("the same bytes");
        payload
            .upload(&lab.lab, client, service, LIMIT)
            .expect("the same bytes");
        let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
        let found = numbers(&stats, &format!("{service}:80")).expect("it is listed");
        let [conns, _, out_packets, in_bytes, out_bytes] = found[..] else {
            panic!("five counters in:\n{stats}");
        };
        assert_eq!(conns, 2, "{stats}");
        assert!(in_bytes > BYTES, "{stats}");
        if method == "-m" {
            assert!(out_bytes > BYTES, "{stats}");
            // Acknowledgements of the upload are among them.
            assert!(out_bytes / out_packets > 2000, "{stats}");
        }
    }
    let reasons = director.status().expect("a living director").reasons;
    let dropped: Vec<_> = reasons
        .iter()
        .filter(|(name, packets)| name.starts_with("dropped") && *packets > 0)
        .collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

#[test]
fn a_hundred_megabytes_both_ways_by_nat() {
    transfers(Answers::ByDirector, "-m");
}

#[test]
fn a_hundred_megabytes_both_ways_by_direct_routing() {
    transfers(Answers::ByGate, "-g");
}
