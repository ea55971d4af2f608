//! Which packets lvx takes and which it leaves to the stack.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use lvx_tests::{
    director::Director,
    http::{self, Load},
    lab::OneArm,
    listing::{connections, numbers},
    packet::{Flags, Flow, Tap, is_to, ping},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
const SECOND: Duration = Duration::from_secs(1);

fn director(lab: &OneArm) -> Director<'_> {
    let director = Director::start(&lab.director.ns).expect("a director");
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g",
    );
    director
}

/// Connections scheduled so far.
fn scheduled(director: &Director<'_>) -> u64 {
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    numbers(&stats, "192.168.0.200:80").expect("the service is listed")[0]
}

/// A SYN to the service from a host that does not exist, to a MAC address.
fn syn_to(mac: [u8; 6], port: u16) -> Vec<u8> {
    let from = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 150), port);
    Flow {
        macs: ([2, 0, 192, 168, 0, 150], mac),
        from,
        to: SERVICE,
    }
    .tcp(Flags::SYN)
}

#[test]
fn frames_to_other_stations_are_not_taken() {
    let lab = OneArm::new().unwrap();
    let director = director(&lab);
    let client = Tap::open(&lab.client.ns, "eth0").unwrap();
    let server = Tap::open(&lab.servers[0].node.ns, "eth0").unwrap();

    // An unknown station: the bridge floods the frame to everybody, once.
    let foreign = syn_to([2, 0, 0, 0, 0, 0x99], 1001);
    client.send(&foreign).unwrap();
    assert_eq!(
        server
            .count(SECOND / 2, |frame| is_to(frame, SERVICE))
            .unwrap(),
        1
    );
    // A broadcast frame with a unicast packet in it.
    client.send(&syn_to([0xff; 6], 1002)).unwrap();
    assert_eq!(
        server
            .count(SECOND / 2, |frame| is_to(frame, SERVICE))
            .unwrap(),
        1
    );
    assert_eq!(scheduled(&director), 0);
    assert_eq!(connections(&director.ipvsadm(&["-Lnc"]).ok()).unwrap(), []);

    // The same frame to the director is taken and sent on.
    client.send(&syn_to(lab.director.mac(), 1003)).unwrap();
    let forwarded = server
        .next(SECOND, |frame| is_to(frame, SERVICE))
        .unwrap()
        .expect("a frame");
    assert_eq!(forwarded[..6], lab.servers[0].node.mac());
    assert_eq!(forwarded[6..12], lab.director.mac());
    // As by the kernel, one hop less to live, and nothing else.
    let mut expected = syn_to(lab.director.mac(), 1003);
    expected[14 + 8] -= 1;
    expected[14 + 10] += 1;
    assert_eq!(forwarded[12..], expected[12..]);
    assert_eq!(scheduled(&director), 1);
}

#[test]
fn a_flooded_conversation_with_another_station_is_left_alone() {
    let lab = OneArm::new().unwrap();
    let director = director(&lab);
    // The bridge does not know where rs2 is, so the director sees all that goes
    // to it; the client believes that rs2 has the VIP, which is true on its `lo`.
    lab.segment
        .ns
        .ip("link set rs2 type bridge_slave learning off")
        .unwrap();
    lab.segment
        .ns
        .ip("link set rs2 type bridge_slave fdb_flush")
        .unwrap();
    lab.client
        .fixed_neighbour(OneArm::VIP, lab.servers[1].node.mac())
        .unwrap();
    let seen = Tap::open(&lab.director.ns, "eth0").unwrap();
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 10).unwrap(),
        ["rs2"; 10]
    );
    let mac = lab.servers[1].node.mac();
    let flooded = seen
        .count(SECOND / 2, |frame| {
            frame[..6] == mac && is_to(frame, SERVICE)
        })
        .unwrap();
    assert!(flooded >= 40, "the director saw {flooded} of the frames");
    assert_eq!(scheduled(&director), 0);
}

#[test]
fn moving_the_vip_away_stops_directing_and_back_starts_it() {
    let lab = OneArm::new().unwrap();
    let director = director(&lab);
    // The client keeps sending to the director, whoever answers ARP.
    lab.client
        .fixed_neighbour(OneArm::VIP, lab.director.mac())
        .unwrap();
    let load = Load::start(&lab.client.ns, SERVICE, 100, SECOND / 5);
    http::wait_for_answer(&lab.client.ns, SERVICE, SECOND).unwrap();

    for _ in 0..3 {
        lab.director.remove_address(OneArm::VIP, "eth0").unwrap();
        thread::sleep(SECOND / 4);
        let before = scheduled(&director);
        thread::sleep(SECOND / 2);
        assert_eq!(
            scheduled(&director),
            before,
            "no connection is scheduled while the VIP is away"
        );
        lab.director.add_address(OneArm::VIP, "eth0").unwrap();
        http::wait_for_answer(&lab.client.ns, SERVICE, SECOND).unwrap();
        thread::sleep(SECOND / 2);
    }
    let tally = load.stop();
    assert!(tally.answers["rs1"] > 50, "{tally:?}");
    assert!(
        !tally.failures.is_empty(),
        "requests fail while the VIP is away"
    );
    let bodies = http::sequence(&lab.client.ns, SERVICE, 20).unwrap();
    assert_eq!(bodies, ["rs1"; 20]);
}

#[test]
fn what_is_for_no_service_reaches_the_stack() {
    let lab = OneArm::new().unwrap();
    let director = director(&lab);
    ping(&lab.client.ns, lab.director.addr, SECOND).unwrap();
    ping(&lab.client.ns, OneArm::VIP, SECOND).unwrap();

    let listener = lab
        .director
        .ns
        .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)))
        .unwrap();
    let echo = thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).expect("five bytes");
            stream.write_all(&bytes).expect("the client reads");
        }
    });
    for addr in [lab.director.addr, OneArm::VIP] {
        let to = SocketAddrV4::new(addr, 8080).into();
        let mut stream = lab
            .client
            .ns
            .enter(|| TcpStream::connect_timeout(&to, SECOND))
            .unwrap();
        stream.set_read_timeout(Some(SECOND)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }
    echo.join().unwrap();

    // A UDP service address is not a TCP one, and the other way round.
    let datagram = lab
        .director
        .ns
        .enter(|| std::net::UdpSocket::bind(SERVICE))
        .unwrap();
    datagram.set_read_timeout(Some(SECOND)).unwrap();
    let sender = lab
        .client
        .ns
        .enter(|| std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .unwrap();
    sender.send_to(b"for the stack", SERVICE).unwrap();
    let mut bytes = [0; 64];
    let read = datagram.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..read], b"for the stack");
    assert_eq!(scheduled(&director), 0);
}

/// The sum of the reasons grows by the packets that the interface received.
#[test]
fn every_packet_ends_in_one_reason() {
    let lab = OneArm::new().unwrap();
    let director = director(&lab);
    // Packets received and packets with a reason, at a moment when none come.
    let both = || {
        for _ in 0..100 {
            let received = lab.director.ns.received("eth0").unwrap();
            let reasons = director
                .status()
                .unwrap()
                .reasons
                .iter()
                .map(|(_, count)| count)
                .sum::<u64>();
            if lab.director.ns.received("eth0").unwrap() == received {
                return (received, reasons);
            }
        }
        panic!("packets keep coming");
    };
    let before = both();
    http::sequence(&lab.client.ns, SERVICE, 20).unwrap();
    ping(&lab.client.ns, OneArm::VIP, SECOND).unwrap();
    let client = Tap::open(&lab.client.ns, "eth0").unwrap();
    for port in 2000..2100 {
        client.send(&syn_to(lab.director.mac(), port)).unwrap();
        client.send(&syn_to([2, 0, 0, 0, 0, 0x99], port)).unwrap();
        // Cut short in the IPv4 header.
        client
            .send(&syn_to(lab.director.mac(), port)[..30])
            .unwrap();
    }
    thread::sleep(SECOND / 5);
    let after = both();
    assert!(after.0 - before.0 >= 400, "{before:?} {after:?}");
    assert_eq!(
        after.1 - before.1,
        after.0 - before.0,
        "{:?}",
        director.status().unwrap().reasons
    );
}
