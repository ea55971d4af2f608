//! Interfaces that are stacked on others, and those that come, go and get other
//! names while lvx runs. Bonds and VLANs are tried in the oracle's machine.

use std::{
    net::SocketAddrV4,
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Director, Start, lvx},
    http,
    lab::{Namespace, OneArm},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
const SOON: Duration = Duration::from_secs(5);

#[track_caller]
fn soon(what: &str, mut good: impl FnMut() -> bool) {
    let limit = Instant::now() + SOON;
    while !good() {
        assert!(Instant::now() < limit, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn on<'lab>(ns: &'lab Namespace, interfaces: &[&str]) -> Director<'lab> {
    Director::start_with(ns, Start::default().interfaces(interfaces)).expect("a director")
}

fn configure(director: &Director<'_>) {
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g",
    );
    director.wait_for_ways().expect("the server answers");
}

/// Devices that carry the program, with their modes.
fn devices(director: &Director<'_>) -> Vec<String> {
    let status = director.status().expect("a living director");
    let shown = |(name, mode): &(String, String)| format!("{name} {mode}");
    status.interfaces.iter().map(shown).collect()
}

fn places(director: &Director<'_>) -> Vec<String> {
    director.status().expect("a living director").places
}

/// Packets that the data plane has sent on.
fn forwarded(director: &Director<'_>) -> u64 {
    let reasons = director.status().expect("a living director").reasons;
    let sent = reasons
        .iter()
        .filter(|(name, _)| name.starts_with("forwarded"));
    sent.map(|(_, packets)| packets).sum()
}

/// Requests are answered, and through the data plane.
#[track_caller]
fn balances(lab: &OneArm, director: &Director<'_>) {
    let before = forwarded(director);
    let bodies = http::sequence(&lab.client.ns, SERVICE, 5).expect("answers");
    assert_eq!(bodies, ["rs1"; 5]);
    let now = forwarded(director);
    assert!(now >= before + 15, "{before} {now}");
}

#[test]
fn an_interface_that_is_renamed_stays() {
    let lab = OneArm::new().expect("the lab works");
    let ns = &lab.director.ns;
    let director = on(ns, &["eth0"]);
    configure(&director);
    balances(&lab, &director);
    ns.ip("link set eth0 name wan0").expect("it is renamed");
    soon("the new name", || devices(&director) == ["wan0 native"]);
    assert_eq!(places(&director), ["eth0: is called wan0 now"]);
    balances(&lab, &director);
    ns.ip("link set wan0 name eth0").expect("it is renamed");
    soon("the old name", || devices(&director) == ["eth0 native"]);
    assert_eq!(places(&director), Vec::<String>::new());
    balances(&lab, &director);
    assert_eq!(
        director.log().matches("attached in").count(),
        1,
        "{}",
        director.log()
    );
}

#[test]
fn an_interface_that_goes_is_attached_when_there_is_one_of_its_name_again() {
    let lab = OneArm::new().expect("the lab works");
    let ns = &lab.director.ns;
    ns.ip("link add extra type veth peer name far")
        .expect("a veth");
    let director = on(ns, &["eth0", "extra"]);
    assert_eq!(devices(&director), ["eth0 native", "extra native"]);
    ns.ip("link del extra").expect("it goes");
    soon("it is gone", || devices(&director) == ["eth0 native"]);
    assert_eq!(
        places(&director),
        ["extra: there is no such interface; it will be attached when there is"]
    );
    ns.ip("link add other type veth peer name far")
        .expect("a veth");
    ns.ip("link set other name extra").expect("it is renamed");
    soon("it is attached", || {
        devices(&director) == ["eth0 native", "extra native"]
    });
    assert_eq!(places(&director), Vec::<String>::new());
}

#[test]
fn a_macvlan_and_the_device_below_it_are_attached_once() {
    let lab = OneArm::new().expect("the lab works");
    let ns = &lab.director.ns;
    ns.ip("link add vrrp0 link eth0 address 00:00:5e:00:01:07 type macvlan mode bridge\nlink set vrrp0 up")
        .expect("a macvlan");
    let mac = [0, 0, 0x5e, 0, 1, 7];
    for interfaces in [&["vrrp0"][..], &["eth0", "vrrp0"]] {
        let director = on(ns, interfaces);
        assert_eq!(devices(&director), ["eth0 native"]);
        assert_eq!(places(&director), ["vrrp0: on what is below it, eth0"]);
        configure(&director);
        lab.client
            .fixed_neighbour(OneArm::VIP, mac)
            .expect("the client takes it");
        balances(&lab, &director);
    }
}

#[test]
fn a_bridge_is_attached_by_its_ports() {
    let lab = OneArm::new().expect("the lab works");
    let ns = &lab.director.ns;
    ns.ip("link add br0 type bridge forward_delay 0 stp_state 0
         link set br0 address 02:00:c0:a8:00:32 up
         addr flush dev eth0
         link set eth0 master br0
         addr add 192.168.0.50/24 dev br0
         addr add 192.168.0.200/32 dev br0
         link add p1 type veth peer name far")
        .expect("a bridge");
    let director = on(ns, &["br0"]);
    assert_eq!(devices(&director), ["eth0 native"]);
    assert_eq!(places(&director), ["br0: on its ports, eth0"]);
    configure(&director);
    balances(&lab, &director);
    // Ports join and leave.
    ns.ip("link set p1 master br0").expect("it joins");
    soon("the new port", || {
        devices(&director) == ["eth0 native", "p1 native"]
    });
    balances(&lab, &director);
    ns.ip("link set p1 nomaster").expect("it leaves");
    soon("without the port", || devices(&director) == ["eth0 native"]);
    assert!(
        director.log().contains("p1: detached"),
        "{}",
        director.log()
    );
    balances(&lab, &director);
}

#[test]
fn what_carries_no_ethernet_is_refused() {
    let lab = OneArm::new().expect("the lab works");
    let ns = &lab.director.ns;
    ns.ip("tuntap add dev tun0 mode tun").expect("a tunnel");
    for (interface, what) in [("tun0", "tun"), ("lo", "loopback")] {
        let answer = lvx(
            ns,
            &["run", "--interface", "eth0", "--interface", interface],
        )
        .expect("lvx can be run");
        assert!(answer.code > 0, "{answer}");
        let sentence = format!("{interface} carries no Ethernet frames ({what})");
        assert!(answer.stderr.contains(&sentence), "{answer}");
        let link = ns.ip_show(&["link", "show", "dev", "eth0"]).expect("eth0");
        assert!(!link.contains("xdp"), "{link}");
    }
}
