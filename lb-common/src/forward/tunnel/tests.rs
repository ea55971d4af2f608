use proptest::prelude::*;

use super::*;
use crate::{
    forward::testing::{Any, any_frame, between, facts, header, tables, words},
    host::{
        HostPacket,
        frame::{Frame, Frame6},
        sums,
    },
    layout::{DestEntry, NextHop},
    tables::Table,
};

const RIP: [&str; 2] = ["10.8.0.1", "fd00::1"];
const SOURCE: [&str; 2] = ["10.8.0.254", "fd00::fe"];

/// A tunnel to a server of family `family`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct To {
    pub(crate) family: u8,
    pub(crate) kind: TunnelKind,
    pub(crate) checksum: TunnelChecksum,
    pub(crate) mtu: u16,
    pub(crate) tags: usize,
}

const IPIP: To = To {
    family: 4,
    kind: TunnelKind::Ipip,
    checksum: TunnelChecksum::None,
    mtu: 1500,
    tags: 0,
};

/// Sends a frame; what came out or why not, and `facts.mtu`.
pub(crate) fn send(bytes: &[u8], to: To) -> (Result<Vec<u8>, Reason>, u64) {
    let tables = tables();
    let i = usize::from(to.family == 6);
    let dest = DestEntry {
        addr: bytemuck::cast(words(RIP[i])),
        family: to.family,
        tunnel_kind: to.kind as u8,
        tunnel_port: 6080_u16.to_be(),
        tunnel_checksum: to.checksum as u8,
        ..DestEntry::default()
    };
    let l2 = header(to.family, to.tags);
    let mut hop = NextHop {
        ifindex: 3,
        mtu: to.mtu,
        header_len: l2.len() as u16,
        source: bytemuck::cast(words(SOURCE[i])),
        ..NextHop::default()
    };
    hop.header[..l2.len()].copy_from_slice(&l2);
    tables.set(Table::Dest, 0, dest);
    tables.set(Table::NextHop, 0, hop);
    let dest = DestView((&tables).cell(Table::Dest, 0).unwrap());
    let hop = NextHopView((&tables).cell(Table::NextHop, 0).unwrap());
    let mut packet = HostPacket::new(bytes, 7);
    let mut facts = facts(bytes);
    let sent = match facts.family {
        4 => tunnel::<V4, _, _>(&mut packet, &tables, &mut facts, dest, hop),
        _ => tunnel::<V6, _, _>(&mut packet, &tables, &mut facts, dest, hop),
    };
    (sent.map(|()| packet.bytes().to_vec()), facts.mtu)
}

fn four(misc: (u8, u16, u16)) -> Frame {
    let at = |text: &str| text.parse().unwrap();
    Frame {
        misc,
        ..Frame::tcp(at("1.2.3.4:1000"), at("10.9.9.1:80"), 2)
    }
}

fn six(class: (u8, u32)) -> Frame6 {
    let at = |text: &str| text.parse().unwrap();
    Frame6 {
        class,
        ..Frame6::tcp(at("[2001:db8::1]:1000"), at("[2001:db8::2]:80"), 2)
    }
}

#[test]
fn ipip_as_the_kernel_was_seen_to_send_it() {
    let sent = send(&four((0, 0x1234, 0)).build(), IPIP).0.unwrap();
    assert_eq!(sent[..14], header(4, 0));
    let outer = &sent[14..34];
    assert_eq!(outer[..4], [0x45, 0, 0, 60]);
    assert_ne!(outer[4..6], [0, 0], "an identification");
    assert_eq!(outer[6..10], [0, 0, 63, 4]);
    assert_eq!(outer[12..20], [10, 8, 0, 254, 10, 8, 0, 1]);
    let inner = [
        0x45, 0, 0, 0x28, 0x12, 0x34, 0, 0, 0x3f, 6, 0x52, 0x8d, 1, 2, 3, 4, 10, 9, 9, 1,
    ];
    assert_eq!(sent[34..54], inner);
    sums::check(&sent).unwrap();

    let sent = send(&four((0, 0x1234, 0x4000)).build(), IPIP).0.unwrap();
    assert_eq!(sent[18..22], [0, 0, 0x40, 0], "DF, and no identification");
}

#[test]
fn class_of_service_but_not_congestion_goes_outside() {
    for (class, wanted) in [(0xb8, 0xb8), (1, 1), (2, 2), (3, 2), (0xbb, 0xba)] {
        let sent = send(&four((class, 1, 0)).build(), IPIP).0.unwrap();
        assert_eq!([sent[15], sent[35]], [wanted, class]);
        let over_six = To { family: 6, ..IPIP };
        let sent = send(&six((class, 0x54321)).build(), over_six).0.unwrap();
        let word = u32::from(wanted) << 20 | 6 << 28;
        assert_eq!(sent[14..18], word.to_be_bytes(), "no flow label");
    }
}

#[test]
fn an_ipv6_server_gets_ipv6_outside() {
    for (frame, next) in [(four((0, 1, 0)).build(), 4), (six((0, 0)).build(), 41)] {
        let length = frame.len() - 14;
        let to = To {
            family: 6,
            tags: 2,
            ..IPIP
        };
        let sent = send(&frame, to).0.unwrap();
        assert_eq!(sent[..22], header(6, 2));
        assert_eq!(sent[22..30], [0x60, 0, 0, 0, 0, length as u8, next, 63]);
        assert_eq!(
            sent[30..46],
            bytemuck::cast::<_, [u8; 16]>(words(SOURCE[1]))
        );
        assert_eq!(sent[46..62], bytemuck::cast::<_, [u8; 16]>(words(RIP[1])));
        sums::check(&sent).unwrap();
    }
    let sent = send(&six((0, 0)).build(), IPIP).0.unwrap();
    assert_eq!((sent[23], sent[20]), (41, 0), "6 in 4 may be fragmented");
    sums::check(&sent).unwrap();
}

#[test]
fn gue_and_gre_as_the_kernel_was_seen_to_send_them() {
    let frame = four((0, 0x1234, 0x4000)).build();
    let gue = To {
        kind: TunnelKind::Gue,
        ..IPIP
    };
    let sent = send(&frame, gue).0.unwrap();
    assert_eq!((sent[16..18].to_vec(), sent[23]), (vec![0, 72], 17));
    assert_eq!(sent[36..46], [0x17, 0xc0, 0, 52, 0, 0, 0, 4, 0, 0]);
    let port = u16::from_be_bytes([sent[34], sent[35]]);
    assert!((32768..60999).contains(&port));
    assert_eq!(send(&frame, gue).0.unwrap()[34..36], sent[34..36], "stable");

    let gre = To {
        kind: TunnelKind::Gre,
        ..IPIP
    };
    let sent = send(&frame, gre).0.unwrap();
    assert_eq!((sent[17], sent[23]), (64, 47));
    assert_eq!(sent[34..38], [0, 0, 8, 0]);

    let full = To {
        checksum: TunnelChecksum::Full,
        ..gre
    };
    let sent = send(&frame, full).0.unwrap();
    assert_eq!(sent[17], 68);
    assert_eq!(sent[34..38], [0x80, 0, 8, 0]);
    assert_eq!(sent[40..42], [0, 0]);
    sums::check(&sent).unwrap();
}

#[test]
fn room_is_what_the_kernel_tells_the_client() {
    let mut frame = four((0, 1, 0x4000));
    frame.payload = vec![0; 1461];
    let frame = frame.build();
    let with = |kind, checksum, mtu| To {
        kind,
        checksum,
        mtu,
        ..IPIP
    };
    use TunnelChecksum::{Full, None};
    use TunnelKind::{Gre, Gue, Ipip};
    for (to, room) in [
        (with(Ipip, None, 1500), 1480),
        (with(Gue, None, 1500), 1468),
        (with(Gre, None, 1500), 1476),
        (with(Gre, Full, 1500), 1472),
        (To { family: 6, ..IPIP }, 1460),
        (with(Ipip, None, 88), 68),
        (with(Ipip, None, 87), 0),
        (
            To {
                family: 6,
                mtu: 1320,
                ..IPIP
            },
            1280,
        ),
        (
            To {
                family: 6,
                mtu: 1319,
                ..IPIP
            },
            0,
        ),
    ] {
        assert_eq!(
            send(&frame, to),
            (Err(Reason::DroppedTooBig), room),
            "{to:?}"
        );
    }
    let mut frame = four((0, 1, 0));
    frame.payload = vec![0; 1440];
    assert!(send(&frame.build(), IPIP).0.is_ok(), "1480");
    frame.payload.push(0);
    assert_eq!(send(&frame.build(), IPIP), (Err(Reason::DroppedTooBig), 0));
    let mut frame = six((0, 0));
    frame.payload = vec![0; 1401];
    let to = To { family: 6, ..IPIP };
    assert_eq!(send(&frame.build(), to), (Err(Reason::DroppedTooBig), 1460));
}

proptest! {
    #[test]
    fn every_tunnel_carries_the_packet_with_one_hop_less(
        frame in any_frame(),
        over_six in any::<bool>(),
        kind in prop_oneof![Just(TunnelKind::Ipip), Just(TunnelKind::Gue), Just(TunnelKind::Gre)],
        checksum in prop_oneof![
            Just(TunnelChecksum::None),
            Just(TunnelChecksum::Full),
            Just(TunnelChecksum::Remote),
        ],
        tags in 0..3_usize,
    ) {
        let family = if over_six { 6 } else { 4 };
        let to = To { family, kind, checksum, tags, mtu: 1500 };
        let sent = send(&frame.bytes(), to).0.unwrap();
        prop_assert_eq!(sums::check(&sent), Ok(()));
        prop_assert_eq!(&sent[..14 + 4 * tags], &header(family, tags)[..]);
        let inner = match frame {
            Any::Four(frame) => Frame { ttl: frame.ttl - 1, ..frame }.packet(),
            Any::Six(frame) => Frame6 { ttl: frame.ttl - 1, ..frame }.packet(),
        };
        prop_assert!(sent.ends_with(&inner));
        let summed = checksum == TunnelChecksum::Full
            || checksum == TunnelChecksum::Remote && kind == TunnelKind::Gue;
        let at = 14 + 4 * tags + if over_six { 40 } else { 20 };
        match kind {
            TunnelKind::Gue => prop_assert_eq!(sent[at + 6..at + 8] != [0, 0], summed),
            TunnelKind::Gre => prop_assert_eq!(sent[at] == 0x80, summed),
            TunnelKind::Ipip => {}
        }
    }

    #[test]
    fn flows_are_spread_over_the_ports_of_gue(ports in any::<[u16; 2]>()) {
        let from = |port| {
            let Any::Four(mut frame) = between("1.2.3.4:1000", "10.9.9.1:80") else {
                unreachable!()
            };
            frame.source.set_port(port);
            u16::from_be(source_port(&facts(&frame.build())))
        };
        prop_assert!((32768..60999).contains(&from(ports[0])));
        // Neighbouring ports do not meet.
        prop_assert_ne!(from(ports[0]), from(ports[0] ^ 1));
    }
}
