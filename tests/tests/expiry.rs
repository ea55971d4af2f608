//! States and times of connections, by packets made by hand: the client's and
//! the servers' own stacks have no part in them.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    thread::sleep,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::Director,
    lab::OneArm,
    listing::{Connection, connections, numbers},
    packet::{Flags, Flow, Tap},
};

/// A host that does not exist: nobody answers what the servers send to it.
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 150);

struct Scene<'lab> {
    director: Director<'lab>,
    tap: Tap,
    macs: ([u8; 6], [u8; 6]),
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab OneArm) -> Self {
        let director = Director::start(&lab.director.ns).expect("a director");
        director.configure(
            "-A -t 192.168.0.200:80 -s rr
             -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
             -A -u 192.168.0.200:53 -s rr
             -a -u 192.168.0.200:53 -r 192.168.0.20:53 -g",
        );
        let tap = Tap::open(&lab.client.ns, "eth0").expect("a packet socket");
        Self {
            director,
            tap,
            macs: (lab.client.mac(), lab.director.mac()),
        }
    }

    fn flow(&self, from: u16, to: u16) -> Flow {
        let (from, to) = (
            SocketAddrV4::new(CLIENT, from),
            SocketAddrV4::new(OneArm::VIP, to),
        );
        Flow {
            macs: self.macs,
            from,
            to,
        }
    }

    fn tcp(&self, port: u16, segments: &[Flags]) {
        for flags in segments {
            self.tap
                .send(&self.flow(port, 80).tcp(*flags))
                .expect("the frame is sent");
        }
    }

    /// The connection from this port, if it is listed.
    fn listed(&self, port: u16) -> Option<Connection> {
        let text = self.director.ipvsadm(&["-Lnc"]).ok();
        let source = format!("{CLIENT}:{port}");
        connections(&text)
            .expect("a list")
            .into_iter()
            .find(|connection| connection.source == source)
    }

    /// State of the connection, and that its time-out was set just now.
    #[track_caller]
    fn expect(&self, port: u16, state: &str, seconds: u32) {
        let connection = self
            .listed(port)
            .unwrap_or_else(|| panic!("the connection from {port} is listed"));
        assert_eq!(connection.state, state, "{connection:?}");
        assert!(
            (seconds - 2..=seconds).contains(&connection.expires),
            "{connection:?}, not {seconds} s"
        );
    }

    /// Active and inactive connections of a server.
    fn counts(&self, server: &str) -> (u64, u64) {
        let numbers =
            numbers(&self.director.ipvsadm(&["-Ln"]).ok(), server).expect("the server is listed");
        (numbers[1], numbers[2])
    }
}

#[test]
fn tcp_states_and_times() {
    let lab = OneArm::new().unwrap();
    let scene = Scene::new(&lab);
    let server = "192.168.0.10:80";

    scene.tcp(1001, &[Flags::SYN]);
    scene.expect(1001, "SYN_RECV", 60);
    assert_eq!(scene.counts(server), (1, 0));
    let connection = scene.listed(1001).unwrap();
    assert_eq!(
        (
            connection.protocol.as_str(),
            connection.service.as_str(),
            connection.dest.as_str()
        ),
        ("TCP", "192.168.0.200:80", server)
    );

    scene.tcp(1001, &[Flags::ACK]);
    scene.expect(1001, "ESTABLISHED", 900);
    assert_eq!(scene.counts(server), (1, 0));

    scene.tcp(1001, &[Flags::FIN]);
    scene.expect(1001, "FIN_WAIT", 120);
    assert_eq!(scene.counts(server), (0, 1));
    scene.tcp(1001, &[Flags::ACK]);
    scene.expect(1001, "FIN_WAIT", 120);

    scene.tcp(1002, &[Flags::SYN, Flags::ACK]);
    assert_eq!(scene.counts(server), (1, 1));
    scene.tcp(1002, &[Flags::RST]);
    scene.expect(1002, "CLOSE", 10);
    assert_eq!(scene.counts(server), (0, 2));

    // A reset of a connection that was never open does not close it.
    scene.tcp(1003, &[Flags::SYN, Flags::RST]);
    scene.expect(1003, "SYN_RECV", 60);
    // A FIN in that state is the end of both directions.
    scene.tcp(1004, &[Flags::SYN, Flags::FIN]);
    scene.expect(1004, "TIME_WAIT", 120);
    // Each packet sets the time anew.
    scene.tcp(1005, &[Flags::SYN]);
    sleep(Duration::from_secs(4));
    assert!(scene.listed(1005).unwrap().expires <= 56);
    scene.tcp(1005, &[Flags::SYN]);
    scene.expect(1005, "SYN_RECV", 60);
}

#[test]
fn segments_of_unknown_connections_are_not_scheduled() {
    let lab = OneArm::new().unwrap();
    let scene = Scene::new(&lab);
    for (port, flags) in [
        (2001, Flags::ACK),
        (2002, Flags::FIN),
        (2003, Flags::RST),
        (2004, Flags::default()),
    ] {
        scene.tcp(port, &[flags]);
        assert_eq!(scene.listed(port), None, "{flags:?}");
    }
    assert_eq!(scene.counts("192.168.0.10:80"), (0, 0));
}

#[test]
fn udp() {
    let lab = OneArm::new().unwrap();
    let scene = Scene::new(&lab);
    scene
        .tap
        .send(&scene.flow(3001, 53).udp(b"a question"))
        .unwrap();
    scene.expect(3001, "UDP", 300);
    assert_eq!(scene.counts("192.168.0.20:53"), (0, 1));
    let stats = scene.director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    // 20 bytes of IPv4, 8 of UDP, 10 of question.
    assert_eq!(
        numbers(&stats, "192.168.0.20:53").unwrap(),
        [1, 1, 0, 38, 0],
        "{stats}"
    );
}

/// The sweep frees what is over, with a daemon and without.
#[test]
fn a_closed_connection_is_gone_after_ten_seconds() {
    let lab = OneArm::new().unwrap();
    let mut scene = Scene::new(&lab);
    let server = "192.168.0.10:80";
    scene.tcp(1001, &[Flags::SYN, Flags::ACK, Flags::RST]);
    scene.tcp(1002, &[Flags::SYN, Flags::ACK]);
    scene.expect(1001, "CLOSE", 10);
    assert_eq!(scene.counts(server), (1, 1));
    scene.director.kill();

    let began = Instant::now();
    sleep(Duration::from_secs(8));
    assert!(scene.listed(1001).is_some(), "not before its time");
    while scene.listed(1001).is_some() {
        assert!(began.elapsed() < Duration::from_secs(12), "still listed");
        sleep(Duration::from_millis(100));
    }
    // The counts follow with the sweep, which passes about once a second.
    while scene.counts(server) != (1, 0) {
        assert!(
            began.elapsed() < Duration::from_secs(14),
            "{:?}",
            scene.counts(server)
        );
        sleep(Duration::from_millis(100));
    }
    scene.expect(1002, "ESTABLISHED", 900 - began.elapsed().as_secs() as u32);
}

/// `drop_entry` visits a thirty-second of the table each second: of 64 half-open
/// connections none is dropped in ten seconds once in a billion times.
#[test]
fn half_open_connections_are_dropped_at_random_when_asked() {
    let lab = OneArm::new().unwrap();
    let scene = Scene::new(&lab);
    let server = "192.168.0.10:80";
    scene.tcp(1001, &[Flags::SYN, Flags::ACK]);
    for port in 4001..=4064 {
        scene.tcp(port, &[Flags::SYN]);
    }
    sleep(Duration::from_secs(2));
    assert_eq!(scene.counts(server), (65, 0), "nobody has asked");
    let set = ["sysctl", "-w", "net.ipv4.vs.drop_entry=3"];
    scene.director.lvx(&set).ok();
    let began = Instant::now();
    while scene.counts(server).0 == 65 {
        assert!(began.elapsed() < Duration::from_secs(12), "none is dropped");
        sleep(Duration::from_millis(100));
    }
    assert_eq!(scene.listed(1001).expect("kept").state, "ESTABLISHED");
    let listed = connections(&scene.director.ipvsadm(&["-Lnc"]).ok()).unwrap();
    assert!(listed.len() as u64 >= scene.counts(server).0);
}
