//! lvx's own verbs on a living data plane with connections: `conns`, `drain`,
//! `proc`, `maps`, and the files of `--proc-dir`.

use std::{
    fs,
    io::Read as _,
    net::SocketAddrV4,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Director, Start},
    http::{self, KeptOpen},
    lab::{Namespace, OneArm, tool},
};
use serde_json::Value;

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
const NAME: &str = "tcp:192.168.0.200:80";
/// In the director's own namespace.
const EXPORTER: &str = "127.0.0.1:9100";
const LIMIT: Duration = Duration::from_secs(5);

fn persistent(director: &Director<'_>) {
    director.configure(
        "-A -t 192.168.0.200:80 -s rr -p 100
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 3
         -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g -w 3
         --set 0 1 0",
    );
    director.wait_for_ways().expect("servers that are there");
}

fn count(director: &Director<'_>, words: &[&str]) -> u64 {
    let words = [&["conns", "--count"], words].concat();
    let count = director.lvx(&words).ok();
    count.trim().parse().expect("a number")
}

#[test]
fn connections_are_found_and_ended() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    persistent(&director);
    let mut first = KeptOpen::open(&lab.client.ns, SERVICE, LIMIT).unwrap();
    let mut second = KeptOpen::open(&lab.client.ns, SERVICE, LIMIT).unwrap();
    let server = first.get().unwrap();
    assert_eq!(second.get().unwrap(), server);
    let json = director.lvx(&["conns", "--json", "--no-templates"]).ok();
    let flows: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(flows.len(), 2, "{json}");
    let flow = &flows[0];
    assert_eq!(
        [
            &flow["state"],
            &flow["service"],
            &flow["method"],
            &flow["protocol"]
        ],
        ["ESTABLISHED", NAME, "dr", "tcp"]
    );
    assert_eq!(flow["vip"]["port"], 80);
    let client = flow["client"]["address"].as_str().unwrap().to_owned();
    let port = flow["client"]["port"].as_u64().unwrap();
    let end = format!("{client}:{port}");

    for (words, want) in [
        (&[][..], 3),
        (&["--templates"], 1),
        (&["--client", &client], 3),
        (&["--client", &end], 1),
        (&["--client", "10.0.0.0/8"], 0),
        (&["--vip", "192.168.0.200:80"], 3),
        (&["--server", "192.168.0.0/24"], 3),
        (&["--service", NAME], 3),
        (&["--service", "udp:192.168.0.200:80"], 0),
        (&["--protocol", "udp"], 0),
        (&["--state", "established"], 2),
    ] {
        assert_eq!(count(&director, words), want, "{words:?}");
    }
    let text = director.lvx(&["conns"]).ok();
    assert!(
        text.starts_with("PROTO") && text.contains("template ASSURED"),
        "{text}"
    );

    // Not everything by mistake.
    let line = director.lvx(&["conns", "--kill"]).refused(2);
    assert!(line.contains("or --all"), "{line}");
    let answer = director.lvx(&["conns", "--client", "x"]);
    assert_eq!(answer.code, 2, "{answer}");

    let killed = director.lvx(&["conns", "--kill", "--client", &end]).ok();
    assert_eq!(killed, "1 ended\n");
    assert_eq!(count(&director, &["--no-templates"]), 1);
    let (one, other) = (first.get().is_ok(), second.get().is_ok());
    assert!(one != other, "one connection goes on: {one} {other}");
    let shown = director.lvx(&["show", "--json"]).ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let active: Vec<_> = shown["services"][0]["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|server| server["active"].as_u64().unwrap())
        .collect();
    assert_eq!(active.iter().sum::<u64>(), 1, "counted: {active:?}");

    // With its template the client is scheduled anew, by rr to the other server.
    assert_eq!(
        director.lvx(&["conns", "--kill", "--service", NAME]).ok(),
        "2 ended\n"
    );
    let url = format!("http://{}/", OneArm::VIP);
    assert_ne!(http::curl(&lab.client.ns, &url).unwrap(), server);

    // The template goes, too, when its last connection has.
    let address = if server == "rs1" {
        "192.168.0.10"
    } else {
        "192.168.0.20"
    };
    let limit = Instant::now() + Duration::from_secs(10);
    while count(&director, &["--server", address]) > 0 {
        assert!(Instant::now() < limit, "{}", director.lvx(&["conns"]));
        sleep(Duration::from_millis(100));
    }

    director.kill();
    assert!(count(&director, &[]) > 0, "read without a daemon");
    let line = director.lvx(&["conns", "--kill", "--all"]).refused(2);
    assert!(line.contains("the daemon is not running"), "{line}");
}

#[test]
fn a_server_is_drained() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    persistent(&director);
    let url = format!("http://{}/", OneArm::VIP);
    let mut open = KeptOpen::open(&lab.client.ns, SERVICE, LIMIT).unwrap();
    let name = open.get().unwrap();
    let server = if name == "rs1" {
        "192.168.0.10"
    } else {
        "192.168.0.20"
    };
    assert_eq!(
        http::curl(&lab.client.ns, &url).unwrap(),
        name,
        "the client is persistent"
    );

    let answer = director.lvx(&["drain", NAME, server, "--timeout", "1"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (1, ""), "{answer}");
    let lines: Vec<&str> = answer.stdout.lines().collect();
    let whose = format!("{server}:80 of {NAME}: ");
    assert!(
        lines[0].starts_with(&whose) && lines[0].ends_with("1 persistent client sent elsewhere"),
        "{answer}"
    );
    assert!(lines.last().unwrap().starts_with(&whose), "{answer}");
    assert!(
        lines.last().unwrap().ends_with(" connections left"),
        "{answer}"
    );
    // New connections go to the other, the open one goes on.
    assert_ne!(http::curl(&lab.client.ns, &url).unwrap(), name);
    assert_eq!(open.get().unwrap(), name);
    let text = director.lvx(&["show", NAME]).ok();
    assert!(text.contains("quiesced, resolved"), "{text}");

    let undone = director.lvx(&["drain", NAME, server, "--undo"]).ok();
    assert_eq!(undone, format!("{whose}weight 3\n"));

    // It ends when the last connection has.
    let mut command = director.command(&["drain", NAME, &format!("{server}:80")]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_millis(700));
    assert!(child.try_wait().unwrap().is_none(), "there is a connection");
    drop(open);
    let limit = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < limit, "the connection has ended");
        sleep(Duration::from_millis(50));
    };
    let mut out = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    assert!(
        status.success() && out.ends_with(&format!("{whose}empty\n")),
        "{status} {out}"
    );

    for (words, part) in [
        (
            &["drain", "tcp:192.168.0.200:81", server][..],
            "no service tcp:192.168.0.200:81",
        ),
        (
            &["drain", NAME, "192.168.0.99"],
            "192.168.0.99 is no server of",
        ),
    ] {
        let line = director.lvx(words).refused(2);
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn maps_pages_and_completions() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    persistent(&director);
    http::sequence(&lab.client.ns, SERVICE, 1).unwrap();
    let json = director.lvx(&["maps", "--json"]).ok();
    let maps: Vec<Value> = serde_json::from_str(&json).unwrap();
    let map = |name: &str| {
        let mut maps = maps.iter();
        maps.find(|map| map["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {json}"))
    };
    assert_eq!(map("DESTS")["used"], 2);
    assert_eq!(map("SERVICE_STATES")["used"], 1);
    assert_eq!(map("FLOW4")["used"], 2, "a connection and a template");
    let cells = map("FLOW4")["capacity"].as_u64().unwrap();
    assert!(map("FLOW4")["bytes"].as_u64().unwrap() >= 64 * cells);
    for map in &maps {
        let holds = map["holds"].as_str().unwrap();
        assert!(!holds.is_empty(), "what {} holds is not said", map["name"]);
    }
    director.kill();
    let text = director.lvx(&["maps"]).ok();
    assert!(text.starts_with("MAP") && text.contains("\nall "), "{text}");

    for shell in ["bash", "zsh", "fish"] {
        assert!(
            director.lvx(&["completions", shell]).ok().contains("drain"),
            "{shell}"
        );
    }
    assert!(director.lvx(&["man"]).ok().contains(".TH lvx 8"));
    assert!(
        director
            .lvx(&["man", "lvx.toml"])
            .ok()
            .starts_with(".TH lvx.toml 5")
    );
}

#[test]
fn the_kernels_files_are_printed_and_kept() {
    let lab = OneArm::new().unwrap();
    let dir = lab.lab.dir().join("proc");
    let start = Start::default().proc_dir(&dir);
    let mut director = Director::start_with(&lab.director.ns, start).unwrap();
    let net = dir.join("net");
    let kept = |name: &str| fs::read_to_string(net.join(name)).unwrap();
    let proc = |director: &Director<'_>, name: &str| director.lvx(&["proc", name]).ok();
    persistent(&director);
    // At each change.
    assert!(kept("ip_vs").contains("TCP  C0A800C8:0050 rr  persistent 25000 FFFFFFFF\n"));
    assert!(
        kept("ip_vs").contains("  -> C0A8000A:0050      Route   3      0          0         \n"),
        "{}",
        kept("ip_vs")
    );
    let mut open = KeptOpen::open(&lab.client.ns, SERVICE, LIMIT).unwrap();
    let name = open.get().unwrap();
    let rip = if name == "rs1" {
        "C0A8000A"
    } else {
        "C0A80014"
    };
    let rows = proc(&director, "ip_vs_conn");
    assert!(
        rows.contains(&format!(" C0A800C8 0050 {rip} 0050 ESTABLISHED ")),
        "{rows}"
    );
    assert!(
        rows.contains(&format!(" 0000 C0A800C8 0050 {rip} 0050 ASSURED ")),
        "{rows}"
    );

    // And every other second: the counters get there.
    let stats = proc(&director, "ip_vs_stats");
    let conns = |stats: &str| {
        let line = stats.lines().nth(2).unwrap();
        u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap()
    };
    assert_eq!(conns(&stats), 1, "{stats}");
    let limit = Instant::now() + LIMIT;
    while conns(&kept("ip_vs_stats")) != 1 || !kept("ip_vs_conn").contains("ESTABLISHED") {
        assert!(Instant::now() < limit, "{}", kept("ip_vs_stats"));
        sleep(Duration::from_millis(50));
    }
    let by_cpu = proc(&director, "ip_vs_stats_percpu");
    let cpus = by_cpu.lines().count() - 6;
    assert!(cpus >= 1 && by_cpu.contains("\n  ~        1 "), "{by_cpu}");
    exporter_reads(&dir, &lab.director.ns);

    // A server that goes takes nothing from the totals, -Z does.
    let server = if name == "rs1" {
        "192.168.0.10:80"
    } else {
        "192.168.0.20:80"
    };
    director.configure(&format!("-d -t 192.168.0.200:80 -r {server}"));
    director.configure("-D -t 192.168.0.200:80");
    assert_eq!(conns(&proc(&director, "ip_vs_stats")), 1);
    director.kill();
    director.restart().unwrap();
    assert_eq!(
        conns(&proc(&director, "ip_vs_stats")),
        1,
        "a restart neither"
    );
    director.configure("-Z");
    assert_eq!(conns(&proc(&director, "ip_vs_stats")), 0);
    assert!(director.stop());
    assert!(!net.exists(), "without a daemon nothing is told");
    assert_eq!(
        conns(&proc(&director, "ip_vs_stats")),
        0,
        "read without a daemon"
    );
}

/// Debian's exporter serves what the kernel's files would give.
fn exporter_reads(dir: &Path, ns: &Namespace) {
    let mut exporter = ns
        .command(tool("prometheus-node-exporter"))
        .args(["--collector.disable-defaults", "--collector.ipvs"])
        .arg(format!("--path.procfs={}", dir.display()))
        .arg(format!("--web.listen-address={EXPORTER}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus-node-exporter runs: `cargo xtask setup` installs it");
    let text = metrics(ns);
    exporter.kill().expect("it runs");
    exporter.wait().expect("it has been killed");
    for line in [
        "node_ipvs_connections_total 1",
        "node_ipvs_backend_weight{local_address=\"192.168.0.200\",local_mark=\"\",local_port=\"80\",proto=\"TCP\",remote_address=\"192.168.0.10\",remote_port=\"80\"} 3",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let active: f64 = text
        .lines()
        .filter(|line| line.starts_with("node_ipvs_backend_connections_active{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!((active - 1.0).abs() < 0.1, "{text}");
}

/// Asks it, once it listens.
fn metrics(ns: &Namespace) -> String {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = http::curl(ns, &format!("http://{EXPORTER}/metrics"));
        match answer {
            Ok(text) if text.contains("node_ipvs") => return text,
            other => assert!(
                Instant::now() < limit,
                "the exporter does not serve: {other:?}"
            ),
        }
        sleep(Duration::from_millis(50));
    }
}
