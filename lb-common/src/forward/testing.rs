//! What the tests of rewriting share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use proptest::prelude::*;

use super::Learned;
use crate::{
    facts::Facts,
    host::{
        HostPacket, HostTables,
        frame::{Frame, Frame6, checksum},
    },
    tables::Params,
    wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6},
};

/// A frame of either family.
#[derive(Clone, Debug)]
pub(crate) enum Any {
    Four(Frame),
    Six(Frame6),
}

impl Any {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Four(frame) => frame.build(),
            Self::Six(frame) => frame.build(),
        }
    }

    pub(crate) fn packet(&self) -> HostPacket {
        HostPacket::new(&self.bytes(), 7)
    }
}

/// An address as in [`Facts`].
pub(crate) fn words(text: &str) -> [u64; 2] {
    match text.parse::<IpAddr>().expect("an address") {
        IpAddr::V4(addr) => [u32::from_ne_bytes(addr.octets()).into(), 0],
        IpAddr::V6(addr) => bytemuck::cast(addr.octets()),
    }
}

/// Reads a frame's facts independently of the engine's parsers. Ports are read
/// whatever the protocol is.
pub(crate) fn facts(frame: &[u8]) -> Facts {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let mut l3 = 14;
    while matches!(word(l3 - 2), 0x8100 | 0x88a8) {
        l3 += 4;
    }
    let mut facts = Facts {
        l3: l3 as u64,
        ..Facts::default()
    };
    let ip = &frame[l3..];
    let (protocol, l4) = if ip[0] >> 4 == 4 {
        facts.family = 4;
        facts.ttl = ip[8].into();
        facts.l3_len = word(l3 + 2).into();
        facts.src[0] = u32::from_ne_bytes(ip[12..16].try_into().unwrap()).into();
        facts.dst[0] = u32::from_ne_bytes(ip[16..20].try_into().unwrap()).into();
        (ip[9], l3 + usize::from(ip[0] & 15) * 4)
    } else {
        facts.family = 6;
        facts.ttl = ip[7].into();
        facts.l3_len = 40 + u64::from(word(l3 + 4));
        facts.src = bytemuck::pod_read_unaligned(&ip[8..24]);
        facts.dst = bytemuck::pod_read_unaligned(&ip[24..40]);
        let (mut next, mut at) = (ip[6], l3 + 40);
        while matches!(next, 0 | 43 | 60 | 44) {
            next = frame[at];
            at += 8 * (1 + usize::from(frame[at + 1]));
        }
        (next, at)
    };
    facts.l4 = l4 as u64;
    let ports = frame
        .get(l4..l4 + 4)
        .map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().unwrap()));
    facts.ports = u64::from(ports) | u64::from(protocol) << 32;
    facts
}

/// A way with `tags` tags.
pub(crate) fn way(family: u8, tags: usize, mtu: u32) -> Learned {
    let mut kept = [0; 2];
    for (i, tag) in kept.iter_mut().enumerate().take(tags) {
        let bytes = [0x81, 0, 0x20 + i as u8, 5];
        *tag = u32::from_ne_bytes(bytes);
    }
    Learned {
        ifindex: 9,
        mtu,
        to: 0xf100_0000_0002,
        from: 0xf200_0000_0002,
        tags: kept,
        ethertype: if family == 4 {
            ETHERTYPE_IPV4
        } else {
            ETHERTYPE_IPV6
        },
    }
}

/// The bytes that [`way`] must put in front.
pub(crate) fn header(family: u8, tags: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 0xf1, 2, 0, 0, 0, 0, 0xf2];
    for i in 0..tags {
        bytes.extend([0x81, 0, 0x20 + i as u8, 5]);
    }
    bytes.extend(if family == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    });
    bytes
}

/// Frames of TCP, UDP and SCTP: tags, options or extension headers, payloads of every
/// small length, extreme addresses, UDP without a checksum.
pub(crate) fn any_frame() -> impl Strategy<Value = Any> {
    let common = (
        0..3_usize,
        any::<(u16, u16)>(),
        prop_oneof![Just(6_u8), Just(17), Just(132)],
        2..=255_u8,
        prop::collection::vec(any::<u8>(), 0..80),
        0..4_usize,
    );
    let addresses = any::<[bool; 2]>().prop_flat_map(|extreme| {
        let one = |extreme: bool| {
            if extreme {
                prop_oneof![Just([0_u8; 16]), Just([0xff; 16])].boxed()
            } else {
                any::<[u8; 16]>().boxed()
            }
        };
        (one(extreme[0]), one(extreme[1]))
    });
    (common, addresses, any::<bool>(), any::<(u8, u16)>()).prop_map(
        |((tags, ports, protocol, ttl, payload, options), ends, six, (class, id))| {
            let tags = vec![(0x8100, 5); tags];
            let six_end = |bytes: [u8; 16], port| SocketAddrV6::new(bytes.into(), port, 0, 0);
            let four_end = |bytes: [u8; 16], port| {
                let [a, b, c, d, ..] = bytes;
                SocketAddrV4::new([a, b, c, d].into(), port)
            };
            if six {
                Any::Six(Frame6 {
                    tags,
                    protocol,
                    ttl,
                    class: (class, id.into()),
                    payload,
                    extensions: vec![(60, vec![1, 4, 0, 0, 0, 0]); options.min(2)],
                    ..Frame6::tcp(six_end(ends.0, ports.0), six_end(ends.1, ports.1), 0x10)
                })
            } else {
                Any::Four(Frame {
                    tags,
                    protocol,
                    ttl,
                    payload,
                    options: vec![1; 4 * options],
                    misc: (class, id, 0x4000),
                    ..Frame::tcp(four_end(ends.0, ports.0), four_end(ends.1, ports.1), 0x10)
                })
            }
        },
    )
}

/// An end of family `family` from arbitrary bytes.
pub(crate) fn end(family: u64, bytes: [u8; 16], port: u16) -> super::End {
    let addr = if family == 4 {
        let [a, b, c, d, ..] = bytes;
        words(&Ipv4Addr::new(a, b, c, d).to_string())
    } else {
        words(&Ipv6Addr::from(bytes).to_string())
    };
    super::End {
        addr,
        port: port.to_be(),
    }
}

/// A frame between two ends given as text.
pub(crate) fn between(source: &str, destination: &str) -> Any {
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            Any::Four(Frame::tcp(source, destination, 0x10))
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            Any::Six(Frame6::tcp(source, destination, 0x10))
        }
        _ => panic!("two families"),
    }
}

/// An ICMP error about `frame` from a router to the packet's source, quoting at
/// most `quote` bytes.
pub(crate) fn about(frame: &[u8], kind: u8, code: u8, rest: u32, quote: usize) -> Vec<u8> {
    let src = facts(frame).src;
    let to: IpAddr = if facts(frame).family == 4 {
        (src[0] as u32).to_ne_bytes().into()
    } else {
        bytemuck::cast::<_, [u8; 16]>(src).into()
    };
    let from = if to.is_ipv4() {
        "5.5.5.5"
    } else {
        "2001:db8::99"
    };
    about_from(from, &to.to_string(), frame, [kind, code], rest, quote)
}

/// As [`about`], from and to these addresses.
pub(crate) fn about_from(
    from: &str,
    to: &str,
    frame: &[u8],
    kind: [u8; 2],
    rest: u32,
    quote: usize,
) -> Vec<u8> {
    let inner = facts(frame);
    let packet = &frame[inner.l3 as usize..(inner.l3 + inner.l3_len) as usize];
    let quoted = &packet[..quote.min(packet.len())];
    let mut payload = [&kind[..], &[0, 0], &rest.to_be_bytes(), quoted].concat();
    let length = (payload.len() as u32).to_be_bytes();
    match (from.parse().unwrap(), to.parse().unwrap()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let sum = checksum(&payload);
            payload[2..4].copy_from_slice(&sum);
            Frame {
                protocol: 1,
                payload,
                ..Frame::tcp(SocketAddrV4::new(from, 0), SocketAddrV4::new(to, 0), 0)
            }
            .build()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ends = [from.octets(), to.octets()].concat();
            let sum = checksum(&[&ends[..], &length, &[0, 0, 0, 58], &payload].concat());
            payload[2..4].copy_from_slice(&sum);
            let end = |ip| SocketAddrV6::new(ip, 0, 0, 0);
            Frame6 {
                protocol: 58,
                payload,
                ..Frame6::tcp(end(from), end(to), 0)
            }
            .build()
        }
        _ => panic!("two families"),
    }
}

/// Tables with one server and one next hop.
pub(crate) fn tables() -> HostTables {
    let params = Params {
        flow4_cells: 8,
        flow6_cells: 8,
        service_slots: 1,
        list_entries: 1,
        iface_slots: 1,
        rule_words: 1,
        reserved: 0,
        ..Params::default()
    };
    HostTables::new(params, 1, 1)
}
