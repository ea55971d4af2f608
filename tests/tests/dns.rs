//! A real name server behind the director: datagrams, answers in fragments, and
//! the same question by TCP, by each method that the lab's servers take.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Director, Start},
    lab::{Answers, Background, Namespace, Routed, Server, run, tool},
    listing::numbers,
};

/// Strings of a long answer, of 250 bytes each: two fragments.
const STRINGS: usize = 10;

/// Debian's dnsmasq, without the machine's configuration. `who.test` is the
/// server's name, `long.test` that and more than a packet holds.
fn name_server(server: &Server) -> Background {
    let name = &server.name;
    let rest = vec!["x".repeat(250); STRINGS].join(",");
    let mut command = server.node.ns.command(tool("dnsmasq"));
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        "--no-resolv",
        "--no-hosts",
        "--edns-packet-max=4096",
        &format!("--txt-record=who.test,{name}"),
        &format!("--txt-record=long.test,{name},{rest}"),
    ]);
    let title = format!("dnsmasq-{name}");
    let mut process = server
        .node
        .ns
        .spawn(&title, command)
        .expect("the lab works");
    let limit = Instant::now() + Duration::from_secs(5);
    while ask(&server.node.ns, "127.0.0.1", "who.test", &[]).is_none() {
        let ended = process.ended();
        assert!(
            ended.is_none() && Instant::now() < limit,
            "{ended:?}\n{}",
            process.log()
        );
        thread::sleep(Duration::from_millis(10));
    }
    process
}

/// Which server answers, and how long the answer is.
fn ask(from: &Namespace, at: &str, question: &str, options: &[&str]) -> Option<(String, usize)> {
    let mut command = from.command(tool("drill"));
    command.args(options).args(["-b", "4096"]);
    command.args([&format!("@{at}"), question, "TXT"]);
    let output = run(&mut command).ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().find(|line| line.starts_with(question))?;
    let name = answer.split('"').nth(1)?;
    Some((name.to_owned(), answer.len()))
}

/// [`ask`] from a port that no question was asked from before: a connection of an
/// earlier one would name the server, and the scheduler not be asked.
fn ask_from_new_port(
    from: &Namespace,
    at: &str,
    question: &str,
    options: &[&str],
) -> Option<(String, usize)> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    from.sysctl("net/ipv4/ip_local_port_range", &format!("{port} {port}"))
        .expect("the lab works");
    ask(from, at, question, options)
}

/// Questions through a service of both protocols at `vip`, and what is counted.
fn questions(lab: &Routed, director: &Director<'_>, vip: IpAddr, servers: [&str; 2], method: &str) {
    let service = match vip {
        IpAddr::V4(vip) => format!("{vip}:53"),
        IpAddr::V6(vip) => format!("[{vip}]:53"),
    };
    for protocol in ["-u", "-t"] {
        director.configure(&format!("-A {protocol} {service} -s rr"));
        for server in servers {
            director.configure(&format!("-a {protocol} {service} -r {server}:53 {method}"));
        }
    }
    director.wait_for_ways().expect("the lab works");
    let from = &lab.client.ns;
    let at = vip.to_string();
    for (question, options, least) in [
        ("who.test", &[][..], 0),
        ("long.test", &[], 250 * STRINGS),
        ("long.test", &["-t"], 250 * STRINGS),
    ] {
        let what = format!("{question} {options:?} of {service} by {method}");
        let answers: Vec<_> = (0..4)
            .map(|_| {
                ask_from_new_port(from, &at, question, options).unwrap_or_else(|| panic!("{what}"))
            })
            .collect();
        let names: Vec<_> = answers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["rs2", "rs1", "rs2", "rs1"], "{what}");
        assert!(answers.iter().all(|(_, length)| *length > least), "{what}");
    }
    for protocol in ["-u", "-t"] {
        let words = ["-Ln", "--stats", "--exact", protocol, &service];
        let stats = director.ipvsadm(&words).ok();
        let wanted = if protocol == "-u" { 8 } else { 4 };
        assert_eq!(
            numbers(&stats, &service).expect("the lab works")[0],
            wanted,
            "{stats}"
        );
        director.configure(&format!("-D {protocol} {service}"));
    }
}

fn try_methods(answers: Answers, methods: &[&str]) {
    let lab = Routed::new(answers).expect("the lab works");
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let director = Director::start_with(&lab.director.ns, start).expect("the lab works");
    let _name_servers: Vec<_> = lab.servers.iter().map(name_server).collect();
    for method in methods {
        let four = ["192.168.0.10", "192.168.0.20"];
        questions(&lab, &director, Routed::VIP.into(), four, method);
        let six = ["[fd03::10]", "[fd03::20]"];
        questions(&lab, &director, Routed::VIP6.into(), six, method);
    }
}

#[test]
fn a_name_server_by_nat_and_fullnat() {
    try_methods(Answers::ByDirector, &["-m", "--fullnat"]);
}

#[test]
fn a_name_server_by_direct_routing() {
    try_methods(Answers::ByGate, &["-g"]);
}
