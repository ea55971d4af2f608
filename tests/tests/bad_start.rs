//! Starts that cannot succeed: one clear line each, and nothing half done.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
};

use lvx_tests::{
    director::{Answer, Director, Start, answer, binary, left_behind, lvx},
    lab::{Namespace, OneArm, TwoArm, tool},
    xdp::{Foreign, Verdict},
};

/// The one line of a failed start that is not about progress.
#[track_caller]
fn one_line(answer: &Answer) -> String {
    assert!(answer.code > 0, "expected a failure, got {answer}");
    let lines: Vec<_> = answer
        .stderr
        .lines()
        .filter(|line| !line.contains(" INFO "))
        .collect();
    assert_eq!(lines.len(), 1, "expected one line, got {answer}");
    lines[0].to_owned()
}

/// Nothing attached to these interfaces, nothing left in `/run/lvx`.
#[track_caller]
fn nothing_done(ns: &Namespace, interfaces: &[&str]) {
    for interface in interfaces {
        let link = ns
            .ip_show(&["link", "show", "dev", interface])
            .expect("the interface is there");
        assert!(!link.contains("xdp"), "{link}");
    }
    assert_eq!(
        left_behind(ns).expect("the kernel tells"),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn unknown_interface() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    let line = one_line(&lvx(ns, &["run", "--interface", "eth9"]).unwrap());
    assert!(line.contains("eth9"), "{line}");
    nothing_done(ns, &["eth0"]);
    // Nor is the first of two attached.
    let line = one_line(&lvx(ns, &["run", "--interface", "eth0", "--interface", "eth9"]).unwrap());
    assert!(line.contains("eth9"), "{line}");
    nothing_done(ns, &["eth0"]);
}

#[test]
fn second_daemon() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure("-A -t 192.168.0.200:80 -s rr");
    let line = one_line(&lvx(&lab.director.ns, &["run", "--interface", "eth0"]).unwrap());
    let pid = director.pid().unwrap();
    assert!(
        line.contains(&pid.to_string()),
        "the line names the process that runs: {line}"
    );
    assert_eq!(director.status().unwrap().daemon, Some(pid));
    assert_eq!(
        director.ipvsadm(&["-S", "-n"]).ok(),
        "-A -t 192.168.0.200:80 -s rr\n"
    );
    // In another namespace it is no second one.
    let other = OneArm::new().unwrap();
    let _other = Director::start(&other.director.ns).unwrap();
}

#[test]
fn interface_with_a_program_of_somebody_else() {
    let lab = TwoArm::new().unwrap();
    let ns = &lab.director.ns;
    let foreign = Foreign::attach(ns, "eth1", Verdict::Pass).unwrap();
    for mode in ["auto", "native", "generic"] {
        let words = [
            "run",
            "--mode",
            mode,
            "--interface",
            "eth0",
            "--interface",
            "eth1",
        ];
        let line = one_line(&lvx(ns, &words).unwrap());
        assert!(
            line.contains("eth1") && line.contains(Foreign::NAME),
            "{line}"
        );
        nothing_done(ns, &["eth0"]);
    }
    let link = ns.ip_show(&["-d", "link", "show", "dev", "eth1"]).unwrap();
    assert!(
        link.contains(Foreign::NAME),
        "the other program stays: {link}"
    );
    drop(foreign);
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let _director = Director::start_with(ns, start).unwrap();
}

#[test]
fn without_privileges() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    // A copy where everybody can read it: the build directory may be closed.
    let open = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = open.path().join("lvx");
    fs::copy(binary().unwrap(), &program).unwrap();
    let mut command = ns.command(&program);
    command
        .args(["run", "--interface", "eth0"])
        .current_dir("/");
    // SAFETY: only system calls between fork and exec; after the namespace is entered.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setgroups(&[])?;
            nix::unistd::setgid(65534.into())?;
            nix::unistd::setuid(65534.into())?;
            Ok(())
        });
    }
    let line = one_line(&answer(command).unwrap());
    assert!(line.contains("root"), "{line}");
    nothing_done(ns, &["eth0"]);

    // Root without capabilities, as in a container.
    let mut command = ns.command(tool("setpriv"));
    command
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(binary().unwrap());
    command.args(["run", "--interface", "eth0"]);
    let line = one_line(&answer(command).unwrap());
    assert!(line.contains("CAP_BPF"), "{line}");
    nothing_done(ns, &["eth0"]);
}

#[test]
fn without_a_daemon_and_without_pins() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    for words in [
        &["ipvsadm", "-Ln"][..],
        &["ipvsadm", "-Lnc"],
        &["ipvsadm", "-S", "-n"],
        &["ipvsadm", "-A", "-t", "192.168.0.200:80", "-s", "rr"],
    ] {
        let line = lvx(ns, words).unwrap().refused(2);
        assert!(
            line.contains("lvx run"),
            "the line says how to start one: {line}"
        );
    }
    assert!(one_line(&lvx(ns, &["status"]).unwrap()).contains("lvx run"));
    assert!(!one_line(&lvx(ns, &["down", "--force"]).unwrap()).is_empty());
    nothing_done(ns, &["eth0"]);
}

#[test]
fn arguments_that_make_no_sense() {
    let lab = OneArm::new().unwrap();
    let ns = &lab.director.ns;
    for words in [
        &["run"][..],
        &["run", "--interface", "eth0", "--mode", "fast"],
        &["run", "--interface", "eth0", "--connections", "0"],
    ] {
        assert_eq!(lvx(ns, words).unwrap().code, 2, "lvx {words:?}");
        nothing_done(ns, &["eth0"]);
    }
}
