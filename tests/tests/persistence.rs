//! Recipe R6 with real curls: a client of a persistent service stays with its
//! server, by port, by mark or by all ports, and by hash without records; and
//! settings outlive the daemon.

use std::{
    thread,
    time::{Duration, Instant},
};

use lvx_tests::{director::Director, http, lab::OneArm, listing::connections};

/// Waits for the end of all connections and templates, bounded.
#[track_caller]
fn wait_until_all_is_over(director: &Director<'_>) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !connections(&director.ipvsadm(&["-Lnc"]).ok())
        .expect("a listing")
        .is_empty()
    {
        assert!(Instant::now() < limit, "connections and template stay");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn ten_requests_go_to_one_server_and_to_another_after_the_time_out() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    // What the client closed is over after two seconds, so that it does not hold
    // the template.
    director.configure(
        "-A -t 192.168.0.200:80 -s rr -p 4
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
         -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g
         --set 0 1 0",
    );
    let url = format!("http://{}/", OneArm::VIP);
    for _ in 0..10 {
        assert_eq!(http::curl(&lab.client.ns, &url).unwrap(), "rs2");
    }
    let list = director.ipvsadm(&["-Ln"]).ok();
    assert!(
        list.contains("TCP  192.168.0.200:80 rr persistent 4\n"),
        "{list}"
    );
    let rows = connections(&director.ipvsadm(&["-Lnc"]).ok()).unwrap();
    let template = rows.iter().find(|row| row.source.ends_with(":0"));
    let template = template.expect("a template is listed");
    assert_eq!(template.state, "ASSURED");
    assert_eq!(template.service, "192.168.0.200:80");
    assert_eq!(template.dest, "192.168.0.20:80");
    wait_until_all_is_over(&director);
    for _ in 0..3 {
        assert_eq!(http::curl(&lab.client.ns, &url).unwrap(), "rs1");
    }
}

#[test]
fn all_ports_of_a_client_go_to_one_server() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:0 -s rr -p
         -a -t 192.168.0.200:0 -r 192.168.0.10:0 -g
         -a -t 192.168.0.200:0 -r 192.168.0.20:0 -g",
    );
    for _ in 0..3 {
        let get = |port| http::curl(&lab.client.ns, &format!("http://{}:{port}/", OneArm::VIP));
        assert_eq!(get(80).unwrap(), "rs2");
        assert_eq!(get(8080).unwrap(), "rs2");
    }
    let list = director.ipvsadm(&["-Ln", "--persistent-conn"]).ok();
    assert!(
        list.contains("TCP  192.168.0.200:0 rr persistent 360\n"),
        "{list}"
    );
    assert!(
        list.contains(
            "  -> 192.168.0.20:0               1         1           0          6         \n"
        ),
        "{list}"
    );
}

#[test]
fn http_and_https_of_a_client_go_to_one_server() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -f 10 -s wrr -p 4
         -a -f 10 -r 192.168.0.10 -g
         -a -f 10 -r 192.168.0.20 -g
         --set 0 1 0",
    );
    let rule = "mark -A -d 192.168.0.200 -p tcp -m multiport --ports 80,443 -j MARK --set-mark 10";
    let words: Vec<_> = rule.split(' ').collect();
    director.lvx(&words).ok();
    let get = |port| http::curl(&lab.client.ns, &format!("http://{}:{port}/", OneArm::VIP));
    for _ in 0..5 {
        assert_eq!(get(80).unwrap(), "rs2");
        assert_eq!(get(443).unwrap(), "rs2");
    }
    let list = director.ipvsadm(&["-Ln", "--persistent-conn"]).ok();
    assert!(list.contains("FWM  10 wrr persistent 4\n"), "{list}");
    // One template for both ports. Of the connections some may be over.
    assert!(
        list.contains("  -> 192.168.0.20:0               1         1 "),
        "{list}"
    );
    assert!(
        list.contains(
            "  -> 192.168.0.10:0               1         0           0          0         \n"
        ),
        "{list}"
    );
    wait_until_all_is_over(&director);
    // Another server, whichever port comes first.
    assert_eq!(get(443).unwrap(), "rs1");
    assert_eq!(get(80).unwrap(), "rs1");
}

#[test]
fn by_hash_a_client_stays_with_its_server_without_a_record() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s sh
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
         -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g",
    );
    let url = format!("http://{}/", OneArm::VIP);
    let get = || http::curl(&lab.client.ns, &url).unwrap();
    let server = get();
    for _ in 0..9 {
        assert_eq!(get(), server);
    }
    let rows = connections(&director.ipvsadm(&["-Lnc"]).ok()).unwrap();
    assert_eq!(rows.len(), 10, "connections and nothing else");
    assert!(rows.iter().all(|row| !row.source.ends_with(":0")));
    // Without its server, to the other one; then back.
    let (own, other) = if server == "rs2" {
        ("192.168.0.20", "rs1")
    } else {
        ("192.168.0.10", "rs2")
    };
    director.configure(&format!("-d -t 192.168.0.200:80 -r {own}:80"));
    assert_eq!(get(), other);
    director.configure(&format!("-a -t 192.168.0.200:80 -r {own}:80 -g"));
    assert_eq!(get(), server);
}

#[test]
fn settings_outlive_the_daemon() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    director.configure("--set 600 0 30");
    let set = director.lvx(&["sysctl", "-w", "net.ipv4.vs.conn_reuse_mode=2"]);
    assert_eq!(set.ok(), "net.ipv4.vs.conn_reuse_mode = 2\n");
    director.kill();
    let read = |director: &Director<'_>| {
        let mode = director.lvx(&["sysctl", "-n", "net.ipv4.vs.conn_reuse_mode"]);
        mode.ok() + &director.ipvsadm(&["-L", "--timeout"]).ok()
    };
    let want = "2\nTimeout (tcp tcpfin udp): 600 120 30\n";
    assert_eq!(read(&director), want, "without a daemon");
    director.restart().unwrap();
    assert_eq!(read(&director), want);
    let refused = director.lvx(&["sysctl", "net.ipv4.vs.conntrack=1"]);
    assert_eq!(refused.code, 2, "{refused}");
    let refused = director.lvx(&["sysctl", "net.ipv4.vs.secure_tcp=4"]);
    assert_eq!(refused.code, 2, "{refused}");
}

#[test]
fn a_call_keeps_its_server() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    director.configure("-A -u 192.168.0.200:5060 -s rr -p 60 --pe sip -o");
    let list = director.ipvsadm(&["-Ln"]).ok();
    assert!(list.contains("rr persistent 60 pe sip ops"), "{list}");
    let saved = director.ipvsadm(&["-S", "-n"]).ok();
    assert_eq!(saved, "-A -u 192.168.0.200:5060 -s rr -p 60 --pe sip -o\n");
    director.kill();
    director.restart().unwrap();
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), saved);
    let refused = director.ipvsadm(&["-A", "-u", "192.168.0.200:5061", "--pe", "nosuch"]);
    assert_eq!(
        refused.refused(255),
        "Scheduler or persistence engine not found"
    );
}

#[test]
fn the_defence_can_be_set() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    for name in ["drop_entry", "drop_packet", "secure_tcp"] {
        let set = director.lvx(&["sysctl", "-w", &format!("net.ipv4.vs.{name}=3")]);
        assert_eq!(set.ok(), format!("net.ipv4.vs.{name} = 3\n"));
        let refused = director.lvx(&["sysctl", "-w", &format!("net.ipv4.vs.{name}=4")]);
        assert!(refused.refused(2).contains("from 0 to 3"));
    }
}
