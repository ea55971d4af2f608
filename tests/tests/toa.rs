//! The client's address in a TCP option, as a server's interface sees it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use etherparse::{SlicedPacket, TransportSlice};
use lvx_tests::{
    director::Director,
    http,
    lab::{Namespace, OneArm, Options},
    transfer::Payload,
};
use socket2::{Domain, Protocol, Socket, Type};

const LIMIT: Duration = Duration::from_secs(60);
/// Every EtherType, in network byte order.
const ALL: i32 = 0x0300;

/// A segment to a server's port 8080.
#[derive(Clone, Debug)]
struct Seen {
    syn: bool,
    data: usize,
    /// The client's end, where the segment tells it.
    client: Option<SocketAddr>,
}

/// Reads what comes in by a namespace's interfaces.
struct Tap(Socket);

impl Tap {
    fn new(ns: &Namespace) -> Self {
        let socket = ns.enter(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL))));
        let socket = socket.expect("a packet socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a time-out can be set");
        Self(socket)
    }

    /// The segments that have come, until nothing comes for a while.
    fn segments(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut frame = vec![0; 65_536];
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            let Ok(length) = (&self.0).read(&mut frame) else {
                break;
            };
            let Ok(packet) = SlicedPacket::from_ethernet(&frame[..length]) else {
                continue;
            };
            if let Some(TransportSlice::Tcp(tcp)) = packet.transport
                && tcp.destination_port() == 8080
            {
                seen.push(Seen {
                    syn: tcp.syn(),
                    data: tcp.payload().len(),
                    client: told(tcp.options()),
                });
            }
        }
        seen
    }
}

/// The client's end in TCP options, read as a server does: kind by kind.
fn told(mut options: &[u8]) -> Option<SocketAddr> {
    loop {
        match options {
            [0, ..] | [] => return None,
            [1, rest @ ..] => options = rest,
            [254, length, high, low, address @ ..] => {
                let ip: IpAddr = match length {
                    8 => <[u8; 4]>::try_from(&address[..4]).expect("four").into(),
                    20 => <[u8; 16]>::try_from(&address[..16])
                        .expect("sixteen")
                        .into(),
                    other => panic!("{other} bytes"),
                };
                return Some(SocketAddr::new(ip, u16::from_be_bytes([*high, *low])));
            }
            [_, length, ..] => options = &options[usize::from(*length)..],
            [_] => panic!("half an option"),
        }
    }
}

const VIPS: [IpAddr; 2] = [
    IpAddr::V4(OneArm::VIP),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x200)),
];
const SERVICES: [&str; 2] = ["192.168.0.200:80", "[fd00::200]:80"];

/// The director knows two servers by FULLNAT, in both families.
fn lab() -> OneArm {
    let lab = OneArm::with(Options::default()).expect("a lab");
    let addresses: [(&Namespace, &[&str]); 3] = [
        (&lab.client.ns, &["fd00::100/64"]),
        (&lab.director.ns, &["fd00::50/64", "fd00::200/128"]),
        (&lab.servers[0].node.ns, &["fd00::10/64"]),
    ];
    for (ns, addresses) in addresses {
        ns.enable_ipv6().expect("IPv6 can be switched on");
        for address in addresses {
            let last = if address.ends_with("/128") {
                " preferred_lft 0"
            } else {
                ""
            };
            ns.ip(&format!("addr add {address} dev eth0 nodad{last}"))
                .expect("an address");
        }
        ns.wait_for_ipv6(1).expect("addresses that can be used");
    }
    lab
}

fn configure(director: &Director<'_>, toa: &str) {
    for (service, server) in SERVICES
        .iter()
        .zip(["192.168.0.10:8080", "[fd00::10]:8080"])
    {
        director.configure(&format!(
            "-A -t {service} -s rr {toa}
             -a -t {service} -r {server} --fullnat"
        ));
    }
    director.wait_for_ways().expect("servers that answer");
}

/// A request whose client's port is known: who answered, and from where.
fn request(client: &Namespace, vip: IpAddr) -> (SocketAddr, Vec<u8>) {
    client.enter(|| {
        let at = SocketAddr::new(vip, 80);
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).expect("connects");
        let from = stream.local_addr().expect("is bound");
        stream
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .expect("a request");
        let mut body = Vec::new();
        stream.read_to_end(&mut body).expect("an answer");
        (SocketAddr::new(from.ip(), from.port()), body)
    })
}

#[test]
fn a_server_sees_who_its_client_is() {
    let lab = lab();
    let director = Director::start(&lab.director.ns).unwrap();
    configure(&director, "--toa");
    let saved = director.ipvsadm(&["-Sn"]).ok();
    assert!(
        saved.contains("-A -t 192.168.0.200:80 -s rr --toa"),
        "{saved}"
    );
    let client = &lab.client.ns;
    for (vip, service) in VIPS.into_iter().zip(SERVICES) {
        let tap = Tap::new(&lab.servers[0].node.ns);
        let (from, body) = request(client, vip);
        let body = String::from_utf8_lossy(&body);
        assert!(body.trim_end().ends_with("rs1"), "{body}");
        let seen = tap.segments();
        assert!(seen.len() >= 4, "{seen:?}");
        // SYN, the ACK that completes the handshake, the request.
        assert!(seen[0].syn && !seen[1].syn, "{seen:?}");
        for segment in &seen[..3] {
            assert_eq!(segment.client, Some(from), "{seen:?}");
        }
        assert!(seen.iter().any(|segment| segment.data > 0), "{seen:?}");
        let last = seen.last().unwrap();
        assert_eq!(last.client, None, "the server has answered: {seen:?}");
        // The stack that takes it is not disturbed by an option it does not know.
        let url = format!("http://{service}/");
        assert_eq!(http::curl(client, &url).unwrap(), "rs1");
    }

    // Switched off.
    for service in SERVICES {
        director.configure(&format!("-E -t {service} -s rr"));
    }
    for vip in VIPS {
        let tap = Tap::new(&lab.servers[0].node.ns);
        request(client, vip);
        let seen = tap.segments();
        assert!(
            seen.len() >= 4 && seen.iter().all(|s| s.client.is_none()),
            "{seen:?}"
        );
    }
}

#[test]
fn megabytes_both_ways() {
    let lab = lab();
    let director = Director::start(&lab.director.ns).unwrap();
    configure(&director, "--toa");
    let payload = Payload::new(&lab.lab, "big", 10 << 20).unwrap();
    let client = &lab.client.ns;
    for host in ["192.168.0.200", "[fd00::200]"] {
        payload.download(client, host, LIMIT).unwrap();
        payload.upload(&lab.lab, client, host, LIMIT).unwrap();
    }
}
