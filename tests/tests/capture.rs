//! `lvx capture` on real traffic: what came, what left and why; and that nothing
//! of it stays.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use lb_userspace::dataplane::program_name;
use lvx_tests::{
    director::Director,
    http,
    lab::{Background, Namespace, OneArm},
};
use pcap_file::pcapng::{
    Block, PcapNgReader,
    blocks::{
        enhanced_packet::EnhancedPacketOption, interface_description::InterfaceDescriptionOption,
    },
};

const LIMIT: Duration = Duration::from_secs(20);

fn director(lab: &OneArm) -> Director<'_> {
    let director = Director::start(&lab.director.ns).expect("a director");
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
         -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g",
    );
    director
}

fn vip() -> SocketAddr {
    (OneArm::VIP, 80).into()
}

/// Name of the program on the director's interface.
fn program(ns: &Namespace) -> String {
    let shown = ns
        .ip_show(&["-j", "link", "show", "dev", "eth0"])
        .expect("ip shows it");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("ip shows it");
    let id = shown[0]["xdp"]["prog"]["id"].as_u64();
    program_name(id.expect("an XDP program") as u32).expect("it is loaded")
}

fn wait_for_program(ns: &Namespace, name: &str) {
    let start = Instant::now();
    while program(ns) != name {
        assert!(start.elapsed() < LIMIT, "{} instead of {name}", program(ns));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Starts `lvx capture WORDS` and waits until it captures.
fn capture(director: &Director<'_>, words: &[&str]) -> Background {
    let words = [&["capture"], words].concat();
    let capture = director
        .ns()
        .spawn("capture", director.command(&words))
        .expect("it starts");
    wait_for_program(director.ns(), "lvx_capture");
    capture
}

/// Frames of a file: the interface's name, the comment without its number, the bytes.
fn frames(path: &Path) -> Vec<(String, String, Vec<u8>)> {
    let bytes = fs::read(path).expect("a pcapng file");
    let mut reader = PcapNgReader::new(bytes.as_slice()).expect("a pcapng file");
    let (mut names, mut frames) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.expect("a pcapng file") {
            Block::InterfaceDescription(it) => {
                let name = it.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                names.push(name.expect("a name"));
            }
            Block::EnhancedPacket(packet) => {
                let [EnhancedPacketOption::Comment(comment)] = &packet.options[..] else {
                    panic!("{:?}", packet.options);
                };
                let reason = comment.split(' ').next().unwrap_or_default();
                frames.push((
                    names[packet.interface_id as usize].clone(),
                    reason.to_owned(),
                    packet.data.to_vec(),
                ));
            }
            _ => {}
        }
    }
    frames
}

#[test]
fn a_request_as_it_came_and_as_it_left() {
    let lab = OneArm::new().unwrap();
    let director = director(&lab);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lvx.pcapng");
    assert_eq!(program(director.ns()), "lvx");
    let mut running = capture(
        &director,
        &[
            "-w",
            file.to_str().unwrap(),
            "tcp and port 80 and host 192.168.0.200",
        ],
    );
    // One captures at a time.
    let refused = director.lvx(&["capture", "-c", "1"]).refused(2);
    assert!(refused.contains("another 'lvx capture' runs"), "{refused}");

    assert_eq!(
        http::curl(&lab.client.ns, "http://192.168.0.200/").unwrap(),
        "rs2"
    );
    thread::sleep(Duration::from_millis(500));
    let end = running.terminate().expect("it ends");
    assert!(end.success(), "{end}: {}", running.log());
    assert!(
        running.log().contains(" 0 frames lost"),
        "{}",
        running.log()
    );
    wait_for_program(director.ns(), "lvx");

    let frames = frames(&file);
    let side = |name: &str| -> Vec<&(String, String, Vec<u8>)> {
        frames.iter().filter(|frame| frame.0 == name).collect()
    };
    let (came, left) = (side("eth0"), side("eth0-lvx"));
    assert!(came.len() >= 4, "SYN, ACK, request, FIN: {frames:?}");
    assert_eq!(came.len(), left.len());
    for (came, left) in came.iter().zip(&left) {
        assert_eq!((&*came.1, &*left.1), ("forwarded-tx", "forwarded-tx"));
        // From the director's station to another, one hop less, else as it was.
        assert_eq!(left.2[6..12], came.2[..6], "the director sends it on");
        assert_ne!(left.2[..6], came.2[..6]);
        assert_eq!(left.2[22], came.2[22] - 1, "time to live");
        assert_eq!(left.2[26..], came.2[26..], "addresses and all behind");
    }
    // SYN first, and the whole of the request.
    assert_eq!(came[0].2[47] & 2, 2);
    let request = came.iter().find(|frame| frame.2.len() > 100);
    let request = request.expect("a request").2.clone();
    assert!(String::from_utf8_lossy(&request).contains("GET / HTTP/1.1"));
}

#[test]
fn lines_of_what_was_dropped() {
    let lab = OneArm::new().unwrap();
    let director = director(&lab);
    director.configure("-D -t 192.168.0.200:80");
    director.configure("-A -t 192.168.0.200:80 -s rr");
    let mut running = capture(&director, &["-c", "1", "dropped"]);
    let refused = http::curl(&lab.client.ns, "http://192.168.0.200/");
    assert!(refused.is_err(), "{refused:?}");
    let end = running.wait(LIMIT).expect("it ends after a packet");
    assert!(end.success(), "{end}");
    let log = running.log();
    assert!(
        log.contains("> 192.168.0.200.80 [S], ") && log.contains(": dropped-no-server\n"),
        "{log}"
    );
    assert!(log.contains("1 packets captured, 0 frames lost"), "{log}");
    wait_for_program(director.ns(), "lvx");
}

#[test]
fn however_it_ends_the_ordinary_program_returns_and_no_request_fails() {
    let lab = OneArm::new().unwrap();
    let mut director = director(&lab);
    let load = http::Load::start(&lab.client.ns, vip(), 200, LIMIT);
    let mut running = capture(&director, &["port", "80"]);
    thread::sleep(Duration::from_millis(300));
    running.kill();
    wait_for_program(director.ns(), "lvx");

    // The daemon dies, and the next one cleans up.
    let mut running = capture(&director, &["port", "80"]);
    director.kill();
    let end = running.wait(LIMIT).expect("it ends with the daemon");
    assert_eq!(end.code(), Some(2));
    assert!(
        running.log().contains("the daemon went away"),
        "{}",
        running.log()
    );
    assert_eq!(
        program(director.ns()),
        "lvx_capture",
        "nobody is there to change it"
    );
    let refused = director.lvx(&["capture", "-c", "1"]).refused(2);
    assert!(refused.contains("the daemon is not running"), "{refused}");
    director.restart().unwrap();
    assert_eq!(program(director.ns()), "lvx");
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new());
    assert!(tally.requests() > 50, "{}", tally.requests());
}

#[test]
fn bad_words_change_nothing() {
    let lab = OneArm::new().unwrap();
    let director = director(&lab);
    for (words, part) in [
        (&["capture", "tcpp"][..], "'tcpp' is no condition"),
        (&["capture", "-i", "eth9"], "no interface eth9"),
        (
            &["capture", "-w", "/nonexistent/file"],
            "cannot write /nonexistent/file",
        ),
    ] {
        let refused = director.lvx(words).refused(2);
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(program(director.ns()), "lvx");
}
