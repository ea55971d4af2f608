//! The client's address in a TCP option.

use lb_common::{
    engine::Verdict,
    family::Family,
    reason::Reason,
    wire::{TCP_ACK as A, TCP_FIN as F_, TCP_RST as R, TCP_SYN as S},
};
use proptest::prelude::*;

use super::bed::{Bed, DNS, FULL, KEPT, MAPPED, Segment, WEB, both_families};

/// The option that tells the client's end.
fn option<F: Family>(port: u16) -> Vec<u8> {
    let mut bytes = match Bed::<F>::client(port) {
        std::net::SocketAddr::V4(end) => end.ip().octets().to_vec(),
        std::net::SocketAddr::V6(end) => end.ip().octets().to_vec(),
    };
    bytes.splice(0..0, [254, bytes.len() as u8 + 4]);
    bytes.splice(2..2, port.to_be_bytes());
    bytes
}

/// Where TCP starts in a frame without tags.
fn l4<F: Family>() -> usize {
    if F::VERSION == 4 { 34 } else { 54 }
}

/// Options and payload of a segment that has left.
fn read<F: Family>(frame: &[u8]) -> (&[u8], &[u8]) {
    let tcp = &frame[l4::<F>()..];
    let header = usize::from(tcp[12] >> 4) * 4;
    (&tcp[20..header], &tcp[header..])
}

fn lab<F: Family>() -> Bed<F> {
    let bed = Bed::<F>::with(&[FULL]);
    bed.tell_clients();
    bed
}

fn sent<F: Family>(bed: &Bed<F>, segment: &Segment) -> Vec<u8> {
    let (verdict, reason, bytes) = bed.run(segment);
    assert_eq!(reason, Reason::ForwardedRedirect);
    assert!(matches!(verdict, Verdict::Redirect(_)));
    bytes
}

/// A reply to the client's port 1000.
fn reply<F: Family>(bed: &Bed<F>, flags: u8) -> Segment {
    let conn = bed.conn(1000, WEB).expect("tracked");
    let (_, port) = conn.cell.local::<F>();
    Segment {
        destination: Bed::<F>::local(u16::from_be(port)),
        ..Bed::<F>::reply(FULL, WEB, 1000, flags)
    }
}

fn until_the_server_answers_beyond_its_syn<F: Family>() {
    let bed = lab::<F>();
    let wanted = option::<F>(1000);
    let tells = |flags: u8| {
        let segment = Bed::<F>::request(1000, WEB, flags);
        let bytes = sent(&bed, &segment);
        let (options, payload) = read::<F>(&bytes);
        assert_eq!(payload, segment.payload);
        assert!(options.is_empty() || options == wanted, "{options:?}");
        !options.is_empty()
    };
    assert!(tells(S) && tells(S), "a SYN, and again");
    bed.run(&reply(&bed, S | A));
    assert!(
        tells(A) && tells(A) && tells(A | F_),
        "until it is answered"
    );
    bed.run(&reply(&bed, S | A));
    assert!(tells(A), "a SYN+ACK again: the ACK was lost");
    bed.run(&reply(&bed, A));
    assert!(!tells(A) && !tells(A) && !tells(R));
    // The port again: another connection.
    assert!(tells(S));
    assert_eq!(bed.audit().0, 1);
}

fn only_those_who_want_to_know<F: Family>() {
    for servers in [[MAPPED], [KEPT], [FULL]] {
        let bed = Bed::<F>::with(&servers);
        if servers != [FULL] {
            bed.tell_clients();
        }
        let bytes = sent(&bed, &Bed::<F>::request(1000, WEB, S));
        assert!(read::<F>(&bytes).0.is_empty(), "{servers:?}");
    }
    let bed = lab::<F>();
    let datagram = Bed::<F>::request(1000, DNS, 0);
    let bytes = sent(&bed, &datagram);
    assert_eq!(bytes.len(), datagram.build().len(), "UDP has no options");
}

fn behind_the_clients_own_options<F: Family>() {
    let bed = lab::<F>();
    let wanted = option::<F>(1000);
    let room = 40 - wanted.len();
    for length in (0..=40).step_by(4) {
        let mut options = vec![1; length];
        if length >= 20 {
            // What Linux sends with a SYN.
            let linux = [
                2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
            ];
            options[..20].copy_from_slice(&linux);
        }
        let segment = Segment {
            tcp_options: options.clone(),
            ..Bed::<F>::request(1000, WEB, S)
        };
        let (_, reason, bytes) = bed.run(&segment);
        let (read, payload) = read::<F>(&bytes);
        assert_eq!(payload, segment.payload);
        if length <= room {
            assert_eq!(reason, Reason::ForwardedRedirect);
            assert_eq!(read, [&wanted[..], &options].concat());
        } else {
            assert_eq!(reason, Reason::ForwardedUntold, "{length} bytes");
            assert_eq!(read, options, "as it was");
        }
    }
}

fn a_segment_that_just_fits_goes_without<F: Family>() {
    let bed = lab::<F>();
    let wanted = option::<F>(1000);
    let headers = l4::<F>() - 14 + 20;
    let of = |length: usize| Segment {
        payload: vec![7; length - headers],
        ..Bed::<F>::request(1000, WEB, A)
    };
    bed.run(&Bed::<F>::request(1000, WEB, S));
    for length in [1500 - wanted.len(), 1501 - wanted.len(), 1500] {
        let (verdict, reason, bytes) = bed.run(&of(length));
        assert!(matches!(verdict, Verdict::Redirect(_)));
        let (options, payload) = read::<F>(&bytes);
        assert_eq!(payload, of(length).payload);
        let fits = length + wanted.len() <= 1500;
        assert_eq!(options, if fits { &wanted[..] } else { &[] });
        let told = if fits {
            Reason::ForwardedRedirect
        } else {
            Reason::ForwardedUntold
        };
        assert_eq!(reason, told, "{length}");
    }
    // What is refused is quoted as it came.
    for (segment, reason) in [
        (of(1501), Reason::DroppedTooBig),
        (Segment { ttl: 1, ..of(100) }, Reason::DroppedTtl),
    ] {
        let (verdict, counted, answer) = bed.run(&segment);
        assert_eq!((verdict, counted), (Verdict::Transmit, reason));
        let quoted = &answer[l4::<F>() + 8..];
        let port = l4::<F>() - 14;
        assert_eq!(quoted[port..port + 4], segment.build()[l4::<F>()..][..4]);
        assert_eq!(quoted[port + 12] >> 4, 5, "without the option");
    }
}

fn any_segment<F: Family>() {
    let bed = lab::<F>();
    let wanted = option::<F>(1000);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    let plain = Bed::<F>::with(&[FULL]);
    plain.run(&Bed::<F>::request(1000, WEB, S));
    let segments = (
        prop::collection::vec(any::<u8>(), 0..80),
        0..=2_usize,
        any::<bool>(),
        2..=255_u8,
    );
    proptest!(ProptestConfig { cases: if cfg!(miri) { 5 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() },
    |((payload, options, tagged, ttl) in segments)| {
        let segment = Segment {
            payload,
            ttl,
            tcp_options: vec![1; 4 * options],
            tags: if tagged { vec![(0x8100, 100)] } else { Vec::new() },
            ..Bed::<F>::request(1000, WEB, A)
        };
        // Checksums are looked at by the bed.
        let bytes = sent(&bed, &segment);
        let without = sent(&plain, &segment);
        let (read_options, payload) = read::<F>(&bytes);
        prop_assert_eq!(payload, &segment.payload[..]);
        prop_assert_eq!(read_options, [&wanted[..], &segment.tcp_options].concat());
        prop_assert_eq!(bytes.len(), without.len() + wanted.len());
        // Ports, sequence numbers, flags and window are as without it; so are the
        // hop count and the addresses.
        let tcp = l4::<F>();
        for range in [0..14, tcp + 2..tcp + 12, tcp + 13..tcp + 16] {
            prop_assert_eq!(&bytes[range.clone()], &without[range]);
        }
        let (ttl_at, ends) = if F::VERSION == 4 { (22, 26..34) } else { (21, 22..54) };
        prop_assert_eq!(bytes[ttl_at], without[ttl_at]);
        prop_assert_eq!(&bytes[ends.clone()], &without[ends]);
    });
}

both_families!(
    until_the_server_answers_beyond_its_syn,
    only_those_who_want_to_know,
    behind_the_clients_own_options,
    a_segment_that_just_fits_goes_without,
    any_segment,
);
