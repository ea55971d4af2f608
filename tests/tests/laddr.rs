//! `lvx laddr`: pools of local addresses as commands, listings, saved text and
//! warnings; without packets.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{director::Director, lab::OneArm};

const SERVICE: &str = "192.168.0.200:80";

const FOREIGN: &str = "no address of this director, so replies to it do not come back: ";

fn warning(director: &Director<'_>) -> Option<String> {
    let warnings = director.status().expect("a status").warnings;
    warnings.into_iter().find(|line| line.starts_with(FOREIGN))
}

#[test]
fn pools_are_changed_listed_and_survive_everything() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    let list = |director: &Director<'_>| director.lvx(&["laddr", "list"]).ok();
    assert!(list(&director).starts_with("no pools: "));
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:8080 --fullnat -w 2",
    );
    director.lvx(&["laddr", "add", "192.168.0.50"]).ok();
    director
        .lvx(&[
            "laddr",
            "add",
            "-t",
            SERVICE,
            "192.168.0.50",
            "--ports",
            "1024-65535",
        ])
        .ok();
    let pools = "\
director                 192.168.0.50             ports outside net.ipv4.ip_local_port_range
-t 192.168.0.200:80      192.168.0.50             ports 1024-65535
";
    assert_eq!(list(&director), pools);
    let json = director.lvx(&["laddr", "list", "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["service"], serde_json::Value::Null);
    assert_eq!(json[1]["service"]["address"]["port"], 80);
    assert_eq!(json[1]["ranges"][0]["ports"][1], 65_535);

    for (words, part) in [
        (&["add", "192.168.0.50"][..], "is in this pool already"),
        (
            &["add", "192.168.0.0/24"],
            "192.168.0.50 is in this pool already",
        ),
        (
            &["add", "192.168.0.5/24"],
            "neither one address (192.168.0.5)",
        ),
        (&["add", "here"], "`here' is not an address"),
        (
            &["add", "-t", SERVICE, "fd00::1"],
            "not of the service's family",
        ),
        (
            &["add", "192.168.0.51", "--ports", "9-1"],
            "two ports with a dash",
        ),
        (&["del", "192.168.0.51"], "'lvx laddr list' shows what is"),
        (
            &["del", "-u", SERVICE, "192.168.0.50"],
            "is not in this pool",
        ),
        (&["add"], "ADDRESS"),
        (
            &["add", "-t", SERVICE, "-u", SERVICE, "10.0.0.1"],
            "cannot be used with",
        ),
    ] {
        let answer = director.lvx(&[&["laddr"], words].concat());
        assert_eq!(answer.code, 2, "{words:?}: {answer}");
        assert!(answer.stderr.contains(part), "{words:?}: {answer}");
    }
    assert_eq!(list(&director), pools, "what was refused changed nothing");

    // It is no part of what a plain ipvsadm reads, and outlives what that does.
    let saved = director.ipvsadm(&["-S", "-n"]).ok();
    assert_eq!(
        saved,
        "-A -t 192.168.0.200:80 -s rr\n-a -t 192.168.0.200:80 -r 192.168.0.10:8080 --fullnat -w 2\n"
    );
    director.configure("-C");
    assert_eq!(list(&director), pools);
    for line in saved.lines() {
        director.configure(line);
    }
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), saved);
    assert!(director.stop());
    assert_eq!(list(&director), pools, "without a daemon");
    let answer = director.lvx(&["laddr", "add", "192.168.0.51"]);
    assert!(answer.refused(2).contains("the daemon is not running"));
    director.restart().unwrap();
    assert_eq!(list(&director), pools);

    director.lvx(&["laddr", "del", "192.168.0.50"]).ok();
    director
        .lvx(&["laddr", "del", "-t", SERVICE, "192.168.0.50"])
        .ok();
    assert!(list(&director).starts_with("no pools: "));
}

#[test]
fn addresses_that_are_not_the_directors_are_named() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    let answer = director.lvx(&[
        "laddr",
        "add",
        "-t",
        SERVICE,
        "192.168.0.50",
        "192.168.0.60/31",
    ]);
    assert_eq!((answer.code, answer.stdout.as_str()), (0, ""), "{answer}");
    let lines: Vec<&str> = answer.stderr.lines().collect();
    let foreign = format!("{FOREIGN}192.168.0.60, 192.168.0.61 in the pool of -t {SERVICE} ");
    assert_eq!(lines.len(), 2, "{answer}");
    assert_eq!(
        lines[0],
        format!("lvx: warning: there is no service -t {SERVICE} yet; the pool waits for it")
    );
    assert!(
        lines[1].starts_with(&format!("lvx: warning: {foreign}")),
        "{answer}"
    );
    assert!(warning(&director).unwrap().starts_with(&foreign));
    assert!(director.log().contains(&foreign), "{}", director.log());

    // One as an address, one by a local route.
    lab.director
        .ns
        .ip("addr add 192.168.0.60/32 dev eth0")
        .unwrap();
    lab.director
        .ns
        .ip("route add local 192.168.0.61/32 dev lo")
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(5);
    while let Some(warning) = warning(&director) {
        assert!(Instant::now() < limit, "{warning}");
        sleep(Duration::from_millis(20));
    }
    lab.director
        .ns
        .ip("addr del 192.168.0.60/32 dev eth0")
        .unwrap();
    while warning(&director).is_none() {
        assert!(Instant::now() < limit + Duration::from_secs(5));
        sleep(Duration::from_millis(20));
    }
}
