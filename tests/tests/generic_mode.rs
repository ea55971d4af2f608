//! The generic hook, for drivers without XDP of their own.

use std::net::SocketAddrV4;

use lvx_tests::{
    director::{Director, Start},
    http,
    lab::{OneArm, TwoArm},
};

#[test]
fn one_arm() {
    let lab = OneArm::new().unwrap();
    let director =
        Director::start_with(&lab.director.ns, Start::default().mode("generic")).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
         -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g",
    );
    assert_eq!(
        director.status().unwrap().interfaces,
        [("eth0".to_owned(), "generic".to_owned())]
    );
    let link = lab
        .director
        .ns
        .ip_show(&["link", "show", "dev", "eth0"])
        .unwrap();
    assert!(link.contains("xdpgeneric"), "{link}");
    let bodies = http::sequence(&lab.client.ns, SocketAddrV4::new(OneArm::VIP, 80), 10).unwrap();
    assert_eq!(
        bodies,
        [
            "rs2", "rs1", "rs2", "rs1", "rs2", "rs1", "rs2", "rs1", "rs2", "rs1"
        ]
    );
}

#[test]
fn two_arm() {
    let lab = TwoArm::new().unwrap();
    let start = Start::default()
        .mode("generic")
        .interfaces(&["eth0", "eth1"]);
    let director = Director::start_with(&lab.director.ns, start).unwrap();
    director.configure(
        "-A -t 172.25.254.100:80 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.10:80 -g
         -a -t 172.25.254.100:80 -r 192.168.0.20:80 -g",
    );
    let tally = http::volume(&lab.client.ns, SocketAddrV4::new(TwoArm::VIP, 80), 100, 2);
    assert_eq!(tally.failures, Vec::<String>::new());
    assert_eq!(
        tally.answers.values().copied().collect::<Vec<_>>(),
        [50, 50],
        "{tally:?}"
    );
}
