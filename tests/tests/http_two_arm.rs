//! HTTP through a director between two segments: forwarded by redirect.

use std::net::SocketAddrV4;

use lvx_tests::{
    director::{Director, Start},
    http,
    lab::TwoArm,
    listing::numbers,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(TwoArm::VIP, 80);

const ROUND_ROBIN: &str = "-A -t 172.25.254.100:80 -s rr
     -a -t 172.25.254.100:80 -r 192.168.0.10:80 -g
     -a -t 172.25.254.100:80 -r 192.168.0.20:80 -g";

fn two_hundred_requests(interfaces: &[&str]) {
    let lab = TwoArm::new().expect("a lab");
    let start = Start::default().interfaces(interfaces);
    let director = Director::start_with(&lab.director.ns, start).expect("a director");
    director.configure(ROUND_ROBIN);
    let first = http::sequence(&lab.client.ns, SERVICE, 4).expect("answers");
    assert_eq!(first, ["rs2", "rs1", "rs2", "rs1"]);
    let tally = http::volume(&lab.client.ns, SERVICE, 196, 4);
    assert_eq!(tally.failures, Vec::<String>::new());
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    for (name, conns) in [
        ("172.25.254.100:80", 200),
        ("192.168.0.10:80", 100),
        ("192.168.0.20:80", 100),
    ] {
        assert_eq!(numbers(&stats, name).expect("a line")[0], conns, "{stats}");
    }
}

#[test]
fn out_by_the_other_attached_interface() {
    two_hundred_requests(&["eth0", "eth1"]);
}

#[test]
fn out_by_an_interface_that_is_not_attached() {
    two_hundred_requests(&["eth0"]);
}
