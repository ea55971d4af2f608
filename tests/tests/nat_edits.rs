//! Connections keep the method they were made with, whatever becomes of their
//! server: with NAT that means that replies must go on being found.

use std::{net::SocketAddrV4, time::Duration};

use lvx_tests::{
    director::{Director, Start},
    http::KeptOpen,
    lab::TwoArm,
    listing::connections,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(TwoArm::VIP, 80);
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_nat_connection_lives_on_when_its_server_is_edited_removed_and_added_again() {
    let lab = TwoArm::new().unwrap();
    let server = &lab.servers[0].node.ns;
    server.ip("route replace default via 192.168.0.50").unwrap();
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let mut director = Director::start_with(&lab.director.ns, start).unwrap();
    director.configure(
        "-A -t 172.25.254.100:80 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.10:80 -m",
    );
    let mut open = KeptOpen::open(&lab.client.ns, SERVICE, LIMIT).unwrap();
    assert_eq!(open.get().unwrap(), "rs1");

    // Two cells, one connection.
    assert_eq!(director.status().unwrap().flow4.used, 2);
    let rows = connections(&director.ipvsadm(&["-Lnc"]).ok()).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].state, "ESTABLISHED");
    let list = director.ipvsadm(&["-Ln"]).ok();
    let line = "  -> 192.168.0.10:80              Masq    1      1          0         \n";
    assert!(list.contains(line), "{list}");
    let refused = director.lvx(&["down"]).refused(2);
    assert!(refused.starts_with("lvx: 1 connections"), "{refused}");

    director.configure("-e -t 172.25.254.100:80 -r 192.168.0.10:80 -g");
    assert_eq!(open.get().unwrap(), "rs1");
    director.configure(
        "-d -t 172.25.254.100:80 -r 192.168.0.10:80
         -A -t 172.25.254.100:81 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.10:80 -g",
    );
    assert_eq!(open.get().unwrap(), "rs1");
    // The next daemon knows of it as well.
    director.kill();
    director.restart().unwrap();
    director.configure("-D -t 172.25.254.100:81");
    assert_eq!(open.get().unwrap(), "rs1");
}
