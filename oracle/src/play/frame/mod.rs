//! Frames from fields, and frames as text.

mod build;
mod show;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use etherparse::TcpHeader;
use lvx_tests::lab::mac_of;

pub use build::build;
pub use show::{ends, identification, show};

/// What a frame is compared with: the one that was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Its bytes.
    pub frame: Vec<u8>,
}

impl Sent {
    /// Its identification, or flow label.
    fn id(&self) -> Option<u16> {
        let id = match self.frame.get(12)? {
            8 => self.frame.get(18..20)?,
            _ => self.frame.get(16..18)?,
        };
        Some(u16::from_be_bytes([id[0], id[1]]))
    }

    /// Whether it is an ICMP message, which may be sent on: what answers any other
    /// packet with one is the director's own.
    fn is_icmp(&self) -> bool {
        self.frame.get(12) == Some(&8) && self.frame.get(23) == Some(&1)
    }
}

/// Whether a frame is part of the play: hosts with IPv6 look for neighbours,
/// routers and groups by themselves.
#[must_use]
pub fn counts(frame: &[u8]) -> bool {
    const NEXT: usize = 14 + 6;
    const KIND: usize = 14 + 40;
    let is_v6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
    let group_report = is_v6 && frame.get(NEXT) == Some(&0) && frame.get(KIND) == Some(&58);
    let neighbour =
        is_v6 && frame.get(NEXT) == Some(&58) && matches!(frame.get(KIND), Some(130..=137 | 143));
    !group_report && !neighbour
}

/// The MAC address of the host with an address.
#[must_use]
pub fn mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => mac_of(address),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [2, 6, a, b, c, d]
        }
    }
}

/// Whose MAC address a frame goes to.
#[must_use]
pub fn receiver(frame: &[u8], names: &BTreeMap<String, IpAddr>, gateway: Ipv4Addr) -> String {
    let Some(mac) = frame.get(..6) else {
        return "nobody".to_owned();
    };
    if mac == mac_of(gateway) {
        return "gateway".to_owned();
    }
    names
        .iter()
        .find(|(_, address)| mac == self::mac(**address))
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
    use crate::scenario::{Action, Packet, Scenario};

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
    fn an_sctp_frame_shows_its_chunks() {
        let text = "sctp 1.2.3.4:1000 > 10.9.9.1:80 COOKIE-ECHO+ABORT len 5";
        let frame = build(&packet(text), 7, ([1; 6], [2; 6]));
        let sent = Sent {
            frame: frame.clone(),
        };
        assert_eq!(
            show(&frame, &sent),
            "1.2.3.4 > 10.9.9.1 ttl 64 id 7 len 48 sctp 1000 > 80 tag 3000 COOKIE-ECHO length 9 \
             ABORT length 4"
        );
        let mut wrong = frame;
        wrong[14 + 20 + 12 + 4] ^= 1;
        assert!(show(&wrong, &sent).contains("length 9 changed-data"));
        assert!(show(&wrong, &sent).ends_with("bad-checksum"));
        let nosum = build(&packet(&format!("{text} nosum")), 7, ([1; 6], [2; 6]));
        assert!(show(&nosum, &sent).ends_with("bad-checksum"));
    }

    #[test]
    fn tunnel_frames_show_their_headers_and_the_packet_within() {
        let within = "9.9.9.9 > 10.9.9.1 ttl 64 id 7 len 28 udp 1 > 2 data 0";
        let within6 = "2001:db8::9 > 2001:db8::1 ttl 64 label 7 len 8 udp 1 > 2 data 0";
        for (text, shown) in [
            (
                "ipip 10.8.0.9 > 10.8.0.1 df ttl 63 udp 9.9.9.9:1 > 10.9.9.1:2",
                format!("10.8.0.9 > 10.8.0.1 ttl 63 id 7 df len 48 ipip [{within}]"),
            ),
            (
                "gue 10.8.0.9:5 > 10.8.0.1:6080 udp 9.9.9.9:1 > 10.9.9.1:2",
                format!(
                    "10.8.0.9 > 10.8.0.1 ttl 64 id 7 len 60 udp > 6080 checksum right gue 00040000 \
                     [{within}]"
                ),
            ),
            (
                "gue 10.8.0.9:5 > 10.8.0.1:6080 nosum udp [2001:db8::9]:1 > [2001:db8::1]:2",
                format!(
                    "10.8.0.9 > 10.8.0.1 ttl 64 id 7 len 80 udp > 6080 checksum none gue 00290000 \
                     [{within6}]"
                ),
            ),
            (
                "gre 10.8.0.9 > 10.8.0.1 udp 9.9.9.9:1 > 10.9.9.1:2",
                format!(
                    "10.8.0.9 > 10.8.0.1 ttl 64 id 7 len 56 gre 80000800 checksum right [{within}]"
                ),
            ),
            (
                "gre 10.8.0.9 > 10.8.0.1 nosum udp 9.9.9.9:1 > 10.9.9.1:2",
                format!(
                    "10.8.0.9 > 10.8.0.1 ttl 64 id 7 len 52 gre 00000800 checksum none [{within}]"
                ),
            ),
        ] {
            let frame = build(&packet(text), 7, ([1; 6], [2; 6]));
            let sent = Sent {
                frame: frame.clone(),
            };
            assert_eq!(show(&frame, &sent), shown);
        }
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
        let names = BTreeMap::from([("A".to_owned(), Ipv4Addr::new(10, 8, 0, 1).into())]);
        let gateway = Ipv4Addr::new(10, 0, 0, 254);
        let to = |address: Ipv4Addr| receiver(&mac_of(address), &names, gateway);
        assert_eq!(to(Ipv4Addr::new(10, 8, 0, 1)), "A");
        assert_eq!(to(gateway), "gateway");
        assert_eq!(to(Ipv4Addr::new(10, 8, 0, 9)), "02:00:0a:08:00:09");
    }
}
