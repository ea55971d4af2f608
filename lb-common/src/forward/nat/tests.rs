use proptest::prelude::*;

use super::*;
use crate::{
    family::{V4, V6},
    forward::testing::{Any, any_frame, between, end, facts, header, way, words},
    host::{
        HostPacket,
        frame::{Frame, Frame6, sctp_chunk},
        sums,
    },
};

const CLIENT: &str = "1.2.3.4:2000";
const SERVICE: &str = "10.9.9.1:80";
const SERVER: &str = "10.7.0.1:8080";

fn end_of(text: &str) -> End {
    let at: std::net::SocketAddrV4 = text.parse().unwrap();
    End {
        addr: [u32::from_ne_bytes(at.ip().octets()).into(), 0],
        port: at.port().to_be(),
    }
}

#[test]
fn a_request_is_what_the_builder_makes_to_the_server() {
    let frame = between(CLIENT, SERVICE);
    let mut packet = frame.packet();
    let mut facts = facts(packet.bytes());
    let server = end_of(SERVER);
    to_server::<V4, _, _>(
        &mut packet,
        &mut facts,
        Ends::destination(server),
        Part::Whole,
        way(4, 1, 1500),
    )
    .unwrap();
    let Any::Four(frame) = between(CLIENT, SERVER) else {
        unreachable!()
    };
    let wanted = Frame { ttl: 63, ..frame }.packet();
    assert_eq!(packet.bytes(), [header(4, 1), wanted].concat());
}

#[test]
fn an_ipv6_request_is_what_the_builder_makes_to_the_server() {
    let frame = between("[2001:db8::1]:2000", "[2001:db8::2]:80");
    let mut packet = frame.packet();
    let mut facts = facts(packet.bytes());
    let server = End {
        addr: words("fd00::7"),
        port: 8080_u16.to_be(),
    };
    let way = way(6, 2, 60);
    to_server::<V6, _, _>(
        &mut packet,
        &mut facts,
        Ends::destination(server),
        Part::Whole,
        way,
    )
    .unwrap();
    let Any::Six(frame) = between("[2001:db8::1]:2000", "[fd00::7]:8080") else {
        unreachable!()
    };
    let wanted = Frame6 { ttl: 63, ..frame }.packet();
    assert_eq!(packet.bytes(), [header(6, 2), wanted].concat());
}

#[test]
fn a_request_that_is_too_big_has_one_hop_less_in_the_answer() {
    for (service, mtu, ttl_at) in [(SERVICE, 39, 22), ("[2001:db8::2]:80", 59, 21)] {
        let client = if mtu == 39 {
            CLIENT
        } else {
            "[2001:db8::1]:2000"
        };
        let mut wanted = between(client, service).bytes();
        let mut packet = HostPacket::new(&wanted, 7);
        let mut facts = facts(&wanted);
        let end = end(facts.family, [9; 16], 80);
        let sent = match facts.family {
            4 => to_server::<V4, _, _>(
                &mut packet,
                &mut facts,
                Ends::destination(end),
                Part::Whole,
                way(4, 0, mtu),
            ),
            _ => to_server::<V6, _, _>(
                &mut packet,
                &mut facts,
                Ends::destination(end),
                Part::Whole,
                way(6, 0, mtu),
            ),
        };
        assert_eq!((sent, facts.mtu), (Err(Reason::DroppedTooBig), mtu.into()));
        wanted[ttl_at] -= 1;
        wanted[24..26].copy_from_slice(&packet.bytes()[24..26]);
        assert_eq!(packet.bytes(), wanted);
        sums::check(packet.bytes()).unwrap();
    }
}

#[test]
fn a_reply_is_what_the_builder_makes_from_the_service() {
    let frame = between(SERVER, CLIENT);
    let mut packet = frame.packet();
    let mut facts = facts(packet.bytes());
    let service = end_of(SERVICE);
    to_client::<V4, _, _>(
        &mut packet,
        &mut facts,
        Ends::source(service),
        Part::Whole,
        way(4, 0, 1500),
    )
    .unwrap();
    let Any::Four(frame) = between(SERVICE, CLIENT) else {
        unreachable!()
    };
    let wanted = Frame { ttl: 63, ..frame }.packet();
    assert_eq!(packet.bytes(), [header(4, 0), wanted].concat());
}

#[test]
fn a_reply_that_is_too_big_keeps_its_ttl_for_the_answer() {
    let frame = between(SERVER, CLIENT);
    let mut packet = frame.packet();
    let mut facts = facts(packet.bytes());
    let service = end_of(SERVICE);
    let sent = to_client::<V4, _, _>(
        &mut packet,
        &mut facts,
        Ends::source(service),
        Part::Whole,
        way(4, 0, 39),
    );
    assert_eq!((sent, facts.mtu), (Err(Reason::DroppedTooBig), 39));
    assert_eq!(packet.bytes(), frame.bytes());
}

#[test]
fn fragments_keep_what_they_cannot_know() {
    for (part, fragment, sum_at) in [(Part::First, 0x2000, 6), (Part::Later, 0x00b9, 6)] {
        let mut frame = Frame::udp(CLIENT.parse().unwrap(), SERVICE.parse().unwrap());
        frame.misc.2 = fragment;
        let mut bytes = frame.build();
        bytes[34 + sum_at..34 + sum_at + 2].fill(0);
        let mut packet = HostPacket::new(&bytes, 7);
        let facts = facts(&bytes);
        let ends = Ends {
            src: None,
            dst: Some(end_of(SERVER)),
        };
        translate::<V4, _>(&mut packet, &facts, ends, part, 1).unwrap();
        sums::check(packet.bytes()).unwrap();
        assert_eq!(packet.bytes()[30..34], [10, 7, 0, 1]);
        let ports: &[u8] = if part == Part::First {
            &[7, 0xd0, 0x1f, 0x90]
        } else {
            &bytes[34..38]
        };
        assert_eq!(&packet.bytes()[34..38], ports);
        assert_eq!(packet.bytes()[38..], bytes[38..], "no checksum made up");
    }
}

#[test]
fn sctp_without_a_new_port_keeps_its_checksum_even_a_wrong_one() {
    let chunk = sctp_chunk(0, 3, b"data");
    let frame = Frame::sctp(CLIENT.parse().unwrap(), SERVICE.parse().unwrap(), chunk);
    let mut bytes = frame.build();
    bytes[34 + 8] ^= 1;
    let mut packet = HostPacket::new(&bytes, 7);
    let facts = facts(&bytes);
    for port in [0, 80_u16.to_be()] {
        let server = End {
            port,
            ..end_of(SERVER)
        };
        let ends = Ends::destination(server);
        translate::<V4, _>(&mut packet, &facts, ends, Part::Whole, 0).unwrap();
        assert_eq!(packet.bytes()[34..], bytes[34..]);
    }
}

#[test]
fn a_large_sctp_packet_to_another_port_has_the_checksum_of_the_whole() {
    // Miri has no time for the long ones.
    let sizes = [0, 1, 200, 1452, 8952, 65_000];
    for size in sizes.into_iter().take(if cfg!(miri) { 3 } else { 6 }) {
        let chunk = sctp_chunk(0, 3, &vec![0xa5; size]);
        let frame = Frame::sctp(CLIENT.parse().unwrap(), SERVICE.parse().unwrap(), chunk);
        let mut packet = HostPacket::new(&frame.build(), 7);
        let facts = facts(packet.bytes());
        let ends = Ends::destination(end_of(SERVER));
        translate::<V4, _>(&mut packet, &facts, ends, Part::Whole, 0).unwrap();
        let wanted = Frame {
            destination: SERVER.parse().unwrap(),
            ..frame
        };
        assert_eq!(packet.bytes(), wanted.build(), "{size} bytes");
    }
}

#[test]
fn a_first_fragment_of_sctp_cannot_get_another_port() {
    let chunk = sctp_chunk(0, 3, &[7; 96]);
    let mut frame = Frame::sctp(CLIENT.parse().unwrap(), SERVICE.parse().unwrap(), chunk);
    frame.misc.2 = 0x2000;
    let bytes = frame.build();
    let mut packet = HostPacket::new(&bytes, 7);
    let facts = facts(&bytes);
    let ends = Ends::destination(end_of(SERVER));
    let sent = translate::<V4, _>(&mut packet, &facts, ends, Part::First, 0);
    assert_eq!(sent, Err(Reason::DroppedFragment));
    assert_eq!(packet.bytes(), bytes);
    let same_port = End {
        port: 80_u16.to_be(),
        ..end_of(SERVER)
    };
    let ends = Ends::destination(same_port);
    for part in [Part::First, Part::Later] {
        let mut packet = HostPacket::new(&bytes, 7);
        translate::<V4, _>(&mut packet, &facts, ends, part, 0).unwrap();
        assert_eq!(packet.bytes()[34..], bytes[34..], "{part:?}");
        assert_eq!(packet.bytes()[30..34], [10, 7, 0, 1]);
    }
}

/// Ends after `translate`, and the frame.
fn run(frame: &Any, ends: Ends, hops: u8, no_sum: bool) -> (HostPacket, Facts) {
    let mut bytes = frame.bytes();
    let before = facts(&bytes);
    if no_sum && before.protocol() == IPPROTO_UDP {
        let at = before.l4 as usize + 6;
        bytes[at..at + 2].fill(0);
    }
    let mut packet = HostPacket::new(&bytes, 7);
    match before.family {
        4 => translate::<V4, _>(&mut packet, &before, ends, Part::Whole, hops),
        _ => translate::<V6, _>(&mut packet, &before, ends, Part::Whole, hops),
    }
    .unwrap();
    let after = facts(packet.bytes());
    (packet, after)
}

proptest! {
    #[test]
    fn translated_packets_have_right_checksums(
        frame in any_frame(),
        src in any::<Option<([u8; 16], u16)>>(),
        dst in any::<Option<([u8; 16], u16)>>(),
        hops in 0..2_u8,
        no_sum in any::<bool>(),
    ) {
        let before = facts(&frame.bytes());
        let new = |it: Option<([u8; 16], u16)>| {
            it.map(|(bytes, port)| end(before.family, bytes, port))
        };
        let ends = Ends { src: new(src), dst: new(dst) };
        let (packet, after) = run(&frame, ends, hops, no_sum);
        prop_assert_eq!(sums::check(packet.bytes()), Ok(()));
        if before.protocol() == IPPROTO_UDP {
            let at = before.l4 as usize + 6;
            prop_assert_ne!(&packet.bytes()[at..at + 2], &[0, 0]);
        }
        prop_assert_eq!(after.ttl, before.ttl - u64::from(hops));
        prop_assert_eq!(after.src, ends.src.map_or(before.src, |end| end.addr));
        prop_assert_eq!(after.dst, ends.dst.map_or(before.dst, |end| end.addr));
        let port = |end: Option<End>, was: u16| match end {
            Some(end) if end.port != 0 => end.port,
            _ => was,
        };
        prop_assert_eq!(after.src_port(), port(ends.src, before.src_port()));
        prop_assert_eq!(after.dst_port(), port(ends.dst, before.dst_port()));
    }

    #[test]
    fn translating_there_and_back_is_nothing(
        frame in any_frame(),
        server in any::<([u8; 16], u16)>(),
    ) {
        let before = facts(&frame.bytes());
        let there = Ends { src: None, dst: Some(end(before.family, server.0, server.1)) };
        let (packet, between) = run(&frame, there, 0, false);
        let mut packet = packet;
        let back = Ends {
            src: None,
            dst: Some(End { addr: before.dst, port: before.dst_port() }),
        };
        match before.family {
            4 => translate::<V4, _>(&mut packet, &between, back, Part::Whole, 0),
            _ => translate::<V6, _>(&mut packet, &between, back, Part::Whole, 0),
        }.unwrap();
        let bytes = frame.bytes();
        // Port 0 means "keep", so a packet to port 0 stays changed.
        if before.dst_port() != 0 {
            prop_assert_eq!(packet.bytes(), &bytes[..]);
        }
    }
}
