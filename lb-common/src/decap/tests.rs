use proptest::prelude::*;

use super::*;
use crate::{
    forward::{
        testing::{Any, any_frame, between, words},
        tunnel_tests::{To, send},
    },
    host::{HostPacket, frame::checksum, sums},
    layout::{TunnelChecksum, TunnelKind},
};

/// The addresses of the server that [`send`] sends to.
const OWNED: [&str; 2] = ["10.8.0.1", "fd00::1"];

#[derive(Clone, Copy)]
struct Told<'a> {
    own: &'a [&'a str],
    vips: &'a [Address],
    settings: Settings,
}

impl Config for Told<'_> {
    fn roles(self, address: &Address) -> Role {
        let own = self.own.iter().any(|text| {
            let [first, second] = words(text);
            *address == [first, second, if text.contains(':') { 6 } else { 4 }]
        });
        let vip = self.vips.contains(address);
        (u64::from(own) * OWN) | (u64::from(vip) * VIP)
    }

    fn settings(self) -> Settings {
        self.settings
    }
}

const ALL: Told<'static> = Told {
    own: &OWNED,
    vips: &[],
    settings: Settings {
        gue_port: 6080_u16.to_be() as u64,
        vips_only: 0,
    },
};

fn take_out(frame: &[u8], told: Told<'_>) -> (Outcome, Vec<u8>) {
    let mut packet = HostPacket::new(frame, 7);
    let outcome = unwrap(&mut packet, told, &mut Facts::default());
    (outcome, packet.bytes().to_vec())
}

/// What a director sends, and what comes out.
fn through(frame: &Any, to: To) -> (Vec<u8>, Outcome, Vec<u8>) {
    let sent = send(&frame.bytes(), to).0.unwrap();
    let (outcome, out) = take_out(&sent, ALL);
    (sent, outcome, out)
}

fn to(family: u8, kind: TunnelKind, checksum: TunnelChecksum) -> To {
    To {
        family,
        kind,
        checksum,
        mtu: 1500,
        tags: 0,
    }
}

const FOUR: [&str; 2] = ["1.2.3.4:1000", "10.9.9.1:80"];
const SIX: [&str; 2] = ["[2001:db8::1]:1000", "[2001:db8::2]:80"];

proptest! {
    #[test]
    fn what_a_director_wraps_comes_out_with_its_layer_2(
        frame in any_frame(),
        over_six in any::<bool>(),
        kind in prop_oneof![Just(TunnelKind::Ipip), Just(TunnelKind::Gue), Just(TunnelKind::Gre)],
        checksum in prop_oneof![Just(TunnelChecksum::None), Just(TunnelChecksum::Full)],
        tags in 0..3_usize,
    ) {
        let wanted = match kind {
            TunnelKind::Ipip => Outcome::Ipip,
            TunnelKind::Gue => Outcome::Gue,
            TunnelKind::Gre => Outcome::Gre,
        };
        let family = if over_six { 6 } else { 4 };
        let (sent, outcome, out) = through(&frame, To { tags, ..to(family, kind, checksum) });
        prop_assert_eq!(outcome, wanted);
        prop_assert_eq!(sums::check(&out), Ok(()));
        let l3 = 14 + 4 * tags;
        prop_assert_eq!(&out[..l3 - 2], &sent[..l3 - 2], "stations and tags");
        let (ethertype, inner) = match frame {
            Any::Four(frame) => ([8, 0], Any::Four(crate::host::frame::Frame { ttl: frame.ttl - 1, tags: vec![], ..frame })),
            Any::Six(frame) => ([0x86, 0xdd], Any::Six(crate::host::frame::Frame6 { ttl: frame.ttl - 1, tags: vec![], ..frame })),
        };
        prop_assert_eq!(&out[l3 - 2..l3], &ethertype[..]);
        prop_assert_eq!(&out[l3..], &inner.bytes()[14..]);
    }

    #[test]
    fn no_bytes_break_it(
        frame in any_frame(),
        family in prop_oneof![Just(4_u8), Just(6)],
        kind in prop_oneof![Just(TunnelKind::Ipip), Just(TunnelKind::Gue), Just(TunnelKind::Gre)],
        noise in prop::collection::vec(any::<(u8, u8)>(), 0..4),
        length in any::<u16>(),
    ) {
        let mut sent = send(&frame.bytes(), to(family, kind, TunnelChecksum::Full)).0.unwrap();
        for (at, byte) in noise {
            let at = 14 + usize::from(at);
            if let Some(place) = sent.get_mut(at) {
                *place = byte;
            }
        }
        sent.truncate(14 + usize::from(length) % sent.len());
        let (outcome, out) = take_out(&sent, ALL);
        match outcome {
            Outcome::Ipip | Outcome::Gue | Outcome::Gre => {
                prop_assert!(sent.ends_with(&out[out.len().min(26)..]));
            }
            _ if !outcome.is_dropped() => prop_assert_eq!(out, sent, "untouched"),
            _ => {}
        }
    }
}

#[test]
fn only_tunnels_to_an_own_address() {
    let to = to(4, TunnelKind::Ipip, TunnelChecksum::None);
    let (sent, ..) = through(&between(FOUR[0], FOUR[1]), to);
    for own in [&[][..], &["10.8.0.2"], &["fd00::1"]] {
        let (outcome, out) = take_out(&sent, Told { own, ..ALL });
        assert_eq!((outcome, out), (Outcome::PassedOther, sent.clone()));
    }
    for ends in [FOUR, SIX] {
        let plain = between(ends[0], ends[1]).bytes();
        assert_eq!(take_out(&plain, ALL), (Outcome::PassedOther, plain));
    }
}

#[test]
fn only_packets_to_a_vip_when_there_are_some() {
    for (ends, vip) in [(FOUR, "10.9.9.1"), (SIX, "2001:db8::2")] {
        let version = if vip.contains(':') { 6 } else { 4 };
        let [first, second] = words(vip);
        for family in [4, 6] {
            let to = to(family, TunnelKind::Gue, TunnelChecksum::Full);
            let (sent, ..) = through(&between(ends[0], ends[1]), to);
            let vips = [0, 1].map(|more| [[first, second + more, version]]);
            let only = |i: usize| Told {
                vips: &vips[i],
                settings: Settings {
                    vips_only: 1,
                    ..ALL.settings
                },
                ..ALL
            };
            assert_eq!(take_out(&sent, only(0)).0, Outcome::Gue);
            let (outcome, out) = take_out(&sent, only(1));
            assert_eq!((outcome, out), (Outcome::PassedNotVip, sent));
        }
    }
}

#[test]
fn gue_on_another_port_is_somebody_elses() {
    let to = to(4, TunnelKind::Gue, TunnelChecksum::None);
    let (mut sent, ..) = through(&between(FOUR[0], FOUR[1]), to);
    sent[37] ^= 1;
    assert_eq!(take_out(&sent, ALL), (Outcome::PassedOther, sent.clone()));
    let told = Told {
        settings: Settings {
            gue_port: u16::from_ne_bytes([sent[36], sent[37]]).into(),
            vips_only: 0,
        },
        ..ALL
    };
    assert_eq!(take_out(&sent, told).0, Outcome::Gue);
}

#[test]
fn options_of_gue_and_gre_are_left_alone() {
    let gue = to(4, TunnelKind::Gue, TunnelChecksum::None);
    let gre = to(4, TunnelKind::Gre, TunnelChecksum::None);
    // GUE: control, header length, version, flags, protocol. GRE: key, sequence,
    // version, carried protocol.
    for (to, changes) in [
        (gue, [(42, 0x20), (42, 1), (42, 0x80), (45, 1), (43, 1)]),
        (gre, [(34, 0x20), (34, 0x10), (35, 1), (36, 1), (37, 1)]),
    ] {
        let (sent, ..) = through(&between(FOUR[0], FOUR[1]), to);
        for (at, bit) in changes {
            let mut sent = sent.clone();
            sent[at] ^= bit;
            let (outcome, out) = take_out(&sent, ALL);
            assert_eq!(
                (outcome, out),
                (Outcome::PassedMalformed, sent),
                "byte {at}"
            );
        }
    }
}

#[test]
fn a_wrong_checksum_of_the_tunnel_ends_the_frame() {
    for family in [4, 6] {
        for kind in [TunnelKind::Gue, TunnelKind::Gre] {
            let to = to(family, kind, TunnelChecksum::Full);
            let (mut sent, outcome, _) = through(&between(SIX[0], SIX[1]), to);
            assert!(!outcome.is_dropped());
            *sent.last_mut().unwrap() ^= 1;
            let (outcome, _) = take_out(&sent, ALL);
            assert_eq!(outcome, Outcome::DroppedChecksum);
            assert!(outcome.is_dropped());
        }
    }
}

#[test]
fn fragments_of_a_tunnel_are_left_to_the_stack() {
    for (kind, wanted) in [
        (TunnelKind::Ipip, Outcome::PassedFragment),
        (TunnelKind::Gue, Outcome::PassedOther),
    ] {
        let to = to(4, kind, TunnelChecksum::None);
        let (mut sent, ..) = through(&between(FOUR[0], FOUR[1]), to);
        sent[20] |= 0x20;
        sent[24..26].fill(0);
        let sum = checksum(&sent[14..34]);
        sent[24..26].copy_from_slice(&sum);
        assert_eq!(take_out(&sent, ALL), (wanted, sent));
    }
}

#[test]
fn congestion_of_the_way_is_handed_on_or_ends_the_frame() {
    for (ends, at) in [(FOUR, 15), (SIX, 14)] {
        for (class, wanted) in [(0, None), (1, Some(3)), (2, Some(3)), (3, Some(3))] {
            let mut frame = between(ends[0], ends[1]);
            match &mut frame {
                Any::Four(frame) => frame.misc.0 = class,
                Any::Six(frame) => frame.class.0 = class,
            }
            let to = to(4, TunnelKind::Ipip, TunnelChecksum::None);
            let (mut sent, ..) = through(&frame, to);
            sent[15] |= 3;
            sent[24..26].fill(0);
            let sum = checksum(&sent[14..34]);
            sent[24..26].copy_from_slice(&sum);
            let (outcome, out) = take_out(&sent, ALL);
            let Some(wanted) = wanted else {
                assert_eq!(outcome, Outcome::DroppedCongestion);
                continue;
            };
            assert_eq!(outcome, Outcome::Ipip);
            let start = u16::from_be_bytes([out[14], out[15]]);
            let shown = if at == 15 { start } else { start >> 4 } & 3;
            assert_eq!(shown, wanted, "{ends:?} {class}");
            sums::check(&out).unwrap();
        }
    }
}

#[test]
fn every_outcome_has_its_counter() {
    for (i, outcome) in Outcome::ALL.iter().enumerate() {
        assert_eq!(*outcome as usize, i);
        let name = outcome.name();
        assert_eq!(name.starts_with("dropped-"), outcome.is_dropped(), "{name}");
    }
}
