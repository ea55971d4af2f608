//! `lvx show`, `save`, `apply` and `diff` against a living data plane.

use std::{net::SocketAddrV4, process::Command, time::Duration};

use lvx_tests::{
    director::{Answer, Director},
    http::{self, KeptOpen},
    lab::OneArm,
};
use serde_json::Value;

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);

/// Everything at once: thresholds, tunnels, FULLNAT, TOA, marks, filter, pools.
const EVERYTHING: &str = r#"[timeouts]
tcp = 600
tcp-fin = 120
udp = 30

[sysctl]
conn_reuse_mode = 0

[[set]]
name = "bad"
family = "ipv4"
members = [
  "10.66.0.0/16",
]

[rules]
mark = [
  "-d 192.168.0.201/32 -p tcp -m multiport --dports 80,443 -j MARK --set-xmark 0x7/0xffffffff",
]
filter = [
  "-m set --match-set bad src -j DROP",
]

[[local]]
address = "192.168.0.50"
ports = "1024-65535"

[[local]]
address = "192.168.0.51"
service = "tcp:192.168.0.200:81"

[[service]]
tcp = "192.168.0.200:80"
scheduler = "wrr"
server = [
  { address = "192.168.0.20:80", method = "dr", weight = 1, upper = 100, lower = 50 },
  { address = "192.168.0.10:80", method = "dr", weight = 2 },
]

[[service]]
tcp = "192.168.0.200:81"
scheduler = "sh"
flags = ["sh-fallback", "sh-port"]
persistent = 300
netmask = "255.255.255.0"
toa = true
server = [
  { address = "192.168.0.10:8080", method = "fullnat", weight = 5 },
]

[[service]]
udp = "192.168.0.200:53"
scheduler = "rr"
one-packet = true
server = [
  { address = "192.168.0.10:53", method = "tunnel", weight = 1, tunnel = "gue", tunnel-port = 6080, tunnel-checksum = "remote" },
  { address = "192.168.0.20:53", method = "nat", weight = 0 },
]

[[service]]
mark = 7
scheduler = "rr"
server = [
  { address = "192.168.0.10:0", method = "dr", weight = 1 },
]
"#;

/// Runs `lvx` with these words, and with `{}` among them as a file with this text.
fn with_file(director: &Director<'_>, words: &[&str], text: &str) -> Answer {
    let path = director.ns().lab().dir().join("lvx.toml");
    std::fs::write(&path, text).expect("the lab's directory takes files");
    let path = path.to_str().expect("a path of letters");
    let words: Vec<_> = words
        .iter()
        .map(|word| if *word == "{}" { path } else { word })
        .collect();
    let mut answer = director.lvx(&words);
    answer.stderr = answer.stderr.replace(path, "FILE");
    answer
}

#[test]
fn what_is_saved_is_applied_again() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    let save = |director: &Director<'_>| director.lvx(&["save"]).ok();
    let nothing = save(&director);
    assert!(nothing.contains("service = []\n"), "{nothing}");

    let epoch = |director: &Director<'_>| director.status().unwrap().epoch;
    let before = epoch(&director);
    assert_eq!(
        with_file(&director, &["apply", "-f", "{}"], EVERYTHING).ok(),
        ""
    );
    assert_eq!(save(&director), EVERYTHING);
    assert_eq!(epoch(&director), before + 1, "one step");
    let list = director.ipvsadm(&["-Ln", "--thresholds"]).ok();
    assert!(list.contains("100        50"), "{list}");

    // The same again changes nothing.
    assert_eq!(
        with_file(&director, &["apply", "--dry-run", "-f", "{}"], EVERYTHING).ok(),
        "nothing would change\n"
    );
    with_file(&director, &["apply", "-f", "{}"], EVERYTHING).ok();
    assert_eq!(with_file(&director, &["diff", "{}"], EVERYTHING).ok(), "");

    // Without a daemon it can be read, and not changed.
    assert!(director.stop());
    assert_eq!(save(&director), EVERYTHING);
    let answer = with_file(&director, &["apply", "-f", "{}"], EVERYTHING);
    assert!(answer.refused(2).contains("the daemon is not running"));
    director.restart().unwrap();
    assert_eq!(save(&director), EVERYTHING);

    // What it does not speak of stays: a saved table is of services alone.
    let table =
        "-A -t 192.168.0.200:80 -s wrr\n-a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 2\n";
    let answer = with_file(&director, &["diff", "running", "{}"], table);
    assert_eq!(answer.code, 1, "{answer}");
    assert!(
        answer
            .stdout
            .contains("- server 192.168.0.20:80 of tcp:192.168.0.200:80\n"),
        "{answer}"
    );
    with_file(&director, &["apply", "-f", "{}"], table).ok();
    let saved = save(&director);
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), table);
    assert!(
        saved.contains("conn_reuse_mode = 0") && saved.contains("--match-set bad"),
        "{saved}"
    );

    // And all of it away.
    with_file(&director, &["apply", "-f", "{}"], &nothing).ok();
    assert_eq!(save(&director), nothing);
}

#[test]
fn a_faulty_file_changes_nothing_and_names_the_place() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    with_file(&director, &["apply", "-f", "{}"], EVERYTHING).ok();
    for (text, want) in [
        (
            EVERYTHING.replace("scheduler = \"sh\"", "scheduler = \"shh\""),
            "FILE:42:13: no scheduler shh",
        ),
        (
            EVERYTHING.replace("[timeouts]", "[time-outs]"),
            "FILE:1:2: unknown field `time-outs`",
        ),
        // Only the daemon knows these.
        (
            EVERYTHING.replace("192.168.0.20:80\"", "224.0.0.1:80\""),
            "FILE:36:15: server 224.0.0.1:80 of tcp:192.168.0.200:80: Invalid operation.",
        ),
        (
            EVERYTHING.replace("--match-set bad src", "--match-set good src"),
            "FILE:20:10: there is no set good",
        ),
        (
            EVERYTHING.replace("one-packet = true", "one-packet = true\npe = \"sap\""),
            "FILE:52:7: service udp:192.168.0.200:53: Scheduler or persistence engine not found",
        ),
        (
            "-C\n-A -t 192.168.0.200:80\n-A -t 192.168.0.200:80\n".into(),
            "FILE:3:1: Service already exists",
        ),
    ] {
        let answer = with_file(&director, &["apply", "-f", "{}"], &text);
        assert!(
            answer.code == 2 && answer.stdout.is_empty() && answer.stderr.starts_with(want),
            "wanted {want}, got {answer}"
        );
        assert_eq!(director.lvx(&["save"]).ok(), EVERYTHING, "{want}");
    }
    let answer = director.lvx(&["apply", "-f", "/nonexistent/lvx.toml"]);
    assert!(
        answer
            .refused(2)
            .contains("cannot read /nonexistent/lvx.toml")
    );
}

#[test]
fn standard_input_is_a_file_too() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    let apply = |text: &str| {
        let path = director.ns().lab().dir().join("input");
        std::fs::write(&path, text).unwrap();
        let mut command: Command = director.command(&["apply", "-f", "-"]);
        command.stdin(std::fs::File::open(&path).unwrap());
        Answer::from(command.output().unwrap())
    };
    apply(EVERYTHING).ok();
    assert_eq!(director.lvx(&["save"]).ok(), EVERYTHING);
    assert_eq!(
        apply("mark = 1\n").refused(2).split(": ").next(),
        Some("<stdin>:1:1")
    );
}

#[test]
fn what_becomes_of_connections_is_told_and_shown() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s wrr -p 100
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 5",
    );
    director.wait_for_ways().unwrap();
    let mut open = KeptOpen::open(&lab.client.ns, SERVICE, Duration::from_secs(5)).unwrap();
    open.get().unwrap();
    let shown = || {
        let json = director.lvx(&["show", "--json"]).ok();
        serde_json::from_str::<Value>(&json).unwrap()
    };
    let server = &shown()["services"][0]["servers"][0];
    assert_eq!(server["active"], 1, "{server}");
    assert_eq!(
        (&server["way"], &server["quiesced"]),
        (&"resolved".into(), &false.into())
    );
    let text = director.lvx(&["show", "tcp:192.168.0.200:80"]).ok();
    assert!(
        text.contains("tcp:192.168.0.200:80") && text.contains("resolved"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "no colours in a pipe: {text:?}");
    let answer = director.lvx(&["show", "udp:192.168.0.200:80"]);
    assert!(
        answer
            .refused(2)
            .contains("no service udp:192.168.0.200:80")
    );

    // A dry run says what would happen, and does nothing.
    let other = "[[service]]\ntcp = \"192.168.0.200:80\"\nscheduler = \"wrr\"\npersistent = 100\n\
                 server = [{ address = \"192.168.0.20\" }]\n";
    let dry = with_file(&director, &["apply", "-n", "-f", "{}"], other).ok();
    assert_eq!(
        dry,
        "- server 192.168.0.10:80 of tcp:192.168.0.200:80\n    \
         1 active and 0 inactive connections: their packets are dropped until they time out, or the server is back \
         ('lvx drain' first lets them end); 1 persistent clients: get another server\n\
         + server 192.168.0.20:80 of tcp:192.168.0.200:80: method dr, weight 1\n"
    );
    assert_eq!(
        shown()["services"][0]["servers"][0]["server"],
        "192.168.0.10:80"
    );
    let quiesced = other.replace("192.168.0.20\"", "192.168.0.10\", weight = 0");
    let dry = with_file(&director, &["apply", "-n", "-f", "{}"], &quiesced).ok();
    assert!(
        dry.contains("1 active and 0 inactive connections: stay until they end"),
        "{dry}"
    );
    assert!(dry.contains("still get this server"), "{dry}");

    // Done, the server is in the trash, its connection silent, and new ones
    // go to the other.
    with_file(&director, &["apply", "-f", "{}"], other).ok();
    let removed = &shown()["services"][0]["removed_servers"][0];
    assert_eq!(
        (&removed["server"], &removed["active"]),
        (&"192.168.0.10:80".into(), &1.into())
    );
    let text = director.lvx(&["show"]).ok();
    assert!(text.contains("removed, in the trash"), "{text}");
    let answers = http::sequence(&lab.client.ns, SERVICE, 2).unwrap();
    assert_eq!(answers.len(), 2);
}

#[test]
fn watching_is_a_picture_a_second() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure("-A -t 192.168.0.200:80 -s wrr");
    let mut command = director.command(&["show", "--watch", "--json"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let started = std::time::Instant::now();
    let lines: Vec<_> = std::io::BufRead::lines(out)
        .take(3)
        .map(Result::unwrap)
        .collect();
    // The reader is gone: it ends by itself.
    let took = started.elapsed();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(took > Duration::from_millis(1900), "{took:?}");
    for line in lines {
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["services"][0]["service"], "tcp:192.168.0.200:80");
    }
}

#[test]
fn services_belong_to_the_file_that_declares_them() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    let path = |name: &str| lab.lab.dir().join(name).display().to_string();
    let write = |name: &str, weight: u32| {
        let text = format!(
            "name = \"{name}\"\n[[service]]\ntcp = \"192.168.0.200:80\"\nscheduler = \"rr\"\n\
             server = [{{ address = \"192.168.0.10\", weight = {weight} }}]\n"
        );
        std::fs::write(path(name), text).unwrap();
    };
    let apply = |name: &str| director.lvx(&["apply", "-f", &path(name)]);
    write("web", 3);
    write("mail", 3);
    apply("web").ok();
    director.configure("-A -t 192.168.0.200:443 -s rr");

    // Two files claim one service: both places are named, and nothing is done.
    let saved = director.ipvsadm(&["-Sn"]).ok();
    for words in [&["apply", "-f"][..], &["apply", "--dry-run", "-f"]] {
        let mail = path("mail");
        let line = director.lvx(&[words, &[&mail]].concat()).refused(2);
        assert!(line.contains(&format!("{mail}:3:7: ")), "{line}");
        assert!(
            line.contains(&format!("web, which declares it in {}:3", path("web"))),
            "{line}"
        );
    }
    assert_eq!(director.ipvsadm(&["-Sn"]).ok(), saved);

    // A saved table without the service leaves it alone; so does ipvsadm not.
    std::fs::write(path("manual"), "service = []\n").unwrap();
    director.lvx(&["apply", "-f", &path("manual")]).ok();
    let saved = director.ipvsadm(&["-Sn"]).ok();
    assert!(saved.contains(":80 ") && !saved.contains(":443"), "{saved}");
    let show = || director.lvx(&["show"]).ok();
    assert!(show().contains("of web\n"), "{}", show());
    director.configure("-e -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 9");
    assert!(show().contains("of web, CHANGED since"), "{}", show());
    let json: Value = serde_json::from_str(&director.lvx(&["show", "--json"]).ok()).unwrap();
    let service = &json["services"][0];
    assert_eq!(
        (&service["owner"], &service["drift"]),
        (&"web".into(), &true.into())
    );
    let diff = director.lvx(&["diff", "running", &path("web")]);
    assert_eq!(diff.code, 1);
    assert!(diff.stdout.contains("weight 9 -> weight 3"), "{diff}");
    let own = director.lvx(&["save", "--name", "web"]).ok();
    assert!(
        own.starts_with("name = \"web\"\n") && own.contains("weight = 9"),
        "{own}"
    );
    let rest = director.lvx(&["save"]).ok();
    assert!(
        rest.starts_with("# not here: 1 services of web ") && rest.contains("service = []"),
        "{rest}"
    );
    let unknown = director.lvx(&["save", "--name", "none"]).refused(2);
    assert!(unknown.contains("lvx show"), "{unknown}");

    director.configure("-C");
    assert!(show().contains("of web, REMOVED since"), "{}", show());
    apply("web").ok();
    assert!(show().contains("of web\n"), "{}", show());
    assert!(director.ipvsadm(&["-Sn"]).ok().contains("-w 3"));
}
