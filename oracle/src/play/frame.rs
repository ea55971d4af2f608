//! Frames from fields, and frames as text.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

use etherparse::{
    IpDscp, IpEcn, IpNumber, Ipv4Header, NetSlice, SlicedPacket, TcpHeader, TransportSlice,
    UdpHeader,
};
use lvx_tests::lab::mac_of;

use crate::scenario::{Packet, Transport};

/// Sequence and acknowledgement number and window of every segment: nobody
/// here looks at them.
const SEQUENCE: u32 = 1000;
const ACKNOWLEDGED: u32 = 2000;
const WINDOW: u16 = 64_000;

/// A frame with these fields.
#[must_use]
pub fn build(packet: &Packet, id: u16, macs: ([u8; 6], [u8; 6])) -> Vec<u8> {
    let data: Vec<u8> = (0..packet.data).map(|index| index as u8).collect();
    let (source, destination) = (*packet.from.ip(), *packet.to.ip());
    let mut segment = Vec::new();
    let protocol = match packet.transport {
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
            tcp.checksum = tcp
                .calc_checksum_ipv4_raw(source.octets(), destination.octets(), &data)
                .unwrap_or_default();
            segment.extend_from_slice(&tcp.to_bytes());
            IpNumber::TCP
        }
        Transport::Udp => {
            let udp = UdpHeader::with_ipv4_checksum(
                packet.from.port(),
                packet.to.port(),
                &ipv4(packet, id, IpNumber::UDP, data.len() + UdpHeader::LEN),
                &data,
            );
            segment.extend(udp.map(|udp| udp.to_bytes()).unwrap_or_default());
            IpNumber::UDP
        }
    };
    segment.extend_from_slice(&data);
    let mut frame = [macs.1, macs.0].concat();
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(&ipv4(packet, id, protocol, segment.len()).to_bytes());
    frame.extend_from_slice(&segment);
    frame
}

fn ipv4(packet: &Packet, id: u16, protocol: IpNumber, length: usize) -> Ipv4Header {
    let mut header = Ipv4Header {
        dscp: IpDscp::try_new(packet.tos >> 2).unwrap_or_default(),
        ecn: IpEcn::try_new(packet.tos & 3).unwrap_or_default(),
        total_len: (Ipv4Header::MIN_LEN + length) as u16,
        identification: id,
        dont_fragment: packet.df,
        time_to_live: packet.ttl,
        protocol,
        source: packet.from.ip().octets(),
        destination: packet.to.ip().octets(),
        ..Ipv4Header::default()
    };
    header.header_checksum = header.calc_header_checksum();
    header
}

/// What a frame is compared with: the one that was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// Whose MAC address a frame goes to.
#[must_use]
pub fn receiver(frame: &[u8], names: &BTreeMap<String, Ipv4Addr>, gateway: Ipv4Addr) -> String {
    let Some(mac) = frame.get(..6) else {
        return "nobody".to_owned();
    };
    if mac == mac_of(gateway) {
        return "gateway".to_owned();
    }
    names
        .iter()
        .find(|(_, address)| mac == mac_of(**address))
        .map_or_else(
            || {
                mac.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<Vec<_>>()
                    .join(":")
            },
            |(name, _)| name.clone(),
        )
}

/// The identification of the packet that a frame is, or that the ICMP error in
/// it quotes.
#[must_use]
pub fn identification(frame: &[u8]) -> Option<u16> {
    const IP: usize = 14;
    const QUOTED: usize = IP + 20 + 8;
    let header = if *frame.get(IP + 9)? == 1 { QUOTED } else { IP };
    let bytes = frame.get(header + 4..header + 6)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Every header field of a frame after the Ethernet header, as one line. The
/// identification of a packet that the director made itself is random, so it is
/// shown for the others only.
#[must_use]
pub fn show(frame: &[u8], sent: &Sent) -> String {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return format!("not a whole packet: {frame:02x?}");
    };
    let Some(NetSlice::Ipv4(ip)) = &packet.net else {
        return format!("not IPv4: {:02x?}", &frame[12..frame.len().min(54)]);
    };
    let header = ip.header().to_header();
    let mut line = format!(
        "{} > {} ttl {}",
        Ipv4Addr::from(header.source),
        Ipv4Addr::from(header.destination),
        header.time_to_live
    );
    // A string takes every write.
    let forwarded = sent
        .frame
        .get(26..38)
        .is_some_and(|ends| frame.get(26..38) == Some(ends));
    if forwarded || header.identification == 0 {
        let _ = write!(line, " id {}", header.identification);
    }
    let tos = header.dscp.value() << 2 | header.ecn.value();
    if tos != 0 {
        let _ = write!(line, " tos {tos}");
    }
    if header.dont_fragment {
        line.push_str(" df");
    }
    let _ = write!(line, " len {}", header.total_len);
    if header.header_checksum != header.calc_header_checksum() {
        line.push_str(" bad-header-checksum");
    }
    let ends = (header.source, header.destination);
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let header = tcp.to_header();
            let sum = header.calc_checksum_ipv4_raw(ends.0, ends.1, tcp.payload());
            let _ = write!(
                line,
                " tcp {} > {} {} seq {} ack {} win {} options {} data {}",
                header.source_port,
                header.destination_port,
                flags(&header),
                header.sequence_number,
                header.acknowledgment_number,
                header.window_size,
                header.options.len(),
                tcp.payload().len()
            );
            finish(&mut line, sum.ok() == Some(header.checksum), tcp.payload());
        }
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let sum = header.calc_checksum_ipv4_raw(ends.0, ends.1, udp.payload());
            let _ = write!(
                line,
                " udp {} > {} data {}",
                header.source_port,
                header.destination_port,
                udp.payload().len()
            );
            finish(&mut line, sum.ok() == Some(header.checksum), udp.payload());
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let bytes = icmp.slice();
            let _ = write!(line, " icmp {}/{}", bytes[0], bytes[1]);
            let quoted = icmp.payload();
            let same = sent.frame.get(14..14 + quoted.len()) == Some(quoted);
            let _ = write!(
                line,
                " quoting {} bytes of {}",
                quoted.len(),
                if same { "it" } else { "something else" }
            );
        }
        _ => {
            let _ = write!(line, " protocol {}", header.protocol.0);
        }
    }
    line
}

/// Tells what is wrong with the transport checksum and the data.
fn finish(line: &mut String, right_sum: bool, data: &[u8]) {
    if !right_sum {
        line.push_str(" bad-checksum");
    }
    if !data
        .iter()
        .enumerate()
        .all(|(index, byte)| *byte == index as u8)
    {
        line.push_str(" changed-data");
    }
}

fn flags(tcp: &TcpHeader) -> String {
    let flags: String = [
        (tcp.syn, 'S'),
        (tcp.fin, 'F'),
        (tcp.rst, 'R'),
        (tcp.ack, 'A'),
        (tcp.psh, 'P'),
        (tcp.urg, 'U'),
    ]
    .into_iter()
    .filter_map(|(set, letter)| set.then_some(letter))
    .collect();
    if flags.is_empty() {
        "-".to_owned()
    } else {
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Action, Scenario};

    fn packet(text: &str) -> Packet {
        let scenario = Scenario::parse("x", "x", &format!("about x\n{text}\n")).expect("right");
        match &scenario.steps[0].action {
            Action::Packet(packet) => packet.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_built_frame_shows_its_fields() {
        let tcp = packet("tcp 1.2.3.4:1000 > 10.9.9.1:80 SA ttl 9 tos 184 df len 5");
        let frame = build(&tcp, 7, ([1; 6], [2; 6]));
        let sent = Sent {
            frame: frame.clone(),
        };
        assert_eq!(
            show(&frame, &sent),
            "1.2.3.4 > 10.9.9.1 ttl 9 id 7 tos 184 df len 45 tcp 1000 > 80 SA seq 1000 ack 2000 \
             win 64000 options 0 data 5"
        );
        let mut wrong = frame;
        wrong[22] -= 1;
        *wrong.last_mut().expect("it has bytes") ^= 1;
        assert!(show(&wrong, &sent).ends_with(" data 5 bad-checksum changed-data"));
        assert!(show(&wrong, &sent).contains("bad-header-checksum"));
    }

    #[test]
    fn the_identification_of_another_packet_is_not_shown() {
        let frame = build(
            &packet("udp 1.2.3.4:1 > 10.9.9.1:53 len 3"),
            7,
            ([1; 6], [2; 6]),
        );
        assert_eq!(
            show(&frame, &Sent::default()),
            "1.2.3.4 > 10.9.9.1 ttl 64 len 31 udp 1 > 53 data 3"
        );
    }

    #[test]
    fn a_receiver_is_named() {
        let names = BTreeMap::from([("A".to_owned(), Ipv4Addr::new(10, 8, 0, 1))]);
        let gateway = Ipv4Addr::new(10, 0, 0, 254);
        let to = |address: Ipv4Addr| receiver(&mac_of(address), &names, gateway);
        assert_eq!(to(Ipv4Addr::new(10, 8, 0, 1)), "A");
        assert_eq!(to(gateway), "gateway");
        assert_eq!(to(Ipv4Addr::new(10, 8, 0, 9)), "02:00:0a:08:00:09");
    }
}
