//! ICMP messages, most of them errors about a packet.

use std::net::SocketAddr;

use lb_common::host::frame::{Frame, Frame6, checksum};
use rand::{Rng, RngCore, rngs::StdRng, seq::IndexedRandom};

/// The packet from `source` to `destination`, as an error quotes it.
fn quoted(rng: &mut StdRng, ends: [SocketAddr; 2], protocol: u8) -> Vec<u8> {
    let mut payload = vec![0; *[0, 0, 20, 600].choose(rng).expect("not empty")];
    rng.fill_bytes(&mut payload);
    let ttl = rng.random_range(1..64);
    let (packet, header) = match ends {
        [SocketAddr::V4(source), SocketAddr::V4(destination)] => {
            let options = vec![1; *[0, 0, 0, 8].choose(rng).expect("not empty")];
            let header = 20 + options.len();
            let frame = Frame {
                protocol,
                ttl,
                options,
                payload,
                misc: (
                    0,
                    rng.random(),
                    *[0x4000, 0x4000, 0, 1].choose(rng).expect("not empty"),
                ),
                ..Frame::tcp(source, destination, 0x10)
            };
            (frame.packet(), header)
        }
        [SocketAddr::V6(source), SocketAddr::V6(destination)] => {
            let extensions = if rng.random_ratio(1, 6) {
                vec![(60, vec![0; 6])]
            } else {
                Vec::new()
            };
            let header = 40 + 8 * extensions.len();
            let frame = Frame6 {
                protocol,
                ttl,
                extensions,
                payload,
                ..Frame6::tcp(source, destination, 0x10)
            };
            (frame.packet(), header)
        }
        _ => unreachable!("both ends are of one family"),
    };
    let length = match rng.random_range(0..10) {
        // Just what must be there, everything, or less.
        0..4 => header + 8,
        4..9 => packet.len(),
        _ => rng.random_range(0..header + 8),
    };
    packet[..length.min(packet.len())].to_vec()
}

/// An ICMP message between `outer`, about a packet between `inner`.
pub(super) fn message(
    rng: &mut StdRng,
    outer: [SocketAddr; 2],
    inner: [SocketAddr; 2],
    protocol: u8,
) -> Vec<u8> {
    let quoted = quoted(rng, inner, protocol);
    about(rng, outer, &quoted)
}

/// An ICMP message between `outer` that quotes these bytes.
pub(super) fn about(rng: &mut StdRng, outer: [SocketAddr; 2], quoted: &[u8]) -> Vec<u8> {
    let four = outer[0].is_ipv4();
    let kinds: &[u8] = if four {
        &[3, 3, 3, 11, 11, 4, 12, 5, 0, 8]
    } else {
        &[1, 2, 2, 2, 3, 3, 4, 5, 128, 129, 135]
    };
    let mut message = vec![
        *kinds.choose(rng).expect("not empty"),
        rng.random_range(0..6),
        0,
        0,
    ];
    // Of "too big", the size.
    message.extend([0, 0, rng.random_range(0..6), rng.random()]);
    message.extend(quoted);
    let pseudo = match outer {
        [SocketAddr::V6(source), SocketAddr::V6(destination)] => [
            &source.ip().octets()[..],
            &destination.ip().octets(),
            &(message.len() as u32).to_be_bytes(),
            &[0, 0, 0, 58],
        ]
        .concat(),
        _ => Vec::new(),
    };
    let mut sum = checksum(&[&pseudo[..], &message].concat());
    if rng.random_ratio(1, 8) {
        sum[0] ^= 1;
    }
    message[2..4].copy_from_slice(&sum);
    message
}
