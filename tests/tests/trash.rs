//! A server that is removed with connections and comes back.

use std::{net::SocketAddrV4, time::Duration};

use lvx_tests::{
    director::Director,
    http::{self, KeptOpen},
    lab::OneArm,
    listing::{connections, numbers},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
const SECOND: Duration = Duration::from_secs(1);
const SERVER: &str = "-t 192.168.0.200:80 -r 192.168.0.10:80";

#[test]
fn a_server_that_comes_back_has_its_connections_and_counters() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    director.configure("-A -t 192.168.0.200:80 -s rr");
    director.configure(&format!("-a {SERVER} -g -w 5"));
    let mut open = KeptOpen::open(&lab.client.ns, SERVICE, 5 * SECOND).unwrap();
    open.get().unwrap();
    http::sequence(&lab.client.ns, SERVICE, 3).unwrap();
    let counters = |director: &Director<'_>, name| {
        let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
        numbers(&stats, name).unwrap_or_else(|error| panic!("{error}: {stats}"))
    };
    let before = counters(&director, "192.168.0.10:80");
    assert_eq!(before[0], 4);

    director.configure(&format!("-d {SERVER}"));
    let list = director.ipvsadm(&["-Ln"]).ok();
    assert!(!list.contains("192.168.0.10"), "{list}");
    assert_eq!(
        counters(&director, "192.168.0.200:80"),
        before,
        "the service keeps what its server counted"
    );
    let listed = connections(&director.ipvsadm(&["-Lnc"]).ok()).unwrap();
    assert_eq!(listed.len(), 4, "its connections are there");

    // A daemon that starts meanwhile knows of it.
    director.kill();
    director.restart().unwrap();
    director.configure(&format!("-a {SERVER} -g -w 1"));
    assert_eq!(counters(&director, "192.168.0.10:80"), before);
    let list = director.ipvsadm(&["-Ln"]).ok();
    assert_eq!(
        numbers(&list, "192.168.0.10:80").unwrap()[..2],
        [1, 1],
        "{list}"
    );
    open.get().expect("the connection goes on");

    // Of a service that was made anew nothing is left.
    director.configure(&format!(
        "-D -t 192.168.0.200:80\n-A -t 192.168.0.200:80 -s rr\n-a {SERVER} -g"
    ));
    assert_eq!(counters(&director, "192.168.0.10:80"), [0; 5]);
    open.get().expect("the connection goes on");
    let after = counters(&director, "192.168.0.10:80");
    assert!(after[0] == 0 && after[1] > 0, "{after:?}");
}
