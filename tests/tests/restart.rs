//! The daemon dies and comes back; the data plane does not notice.

use std::{net::SocketAddrV4, path::PathBuf, thread::sleep, time::Duration};

use lvx_tests::{
    director::{Director, Start, left_behind},
    http::{self, KeptOpen, Load},
    lab::OneArm,
    listing::{connections, numbers},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
const SECOND: Duration = Duration::from_secs(1);

/// Less than the second after which TCP sends a lost SYN again: a request that
/// lost its first packet fails instead of being late.
const NO_RETRY: Duration = Duration::from_millis(900);

const CONFIGURATION: &str = "-A -t 192.168.0.200:80 -s wrr
     -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 3
     -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g -w 2
     -A -u 192.168.0.200:53 -s rr
     -a -u 192.168.0.200:53 -r 192.168.0.20:53 -g -w 7
     -A -t 192.168.0.200:8080 -s rr";

/// `-Lnc` without the times, which pass.
fn without_times(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().take(2).map(str::to_owned).collect();
    for connection in connections(text).expect("a list of connections") {
        lines.push(format!(
            "{:?}",
            (
                connection.protocol,
                connection.state,
                connection.source,
                connection.dest
            )
        ));
    }
    lines
}

fn kill_and_restart_under_traffic(start: Start) {
    let lab = OneArm::new().expect("a lab");
    let mut director = Director::start_with(&lab.director.ns, start).expect("a director");
    director.configure(CONFIGURATION);
    let saved = director.ipvsadm(&["-S", "-n"]).ok();
    let mut open = KeptOpen::open(&lab.client.ns, SERVICE, 5 * SECOND).expect("a connection");
    let server = open.get().expect("an answer");

    let load = Load::start(&lab.client.ns, SERVICE, 200, NO_RETRY);
    sleep(SECOND);
    for _ in 0..2 {
        let first = director.pid();
        director.kill();
        sleep(SECOND);
        let status = director.status().expect("status without a daemon");
        assert_eq!(status.daemon, None);
        assert!(status.frozen_for.is_some(), "{status:?}");
        director.restart().expect("the daemon comes back");
        assert_ne!(director.pid(), first);
        sleep(SECOND / 2);
    }
    let tally = load.stop();
    assert_eq!(
        tally.failures,
        Vec::<String>::new(),
        "of {} requests",
        tally.requests()
    );
    assert!(tally.requests() > 600, "{tally:?}");

    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), saved);
    assert_eq!(open.get().expect("the open connection lives"), server);
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    assert_eq!(
        numbers(&stats, "192.168.0.200:80").expect("a line")[0],
        tally.requests() + 1,
        "{stats}"
    );
    let listed = connections(&director.ipvsadm(&["-Lnc"]).ok()).expect("a list");
    assert_eq!(listed.len() as u64, tally.requests() + 1);
    assert_eq!(
        listed
            .iter()
            .filter(|connection| connection.state == "ESTABLISHED")
            .count(),
        1
    );

    // It is a working daemon: it takes changes, and the packets follow them.
    director.configure(
        "-d -t 192.168.0.200:80 -r 192.168.0.10:80
         -A -t 192.168.0.200:8081 -s rr",
    );
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 5).expect("answers"),
        ["rs2"; 5]
    );
}

#[test]
fn nothing_is_lost_by_a_killed_daemon() {
    kill_and_restart_under_traffic(Start::default());
}

#[test]
fn nothing_is_lost_by_a_killed_daemon_that_ip_netns_exec_started() {
    kill_and_restart_under_traffic(Start::default().by_ip_netns_exec());
}

#[test]
fn without_a_daemon_lists_are_the_same_and_changes_fail() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    director.configure(CONFIGURATION);
    let mut open = KeptOpen::open(&lab.client.ns, SERVICE, 5 * SECOND).unwrap();
    open.get().unwrap();
    http::sequence(&lab.client.ns, SERVICE, 20).unwrap();
    let lists = [
        &["-Ln"][..],
        &["-Ln", "--stats"],
        &["-Ln", "--stats", "--exact"],
        &["-S", "-n"],
    ];
    let alive: Vec<_> = lists
        .iter()
        .map(|words| director.ipvsadm(words).ok())
        .collect();
    let connections_alive = director.ipvsadm(&["-Lnc"]).ok();

    director.kill();
    for (words, alive) in lists.iter().zip(&alive) {
        assert_eq!(&director.ipvsadm(words).ok(), alive, "ipvsadm {words:?}");
    }
    assert_eq!(
        without_times(&director.ipvsadm(&["-Lnc"]).ok()),
        without_times(&connections_alive)
    );

    for change in [
        "-A -t 192.168.0.200:443 -s rr",
        "-E -t 192.168.0.200:80 -s rr",
        "-D -t 192.168.0.200:80",
        "-a -t 192.168.0.200:80 -r 192.168.0.30:80 -g",
        "-e -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 9",
        "-d -t 192.168.0.200:80 -r 192.168.0.10:80",
        "-Z",
        "-C",
    ] {
        let words: Vec<_> = change.split(' ').collect();
        let line = director.ipvsadm(&words).refused(2);
        assert!(
            line.contains("lvx run"),
            "the line says how to start the daemon: {line}"
        );
    }
    // It balances on, and what it counts is seen without a daemon.
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 10).unwrap().len(),
        10
    );
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    assert_eq!(
        numbers(&stats, "192.168.0.200:80").unwrap()[0],
        31,
        "{stats}"
    );

    director.restart().unwrap();
    let saved = director.ipvsadm(&["-S", "-n"]).ok();
    assert_eq!(saved, alive[3], "nothing of the refused changes");
}

#[test]
fn sigterm_leaves_the_data_plane_and_down_removes_it() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    director.configure(CONFIGURATION);
    assert!(director.stop(), "SIGTERM ends the daemon with status 0");
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 10).unwrap().len(),
        10
    );

    let mut open = KeptOpen::open(&lab.client.ns, SERVICE, 5 * SECOND).unwrap();
    open.get().unwrap();
    let line = director.lvx(&["down"]).refused(2);
    assert!(line.contains("--force") && line.contains('1'), "{line}");
    open.get().expect("nothing was removed");

    director.lvx(&["down", "--force"]).ok();
    let link = lab
        .director
        .ns
        .ip_show(&["link", "show", "dev", "eth0"])
        .unwrap();
    assert!(!link.contains("xdp"), "{link}");
    assert_eq!(
        left_behind(&lab.director.ns).unwrap(),
        Vec::<PathBuf>::new()
    );
    assert_ne!(director.ipvsadm(&["-Ln"]).code, 0);

    // And from nothing it starts again, empty.
    director.restart().unwrap();
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), "");
}
