//! `lvx rs-setup`: real servers set up by it serve by each method, and are as
//! they were afterwards.

use lvx_tests::{
    decap::Decap,
    director::{Director, Start, left_behind, lvx},
    http,
    lab::{Answers, Lab, Namespace, Routed, run, tool},
};

const SETTINGS: [&str; 5] = [
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/arp_announce",
    "net/ipv4/conf/eth0/arp_ignore",
    "net/ipv4/conf/eth0/arp_announce",
    "net/ipv4/conf/eth0/rp_filter",
];

fn settings(ns: &Namespace) -> Vec<String> {
    let output = run(ns.command(tool("sysctl")).arg("-n").args(SETTINGS)).expect("the lab works");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

/// Addresses of `lo` and default routes.
fn state(ns: &Namespace) -> [String; 3] {
    let show = |words: &[&str]| ns.ip_show(words).expect("the lab works");
    [
        show(&["-o", "addr", "show", "dev", "lo"]),
        show(&["-4", "route", "show", "default"]),
        show(&["-6", "route", "show", "default"]),
    ]
}

fn setup(ns: &Namespace, words: &str) -> lvx_tests::director::Answer {
    let words: Vec<_> = words.split_whitespace().collect();
    lvx(ns, &[&["rs-setup"], &words[..]].concat()).expect("the lab works")
}

fn both(lab: &Routed, method: &str) {
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let director = Director::start_with(&lab.director.ns, start).expect("the lab works");
    for (service, server) in [
        ("172.25.254.100", "192.168.0.10"),
        ("[fd02::100]", "[fd03::10]"),
    ] {
        director.configure(&format!(
            "-A -t {service}:80 -s rr
             -a -t {service}:80 -r {server}:80 {method}"
        ));
        let url = format!("http://{service}/");
        assert_eq!(
            http::curl(&lab.client.ns, &url).expect("the lab works"),
            "rs1",
            "{method}"
        );
    }
}

/// Takes away what the lab has prepared for direct routing.
fn plain(lab: &Routed) -> &Namespace {
    let ns = &lab.servers[0].node.ns;
    for setting in &SETTINGS[..4] {
        ns.sysctl(setting, "0").expect("the lab works");
    }
    for vip in ["172.25.254.100/32", "fd02::100/128"] {
        ns.ip(&format!("addr del {vip} dev lo"))
            .expect("the lab works");
    }
    ns
}

#[test]
fn direct_routing_and_back() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let ns = plain(&lab);
    let (before, was) = (settings(ns), state(ns));
    let words = "--method dr --interface eth0 --vip 172.25.254.100 --vip fd02::100";
    let script = setup(ns, words).ok();
    assert_eq!(script.lines().count(), 6, "{script}");
    assert_eq!(
        (settings(ns), state(ns)),
        (before.clone(), was.clone()),
        "printed only"
    );

    setup(ns, &format!("{words} --apply")).ok();
    assert_eq!(settings(ns), ["1", "2", "1", "2", "0"]);
    let shown = &state(ns)[0];
    assert!(
        shown.contains("172.25.254.100/32") && shown.contains("fd02::100/128"),
        "{shown}"
    );
    both(&lab, "-g");
    let again = setup(ns, &format!("{words} --apply")).refused(2);
    assert!(again.contains("--undo"), "{again}");

    setup(ns, "--undo").ok();
    assert_eq!((settings(ns), state(ns)), (before, was));
    assert!(left_behind(ns).unwrap().is_empty());
    assert!(
        setup(ns, "--undo")
            .refused(2)
            .contains("nothing was set up")
    );
}

#[test]
fn tunnels_and_back() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let ns = plain(&lab);
    ns.sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
    let (before, was) = (settings(ns), state(ns));
    let vips = "--interface eth0 --vip 172.25.254.100 --vip fd02::100";
    setup(ns, &format!("--method tun {vips} --apply")).ok();
    assert_eq!(settings(ns), ["1", "2", "1", "2", "2"]);
    {
        let words: Vec<_> = vips.split_whitespace().collect();
        let _decap = Decap::start(ns, &words).unwrap();
        both(&lab, "-i");
    }
    setup(ns, "--undo").ok();
    assert_eq!((settings(ns), state(ns)), (before, was));
}

#[test]
fn nat_and_back() {
    // By the gate, until it is told otherwise.
    let lab = Routed::new(Answers::ByGate).unwrap();
    let ns = plain(&lab);
    let was = state(ns);
    let words = "--method nat --interface eth0 --gateway 192.168.0.50 --gateway fd03::50 --apply";
    setup(ns, words).ok();
    let shown = state(ns);
    assert!(
        shown[1].contains("192.168.0.50") && shown[2].contains("fd03::50"),
        "{shown:?}"
    );
    both(&lab, "-m");
    setup(ns, "--undo").ok();
    assert_eq!(state(ns), was);
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let lab = Lab::new().unwrap();
    let ns = lab.namespace("server").unwrap();
    let was = state(&ns);
    // There is no eth0.
    let words = "--method dr --interface eth0 --vip 192.0.2.10 --apply";
    let refused = setup(&ns, words).refused(2);
    assert!(
        refused.contains("net/ipv4/conf/eth0/arp_ignore"),
        "{refused}"
    );
    let words = ["-n", "net.ipv4.conf.all.arp_ignore"];
    let output = run(ns.command(tool("sysctl")).args(words)).unwrap();
    assert_eq!(output.stdout, b"0\n");
    assert_eq!(state(&ns), was);
    assert!(left_behind(&ns).unwrap().is_empty());
}
