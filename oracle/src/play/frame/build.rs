//! Frames from fields.

use std::net::IpAddr;

use etherparse::{
    IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader,
    checksum::Sum16BitWords,
};

use lb_common::host::{frame::sctp_chunk, sums::crc32c};

use crate::scenario::{Extension, Icmp, Packet, Transport, Wrap};

/// Sequence and acknowledgement number and window of every segment: nobody
/// here looks at them.
const SEQUENCE: u32 = 1000;
const ACKNOWLEDGED: u32 = 2000;
const WINDOW: u16 = 64_000;
/// Verification tag of every SCTP packet.
const TAG: u32 = 3000;

/// A frame with these fields; `number` is the packet's own.
#[must_use]
pub fn build(packet: &Packet, number: u16, macs: ([u8; 6], [u8; 6])) -> Vec<u8> {
    let mut frame = [macs.1, macs.0].concat();
    frame.extend_from_slice(if packet.to.is_ipv4() {
        &[8, 0]
    } else {
        &[0x86, 0xdd]
    });
    frame.extend_from_slice(&whole(packet, number));
    frame
}

/// The packet from its IP header on.
fn whole(packet: &Packet, number: u16) -> Vec<u8> {
    let id = packet.id.unwrap_or(number);
    match (packet.from.ip(), packet.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (protocol, payload) = payload(packet, number);
            let (payload, offset, more) = piece(packet, payload);
            let mut header = Ipv4Header {
                dscp: IpDscp::try_new(packet.tos >> 2).unwrap_or_default(),
                ecn: IpEcn::try_new(packet.tos & 3).unwrap_or_default(),
                total_len: (Ipv4Header::MIN_LEN + payload.len()) as u16,
                identification: id,
                dont_fragment: packet.df,
                more_fragments: more,
                fragment_offset: etherparse::IpFragOffset::try_new(offset).unwrap_or_default(),
                time_to_live: packet.ttl,
                protocol,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv4Header::default()
            };
            header.header_checksum = header.calc_header_checksum();
            [&header.to_bytes()[..], &payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (next, payload) = extended(packet, number, id);
            let header = Ipv6Header {
                traffic_class: packet.tos,
                flow_label: Ipv6FlowLabel::try_new(id.into()).unwrap_or_default(),
                payload_length: payload.len() as u16,
                next_header: next,
                hop_limit: packet.ttl,
                source: from.octets(),
                destination: to.octets(),
            };
            [&header.to_bytes()[..], &payload].concat()
        }
        // The parser has seen to it that both are of one family.
        _ => Vec::new(),
    }
}

/// What follows the IPv6 header, and its number. Hop-by-hop options stand
/// before a fragment's header, destination options after it.
fn extended(packet: &Packet, number: u16, id: u16) -> (IpNumber, Vec<u8>) {
    let (mut next, mut bytes) = payload(packet, number);
    let padding = |next: IpNumber| [next.0, 0, 1, 4, 0, 0, 0, 0];
    let destination = |extension: &&Extension| **extension == Extension::Destination;
    for _ in packet.extensions.iter().filter(destination) {
        bytes = [&padding(next)[..], &bytes].concat();
        next = IpNumber::IPV6_DESTINATION_OPTIONS;
    }
    if packet.piece.is_some() {
        let (cut, offset, more) = piece(packet, bytes);
        let place = (offset << 3 | u16::from(more)).to_be_bytes();
        let name = u32::from(id).to_be_bytes();
        bytes = [&[next.0, 0], &place[..], &name, &cut].concat();
        next = IpNumber::IPV6_FRAGMENTATION_HEADER;
    }
    let hop = |extension: &&Extension| **extension == Extension::HopByHop;
    for _ in packet.extensions.iter().filter(hop) {
        bytes = [&padding(next)[..], &bytes].concat();
        next = IpNumber::IPV6_HEADER_HOP_BY_HOP;
    }
    (next, bytes)
}

/// The piece of a payload that is sent, its place in units of 8 bytes, and
/// whether more follow.
fn piece(packet: &Packet, payload: Vec<u8>) -> (Vec<u8>, u16, bool) {
    let Some((piece, of)) = packet.piece else {
        return (payload, 0, false);
    };
    let units = payload.len().div_ceil(usize::from(of) * 8);
    let begin = (usize::from(piece - 1) * units * 8).min(payload.len());
    let end = (begin + units * 8).min(payload.len());
    (
        payload[begin..end].to_vec(),
        (begin / 8) as u16,
        end < payload.len(),
    )
}

/// The IP payload with its checksum.
fn payload(packet: &Packet, number: u16) -> (IpNumber, Vec<u8>) {
    let data = match &packet.text {
        Some(text) => text.clone(),
        None => (0..packet.data).map(|index| index as u8).collect(),
    };
    let v4 = packet.to.is_ipv4();
    let (protocol, mut bytes, sum_at) = match &packet.transport {
        Transport::Tcp(flags) => {
            let mut tcp = TcpHeader::new(packet.from.port(), packet.to.port(), SEQUENCE, WINDOW);
            tcp.syn = flags.syn;
            tcp.fin = flags.fin;
            tcp.rst = flags.rst;
            tcp.ack = flags.ack;
            tcp.psh = flags.psh;
            if flags.ack {
                tcp.acknowledgment_number = ACKNOWLEDGED;
            }
            (IpNumber::TCP, tcp.to_bytes().to_vec(), Some(16))
        }
        Transport::Udp => {
            let udp = UdpHeader {
                source_port: packet.from.port(),
                destination_port: packet.to.port(),
                length: (UdpHeader::LEN + data.len()) as u16,
                checksum: 0,
            };
            let sum_at = (!packet.no_checksum).then_some(6);
            (IpNumber::UDP, udp.to_bytes().to_vec(), sum_at)
        }
        Transport::Sctp(chunks) => {
            return (IpNumber::SCTP, sctp(packet, chunks, &data));
        }
        Transport::Icmp(message) => {
            let protocol = if v4 {
                IpNumber::ICMP
            } else {
                IpNumber::IPV6_ICMP
            };
            (protocol, icmp(message, number), Some(2))
        }
        Transport::Tunnel(wrap, inner) => {
            let (protocol, bytes) = tunnel(packet, *wrap, inner, number);
            let sum_at = (protocol == IpNumber::UDP && !packet.no_checksum).then_some(6);
            (protocol, bytes, sum_at)
        }
    };
    bytes.extend_from_slice(&data);
    if let Some(at) = sum_at {
        let mut sum = sum(packet.from.ip(), packet.to.ip(), protocol, &bytes);
        if protocol == IpNumber::UDP && sum == 0 {
            sum = u16::MAX;
        }
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    (protocol, bytes)
}

/// What a tunnel's IP header carries; a UDP header still without its checksum.
fn tunnel(packet: &Packet, wrap: Wrap, inner: &Packet, number: u16) -> (IpNumber, Vec<u8>) {
    let (protocol, ethertype) = if inner.to.is_ipv4() {
        (IpNumber::IPV4, [8, 0])
    } else {
        (IpNumber::IPV6, [0x86, 0xdd])
    };
    let inner = whole(inner, number);
    match wrap {
        Wrap::Ipip => (protocol, inner),
        Wrap::Gue => {
            let gue = [0, protocol.0, 0, 0];
            let udp = UdpHeader {
                source_port: packet.from.port(),
                destination_port: packet.to.port(),
                length: (UdpHeader::LEN + gue.len() + inner.len()) as u16,
                checksum: 0,
            };
            (IpNumber::UDP, [&udp.to_bytes()[..], &gue, &inner].concat())
        }
        Wrap::Gre => {
            let mut header = vec![0, 0, ethertype[0], ethertype[1]];
            if !packet.no_checksum {
                header[0] = 0x80;
                let sum = Sum16BitWords::new().add_slice(&header).add_slice(&inner);
                let sum = sum.ones_complement().to_be();
                header.extend(sum.to_be_bytes());
                header.extend([0; 2]);
            }
            (IpNumber::GRE, [header, inner].concat())
        }
    }
}

/// An SCTP packet; the data is in its first chunk. Without a checksum, it is a
/// wrong one: no packet's is 0 here.
fn sctp(packet: &Packet, chunks: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = packet.from.port().to_be_bytes().to_vec();
    bytes.extend(packet.to.port().to_be_bytes());
    bytes.extend(TAG.to_be_bytes());
    bytes.extend([0; 4]);
    for (index, kind) in chunks.iter().enumerate() {
        let value = if index == 0 { data } else { &[] };
        bytes.extend(sctp_chunk(*kind, 0, value));
    }
    if !packet.no_checksum {
        let sum = crc32c(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&sum);
    }
    bytes
}

fn icmp(message: &Icmp, number: u16) -> Vec<u8> {
    let mut bytes = vec![message.kind, message.code, 0, 0];
    bytes.extend_from_slice(&message.mtu.to_be_bytes());
    if let Some((about, quote)) = &message.about {
        let mut quoted = whole(about, number);
        quoted.truncate((*quote).into());
        bytes.extend_from_slice(&quoted);
    }
    bytes
}

/// The checksum over a payload whose own is 0, or 0 when the one in it is right.
pub(super) fn sum(from: IpAddr, to: IpAddr, protocol: IpNumber, bytes: &[u8]) -> u16 {
    let sum = Sum16BitWords::new().add_slice(bytes);
    let pseudo = |sum: Sum16BitWords| {
        let mut sum = sum.add_2bytes([0, protocol.0]);
        sum.add_4bytes((bytes.len() as u32).to_be_bytes())
    };
    let sum = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) if protocol == IpNumber::ICMP => sum,
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            pseudo(sum.add_slice(&from.octets()).add_slice(&to.octets()))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            pseudo(sum.add_slice(&from.octets()).add_slice(&to.octets()))
        }
        _ => sum,
    };
    sum.ones_complement().to_be()
}
