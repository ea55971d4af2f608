//! `lvx migrate check` beside a running director, and without one.

use std::fs;

use lvx_tests::{
    director::{Answer, Director, answer, lvx},
    lab::OneArm,
};

/// As `ipvsadm-save -n` of the kernel prints it.
const RULES: &str = "\
-A -t 192.168.0.200:80 -s sh -b sh-fallback,sh-port
-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 3
-a -t 192.168.0.200:80 -r 192.168.0.11:80 -g -w 0
-a -t 192.168.0.200:80 -r 192.168.0.12:80 -g -w 1
-A -u 192.168.0.200:53 -s mh
-a -u 192.168.0.200:53 -r 192.168.0.10:53 -g -w 2
-a -u 192.168.0.200:53 -r 192.168.0.11:53 -g -w 7
-A -t 192.168.0.200:443 -s wlc
-a -t 192.168.0.200:443 -r 192.168.0.10:443 -g -w 1
";

/// What the kernel may show of it: `.11` is the newest server of the first service.
const ORDER: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A800C8:0050 sh
  -> C0A8000B:0050      Route   0      0          0
  -> C0A8000C:0050      Route   1      0          0
  -> C0A8000A:0050      Route   3      0          0
UDP  C0A800C8:0035 mh
  -> C0A8000B:0035      Route   7      0          0
  -> C0A8000A:0035      Route   2      0          0
TCP  C0A800C8:01BB wlc
  -> C0A8000A:01BB      Route   1      0          0
";

/// Files of a test, removed with it.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.write("rules", RULES);
        files.write("order", ORDER);
        files.write("clients", "10.0.0.0/8:2000 500\n[2001:db8::/32]:9 3\n");
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("a file");
    }

    /// `lvx migrate check` with these words; files by their names here.
    fn check(&self, lab: &OneArm, words: &[&str]) -> Answer {
        let path = |word: &&str| {
            let path = self.0.path().join(word);
            if path.is_file() {
                path.display().to_string()
            } else {
                (*word).to_owned()
            }
        };
        let words: Vec<String> = words.iter().map(path).collect();
        let mut all = vec!["migrate", "check"];
        all.extend(words.iter().map(String::as_str));
        lvx(&lab.director.ns, &all).expect("lvx can be run")
    }
}

fn rows(answer: &Answer) -> Vec<Vec<&str>> {
    let lines = answer.stdout.lines();
    lines.map(|line| line.split('\t').collect()).collect()
}

#[test]
fn each_client_keeps_its_server_or_is_named() {
    let lab = OneArm::new().unwrap();
    let files = Files::new();
    let director = Director::start(&lab.director.ns).unwrap();

    // Nothing is configured yet.
    let empty = files.check(&lab, &["rules", "clients"]);
    assert_eq!(empty.code, 1, "{empty}");
    assert!(empty.stderr.contains("3 of 3 services differ"), "{empty}");

    director.configure(RULES);
    let equal = files.check(&lab, &["rules", "clients"]);
    assert_eq!(equal.code, 0, "{equal}");
    assert!(
        equal
            .stderr
            .contains("1000 clients compared, 0 go elsewhere; 0 of 3 services differ"),
        "{equal}"
    );
    let shown = rows(&equal);
    assert_eq!(shown.len(), 1001);
    assert!(shown.iter().all(|row| row.len() == 5), "{equal}");
    assert!(shown[..1000].iter().all(|row| row[2] == row[3]));
    assert_eq!(
        shown[1000],
        [
            "-t 192.168.0.200:443",
            "*",
            "by state (wlc)",
            "by state (wlc)",
            "same rules"
        ]
    );
    // The table is the one that packets read: with another order in the kernel,
    // clients would move.
    let moved = files.check(&lab, &["rules", "clients", "--order", "order", "-d"]);
    assert_eq!(moved.code, 1, "{moved}");
    let shown = rows(&moved);
    assert!(shown.len() > 10 && shown.len() < 600, "{moved}");
    assert!(
        shown
            .iter()
            .all(|row| row[0] == "-t 192.168.0.200:80" && row[2] != row[3]),
        "{moved}"
    );
    // A server that is edited.
    director.configure("-e -u 192.168.0.200:53 -r 192.168.0.11:53 -g -w 6");
    let edited = files.check(&lab, &["rules", "clients", "--json"]);
    assert_eq!(edited.code, 1, "{edited}");
    let json: serde_json::Value = serde_json::from_str(&edited.stdout).unwrap();
    assert_eq!(json["different_services"], 1, "{edited}");
    assert_eq!(json["compared"], 1000, "{edited}");
    let mh = &json["services"][1];
    assert_eq!(mh["service"], "-u 192.168.0.200:53");
    assert_eq!(mh["differences"][0]["lvx"], "192.168.0.11:53 -g -w 6");
    let clients = mh["clients"].as_array().unwrap();
    let differs = |client: &&serde_json::Value| client["verdict"] == "differs";
    let count = clients.iter().filter(differs).count() as u64;
    assert_eq!(json["different_clients"], count, "{edited}");
    assert!(count > 0 && count < 250, "{count}");
    // With nobody but the data plane.
    let mut director = director;
    director.kill();
    let frozen = files.check(&lab, &["rules", "clients", "--json"]);
    assert_eq!((frozen.code, &frozen.stdout), (1, &edited.stdout));
}

#[test]
fn offline_needs_no_director() {
    let lab = OneArm::new().unwrap();
    let files = Files::new();
    let offline = files.check(
        &lab,
        &[
            "rules",
            "clients",
            "--order",
            "order",
            "--offline",
            "--differences",
        ],
    );
    assert_eq!(offline.code, 0, "{offline}");
    assert_eq!(offline.stdout, "");
    // Clients from standard input, without the port that one service asks for.
    let mut command = lab.director.ns.command("sh");
    command.args([
        "-c",
        "echo 10.0.0.1 | \"$0\" migrate check --offline \"$1\" -",
    ]);
    command
        .arg(lvx_tests::director::binary().unwrap())
        .arg(files.0.path().join("rules"));
    let without = answer(command).unwrap();
    assert_eq!(without.code, 0, "{without}");
    assert_eq!(rows(&without)[0][4], "needs a port");
    assert!(
        without.stderr.ends_with("; 1 clients not compared\n"),
        "{without}"
    );
}

#[test]
fn what_cannot_be_used_is_named_with_its_line() {
    let lab = OneArm::new().unwrap();
    let files = Files::new();
    let down = files.check(&lab, &["rules", "clients"]).refused(2);
    assert!(
        down.contains("does not run") && down.contains("--offline"),
        "{down}"
    );
    files.write(
        "bad",
        "-A -t 192.168.0.200:80 -s sh\n-a -t 192.168.0.200:81 -r 1.2.3.4 -g\n",
    );
    let bad = files
        .check(&lab, &["bad", "clients", "--offline"])
        .refused(2);
    assert!(bad.ends_with("/bad:2: No such service"), "{bad}");
    files.write("nobody", "1.2.3.4\n1.2.3.4:port\n");
    let bad = files
        .check(&lab, &["rules", "nobody", "--offline"])
        .refused(2);
    assert!(bad.ends_with("/nobody:2: 'port' is no port"), "{bad}");
    let bad = files.check(&lab, &["rules", "clients", "--offline", "--order", "rules"]);
    let bad = bad.refused(2);
    assert!(
        bad.ends_with("/rules:1: not a line of /proc/net/ip_vs"),
        "{bad}"
    );
    let missing = files
        .check(&lab, &["nowhere", "clients", "--offline"])
        .refused(2);
    assert!(missing.starts_with("lvx: cannot read nowhere"), "{missing}");
    files.write("empty", "# nobody\n");
    let empty = files
        .check(&lab, &["rules", "empty", "--offline"])
        .refused(2);
    assert!(empty.ends_with("/empty:1: no client in it"), "{empty}");
    let twice = files.check(&lab, &["-", "-"]).refused(2);
    assert!(twice.contains("standard input"), "{twice}");
}
