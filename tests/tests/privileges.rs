//! What the daemon may still do once it has started, and who may ask it for what.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Answer, Director, Start, answer, binary},
    http,
    lab::{Namespace, OneArm, tool},
};
use nix::unistd::{Gid, Group, Uid, setgid, setgroups, setuid};

const SERVICE: (std::net::Ipv4Addr, u16) = (OneArm::VIP, 80);
const CONFIGURATION: &str = "-A -t 192.168.0.200:80 -s rr
     -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g";
const SOON: Duration = Duration::from_secs(5);
/// NET_ADMIN, NET_RAW, PERFMON, BPF.
const KEPT: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
/// Somebody who is nobody.
const NOBODY: u32 = 65_534;
/// A group that every Debian has, in place of `lvx`.
const GROUP: &str = "games";

#[track_caller]
fn soon(what: &str, mut good: impl FnMut() -> bool) {
    let limit = Instant::now() + SOON;
    while !good() {
        assert!(Instant::now() < limit, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Every thread of the daemon has four capabilities and no way to more.
#[track_caller]
fn least(director: &Director<'_>) {
    let tasks = format!("/proc/{}/task", director.pid().expect("a daemon"));
    let mut threads = 0;
    for task in fs::read_dir(tasks).expect("it lives").flatten() {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        threads += 1;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name}")).trim()
        };
        let set = |name| u64::from_str_radix(field(name), 16).expect("a mask");
        for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(set(name), KEPT, "{name} {:x}", set(name));
        }
        for name in ["CapInh:", "CapAmb:"] {
            assert_eq!(set(name), 0, "{name} {:x}", set(name));
        }
        assert_eq!(field("NoNewPrivs:"), "1");
    }
    assert!(threads > 0);
}

fn socket(ns: &Namespace) -> PathBuf {
    let cookie = ns.door().cookie().expect("the kernel tells");
    Path::new("/run/lvx")
        .join(cookie.to_string())
        .join("lvx.sock")
}

/// `lvx` as somebody without privileges, in these groups.
fn as_nobody(ns: &Namespace, lvx: &Path, group: u32, words: &[&str]) -> Answer {
    let mut command: Command = ns.command(lvx);
    command.args(words).current_dir("/");
    // SAFETY: only system calls between fork and exec; after the namespace is entered.
    unsafe {
        command.pre_exec(move || {
            setgroups(&[Gid::from_raw(group)])?;
            setgid(Gid::from_raw(NOBODY))?;
            setuid(Uid::from_raw(NOBODY))?;
            Ok(())
        });
    }
    answer(command).expect("lvx can be run")
}

#[test]
fn the_daemon_keeps_four_capabilities_and_does_everything_with_them() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    ns.ip("link add extra type veth peer name far").unwrap();
    let start = Start::default().interfaces(&["eth0", "extra"]);
    let mut director = Director::start_with(ns, start.by_ip_netns_exec()).unwrap();
    director.configure(CONFIGURATION);
    least(&director);
    // An interface that is made anew.
    let devices = |director: &Director<'_>| director.status().unwrap().interfaces.len();
    ns.ip("link del extra").unwrap();
    soon("it is gone", || devices(&director) == 1);
    ns.ip("link add extra type veth peer name far").unwrap();
    soon("it is attached", || devices(&director) == 2);
    // Marks, a filter, a capture, a server on this director with its program on
    // the way out, and a new neighbour that the kernel is to keep.
    director
        .lvx(&[
            "mark",
            "-A",
            "-d",
            "192.168.0.200",
            "-p",
            "tcp",
            "--dport",
            "8080",
            "-j",
            "MARK",
            "--set-mark",
            "7",
        ])
        .ok();
    director
        .lvx(&["filter", "-A", "-s", "10.9.0.0/16", "-j", "DROP"])
        .ok();
    director.configure(
        "-A -f 7 -s rr
         -a -f 7 -r 192.168.0.20:0 -g
         -A -t 192.168.0.200:82 -s rr
         -a -t 192.168.0.200:82 -r 192.168.0.50:80 -m",
    );
    let captured = director.lvx(&["capture", "--seconds", "1"]);
    assert_eq!(captured.code, 0, "{captured}");
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 5).unwrap(),
        ["rs1"; 5]
    );
    let marked = lab.client.ns.enter(|| http::get((OneArm::VIP, 8080), SOON));
    assert_eq!(marked.unwrap(), "rs2");
    // What it looks for with the tools of the firewall.
    let mut rule = ns.command(tool("iptables"));
    rule.args([
        "-A",
        "INPUT",
        "-d",
        "192.168.0.200",
        "-p",
        "tcp",
        "-j",
        "DROP",
    ]);
    assert_eq!(answer(rule).unwrap().code, 0);
    director.configure("-A -t 192.168.0.200:83 -s rr");
    soon("the rule is seen", || {
        let warnings = director.status().unwrap().warnings;
        warnings.iter().any(|line| line.contains("INPUT"))
    });
    least(&director);
    director.kill();
    director.restart().unwrap();
    least(&director);
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 5).unwrap(),
        ["rs1"; 5]
    );
    // And takes everything away again.
    director.lvx(&["down", "--force"]).ok();
    let link = ns.ip_show(&["link", "show", "dev", "eth0"]).unwrap();
    assert!(!link.contains("xdp"), "{link}");
}

/// What systemd lets the service have is enough.
#[test]
fn the_units_capabilities_suffice() {
    let unit = include_str!("../../packaging/systemd/lvx.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.expect("the unit has them").split_whitespace();
    let names = names.map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()));
    let bounding = format!(
        "--bounding-set=-all,{}",
        names.collect::<Vec<_>>().join(",")
    );
    let lab = OneArm::new().unwrap();
    let start = Start::default().group(GROUP);
    let start = start.under(&["setpriv", &bounding, "--inh-caps=-all", "--no-new-privs"]);
    let director = Director::start_with(&lab.director.ns, start).unwrap();
    director.configure(CONFIGURATION);
    least(&director);
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 3).unwrap(),
        ["rs1"; 3]
    );
}

#[test]
fn a_group_may_list_and_nobody_else_may_anything() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    let group = Group::from_name(GROUP).unwrap().unwrap().gid.as_raw();
    let mut director = Director::start_with(ns, Start::default().group(GROUP)).unwrap();
    director.configure(CONFIGURATION);
    let socket = socket(ns);
    let there = fs::metadata(&socket).unwrap();
    assert_eq!(
        (there.mode() & 0o777, there.uid(), there.gid()),
        (0o660, 0, group)
    );
    let pins = fs::metadata("/run/lvx/bpf").unwrap();
    assert_eq!((pins.mode() & 0o777, pins.uid()), (0o700, 0));

    // A copy where everybody can read it: the build directory may be closed.
    let open = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let lvx = open.path().join("lvx");
    fs::copy(binary().unwrap(), &lvx).unwrap();
    let saved = director.ipvsadm(&["-Sn"]).ok();
    let ask = |group: u32, words: &[&str]| as_nobody(ns, &lvx, group, words);
    assert_eq!(ask(group, &["ipvsadm", "-Sn"]).ok(), saved);
    for words in [
        &["show"][..],
        &["save"],
        &["status"],
        &["maps"],
        &["sysctl"],
        &["filter", "-L"],
    ] {
        assert_eq!(
            ask(group, words).code,
            0,
            "{words:?}: {}",
            ask(group, words)
        );
    }
    for words in [
        &["ipvsadm", "-C"][..],
        &["ipvsadm", "-Z"],
        &["ipvsadm", "-A", "-t", "192.168.0.200:81", "-s", "rr"],
        &[
            "ipvsadm",
            "-d",
            "-t",
            "192.168.0.200:80",
            "-r",
            "192.168.0.10:80",
        ],
        &["conns", "--kill", "--all"],
        &["drain", "tcp:192.168.0.200:80", "192.168.0.10"],
        &["filter", "-A", "-j", "DROP"],
        &["sysctl", "sloppy_tcp=1"],
        &["capture"],
        &["down", "--force"],
    ] {
        let refused = ask(group, words);
        assert!(
            refused.code > 0 && refused.stderr.contains("permission denied"),
            "{words:?}: {refused}"
        );
    }
    // The command line is not what holds them back.
    let requests = [
        "\"clear\"",
        "{\"batch\":[\"clear\"]}",
        "{\"strict\":[]}",
        "{\"down\":{\"force\":true}}",
        "{\"zero\":null}",
        "{\"capture\":1}",
        "{\"end-capture\":1}",
        "\"nonsense\"",
    ];
    for request in requests {
        let answered = raw_as_nobody(ns, &socket, group, &format!("{request}\n"));
        assert!(
            answered.starts_with("{\"refused\""),
            "{request}: {answered}"
        );
    }
    let long = raw_as_nobody(ns, &socket, group, &"x".repeat(100_000));
    assert!(long.contains("too long"), "{long}");
    for words in [&["ipvsadm", "-Sn"][..], &["ipvsadm", "-C"], &["status"]] {
        let refused = ask(NOBODY, words);
        assert!(
            refused.code > 0 && refused.stderr.contains("permission denied"),
            "{words:?}: {refused}"
        );
    }
    assert_eq!(director.ipvsadm(&["-Sn"]).ok(), saved);
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 3).unwrap(),
        ["rs1"; 3]
    );
    director.kill();
    let refused = ask(group, &["ipvsadm", "-Sn"]);
    assert!(
        refused.code > 0 && refused.stderr.contains("only root"),
        "{refused}"
    );
    director.restart().unwrap();
    let refused = lvx_tests::director::lvx(ns, &["run", "-i", "eth0", "--group", "no-such-group"]);
    assert!(refused.unwrap().refused(2).contains("groupadd"));
}

/// What the daemon answers somebody who writes `bytes` on its socket.
fn raw_as_nobody(ns: &Namespace, socket: &Path, group: u32, bytes: &str) -> String {
    // Credentials are a thread's own by the system call, and this is one that ends.
    ns.enter(|| {
        let call = |number, id: u32| {
            // SAFETY: the calls take three numbers and no memory.
            let failed = unsafe { libc::syscall(number, id, id, id) };
            assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
        };
        call(libc::SYS_setresgid, group);
        call(libc::SYS_setresuid, NOBODY);
        let mut stream = UnixStream::connect(socket).expect("the group may connect");
        // It may have had enough before the end.
        let _ = stream.write_all(bytes.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    })
}
