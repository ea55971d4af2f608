//! An interface that goes and comes back while lvx runs.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Director, Start},
    lab::OneArm,
    xdp::{Foreign, Verdict},
};

const SOON: Duration = Duration::from_secs(5);

#[track_caller]
fn soon(what: &str, mut good: impl FnMut() -> bool) {
    let limit = Instant::now() + SOON;
    while !good() {
        assert!(Instant::now() < limit, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_failed_attempt_is_logged_once_and_repeated_until_it_works() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    let ip = |command: &str| ns.ip(command).unwrap();
    ip("link add extra type veth peer name far");
    let start = Start::default().interfaces(&["eth0", "extra"]);
    let director = Director::start_with(ns, start).unwrap();
    let attached = || {
        let interfaces = director.status().unwrap().interfaces;
        interfaces.iter().any(|(name, _)| name == "extra")
    };
    assert!(attached());
    ip("link del extra");
    soon("the interface is gone", || !attached());

    // It comes back with somebody else's program on it.
    ip("link add other type veth peer name far");
    let foreign = Foreign::attach(ns, "other", Verdict::Pass).unwrap();
    ip("link set other name extra");
    let refused = || director.log().matches("extra already carries").count();
    soon("the refusal is logged", || refused() > 0);
    for n in 1..=5 {
        ip(&format!("addr add 10.99.0.{n}/32 dev lo"));
        sleep(Duration::from_millis(100));
    }
    assert_eq!(refused(), 1, "{}", director.log());
    assert!(!attached());

    drop(foreign);
    ip("addr add 10.99.0.9/32 dev lo");
    soon("it is attached again", attached);
    assert_eq!(refused(), 1, "{}", director.log());
}
