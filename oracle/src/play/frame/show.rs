//! Frames as text: every header field, from the IP header on.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, NetSlice, SlicedPacket, TcpSlice, TransportSlice,
    checksum::Sum16BitWords,
};

use lb_common::host::sums::crc32c;

use super::super::stage::SERVER_SIDE;
use super::{Sent, build::sum};
use crate::scenario::chunk_name;

const ETHERNET: usize = 14;

/// Every header field of a frame after the Ethernet header, as one line. The
/// identification, or flow label, is shown when it is 0 or the one that came in:
/// that of a packet which the director made itself is random.
#[must_use]
pub fn show(frame: &[u8], sent: &Sent) -> String {
    let mut line = String::new();
    let shown = match frame.get(12..ETHERNET) {
        Some([8, 0] | [0x86, 0xdd]) => packet(&mut line, &frame[ETHERNET..], sent, true),
        _ => None,
    };
    match shown {
        Some(()) => line,
        None => format!("{line} not a whole packet: {frame:02x?}"),
    }
}

/// What an IP header says about its payload.
struct Ip<'a> {
    from: IpAddr,
    to: IpAddr,
    protocol: IpNumber,
    payload: &'a [u8],
    /// Whether all of the payload is there: no fragment, no quote cut short.
    whole: bool,
    /// The place of a fragment.
    offset: u16,
}

/// A packet, or what is quoted of one; `None` when not even its header is there.
fn packet(line: &mut String, bytes: &[u8], sent: &Sent, outermost: bool) -> Option<()> {
    let ip = match bytes.first()? >> 4 {
        4 => ipv4(line, bytes, sent)?,
        6 => ipv6(line, bytes, sent)?,
        _ => return None,
    };
    if ip.offset != 0 {
        let _ = write!(
            line,
            " protocol {} part {}",
            ip.protocol.0,
            ip.payload.len()
        );
        return Some(());
    }
    let shown = match ip.protocol {
        IpNumber::TCP => tcp(line, &ip),
        IpNumber::UDP => udp(line, &ip, sent),
        IpNumber::SCTP => sctp(line, &ip),
        IpNumber::ICMP | IpNumber::IPV6_ICMP => icmp(line, &ip, sent),
        IpNumber::IPV4 | IpNumber::IPV6 => inner(line, "ipip", ip.payload, sent),
        IpNumber::GRE => gre(line, &ip, sent),
        _ => {
            let _ = write!(line, " protocol {}", ip.protocol.0);
            Some(())
        }
    };
    if shown.is_none() {
        let cut = if ip.whole || outermost {
            "broken"
        } else {
            "cut"
        };
        let _ = write!(
            line,
            " protocol {} {cut} {:02x?}",
            ip.protocol.0, ip.payload
        );
    }
    Some(())
}

// A string takes every write, here and below.

fn ipv4<'a>(line: &mut String, bytes: &'a [u8], sent: &Sent) -> Option<Ip<'a>> {
    let slice = Ipv4HeaderSlice::from_slice(bytes).ok()?;
    let header = slice.to_header();
    let (from, to) = (Ipv4Addr::from(header.source), header.destination.into());
    let _ = write!(
        line,
        "{from} > {} ttl {}",
        Ipv4Addr::from(header.destination),
        header.time_to_live
    );
    // That of a tunnel packet which may be fragmented, and of a message of the
    // director's own, is drawn at random: now and then it is 0, or that of the packet
    // inside or that came.
    let is_own = header.protocol == IpNumber::ICMP && !sent.is_icmp();
    if !is_own && (header.dont_fragment || from != SERVER_SIDE) {
        name(line, "id", header.identification.into(), sent);
    }
    let tos = header.dscp.value() << 2 | header.ecn.value();
    if tos != 0 {
        let _ = write!(line, " tos {tos}");
    }
    if header.dont_fragment {
        line.push_str(" df");
    }
    let _ = write!(line, " len {}", header.total_len);
    let offset = header.fragment_offset.value() * 8;
    fragment(line, offset, header.more_fragments);
    if header.header_checksum != header.calc_header_checksum() {
        line.push_str(" bad-header-checksum");
    }
    let end = usize::from(header.total_len).min(bytes.len());
    Some(Ip {
        from: from.into(),
        to: IpAddr::V4(to),
        protocol: header.protocol,
        payload: bytes.get(header.header_len()..end)?,
        whole: end == usize::from(header.total_len) && offset == 0 && !header.more_fragments,
        offset,
    })
}

fn ipv6<'a>(line: &mut String, bytes: &'a [u8], sent: &Sent) -> Option<Ip<'a>> {
    let header = Ipv6HeaderSlice::from_slice(bytes).ok()?.to_header();
    let (from, to) = (
        Ipv6Addr::from(header.source),
        Ipv6Addr::from(header.destination),
    );
    let _ = write!(line, "{from} > {to} ttl {}", header.hop_limit);
    name(line, "label", header.flow_label.value(), sent);
    if header.traffic_class != 0 {
        let _ = write!(line, " tos {}", header.traffic_class);
    }
    let _ = write!(line, " len {}", header.payload_length);
    let end = 40 + usize::from(header.payload_length);
    let mut ip = Ip {
        from: from.into(),
        to: to.into(),
        protocol: header.next_header,
        payload: bytes.get(40..end.min(bytes.len()))?,
        whole: end <= bytes.len(),
        offset: 0,
    };
    loop {
        let length = match ip.protocol {
            IpNumber::IPV6_HEADER_HOP_BY_HOP => {
                line.push_str(" hop");
                usize::from(*ip.payload.get(1)?) * 8 + 8
            }
            IpNumber::IPV6_DESTINATION_OPTIONS => {
                line.push_str(" options");
                usize::from(*ip.payload.get(1)?) * 8 + 8
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let place = u16::from_be_bytes([*ip.payload.get(2)?, *ip.payload.get(3)?]);
                let id = [4, 5, 6, 7].map(|at| ip.payload.get(at).copied().unwrap_or_default());
                fragment(line, place & !7, place & 1 != 0);
                name(line, "id", u32::from_be_bytes(id), sent);
                (ip.offset, ip.whole) = (place & !7, ip.whole && place & !6 == 0);
                8
            }
            _ => return Some(ip),
        };
        ip.protocol = IpNumber(ip.payload[0]);
        ip.payload = ip.payload.get(length..)?;
        if ip.offset != 0 {
            return Some(ip);
        }
    }
}

fn fragment(line: &mut String, offset: u16, more: bool) {
    if offset != 0 || more {
        let more = if more { "+" } else { "" };
        let _ = write!(line, " fragment {offset}{more}");
    }
}

fn name(line: &mut String, what: &str, value: u32, sent: &Sent) {
    if value == 0 && what == "id" || sent.id().is_some_and(|id| u32::from(id) == value) {
        let _ = write!(line, " {what} {value}");
    }
}

fn tcp(line: &mut String, ip: &Ip<'_>) -> Option<()> {
    let bytes = ip.payload;
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (from, to) = (word(0)?, word(2)?);
    let Ok(tcp) = TcpSlice::from_slice(bytes) else {
        // Of a quote.
        let _ = write!(line, " tcp {from} > {to} cut to {}", bytes.len());
        return Some(());
    };
    let header = tcp.to_header();
    let _ = write!(
        line,
        " tcp {from} > {to} {} seq {} ack {} win {} options {} data {}",
        super::flags(&header),
        header.sequence_number,
        header.acknowledgment_number,
        header.window_size,
        header.options.len(),
        tcp.payload().len()
    );
    finish(line, ip, header.checksum, tcp.payload());
    Some(())
}

fn udp(line: &mut String, ip: &Ip<'_>, sent: &Sent) -> Option<()> {
    let bytes = ip.payload;
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (from, to, length, checksum) = (word(0)?, word(2)?, word(4)?, word(6)?);
    let data = &bytes[8..];
    let bad_length = ip.whole && usize::from(length) != bytes.len();
    if let [0, next @ (4 | 41), 0, 0, first, ..] = data
        && usize::from(first >> 4) == if *next == 4 { 4 } else { 6 }
    {
        // The source port is a hash, keyed by the kernel.
        let right = match checksum {
            0 => "none",
            _ if sum(ip.from, ip.to, IpNumber::UDP, bytes) == 0 => "right",
            _ => "wrong",
        };
        let length = if bad_length { " bad-length" } else { "" };
        let what = format!("udp > {to}{length} checksum {right} gue 00{next:02x}0000");
        return inner(line, &what, &data[4..], sent);
    }
    let _ = write!(line, " udp {from} > {to} data {}", data.len());
    if bad_length {
        line.push_str(" bad-length");
    }
    if checksum == 0 {
        line.push_str(" no-checksum");
        if ip.whole {
            pattern(line, data);
        }
    } else {
        finish(line, ip, checksum, data);
    }
    Some(())
}

fn sctp(line: &mut String, ip: &Ip<'_>) -> Option<()> {
    let bytes = ip.payload;
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (from, to) = (word(0)?, word(2)?);
    let _ = write!(line, " sctp {from} > {to}");
    let (Some(header), Some(mut rest)) = (bytes.get(..12), bytes.get(12..)) else {
        // Of a quote.
        let _ = write!(line, " cut to {}", bytes.len());
        return Some(());
    };
    let number = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    let _ = write!(line, " tag {}", u32::from_be_bytes(number(4)));
    while let [kind, flags, high, low, ..] = *rest {
        match chunk_name(kind) {
            Some(name) => line.push_str(&format!(" {name}")),
            None => line.push_str(&format!(" chunk {kind}")),
        }
        if flags != 0 {
            let _ = write!(line, " flags {flags}");
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let _ = write!(line, " length {length}");
        let Some(value) = rest.get(4..length) else {
            line.push_str(" cut");
            break;
        };
        pattern(line, value);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    let sum = u32::from_le_bytes(number(8));
    let blank = [&bytes[..8], &[0; 4], &bytes[12..]].concat();
    if !ip.whole {
        let _ = write!(line, " checksum {sum:08x}");
    } else if crc32c(&blank) != sum {
        line.push_str(" bad-checksum");
    }
    Some(())
}

fn icmp(line: &mut String, ip: &Ip<'_>, sent: &Sent) -> Option<()> {
    let v6 = ip.protocol == IpNumber::IPV6_ICMP;
    let [kind, code, _, _, a, b, c, d, rest @ ..] = ip.payload else {
        return None;
    };
    let protocol = if v6 { "icmp6" } else { "icmp" };
    let _ = write!(line, " {protocol} {kind}/{code}");
    let mtu = u32::from_be_bytes([*a, *b, *c, *d]);
    let error = if v6 {
        *kind < 128
    } else {
        !matches!(kind, 0 | 8)
    };
    if !error {
        let _ = write!(line, " data {}", rest.len());
    } else if mtu != 0 {
        let field = if v6 && *kind == 4 { "pointer" } else { "mtu" };
        let _ = write!(line, " {field} {mtu}");
    }
    if ip.whole && sum(ip.from, ip.to, ip.protocol, ip.payload) != 0 {
        line.push_str(" bad-checksum");
    }
    if !error {
        return Some(());
    }
    let it = sent.frame.get(ETHERNET..ETHERNET + rest.len());
    if it == Some(rest) {
        let _ = write!(line, " quoting {} bytes of it", rest.len());
        return Some(());
    }
    inner(
        line,
        &format!("quoting {} bytes of", rest.len()),
        rest,
        sent,
    )
}

fn gre(line: &mut String, ip: &Ip<'_>, sent: &Sent) -> Option<()> {
    let [a, b, c, d, rest @ ..] = ip.payload else {
        return None;
    };
    let (what, rest) = if a & 0x80 == 0 {
        ("none", rest)
    } else {
        let sum = Sum16BitWords::new().add_slice(ip.payload);
        let right = sum.ones_complement() == 0;
        (if right { "right" } else { "wrong" }, rest.get(4..)?)
    };
    let what = format!("gre {a:02x}{b:02x}{c:02x}{d:02x} checksum {what}");
    inner(line, &what, rest, sent)
}

/// A packet in this one.
fn inner(line: &mut String, what: &str, bytes: &[u8], sent: &Sent) -> Option<()> {
    let _ = write!(line, " {what} [");
    packet(line, bytes, sent, false)?;
    line.push(']');
    Some(())
}

/// Tells what is wrong with the transport checksum and the data. The checksum of
/// a part cannot be told right from wrong, so it is shown.
fn finish(line: &mut String, ip: &Ip<'_>, checksum: u16, data: &[u8]) {
    if !ip.whole {
        let _ = write!(line, " checksum {checksum:04x}");
    } else if sum(ip.from, ip.to, ip.protocol, ip.payload) != 0 {
        line.push_str(" bad-checksum");
    }
    pattern(line, data);
}

fn pattern(line: &mut String, data: &[u8]) {
    if !data
        .iter()
        .enumerate()
        .all(|(index, byte)| *byte == index as u8)
    {
        line.push_str(" changed-data");
    }
}

/// Source and destination of the segment or datagram that a frame is.
#[must_use]
pub fn ends(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (from, to): (IpAddr, IpAddr) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        _ => return None,
    };
    let ports = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        _ => return None,
    };
    Some((SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1)))
}

/// The number of the packet that a frame is, or that is in it, or that an error
/// in it quotes: the identification, the flow label in IPv6.
#[must_use]
pub fn identification(frame: &[u8]) -> Option<u16> {
    innermost(frame.get(ETHERNET..)?)
}

fn innermost(bytes: &[u8]) -> Option<u16> {
    let v4 = bytes.first()? >> 4 == 4;
    let (protocol, rest, id) = if v4 {
        (*bytes.get(9)?, bytes.get(20..)?, bytes.get(4..6)?)
    } else {
        (*bytes.get(6)?, bytes.get(40..)?, bytes.get(2..4)?)
    };
    let inside = match (protocol, rest) {
        (1, [3 | 4 | 11 | 12, ..]) | (58, [1..=4, ..]) => rest.get(8..),
        (4 | 41, _) => Some(rest),
        (47, [flags, ..]) => rest.get(if flags & 0x80 == 0 { 4.. } else { 8.. }),
        (17, [_, _, _, _, _, _, _, _, 0, 4 | 41, 0, 0, _, ..]) => rest.get(12..),
        _ => None,
    };
    inside
        .and_then(innermost)
        .or_else(|| Some(u16::from_be_bytes([id[0], id[1]])))
}
