use crate::{
    facts::Facts,
    family::Family,
    packet::Packet,
    wire::{ICMP_LEN, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPV4_LEN, IPV6_LEN},
};

/// What an ICMP or ICMPv6 error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Quoted {
    /// Where the quoted packet starts in the frame.
    pub l3: u32,
    /// Where its transport header starts.
    pub l4: u32,
    /// Its source, as in [`Facts`].
    pub src: [u64; 2],
    /// Its destination.
    pub dst: [u64; 2],
    /// Its ports and protocol, as in [`Facts::ports`].
    pub ports: u64,
}

/// Least part of the transport header that must be quoted.
const LEAST: u32 = 8;
/// Extension headers that are walked over.
const EXTENSIONS: u32 = 6;
/// No header is looked for from here on; see [`Packet::read`].
const REACH: u32 = 224;
/// An offset, as loaded: not the first fragment.
const OFFSET4: u16 = 0x1fff_u16.to_be();
const OFFSET6: u16 = 0xfff8_u16.to_be();

/// Reads what the ICMP error of `facts`, whose header is at `facts.l4`, quotes.
/// `None` of messages that are not errors (redirects included), and of errors
/// about what is of no connection: other protocols, later fragments, too
/// little quoted. The checksum is not looked at.
#[inline(always)]
pub fn quoted<F: Family, P: Packet>(packet: &P, facts: &Facts) -> Option<Quoted> {
    let l4 = facts.l4 as u32;
    if l4 > REACH || !is_error::<F, P>(packet, l4) {
        return None;
    }
    let end = (facts.l3 as u32).wrapping_add(facts.l3_len as u32);
    packet_at::<F, P>(packet, l4.wrapping_add(ICMP_LEN), end)
}

/// Whether the message whose header is at `l4` is an error that is handed on.
#[inline(always)]
pub fn is_error<F: Family, P: Packet>(packet: &P, l4: u32) -> bool {
    match packet.read::<u8>(l4) {
        Some(kind) if F::VERSION == 4 => matches!(kind, 3 | 4 | 11),
        Some(kind) => kind < 128,
        None => false,
    }
}

/// Reads the packet of family `F` that stands at `l3` in the frame, cut off at
/// `end` or before. `None` of other protocols, later fragments, too little of it.
#[inline(always)]
pub fn packet_at<F: Family, P: Packet>(packet: &P, l3: u32, end: u32) -> Option<Quoted> {
    if l3 > REACH {
        return None;
    }
    let (l4, protocol, src, dst) = if F::VERSION == 4 {
        let words = packet.read::<[u32; 5]>(l3)?;
        let header = (words[0] & 15).wrapping_mul(4);
        let is_first = (words[1] >> 16) as u16 & OFFSET4 == 0;
        if words[0] as u8 >> 4 != 4 || header < IPV4_LEN || !is_first {
            return None;
        }
        let (src, dst) = ([words[3].into(), 0], [words[4].into(), 0]);
        (l3.wrapping_add(header), (words[2] >> 8) as u8, src, dst)
    } else {
        let [version, _, _, _, _, _, next, _] = packet.read::<[u8; 8]>(l3)?;
        if version >> 4 != 6 {
            return None;
        }
        let src = packet.read::<[u64; 2]>(l3.wrapping_add(8))?;
        let dst = packet.read::<[u64; 2]>(l3.wrapping_add(24))?;
        let (l4, protocol) = transport_of_ipv6(packet, l3.wrapping_add(IPV6_LEN), next)?;
        (l4, protocol, src, dst)
    };
    if !matches!(protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP) {
        return None;
    }
    if l4 > REACH || l4.wrapping_add(LEAST) > end {
        return None;
    }
    let ports = packet.read::<u32>(l4)?;
    Some(Quoted {
        l3,
        l4,
        src,
        dst,
        ports: u64::from(ports) | u64::from(protocol) << 32,
    })
}

/// Walks from extension header `next` at `at` to the transport header.
#[inline(always)]
fn transport_of_ipv6<P: Packet>(packet: &P, at: u32, next: u8) -> Option<(u32, u8)> {
    let (mut at, mut next) = (at, next);
    let mut i = 0;
    while i < EXTENSIONS {
        let is_fragment = next == 44;
        if !is_fragment && !matches!(next, 0 | 43 | 60) {
            break;
        }
        if at > REACH {
            return None;
        }
        let [start, offset] = packet.read::<[u16; 2]>(at)?;
        next = start as u8;
        if is_fragment {
            if offset & OFFSET6 != 0 {
                return None;
            }
            at = at.wrapping_add(8);
        } else {
            at = at.wrapping_add(u32::from(start >> 8).wrapping_mul(8).wrapping_add(8));
        }
        i += 1;
    }
    Some((at, next))
}

impl Quoted {
    /// The flow key of a packet that answers the quoted one: its ends changed
    /// over. An error about a packet of the connection, whichever way it went,
    /// finds the connection by it.
    #[inline(always)]
    pub fn key<F: Family>(&self) -> F::Key {
        F::opposite(&F::key_of(self.src, self.dst, self.ports))
    }

    /// Source port in network byte order.
    #[inline(always)]
    pub const fn src_port(&self) -> u16 {
        self.ports as u16
    }

    /// Destination port in network byte order.
    #[inline(always)]
    pub const fn dst_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        family::{V4, V6},
        forward::testing::{about, any_frame, between, facts},
        host::HostPacket,
    };
    use proptest::prelude::*;

    const FOUR: [&str; 2] = ["10.9.9.1:80", "1.2.3.4:2000"];
    const SIX: [&str; 2] = ["[2001:db8::2]:80", "[2001:db8::1]:2000"];

    fn read(frame: &[u8]) -> Option<Quoted> {
        let facts = facts(frame);
        let packet = HostPacket::new(frame, 7);
        match facts.family {
            4 => quoted::<V4, _>(&packet, &facts),
            _ => quoted::<V6, _>(&packet, &facts),
        }
    }

    #[test]
    fn the_key_is_that_of_the_packets_the_other_way() {
        let frame = about(&between(FOUR[0], FOUR[1]).bytes(), 3, 4, 1300, usize::MAX);
        let answer = facts(&between(FOUR[1], FOUR[0]).bytes());
        assert_eq!(read(&frame).unwrap().key::<V4>(), V4::key(&answer));
        let frame = about(&between(SIX[0], SIX[1]).bytes(), 2, 0, 1300, usize::MAX);
        let answer = facts(&between(SIX[1], SIX[0]).bytes());
        assert_eq!(read(&frame).unwrap().key::<V6>(), V6::key(&answer));
    }

    #[test]
    fn only_errors_about_enough_of_a_packet_count() {
        let four = between(FOUR[0], FOUR[1]).bytes();
        let six = between(SIX[0], SIX[1]).bytes();
        for kind in 0..=255 {
            let is_error = matches!(kind, 3 | 4 | 11);
            assert_eq!(read(&about(&four, kind, 0, 0, 99)).is_some(), is_error);
            assert_eq!(read(&about(&six, kind, 0, 0, 99)).is_some(), kind < 128);
        }
        for (frame, header) in [(&four, 20), (&six, 40)] {
            assert!(read(&about(frame, 3, 0, 0, header + 8)).is_some());
            for length in 0..header + 8 {
                assert_eq!(read(&about(frame, 3, 0, 0, length)), None, "{length}");
            }
        }
        // Version, header length, fragment offset, protocol of the quoted header.
        for (at, byte) in [(0, 0x55), (0, 0x44), (7, 1), (9, 1)] {
            let mut error = about(&four, 3, 0, 0, 99);
            error[14 + 28 + at] = byte;
            assert_eq!(read(&error), None, "byte {at}");
        }
    }

    #[test]
    fn extension_headers_are_walked_over() {
        let with = |extensions: Vec<(u8, Vec<u8>)>| {
            let mut frame = between(SIX[0], SIX[1]);
            if let crate::forward::testing::Any::Six(frame) = &mut frame {
                frame.extensions = extensions;
            }
            read(&about(&frame.bytes(), 1, 0, 0, 999))
        };
        let small = || (60, vec![1, 4, 0, 0, 0, 0]);
        let first = (44, vec![0, 1, 0, 0, 0, 9]);
        let later = (44, vec![0, 9, 0, 0, 0, 9]);
        assert_eq!(
            with(vec![(0, vec![0; 14]), first]).unwrap().l4,
            14 + 48 + 40 + 24
        );
        assert_eq!(with(vec![later]), None);
        assert!(with(vec![small(); 6]).is_some());
        assert_eq!(with(vec![small(); 7]), None);
        assert_eq!(with(vec![(60, vec![0; 8 * 30 - 2])]), None, "out of reach");
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(frame in any_frame(), noise in any::<Vec<(u8, u8)>>()) {
            let mut frame = about(&frame.bytes(), 3, 0, 0, 999);
            let facts = facts(&frame);
            for (at, byte) in noise {
                let at = facts.l4 as usize + usize::from(at);
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            let packet = HostPacket::new(&frame, 7);
            let read = match facts.family {
                4 => quoted::<V4, _>(&packet, &facts),
                _ => quoted::<V6, _>(&packet, &facts),
            };
            if let Some(quoted) = read {
                prop_assert!(quoted.l4 as usize + 8 <= frame.len());
            }
        }
    }
}
