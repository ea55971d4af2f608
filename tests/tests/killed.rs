//! The daemon is killed in the middle of a command: the client says so, the table
//! is the old one or the new one, and packets are balanced on.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::SocketAddrV4,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Answer, Director, Start},
    http::{self, Load},
    lab::OneArm,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
/// As in `restart.rs`: a request that loses its first packet fails.
const NO_RETRY: Duration = Duration::from_millis(900);

/// A table: the service under traffic, one that only this
/// table has, and `services` others, whose servers' weights tell the tables apart.
fn table(services: u32, weight: u32, own_port: u16) -> String {
    let mut text = String::new();
    for service in 0..services {
        let vip = format!("10.1.{}.{}:80", service / 200, 1 + service % 200);
        let _ = writeln!(text, "-A -t {vip} -s wlc");
        for server in [10, 20] {
            let port = 1_000 + service;
            let _ = writeln!(
                text,
                "-a -t {vip} -r 192.168.0.{server}:{port} -m -w {weight}"
            );
        }
    }
    for port in [80, own_port] {
        let _ = writeln!(text, "-A -t 192.168.0.200:{port} -s rr");
        for server in [10, 20] {
            let _ = writeln!(
                text,
                "-a -t 192.168.0.200:{port} -r 192.168.0.{server}:{port} -g -w 1"
            );
        }
    }
    text
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Two tables, and what only each of them balances.
struct Two {
    texts: [String; 2],
    ports: [u16; 2],
}

impl Two {
    fn new() -> Self {
        Self {
            texts: [table(600, 1, 443), table(1_200, 3, 8080)],
            ports: [443, 8080],
        }
    }

    /// Which of the two the director has, by its listing.
    #[track_caller]
    fn listed(&self, director: &Director<'_>) -> usize {
        let text = director.ipvsadm(&["-Sn"]).ok();
        let found = self.texts.iter().position(|table| *table == text);
        found.unwrap_or_else(|| panic!("{} lines of neither table", text.lines().count()))
    }

    /// Which of the two packets meet.
    #[track_caller]
    fn met(&self, lab: &OneArm) -> usize {
        let answers = self.ports.map(|port| {
            let to = SocketAddrV4::new(OneArm::VIP, port);
            lab.client.ns.enter(|| http::get(to, NO_RETRY)).is_ok()
        });
        match answers {
            [true, false] => 0,
            [false, true] => 1,
            _ => panic!("packets meet parts of both tables: {answers:?}"),
        }
    }
}

/// What a client said whose daemon was killed after `delay`.
fn kill_during(director: &mut Director<'_>, mut command: Command, delay: Duration) -> Answer {
    let client = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lvx can be run");
    sleep(delay);
    director.kill();
    let answer = Answer::from(client.wait_with_output().expect("its output"));
    if answer.code != 0 {
        let line = answer.clone().refused(2);
        assert!(
            line.starts_with("lvx: the daemon ") && line.contains("lvx run"),
            "the line says what happened and what to do: {line}"
        );
    }
    answer
}

/// Moments of a command that takes `whole`, from before the daemon hears of it
/// to after its end.
fn moments(whole: Duration, count: u32) -> impl Iterator<Item = Duration> {
    (0..count).map(move |number| whole * 11 * (2 * number + 1) / (20 * count))
}

/// Replaces one table by the other, and the daemon is killed meanwhile.
fn replaced_by(command: impl Fn(&Director<'_>, &Path) -> Command, head: &str) {
    const KILLS: u32 = 12;
    let lab = OneArm::new().expect("a lab");
    let start = Start::default().room(4_096, 16_384);
    let mut director = Director::start_with(&lab.director.ns, start).expect("a director");
    let mut two = Two::new();
    let files: Vec<PathBuf> = (0..2)
        .map(|side| {
            let path = lab.lab.dir().join(format!("table{side}"));
            fs::write(&path, format!("{head}{}", two.texts[side]))
                .expect("the lab has a directory");
            path
        })
        .collect();
    let mut whole = Duration::ZERO;
    for side in [0, 1, 0] {
        let start = Instant::now();
        let output = command(&director, &files[side])
            .output()
            .expect("lvx can be run");
        whole = start.elapsed();
        Answer::from(output).ok();
        // The same lines in the order of the listing.
        let listed = director.ipvsadm(&["-Sn"]).ok();
        assert_eq!(sorted(&listed), sorted(&two.texts[side]));
        two.texts[side] = listed;
    }
    let load = Load::start(&lab.client.ns, SERVICE, 50, NO_RETRY);
    let mut table = 0;
    let mut came_to = [[0; 2]; 2];
    for delay in moments(whole, KILLS) {
        let wanted = 1 - table;
        let command = command(&director, &files[wanted]);
        let answer = kill_during(&mut director, command, delay);
        table = two.met(&lab);
        assert_eq!(two.listed(&director), table, "read without a daemon");
        director.restart().expect("the daemon comes back");
        assert_eq!(two.met(&lab), table, "after the restart");
        assert_eq!(two.listed(&director), table, "after the restart");
        let (failed, new) = (answer.code != 0, table == wanted);
        assert!(failed || new, "success, and the old table: {answer}");
        came_to[usize::from(failed)][usize::from(new)] += 1;
    }
    println!(
        "of {KILLS} kills in {whole:.2?}: {} failed with the old table, {} with the new one, {} succeeded",
        came_to[1][0], came_to[1][1], came_to[0][1]
    );
    assert!(came_to[1][0] > 2, "too few kills hit: {came_to:?}");
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new(), "{tally:?}");
    assert!(tally.requests() > 100, "{tally:?}");
}

#[test]
fn killed_during_a_restore() {
    let command = |director: &Director<'_>, file: &Path| {
        let mut command = director.command(&["ipvsadm", "-R"]);
        command.stdin(Stdio::from(File::open(file).unwrap()));
        command
    };
    replaced_by(command, "-C\n");
}

#[test]
fn killed_during_apply() {
    let command = |director: &Director<'_>, file: &Path| {
        let mut command = director.command(&["apply", "-f"]);
        command.arg(file).stdin(Stdio::null());
        command
    };
    replaced_by(command, "");
}

#[test]
fn killed_during_one_command() {
    let lab = OneArm::new().unwrap();
    let start = Start::default().room(4_096, 16_384);
    let mut director = Director::start_with(&lab.director.ns, start).unwrap();
    let path = lab.lab.dir().join("table");
    fs::write(&path, &Two::new().texts[0]).unwrap();
    director.lvx(&["apply", "-f", path.to_str().unwrap()]).ok();
    let add = |number: u32| format!("-A -t 10.0.0.{}:80 -s rr", 1 + number);
    let mut whole = Duration::ZERO;
    for number in [100, 101] {
        let line = add(number);
        let start = Instant::now();
        director.configure(&line);
        whole = start.elapsed();
    }
    let load = Load::start(&lab.client.ns, SERVICE, 50, NO_RETRY);
    let mut table = director.ipvsadm(&["-Sn"]).ok();
    let mut failed = 0;
    for (number, delay) in (0..).zip(moments(whole, 12)) {
        let line = add(number);
        let words: Vec<_> = line.split(' ').collect();
        let mut command = director.command(&["ipvsadm"]);
        command.args(words).stdin(Stdio::null());
        let answer = kill_during(&mut director, command, delay);
        failed += u32::from(answer.code != 0);
        let frozen = director.ipvsadm(&["-Sn"]).ok();
        director.restart().unwrap();
        let now = director.ipvsadm(&["-Sn"]).ok();
        assert_eq!(frozen, now);
        if now != table {
            let others = now.lines().filter(|other| *other != line);
            assert!(others.eq(table.lines()), "more than {line}");
            assert_ne!(now.lines().count(), table.lines().count(), "{line}");
        } else {
            assert_ne!(answer.code, 0, "success, and nothing was added");
        }
        table = now;
    }
    println!("of 12 kills in {whole:.2?}: {failed} failed");
    assert!(failed > 2, "too few kills hit: {failed}");
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new(), "{tally:?}");
}
