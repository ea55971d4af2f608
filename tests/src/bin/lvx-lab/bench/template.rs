//! Frames that the benchmark's programs make anew for each packet, without the
//! client's address and port.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use lb_common::{
    checksum,
    host::frame::{Frame, Frame6},
    wire::{TCP_ACK, TCP_SYN},
};

use super::run_record::{FRAME_WORDS, layout};

/// Bytes of each frame. The packet in it is shorter, as those on the wire are that
/// are padded.
pub(super) const LENGTH: usize = FRAME_WORDS * 8;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Syn,
    Ack,
    Datagram,
}

/// A frame without the client's address and port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    pub(super) bytes: [u8; LENGTH],
    /// Which fields the client's are.
    pub(super) layout: u64,
    /// The IPv4 header's sum without the client's address and the checksum.
    pub(super) sum: u64,
}

impl Template {
    /// What clients send to this address and port.
    pub(super) fn to(service: SocketAddr, segment: Segment) -> Self {
        Self::new(nobody(service), service, segment, true)
    }

    /// What a server sends to clients from this address and port.
    pub(super) fn from(server: SocketAddr, segment: Segment) -> Self {
        Self::new(server, nobody(server), segment, false)
    }

    fn new(from: SocketAddr, to: SocketAddr, segment: Segment, from_client: bool) -> Self {
        let flags = if segment == Segment::Syn {
            TCP_SYN
        } else {
            TCP_ACK
        };
        let mut frame = match (from, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => match segment {
                Segment::Datagram => Frame::udp(from, to).build(),
                _ => Frame::tcp(from, to, flags).build(),
            },
            (SocketAddr::V6(from), SocketAddr::V6(to)) => match segment {
                Segment::Datagram => Frame6::udp(from, to).build(),
                _ => Frame6::tcp(from, to, flags).build(),
            },
            _ => unreachable!("both ends are of one family"),
        };
        frame.resize(LENGTH, 0);
        let bytes: [u8; LENGTH] = frame.try_into().expect("just resized");
        Self {
            bytes,
            layout: match (from.is_ipv4(), from_client) {
                (true, true) => layout::FROM4,
                (true, false) => layout::TO4,
                (false, true) => layout::FROM6,
                (false, false) => layout::TO6,
            },
            sum: header_sum(&bytes),
        }
    }
}

/// The end whose address and port the programs fill in; what they do not of IPv6.
fn nobody(peer: SocketAddr) -> SocketAddr {
    if peer.is_ipv4() {
        SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
    } else {
        let network = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0);
        SocketAddr::V6(SocketAddrV6::new(network, 0, 0, 0))
    }
}

/// The sum of the IPv4 header, in which the client's address is still 0, without
/// the checksum.
fn header_sum(frame: &[u8; LENGTH]) -> u64 {
    let mut words = [0; 5];
    for (word, bytes) in words.iter_mut().zip(frame[14..34].chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    // TTL and protocol stay.
    words[2] &= u32::from_ne_bytes([0xff, 0xff, 0, 0]);
    checksum::ipv4_sum(&words)
}

/// An address that is no service's.
pub(super) fn elsewhere(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, number)
}
