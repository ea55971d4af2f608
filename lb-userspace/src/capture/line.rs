//! A captured frame as a line.

use std::fmt::Write as _;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lb_common::{capture::Head, reason::Reason};

/// A frame as people read it: the time of day (UTC), the interface, the ends, and why
/// it ended as it did. How it left is a line of its own, which starts with `->`.
pub fn line(head: &Head, bytes: &[u8], since_epoch: u64, name: impl Fn(u32) -> String) -> String {
    let mut text = String::new();
    // A string takes every write.
    if head.after == 0 {
        let micros = since_epoch / 1000 % 86_400_000_000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let _ = write!(text, "{hours:02}:{minutes:02}:{seconds:02}.{micros:06} ");
        let _ = write!(text, "{} ", name(head.ingress));
    } else {
        let out = if head.egress == 0 {
            head.ingress
        } else {
            head.egress
        };
        let reason = reason(head.reason);
        let out = if reason.starts_with("passed") {
            "stack".to_owned()
        } else {
            name(out)
        };
        let _ = write!(text, "             -> {out} ");
        if let Some(mac) = bytes.get(..6) {
            let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = write!(text, "{} ", mac.join(":"));
        }
    }
    text += &ends(bytes);
    let _ = write!(text, ", {} bytes", head.length);
    if head.after == 0 {
        let _ = write!(text, ": {}", reason(head.reason));
    }
    text
}

/// Name of a reason.
pub(super) fn reason(number: u32) -> &'static str {
    let reason = Reason::ALL.get(number as usize);
    reason.map_or("of another version", |reason| reason.name())
}

/// Protocol and ends; of a tunnel's packet the outer ones.
fn ends(bytes: &[u8]) -> String {
    let Ok(packet) = SlicedPacket::from_ethernet(bytes) else {
        return "not well-formed".into();
    };
    let (source, destination) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => (
            ip.header().source_addr().to_string(),
            ip.header().destination_addr().to_string(),
        ),
        Some(NetSlice::Ipv6(ip)) => (
            ip.header().source_addr().to_string(),
            ip.header().destination_addr().to_string(),
        ),
        _ => return "not IP".into(),
    };
    let with = |protocol: &str, from: u16, to: u16, rest: &str| {
        format!("{protocol} {source}.{from} > {destination}.{to}{rest}")
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags: String = [
                (tcp.syn(), 'S'),
                (tcp.fin(), 'F'),
                (tcp.rst(), 'R'),
                (tcp.psh(), 'P'),
                (tcp.ack(), '.'),
            ]
            .into_iter()
            .filter_map(|(set, letter)| set.then_some(letter))
            .collect();
            with(
                "tcp",
                tcp.source_port(),
                tcp.destination_port(),
                &format!(" [{flags}]"),
            )
        }
        Some(TransportSlice::Udp(udp)) => {
            with("udp", udp.source_port(), udp.destination_port(), "")
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            format!(
                "icmp {source} > {destination} type {} code {}",
                icmp.type_u8(),
                icmp.code_u8()
            )
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            format!(
                "icmp6 {source} > {destination} type {} code {}",
                icmp.type_u8(),
                icmp.code_u8()
            )
        }
        Some(TransportSlice::Igmp(_)) | None => {
            let number = match &packet.net {
                Some(NetSlice::Ipv4(ip)) => ip.payload_ip_number().0,
                Some(NetSlice::Ipv6(ip)) => ip.payload().ip_number.0,
                _ => 0,
            };
            format!("ip protocol {number} {source} > {destination}")
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    #[test]
    fn as_it_came_and_as_it_left() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64)
            .tcp(40000, 80, 1, 1000)
            .syn()
            .write(&mut frame, b"")
            .unwrap();
        let head = Head {
            ingress: 3,
            egress: 4,
            reason: Reason::ForwardedRedirect as u32,
            length: frame.len() as u32,
            ..Head::default()
        };
        let name = |index| format!("eth{index}");
        assert_eq!(
            line(&head, &frame, 45_296_000_001_000, name),
            "12:34:56.000001 eth3 tcp 192.0.2.1.40000 > 198.51.100.7.80 [S], 54 bytes: forwarded-redirect"
        );
        let after = Head { after: 1, ..head };
        assert_eq!(
            line(&after, &frame, 45_296_000_001_000, name),
            "             -> eth4 04:04:04:04:04:04 tcp 192.0.2.1.40000 > 198.51.100.7.80 [S], 54 bytes"
        );
        let cut = line(&head, &frame[..20], 0, name);
        assert!(cut.contains("not well-formed"), "{cut}");
    }
}
