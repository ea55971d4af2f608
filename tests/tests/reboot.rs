//! `lvx run --state`: the configuration outlives the data plane. A reboot is
//! `lvx down` here: no pins are left, nor anything else below `/run`.

use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Answer, Director, Start, left_behind, lvx},
    http,
    lab::OneArm,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
const CONFIGURATION: &str = "-A -t 192.168.0.200:80 -s rr -p 300
     -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 3
     -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g -w 2
     -A -u 192.168.0.200:53 -s mh -b mh-port -o
     -a -u 192.168.0.200:53 -r 192.168.0.20:53 -i --tun-type gue --tun-port 6080 -w 7 -x 9 -y 4
     -A -f 7 -s wlc
     -a -f 7 -r 192.168.0.10:0 -m
     --set 600 0 31";

const OWNED: &str = "name = \"web\"\n[[service]]\ntcp = \"192.168.0.200:8080\"\nscheduler = \"sh\"\n\
                     server = [{ address = \"192.168.0.10\" }]\n";

fn start(lab: &OneArm) -> Start {
    Start::default().state(&state(lab))
}

fn state(lab: &OneArm) -> PathBuf {
    lab.lab.dir().join("state")
}

/// Everything that can be configured.
fn configure(lab: &OneArm, director: &Director<'_>) {
    director.configure(CONFIGURATION);
    let file = lab.lab.dir().join("web.toml");
    fs::write(&file, OWNED).expect("the lab has a directory");
    for words in [
        &["apply", "-f", file.to_str().expect("a name")][..],
        &["sysctl", "sloppy_tcp=1"],
        &["filter", "set", "create", "bad"],
        &["filter", "set", "add", "bad", "10.9.0.0/16"],
        &[
            "filter",
            "-A",
            "-m",
            "set",
            "--match-set",
            "bad",
            "src",
            "-j",
            "DROP",
        ],
        &[
            "mark",
            "-A",
            "-d",
            "192.168.0.200",
            "-p",
            "tcp",
            "--dport",
            "443",
            "-j",
            "MARK",
            "--set-mark",
            "7",
        ],
        &["laddr", "add", "192.168.0.50", "--ports", "20000-29999"],
    ] {
        director.lvx(words).ok();
    }
    let words = [
        "drain",
        "tcp:192.168.0.200:80",
        "192.168.0.20:80",
        "--timeout",
        "0",
    ];
    assert!(director.lvx(&words).code <= 1);
}

/// Everything that is shown of the configuration.
fn shown(director: &Director<'_>) -> Vec<String> {
    [
        &["ipvsadm", "-Sn"][..],
        &["save"],
        &["save", "--name", "web"],
        &["sysctl"],
        &["filter", "-L"],
        &["mark", "-L"],
        &["laddr", "list"],
        &["ipvsadm", "-L", "--timeout"],
    ]
    .iter()
    .map(|words| director.lvx(words).ok())
    .collect()
}

/// Removes the data plane, as a reboot does.
#[track_caller]
fn reboot(lab: &OneArm, director: &mut Director<'_>) {
    director.kill();
    director.lvx(&["down", "--force"]).ok();
    assert_eq!(
        left_behind(&lab.director.ns).expect("the kernel tells"),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn everything_comes_back_after_a_reboot() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start_with(&lab.director.ns, start(&lab)).unwrap();
    configure(&lab, &director);
    let before = shown(&director);
    assert!(
        before[0].contains("192.168.0.20:80 -g -w 0"),
        "{}",
        before[0]
    );
    for _ in 0..2 {
        reboot(&lab, &mut director);
        let started = Instant::now();
        director.restart().unwrap();
        println!("restored and ready after {:.2?}", started.elapsed());
        assert_eq!(shown(&director), before);
        assert!(
            director
                .log()
                .contains("restored 4 services with 5 servers"),
            "{}",
            director.log()
        );
    }
    // Packets meet it, it knows whose services are whose, and what was drained.
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 5).unwrap(),
        ["rs1"; 5]
    );
    let show = director.lvx(&["show"]).ok();
    assert!(show.contains("web"), "{show}");
    director
        .lvx(&["drain", "tcp:192.168.0.200:80", "192.168.0.20:80", "--undo"])
        .ok();
    assert!(
        director
            .ipvsadm(&["-Sn"])
            .ok()
            .contains("192.168.0.20:80 -g -w 2")
    );

    // And what was taken away stays away.
    director.ipvsadm(&["-C"]).ok();
    reboot(&lab, &mut director);
    director.restart().unwrap();
    assert_eq!(director.ipvsadm(&["-Sn"]).ok(), "");
}

#[test]
fn without_the_option_nothing_is_restored_and_with_pins_they_are_the_truth() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start_with(&lab.director.ns, start(&lab)).unwrap();
    director.configure(CONFIGURATION);
    let saved = fs::read(state(&lab)).unwrap();
    let table = director.ipvsadm(&["-Sn"]).ok();
    reboot(&lab, &mut director);
    // As boot scripts find the kernel's table.
    let other = Director::start(&lab.director.ns).unwrap();
    assert_eq!(other.ipvsadm(&["-Sn"]).ok(), "");
    other.configure("-A -t 192.168.0.200:80 -s lc");
    assert_eq!(fs::read(state(&lab)).unwrap(), saved, "it was not named");
    drop(other);

    director.restart().unwrap();
    assert_eq!(director.ipvsadm(&["-Sn"]).ok(), table);
    director.kill();
    let whole = fs::read(state(&lab)).unwrap();
    fs::write(state(&lab), &saved[..40]).unwrap();
    director.restart().unwrap();
    assert_eq!(
        director.ipvsadm(&["-Sn"]).ok(),
        table,
        "the pins are the truth"
    );
    // What is damaged is set aside, and the file is the configuration again.
    director.configure("-A -t 192.168.0.200:8081 -s rr");
    assert_eq!(
        fs::read(state(&lab).with_extension("damaged")).unwrap(),
        saved[..40]
    );
    assert!(fs::read(state(&lab)).unwrap().len() > whole.len());
}

#[test]
fn a_damaged_file_gives_way_to_the_one_before_or_the_start_is_refused() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    let mut director = Director::start_with(ns, start(&lab)).unwrap();
    director.configure(CONFIGURATION);
    let before = director.ipvsadm(&["-Sn"]).ok();
    director.configure("-A -t 192.168.0.200:8081 -s rr");
    reboot(&lab, &mut director);
    let whole = fs::read(state(&lab)).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    // lb-userspace tries every place to cut it off.
    for bytes in [&whole[..whole.len() - 7], &flipped] {
        fs::write(state(&lab), bytes).unwrap();
        director.restart().unwrap();
        assert_eq!(director.ipvsadm(&["-Sn"]).ok(), before);
        let log = director.log();
        assert!(
            log.contains("is damaged") && log.contains("state.previous"),
            "{log}"
        );
        reboot(&lab, &mut director);
        let good = fs::read(state(&lab)).unwrap();
        fs::write(state(&lab).with_extension("previous"), good).unwrap();
    }
    // Neither can be used: nothing is started, nothing is lost.
    for path in [state(&lab), state(&lab).with_extension("previous")] {
        fs::write(path, &whole[..50]).unwrap();
    }
    let words = start(&lab).arguments();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let refused = lvx(ns, &words).unwrap();
    assert!(refused.code > 0, "{refused}");
    let last = refused.stderr.lines().last().unwrap_or_default();
    assert!(
        last.contains("is damaged") && last.contains("move it away"),
        "{last}"
    );
    assert_eq!(left_behind(ns).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(fs::read(state(&lab)).unwrap(), whole[..50]);
    // More than there is room for.
    fs::write(state(&lab), &whole).unwrap();
    let refused = lvx(ns, &[&words[..], &["--services", "2"]].concat()).unwrap();
    let last = refused.stderr.lines().last().unwrap_or_default();
    assert!(
        refused.code > 0 && last.contains("service ") && last.contains("--services"),
        "{refused}"
    );
    assert_eq!(fs::read(state(&lab)).unwrap(), whole);
    director.restart().unwrap();
    assert_eq!(
        director.ipvsadm(&["-Sn"]).ok().lines().count(),
        before.lines().count() + 1
    );
}

#[test]
fn a_directory_that_cannot_be_written_is_told() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    let directory = lab.lab.dir().join("var");
    let file = directory.join("state");
    let start = Start::default().state(&file);
    let words = start.arguments();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // Nothing would be lost: the start is refused.
    let refused = lvx(ns, &words).unwrap();
    let last = refused.stderr.lines().last().unwrap_or_default();
    assert!(
        refused.code > 0 && last.contains("its directory must exist"),
        "{refused}"
    );
    assert_eq!(left_behind(ns).unwrap(), Vec::<PathBuf>::new());

    fs::create_dir(&directory).unwrap();
    let mut director = Director::start_with(ns, start).unwrap();
    director.configure("-A -t 192.168.0.200:80 -s rr");
    // While it runs, changes are made and the trouble is shown until it is over.
    let aside = lab.lab.dir().join("aside");
    fs::rename(&directory, &aside).unwrap();
    director.configure("-A -t 192.168.0.200:81 -s rr");
    let warned = |director: &Director<'_>| {
        let warnings = director.status().unwrap().warnings;
        warnings
            .iter()
            .any(|line| line.contains("cannot be written"))
    };
    assert!(warned(&director));
    // So does a restart beside a data plane.
    director.kill();
    director.restart().unwrap();
    let limit = Instant::now() + Duration::from_secs(2);
    while !warned(&director) {
        assert!(Instant::now() < limit, "{}", director.log());
        sleep(Duration::from_millis(20));
    }
    let table = director.ipvsadm(&["-Sn"]).ok();
    assert_eq!(table.lines().count(), 2);
    fs::rename(&aside, &directory).unwrap();
    director.configure("-A -t 192.168.0.200:82 -s rr");
    assert!(!warned(&director));
    reboot(&lab, &mut director);
    director.restart().unwrap();
    assert_eq!(director.ipvsadm(&["-Sn"]).ok().lines().count(), 3);
}

/// A table whose servers' weights tell it from another.
fn table(services: u32, weight: u32) -> String {
    let mut text = String::from("-C\n");
    for service in 0..services {
        let vip = format!("10.1.{}.{}:80", service / 200, 1 + service % 200);
        text += &format!("-A -t {vip} -s wlc\n");
        for server in [10, 20] {
            text += &format!("-a -t {vip} -r 192.168.0.{server}:80 -m -w {weight}\n");
        }
    }
    text
}

/// The daemon is killed in the middle of a restore, then the machine boots: the
/// table is the old or the new one, and the new one if the client was told so.
#[test]
fn killed_in_the_middle_and_rebooted() {
    const KILLS: u32 = 6;
    let lab = OneArm::new().unwrap();
    let mut director =
        Director::start_with(&lab.director.ns, start(&lab).room(4_096, 16_384)).unwrap();
    let files = [300, 700].map(|services| {
        let path = lab.lab.dir().join(format!("table{services}"));
        fs::write(&path, table(services, services)).unwrap();
        path
    });
    let restore = |director: &Director<'_>, file: &Path| {
        let mut command = director.command(&["ipvsadm", "-R"]);
        command.stdin(fs::File::open(file).unwrap());
        command
    };
    let mut whole = Duration::ZERO;
    let texts = [1, 0].map(|side| {
        let begun = Instant::now();
        Answer::from(restore(&director, &files[side]).output().unwrap()).ok();
        whole = begun.elapsed();
        director.ipvsadm(&["-Sn"]).ok()
    });
    let texts = [&texts[1], &texts[0]];
    let (mut side, mut came_to) = (0, [0; 2]);
    for kill in 0..KILLS {
        let wanted = 1 - side;
        let mut command = restore(&director, &files[wanted]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap();
        // Up to long after its end.
        sleep(whole * (1 + 4 * kill) / 10);
        director.kill();
        let told = child.wait().unwrap().success();
        reboot(&lab, &mut director);
        // A start that is killed in its turn loses nothing either.
        if kill % 2 == 1 {
            let words = start(&lab).room(4_096, 16_384).arguments();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = director.command(&words);
            let mut early = command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            sleep(Duration::from_millis(u64::from(kill) * 200));
            early.kill().unwrap();
            early.wait().unwrap();
        }
        director.restart().unwrap();
        let now = director.ipvsadm(&["-Sn"]).ok();
        let found = texts.iter().position(|text| **text == now);
        side = found.unwrap_or_else(|| panic!("{} lines of neither table", now.lines().count()));
        assert!(
            !told || side == wanted,
            "told that it was done, and it was lost"
        );
        came_to[usize::from(side == wanted)] += 1;
    }
    println!(
        "{KILLS} kills in {whole:.2?}, each with a reboot: {} with the old table, {} with the new one",
        came_to[0], came_to[1]
    );
    assert!(
        came_to.iter().all(|count| *count > 0),
        "too few kills hit: {came_to:?}"
    );
}
