//! The director itself as one of the servers: its packets go up the stack.

use std::net::SocketAddrV4;

use lvx_tests::{
    director::Director,
    http,
    lab::{OneArm, nginx},
    listing::{connections, numbers},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);

#[test]
fn requests_alternate_between_the_director_and_a_server() {
    let lab = OneArm::new().unwrap();
    let _nginx = nginx(&lab.director.ns, "director", &[80]).unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
         -a -t 192.168.0.200:80 -r 192.168.0.50:80 -g",
    );
    let bodies = http::sequence(&lab.client.ns, SERVICE, 6).unwrap();
    assert_eq!(
        bodies,
        ["director", "rs1", "director", "rs1", "director", "rs1"]
    );
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    assert_eq!(numbers(&stats, "192.168.0.50:80").unwrap()[0], 3, "{stats}");
    assert_eq!(numbers(&stats, "192.168.0.10:80").unwrap()[0], 3, "{stats}");
    // Listed with the method that was configured, as the kernel does.
    let list = director.ipvsadm(&["-Ln"]).ok();
    assert!(
        list.contains("  -> 192.168.0.50:80              Route   1      0          3         \n"),
        "{list}"
    );
}

#[test]
fn the_loopback_address_is_the_director_too() {
    let lab = OneArm::new().unwrap();
    let _nginx = nginx(&lab.director.ns, "director", &[80]).unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 127.0.0.1:80 -g",
    );
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 3).unwrap(),
        ["director"; 3]
    );
    let listed = connections(&director.ipvsadm(&["-Lnc"]).ok()).unwrap();
    assert_eq!(listed.len(), 3);
    assert!(
        listed
            .iter()
            .all(|connection| connection.dest == "127.0.0.1:80"),
        "{listed:?}"
    );
}
