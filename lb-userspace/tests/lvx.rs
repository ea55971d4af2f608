//! The command line of `lvx` where it neither needs nor touches a data plane.

use assert_cmd::Command;

fn lvx(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lvx"))
        .args(args)
        .output()
        .expect("lvx was built");
    let text = |bytes| String::from_utf8(bytes).expect("plain text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn help_fits_a_screen() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["down", "--help"],
        &["status", "--help"],
        &["migrate", "--help"],
        &["migrate", "check", "--help"],
        &["capture", "--help"],
        &["show", "--help"],
        &["apply", "--help"],
        &["diff", "--help"],
        &["health", "--help"],
        &["config", "check", "--help"],
        &["config", "convert", "--help"],
        &["conns", "--help"],
        &["drain", "--help"],
        &["maps", "--help"],
        &["proc", "--help"],
        &["completions", "--help"],
        &["man", "--help"],
        &["laddr", "--help"],
        &["laddr", "add", "--help"],
        &["laddr", "del", "--help"],
    ] {
        let (status, text, errors) = lvx(args);
        assert_eq!((status, errors.as_str()), (Some(0), ""), "{args:?}");
        assert!(text.contains("Usage: lvx"), "{text}");
        assert!(
            text.lines().count() <= 24,
            "{args:?} takes {} lines",
            text.lines().count()
        );
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{args:?}: {widest} columns\n{text}");
    }
}

#[test]
fn usage_errors_exit_with_2_and_name_the_argument() {
    for (args, part) in [
        (&[][..], "Usage: lvx"),
        (&["walk"], "walk"),
        (&["run"], "--interface"),
        (&["run", "--interface", "eth0", "--mode", "fast"], "fast"),
        (
            &["run", "--interface", "eth0", "--connections", "0"],
            "--connections",
        ),
        (
            &["run", "--interface", "eth0", "--services", "many"],
            "--services",
        ),
        (
            &["run", "--interface", "eth0", "--vip-scope", "none"],
            "none",
        ),
        (&["down", "--now"], "--now"),
        (&["status", "eth0"], "eth0"),
        (&["laddr"], "Usage: lvx laddr"),
        (&["laddr", "add", "10.0.0.1/8"], "more than 1024 addresses"),
        (&["laddr", "add", "-t", "10.0.0.1", "10.0.0.2"], "10.0.0.1"),
    ] {
        let (status, output, errors) = lvx(args);
        assert_eq!((status, output.as_str()), (Some(2), ""), "{args:?}");
        assert!(errors.contains(part), "{args:?}: {errors}");
    }
}

#[test]
fn ipvsadm_has_its_own_grammar() {
    let (status, _, errors) = lvx(&["ipvsadm", "--no-such-option"]);
    assert_eq!(status, Some(255), "{errors}");
    let (status, text, errors) = lvx(&["ipvsadm", "-h"]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(
        text.contains("--add-service") && text.contains("--fullnat"),
        "{text}"
    );
}

#[test]
fn the_binary_answers_to_the_names_of_ipvsadm() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ipvsadm");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lvx"), &link).unwrap();
    let output = Command::new(&link)
        .arg("--no-such-option")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(255));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains(link.to_str().unwrap()),
        "it calls itself as it was called: {errors}"
    );
}
