//! Random frames, from plausible to garbage.

use std::net::{IpAddr, SocketAddr};

use lb_common::host::frame::{Frame, Frame6, checksum, sctp_chunk};
use rand::{Rng, RngCore, rngs::StdRng, seq::IndexedRandom};

use super::{
    errors,
    everything::{SIP_PORT, VIPS, client_address, vip},
    scene::{How, OUR_INNER, OUR_MAC, OUR_VLAN, Reached, Server, Service, local_end, nat_address},
};

const CLIENTS: u8 = 8;

/// What the frames are about.
pub struct Traffic {
    /// Where NAT servers answer from, by which protocol, and to whom, if not to
    /// the client.
    servers: Vec<(SocketAddr, u8, Option<SocketAddr>)>,
    /// Services that are there.
    services: Vec<(SocketAddr, u8)>,
    /// Those whose servers are told their clients' addresses: few, and more is to
    /// be seen of them.
    telling: Vec<(SocketAddr, u8)>,
}

/// One end to the other.
#[derive(Clone, Copy)]
struct Flow {
    source: SocketAddr,
    destination: SocketAddr,
    protocol: u8,
}

impl Traffic {
    /// For the services of a scene.
    pub fn of(services: &[Service]) -> Self {
        let mut servers = Vec::new();
        let mut slot = 0;
        for service in services {
            let family = if service.vip.is_ipv4() { 4 } else { 6 };
            for server in &service.servers {
                if let How::Nat { host, port } | How::Fullnat { host, port, .. } = server.how {
                    let port = if port == 0 { service.port } else { port };
                    let address = SocketAddr::new(nat_address(host, family), port);
                    // FULLNAT to the director itself is NAT.
                    let is_full = matches!(server.how, How::Fullnat { .. })
                        && server.reached != Reached::Local;
                    let local = is_full.then(|| local_end(slot, family));
                    servers.push((address, service.protocol, local));
                }
                slot += 1;
            }
        }
        let end = |it: &Service| (SocketAddr::new(it.vip, it.port), it.protocol);
        let tells = |it: &&Service| {
            let is_full = |server: &Server| matches!(server.how, How::Fullnat { .. });
            it.toa && it.servers.iter().any(is_full)
        };
        Self {
            servers,
            telling: services.iter().filter(tells).map(end).collect(),
            services: services.iter().map(end).collect(),
        }
    }

    /// A random frame of at least 14 bytes (`BPF_PROG_TEST_RUN` takes no less).
    /// Mostly packets between a small set of clients and the scene's services
    /// and servers, so that connections form; one in four is damaged somewhere.
    pub fn frame(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut frame = if rng.random_ratio(1, 8) {
            self.error(rng)
        } else {
            let flow = self.flow(rng);
            build(rng, flow, None)
        };
        if rng.random_ratio(1, 4) {
            damage(rng, &mut frame);
        }
        frame
    }

    /// An ICMP message about a packet of a connection, perhaps, from one of its
    /// ends or from a router.
    fn error(&self, rng: &mut StdRng) -> Vec<u8> {
        let about_reply = rng.random();
        let (end, protocol, local) = if about_reply {
            let &(end, protocol) = self.services.choose(rng).expect("not empty");
            (end, protocol, None)
        } else {
            *self.servers.choose(rng).expect("not empty")
        };
        let family = if end.is_ipv4() { 4 } else { 6 };
        let client = local.unwrap_or_else(|| client(rng, family));
        let inner = if about_reply {
            [end, client]
        } else {
            [client, end]
        };
        let router = nat_address(200, family);
        let from = *[router, inner[1].ip()].choose(rng).expect("not empty");
        let outer = [SocketAddr::new(from, 0), SocketAddr::new(inner[0].ip(), 0)];
        let message = errors::message(rng, outer, inner, protocol);
        let flow = Flow {
            source: outer[0],
            destination: outer[1],
            protocol: if family == 4 { 1 } else { 58 },
        };
        build(rng, flow, Some(message))
    }

    /// A router's error about a tunnel packet that the director has sent, from its
    /// layer 3 on; one in four is damaged somewhere.
    pub fn error_about_tunnel(rng: &mut StdRng, sent: &[u8]) -> Vec<u8> {
        let (family, director) = if sent[0] >> 4 == 4 {
            (
                4,
                IpAddr::from(<[u8; 4]>::try_from(&sent[12..16]).expect("four")),
            )
        } else {
            (
                6,
                IpAddr::from(<[u8; 16]>::try_from(&sent[8..24]).expect("sixteen")),
            )
        };
        let ends = [nat_address(200, family), director].map(|addr| SocketAddr::new(addr, 0));
        let message = errors::about(rng, ends, sent);
        let flow = Flow {
            source: ends[0],
            destination: ends[1],
            protocol: if family == 4 { 1 } else { 58 },
        };
        let mut frame = build(rng, flow, Some(message));
        if rng.random_ratio(1, 4) {
            damage(rng, &mut frame);
        }
        frame
    }

    fn flow(&self, rng: &mut StdRng) -> Flow {
        let services = if rng.random_ratio(1, 12) {
            &self.telling
        } else {
            &self.services
        };
        let &(service, protocol) = services.choose(rng).expect("not empty");
        let family = if service.is_ipv4() { 4 } else { 6 };
        let mut client = client(rng, family);
        if service.port() == 443 && rng.random() {
            // Its servers have room for one connection each: mostly this client's.
            client = SocketAddr::new(client_address(0, family), 1000);
        }
        match rng.random_range(0..20) {
            // A reply of a NAT server.
            0..6 => {
                let &(server, protocol, local) = self.servers.choose(rng).expect("not empty");
                let family = if server.is_ipv4() { 4 } else { 6 };
                let client = local.unwrap_or_else(|| self::client(rng, family));
                Flow {
                    source: server,
                    destination: client,
                    protocol,
                }
            }
            // One that passes by.
            6 | 7 => Flow {
                source: service,
                destination: client,
                protocol,
            },
            // Neither a service nor a connection, perhaps.
            8 | 9 => {
                let server = nat_address(rng.random_range(1..9), family);
                let vip = vip(family, rng.random_range(1..=VIPS + 1));
                let anybody = [server, vip, client.ip()];
                let ports = [0, 20, 53, 80, 443, 8080, 1000];
                let mut end = || {
                    let address = anybody.choose(rng).expect("not empty");
                    SocketAddr::new(*address, *ports.choose(rng).expect("not empty"))
                };
                Flow {
                    source: end(),
                    destination: end(),
                    protocol: *[6, 17, 1, 58, 47, 132].choose(rng).expect("not empty"),
                }
            }
            _ => Flow {
                source: client,
                destination: service,
                protocol,
            },
        }
    }
}

fn client(rng: &mut StdRng, family: u8) -> SocketAddr {
    let address = client_address(rng.random_range(0..CLIENTS), family);
    let ports = [20_u16, 0, 1000, 1001, 1002, 1003, 1004, 1005];
    SocketAddr::new(address, *ports.choose(rng).expect("not empty"))
}

/// Destination station, and tags: mostly ours.
fn layer_2(rng: &mut StdRng) -> ([u8; 6], Vec<(u16, u16)>) {
    let station = if rng.random_ratio(1, 20) {
        [2, 9, 9, 9, 9, 9]
    } else {
        OUR_MAC
    };
    let tags = match rng.random_range(0..25) {
        0 => vec![(0x8100, OUR_VLAN | rng.random_range(0..16) << 12)],
        1 => vec![(0x88a8, OUR_VLAN)],
        2 => vec![(0x88a8, OUR_VLAN), (0x8100, OUR_INNER)],
        3 => vec![(0x8100, 0x6000)],
        4 => vec![(0x8100, 7)],
        5 => vec![(0x88a8, OUR_VLAN), (0x8100, 5)],
        6 => vec![(0x8100, OUR_VLAN); 3],
        _ => Vec::new(),
    };
    (station, tags)
}

/// A SIP message of one of a few calls, with the header that names it somewhere, or
/// with what is not quite one.
fn message(rng: &mut StdRng) -> Vec<u8> {
    let lines = [
        "Via: x\r\n",
        "To:\r\n\ty\n",
        "\r\n",
        "Call",
        "\n i: z\r\n",
        "\r",
    ];
    let names = ["Call-ID:", "i:", "cALL-id \t:\r\n ", "I : ", "Call-I:"];
    let mut text = String::from("INVITE sip:x SIP/2.0\r\n");
    for _ in 0..rng.random_range(0..60) {
        text.push_str(lines.choose(rng).expect("not empty"));
    }
    text.push_str(names.choose(rng).expect("not empty"));
    let host = if rng.random() { "@h" } else { "" };
    text.push_str(&format!("{}{host}\r\n", rng.random_range(0..8)));
    text.into_bytes()
}

/// A frame with this payload, or with a random one.
fn build(rng: &mut StdRng, flow: Flow, payload: Option<Vec<u8>>) -> Vec<u8> {
    let (station, tags) = layer_2(rng);
    // A client's gateway may be one or the other, and the way back with it.
    let stations = [station, [2, 0, 0, 0, 0, rng.random_range(0xa0..0xa2)]];
    let flags = *[
        0x02, 0x02, 0x10, 0x10, 0x11, 0x04, 0x14, 0x12, 0x00, 0x06, 0x18,
    ]
    .choose(rng)
    .expect("not empty");
    let ttl = *[64, 64, 64, 64, 64, 255, 2, 1, 0]
        .choose(rng)
        .expect("not empty");
    let length = *[0, 0, 1, 40, 41, 700, 1200, 1440, 1480]
        .choose(rng)
        .expect("not empty");
    let payload = payload.unwrap_or_else(|| {
        if flow.protocol == 132 && rng.random_ratio(19, 20) {
            return chunks(rng, length);
        }
        if flow.destination.port() == SIP_PORT && rng.random_ratio(3, 4) {
            return message(rng);
        }
        let mut payload = vec![0; length];
        rng.fill_bytes(&mut payload);
        payload
    });
    let class = rng.random();
    let l4;
    let mut frame = match (flow.source, flow.destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            let words = if rng.random_ratio(1, 12) {
                rng.random_range(1..=10)
            } else {
                0
            };
            let tcp_options = tcp_options(rng);
            let mut options = vec![0; words * 4];
            rng.fill_bytes(&mut options);
            let fragment: u16 = match rng.random_range(0..40) {
                0 | 1 => 0x2000,
                2 => 0x2010,
                3 => 0x0001,
                4 => 0x00b9,
                5..12 => 0,
                _ => 0x4000,
            };
            l4 = 20 + options.len();
            Frame {
                stations,
                tags,
                protocol: flow.protocol,
                ttl,
                // Few identifications, so that fragments find each other.
                misc: (class, rng.random_range(0..4), fragment),
                options,
                tcp_options,
                payload,
                ..Frame::tcp(source, destination, flags)
            }
            .build()
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            let extensions = extensions(rng);
            l4 = 40 + extensions.iter().map(|it| 2 + it.1.len()).sum::<usize>();
            Frame6 {
                stations,
                tags,
                protocol: flow.protocol,
                ttl,
                class: (class, rng.random_range(0..1 << 20)),
                extensions,
                tcp_options: tcp_options(rng),
                payload,
                ..Frame6::tcp(source, destination, flags)
            }
            .build()
        }
        _ => unreachable!("both ends are of one family"),
    };
    // Without a checksum, or with a wrong one, which stays wrong.
    if flow.protocol == 17 && rng.random_ratio(1, 6) {
        let at = layer_3(&frame) + l4 + 6;
        let sum = if rng.random() { [0, 0] } else { rng.random() };
        frame[at..at + 2].copy_from_slice(&sum);
    }
    if flow.protocol == 132 && rng.random_ratio(1, 6) {
        let at = layer_3(&frame) + l4 + 8;
        frame[at..at + 4].copy_from_slice(&rng.random::<[u8; 4]>());
    }
    // Short frames are padded by drivers.
    while frame.len() < 60 && rng.random_ratio(1, 2) {
        frame.push(0);
    }
    frame
}

/// SCTP chunks: one that opens as a rule, sometimes an ABORT behind the first.
fn chunks(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let kind = *[1, 1, 1, 10, 10, 11, 0, 3, 2, 7, 8, 14, 9, 6, 200]
        .choose(rng)
        .expect("not empty");
    let mut value = vec![0; length];
    rng.fill_bytes(&mut value);
    let mut chunks = sctp_chunk(kind, rng.random(), &value);
    match rng.random_range(0..8) {
        0 | 1 => chunks.extend(sctp_chunk(6, 0, &[])),
        2 => chunks.extend(sctp_chunk(0, 3, b"data")),
        // A length that is no chunk's, or reaches far.
        3 => chunks[2..4].copy_from_slice(&rng.random::<[u8; 2]>()),
        4 => chunks.truncate(rng.random_range(0..8)),
        _ => {}
    }
    chunks
}

/// Options of TCP, of most segments none.
fn tcp_options(rng: &mut StdRng) -> Vec<u8> {
    // Full ones leave no room for one more.
    let words = *[0, 0, 0, 1, 5, 9, 10, 10].choose(rng).expect("not empty");
    let mut options = vec![0; 4 * words];
    rng.fill_bytes(&mut options);
    options
}

/// Extension headers, of most packets none.
fn extensions(rng: &mut StdRng) -> Vec<(u8, Vec<u8>)> {
    let (numbers, count): (&[u8], _) = match rng.random_range(0..24) {
        0 | 1 => (&[0, 43, 60], 1),
        2 => (&[0, 43, 60], rng.random_range(2..4)),
        3 => (&[0, 60], rng.random_range(6..11)),
        // Fragment, authentication, security payload, none, anything.
        4 => (&[44, 44, 51, 50, 59, 135, 253], 1),
        _ => return Vec::new(),
    };
    let mut extension = |count: usize| {
        let eights = match rng.random_range(0..8) {
            0 if count < 4 => rng.random_range(15..24),
            1 | 2 => rng.random_range(1..4),
            _ => 0,
        };
        let number = *numbers.choose(rng).expect("not empty");
        let mut bytes = vec![0; 6 + 8 * eights];
        rng.fill_bytes(&mut bytes);
        (number, bytes)
    };
    (0..count).map(|_| extension(count)).collect()
}

/// Where layer 3 of an intact frame starts.
fn layer_3(frame: &[u8]) -> usize {
    let tags = frame[12..]
        .chunks(4)
        .take_while(|tag| matches!(tag[..2], [0x81, 0] | [0x88, 0xa8]));
    14 + 4 * tags.count()
}

/// Writes the checksum of an IPv4 header.
fn seal(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum);
}

fn damage(rng: &mut StdRng, frame: &mut Vec<u8>) {
    let l3 = layer_3(frame);
    match rng.random_range(0..5) {
        0 => frame.truncate(rng.random_range(14..=frame.len())),
        1 => {
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..frame.len().min(80));
                frame[at] = rng.random();
            }
        }
        // Damage behind the checksum: lengths and versions, sealed again.
        2 if frame[l3] >> 4 == 4 => {
            let at = l3 + *[0, 2, 3, 6, 7].choose(rng).expect("not empty");
            frame[at] = rng.random();
            let header = usize::from(frame[l3] & 15) * 4;
            if header >= 20 && frame.len() >= l3 + header {
                seal(&mut frame[l3..l3 + header]);
            }
        }
        2 => {
            let at = l3 + *[0, 4, 5, 6, 40, 41].choose(rng).expect("not empty");
            if at < frame.len() {
                frame[at] = rng.random();
            }
        }
        3 => {
            let at = rng.random_range(l3..=frame.len().min(l3 + 90));
            frame.truncate(at.max(14));
        }
        _ => {
            let length = rng.random_range(14..120);
            frame.resize(length, 0);
            rng.fill_bytes(frame);
        }
    }
}
