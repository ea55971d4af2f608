//! `ipvsadm` against a living data plane: what it prints after commands, and
//! what it refuses without changing anything. (The grammar has its own tests.)

use std::{
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use lvx_tests::{
    director::{Answer, Director, answer, binary},
    lab::OneArm,
};

#[test]
fn lists_after_a_set_of_commands() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    assert_eq!(
        director
            .ipvsadm(&["-Ln"])
            .ok()
            .lines()
            .skip(1)
            .collect::<Vec<_>>(),
        [
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn"
        ]
    );
    director.configure(
        "-A -u 192.168.0.200:53 -s rr
         -A -t 192.168.0.200:443 -s rr
         -A -t 192.168.0.200:80 -s wrr
         -a -t 192.168.0.200:80 -r 192.168.0.20 -g -w 2
         -a -t 192.168.0.200:80 -r 192.168.0.10:8080 -w 0
         -a -t 192.168.0.200:443 -r 192.168.0.20:443 -w 65536
         -a -u 192.168.0.200:53 -r 192.168.0.10:53 -g
         -a -u 192.168.0.200:53 -r 192.168.0.30:53 -g
         -E -t 192.168.0.200:443 -s wrr
         -e -t 192.168.0.200:80 -r 192.168.0.20:80 -w 5
         -d -u 192.168.0.200:53 -r 192.168.0.30:53",
    );
    let list = director.ipvsadm(&["-Ln"]).ok();
    let (version, rest) = list.split_once('\n').unwrap();
    assert!(
        version.starts_with("IP Virtual Server version 1.2.1 (size="),
        "{version}"
    );
    // A server of direct routing has the service's port, whatever was asked.
    assert_eq!(
        rest,
        "Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.0.200:80 wrr
  -> 192.168.0.10:80              Route   0      0          0         \n\
\x20 -> 192.168.0.20:80              Route   5      0          0         \n\
TCP  192.168.0.200:443 wrr
  -> 192.168.0.20:443             Route   65536  0          0         \n\
UDP  192.168.0.200:53 rr
  -> 192.168.0.10:53              Route   1      0          0         \n"
    );
    let saved = "-A -t 192.168.0.200:80 -s wrr
-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 0
-a -t 192.168.0.200:80 -r 192.168.0.20:80 -g -w 5
-A -t 192.168.0.200:443 -s wrr
-a -t 192.168.0.200:443 -r 192.168.0.20:443 -g -w 65536
-A -u 192.168.0.200:53 -s rr
-a -u 192.168.0.200:53 -r 192.168.0.10:53 -g -w 1
";
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), saved);

    let one = director.ipvsadm(&["-Ln", "-t", "192.168.0.200:443"]).ok();
    assert!(
        one.starts_with("Prot LocalAddress:Port")
            && one.contains(":443 wrr\n")
            && !one.contains(":53"),
        "{one}"
    );
    let rates = director.ipvsadm(&["-Ln", "--rate"]).ok();
    assert!(
        rates.contains(
            "TCP  192.168.0.200:80                    0        0        0        0        0\n"
        ),
        "{rates}"
    );
    let connections = director.ipvsadm(&["-Lnc"]).ok();
    assert_eq!(connections.lines().count(), 2, "{connections}");

    // Away with it and back from the file, in one transaction.
    director.configure("-C");
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), "");
    let before = director.status().unwrap().epoch;
    restore(&director, saved).ok();
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), saved);
    assert_eq!(
        director.status().unwrap().epoch,
        before + 1,
        "one restore is one transaction"
    );
}

/// `ipvsadm -R < text`.
fn restore(director: &Director<'_>, text: &str) -> Answer {
    restore_by(director, &["ipvsadm", "-R"], text)
}

fn restore_by(director: &Director<'_>, words: &[&str], text: &str) -> Answer {
    let path = director.ns().lab().dir().join("rules");
    std::fs::write(&path, text).expect("the lab's directory takes files");
    let mut command: Command = director.ns().command(binary().expect("lvx is built"));
    let input = std::fs::File::open(&path).expect("just written");
    let output = command
        .args(words)
        .stdin(Stdio::from(input))
        .output()
        .expect("lvx runs");
    Answer::from(output)
}

#[test]
fn a_refused_line_of_a_restore_does_not_stop_it() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    let before = director.status().unwrap().epoch;
    let lines = "-A -t 192.168.0.200:80 -s rr
# what a person notes
-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
-A -t 192.168.0.200:80 -s wrr
-a -t 192.168.0.200:81 -r 192.168.0.10:80 -g
-A -t 192.168.0.200:82 -s rr
";
    let refusals = "Service already exists\nService not defined\n";
    let saved = "-A -t 192.168.0.200:80 -s rr
-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 1
-A -t 192.168.0.200:82 -s rr
";
    let answer = restore(&director, lines);
    assert_eq!((answer.code, answer.stderr.as_str()), (0, refusals));
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), saved);
    assert_eq!(director.status().unwrap().epoch, before + 1);

    // The status is the last line's; nothing changed, so there is no transaction.
    let answer = restore(&director, "-A -t 192.168.0.200:82 -s rr\n");
    assert_eq!(answer.refused(255), "Service already exists");
    assert_eq!(director.status().unwrap().epoch, before + 1);

    // What cannot be read ends it; what came before is done.
    let answer = restore(
        &director,
        "-D -t 192.168.0.200:82\n-A -t 192.168.0.200:0 -s rr\n-C\n",
    );
    assert_eq!(
        answer.refused(2),
        "Zero port specified for non-persistent service"
    );
    let saved = saved.replace("-A -t 192.168.0.200:82 -s rr\n", "");
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), saved);
    assert_eq!(director.status().unwrap().epoch, before + 2);
}

#[test]
fn listings_among_the_lines_of_a_restore_show_what_is_not_switched_yet() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure("-A -t 192.168.0.200:79 -s rr");
    let before = director.status().unwrap().epoch;
    let answer = restore(
        &director,
        "-A -t 192.168.0.200:80 -s rr
-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
-S -n
-D -t 192.168.0.200:79
-L -n -t 192.168.0.200:80 --stats
--set 100 0 0
-L --timeout
",
    );
    assert_eq!(
        answer.ok(),
        "-A -t 192.168.0.200:79 -s rr
-A -t 192.168.0.200:80 -s rr
-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 1
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  192.168.0.200:80                    0        0        0        0        0
  -> 192.168.0.10:80                     0        0        0        0        0
Timeout (tcp tcpfin udp): 100 120 300
"
    );
    assert_eq!(director.status().unwrap().epoch, before + 1);
    // A listing that fails ends it, as with the real ipvsadm: what follows is not done.
    let answer = restore(
        &director,
        "-A -t 192.168.0.200:81 -s rr\n-L -n -t 192.168.0.200:99\n-C\n",
    );
    assert_eq!(answer.refused(1), "No such service");
    assert_eq!(
        director.ipvsadm(&["-S", "-n"]).ok(),
        "-A -t 192.168.0.200:80 -s rr
-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 1
-A -t 192.168.0.200:81 -s rr
"
    );
}

#[test]
fn a_strict_restore_is_done_whole_or_not_at_all() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    let table = "-A -t 192.168.0.200:80 -s rr
-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 1
";
    restore_by(&director, &["ipvsadm", "-R", "--strict"], table).ok();
    let before = (
        director.ipvsadm(&["-Sn"]).ok(),
        director.status().unwrap().epoch,
    );
    assert_eq!(before.0, table);
    for (lines, code, number, text) in [
        (
            "-A -t 192.168.0.200:81 -s rr\n-C\n\n# note\n-A -t 192.168.0.200:80 -s nosuch\n-C\n",
            255,
            5,
            "Scheduler or persistence engine not found",
        ),
        (
            "-C\n-A -t 192.168.0.200:0 -s rr\n",
            2,
            2,
            "Zero port specified for non-persistent service",
        ),
        ("-C\n-L -n -t 192.168.0.200:80\n-C", 1, 2, "No such service"),
        (
            "-C\n-v\n",
            2,
            2,
            "lvx: help and version end a restore, which --strict does not allow",
        ),
    ] {
        let answer = restore_by(&director, &["ipvsadm", "-R", "--strict"], lines);
        let said = format!("lvx: nothing was changed, because of line {number}:\n{text}\n");
        assert_eq!(
            (answer.code, answer.stdout.as_str(), answer.stderr),
            (code, "", said)
        );
        let after = (
            director.ipvsadm(&["-Sn"]).ok(),
            director.status().unwrap().epoch,
        );
        assert_eq!(after, before, "{lines}");
    }
    // Without --strict the same lines leave what the real ipvsadm leaves.
    let answer = restore(&director, "-C\n-A -t 192.168.0.200:0 -s rr\n");
    assert_eq!(
        answer.refused(2),
        "Zero port specified for non-persistent service"
    );
    assert_eq!(director.ipvsadm(&["-Sn"]).ok(), "");
}

#[test]
fn ipvsadm_restore_replaces_the_table_in_one_step() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure("-A -t 192.168.0.200:79 -s rr");
    let link = lab.lab.dir().join("ipvsadm-restore");
    symlink(std::fs::canonicalize(binary().unwrap()).unwrap(), &link).unwrap();
    let run = |words: &[&str], text: &str| {
        let path = director.ns().lab().dir().join("rules");
        std::fs::write(&path, text).unwrap();
        let mut command: Command = director.ns().command(&link);
        let input = std::fs::File::open(&path).unwrap();
        let output = command.args(words).stdin(Stdio::from(input)).output();
        Answer::from(output.expect("lvx runs"))
    };
    let before = director.status().unwrap().epoch;
    run(&[], "# saved\n-A -t 192.168.0.200:80 -s rr\n").ok();
    let saved = director.ipvsadm(&["-Sn"]).ok();
    assert_eq!(saved, "-A -t 192.168.0.200:80 -s rr\n");
    assert_eq!(director.status().unwrap().epoch, before + 1);
    // The numbers of lines are those of the input.
    let answer = run(
        &["--strict"],
        "-A -t 192.168.0.200:81\n-A -t 192.168.0.200:81\n",
    );
    assert_eq!(
        (answer.code, answer.stderr.as_str()),
        (
            255,
            "lvx: nothing was changed, because of line 2:\nService already exists\n"
        )
    );
    assert_eq!(director.ipvsadm(&["-Sn"]).ok(), saved);
}

#[test]
fn refusals_of_the_kernel() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g",
    );
    let saved = director.ipvsadm(&["-S", "-n"]).ok();
    for (command, code, text) in [
        (
            "-A -t 192.168.0.200:80 -s rr",
            255,
            "Service already exists",
        ),
        (
            "-A -t 192.168.0.200:81 -s nosuch",
            255,
            "Scheduler or persistence engine not found",
        ),
        ("-E -t 192.168.0.200:81 -s rr", 255, "No such service"),
        ("-D -t 192.168.0.200:81", 255, "No such service"),
        ("-Z -t 192.168.0.200:81", 255, "No such service"),
        ("-Ln -t 192.168.0.200:81", 1, "No such service"),
        (
            "-a -t 192.168.0.200:81 -r 192.168.0.10:80 -g",
            255,
            "Service not defined",
        ),
        (
            "-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g",
            255,
            "Destination already exists",
        ),
        (
            "-e -t 192.168.0.200:80 -r 192.168.0.20:80 -g",
            255,
            "No such destination",
        ),
        (
            "-d -t 192.168.0.200:80 -r 192.168.0.20:80",
            255,
            "No such destination",
        ),
        (
            "-a -t 192.168.0.200:80 -r 224.0.0.1:80 -g",
            255,
            "Invalid operation.  Possibly wrong module version, address not unicast, ...",
        ),
        (
            "-a -t 192.168.0.200:80 -r [2001:db8::2]:80 -m",
            2,
            "Different address family is allowed only for tunneling servers",
        ),
        (
            "-a -t 192.168.0.200:80 -r [fe80::2]:80 -i",
            255,
            "Invalid operation.  Possibly wrong module version, address not unicast, ...",
        ),
        (
            "-a -t 192.168.0.200:80 -r 192.168.0.20 --tun-type gre",
            2,
            "Tunnel options conflict with forward method",
        ),
        (
            "-a -t 192.168.0.200:80 -r 192.168.0.20 -i --tun-type gue",
            2,
            "You need to supply the 'tun-port' option for the 'gue' tunnel type",
        ),
        ("-D -t [2001:db8::1]:80", 255, "No such service"),
        ("-Ln -t [2001:db8::1]:80", 1, "No such service"),
        (
            "-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m",
            255,
            "Service not defined",
        ),
        (
            "-D",
            2,
            "You need to supply the 'service-address' option for the 'delete-service' command",
        ),
        (
            "-C -n",
            2,
            "Illegal 'numeric' option with the 'flush' command",
        ),
        (
            "-A -t 192.168.0.200:0 -s rr",
            2,
            "Zero port specified for non-persistent service",
        ),
        (
            "-a -t 192.168.0.200:80 -r 192.168.0.20 -w -1",
            2,
            "illegal weight specified",
        ),
    ] {
        let words: Vec<_> = command.split(' ').collect();
        assert_eq!(
            director.ipvsadm(&words).refused(code),
            text,
            "ipvsadm {command}"
        );
    }
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), saved);
}

#[test]
fn what_is_not_built_says_so_and_changes_nothing() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure("-A -t 192.168.0.200:80 -s rr");
    let before = (
        director.ipvsadm(&["-S", "-n"]).ok(),
        director.status().unwrap().epoch,
    );
    for command in ["--stop-daemon master", "--start-daemon master"] {
        let words: Vec<_> = command.split(' ').collect();
        let line = director.ipvsadm(&words).refused(2);
        assert!(
            line.starts_with("lvx: not supported yet: "),
            "ipvsadm {command}: {line}"
        );
    }
    assert_eq!(
        (
            director.ipvsadm(&["-S", "-n"]).ok(),
            director.status().unwrap().epoch
        ),
        before
    );
}

#[test]
fn the_binary_answers_to_the_name_ipvsadm() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    let link = lab.lab.dir().join("ipvsadm");
    symlink(std::fs::canonicalize(binary().unwrap()).unwrap(), &link).unwrap();
    let by_name = |words: &[&str]| {
        let mut command = lab.director.ns.command(&link);
        command.args(words);
        answer(command).unwrap()
    };
    by_name(&["-A", "-t", "192.168.0.200:80", "-s", "rr"]).ok();
    assert_eq!(by_name(&["-Sn"]).ok(), "-A -t 192.168.0.200:80 -s rr\n");
    assert_eq!(by_name(&["-Ln"]).ok(), director.ipvsadm(&["-Ln"]).ok());
    assert!(by_name(&["-v"]).ok().starts_with("ipvsadm v"));
    // And with ip netns exec, as operators do it.
    let mut command = Command::new(lvx_tests::lab::tool("ip"));
    command
        .args(["netns", "exec", lab.director.ns.name()])
        .arg(&link)
        .arg("-Ln");
    assert_eq!(
        answer(command).unwrap().ok(),
        director.ipvsadm(&["-Ln"]).ok()
    );
}
