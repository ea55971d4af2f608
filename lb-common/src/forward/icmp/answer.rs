use crate::{
    checksum::fold,
    facts::Facts,
    family::Family,
    forward::{
        header::Header,
        nat::{checksum_tail, halves},
        way::{Learned, Way, leave_by},
    },
    packet::Packet,
    reason::Reason,
    tables::Tables,
    wire::{ICMP_LEN, IPPROTO_ICMP, IPPROTO_ICMPV6, IPV4_LEN, IPV6_LEN},
};

/// What is said about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing takes it: ICMP 3/3, ICMPv6 1/4.
    PortUnreachable,
    /// Its time to live ran out: 11/0, 3/0.
    TimeExceeded,
    /// It is too long; this much layer 3 would have fitted: 3/4, 2/0.
    TooBig {
        /// Bytes.
        mtu: u32,
    },
    /// There is no way to the server: 3/1, 1/3.
    HostUnreachable,
    /// What another router said about it.
    Told {
        /// Type, and code above it.
        said: u16,
        /// Of "too big": bytes.
        mtu: u32,
    },
}

/// Type of "too big", with the code above it.
#[inline(always)]
pub const fn too_big<F: Family>() -> u16 {
    Answer::TooBig { mtu: 0 }.kind::<F>() as u16
}

impl Answer {
    /// Type in the low half of 16 bits, code in the high: the header's first
    /// two bytes as loaded.
    #[inline(always)]
    const fn kind<F: Family>(self) -> u32 {
        let (four, six) = match self {
            Self::PortUnreachable => ([3, 3], [1, 4]),
            Self::TimeExceeded => ([11, 0], [3, 0]),
            Self::TooBig { .. } => ([3, 4], [2, 0]),
            Self::HostUnreachable => ([3, 1], [1, 3]),
            Self::Told { said, .. } => return said as u32,
        };
        let [kind, code] = if F::VERSION == 4 { four } else { six };
        kind | code << 8
    }

    /// The header's second word.
    #[inline(always)]
    const fn rest<F: Family>(self) -> u32 {
        match self {
            // IPv4: 16 bits, behind 16 unused ones.
            Self::TooBig { mtu } if F::VERSION == 4 => (mtu & 0xffff).to_be(),
            Self::TooBig { mtu } => mtu.to_be(),
            Self::Told { said, mtu } if said == too_big::<F>() => Self::TooBig { mtu }.rest::<F>(),
            _ => 0,
        }
    }
}

/// Longest error packet: what every host must be able to take.
const LONGEST: [u32; 2] = [576, 1280];
/// Time to live of our own packets.
const TTL: u8 = 64;
/// Precedence "internetwork control".
const PRECEDENCE: u8 = 0xc0;
/// What the answer takes over from the packet's type of service.
const KEPT_SERVICE: u8 = 0x1e;

/// Makes the frame into the error that says `what` about it, from `source` (as
/// a rule the packet's destination, the service) to the packet's sender; it
/// can leave by the interface it came in by. The packet is quoted as it stands.
/// Whether it may be answered at all (no fragment, no ICMP error, not to or
/// from a group, within the rate) is the caller's to know.
///
/// # Errors
/// [`Reason::DroppedInternal`] when the frame is shorter than the facts say
/// or has no room in front.
#[inline(always)]
pub fn answer<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &Facts,
    source: [u64; 2],
    what: Answer,
) -> Result<(), Reason> {
    make::<F, P, T, _, _>(packet, tables, facts, source, what, back::<F, P>)
        .ok_or(Reason::DroppedInternal)
}

/// As [`answer`], of a packet that stands anywhere in the frame, by another way.
///
/// # Errors
/// As of [`answer`].
#[inline(always)]
pub fn answer_by<F: Family, P: Packet, T: Tables, W: Way>(
    packet: &mut P,
    tables: T,
    facts: &Facts,
    source: [u64; 2],
    what: Answer,
    way: W,
) -> Result<(), Reason> {
    make::<F, P, T, _, _>(packet, tables, facts, source, what, |_, _| Some(way))
        .ok_or(Reason::DroppedInternal)
}

#[inline(always)]
fn back<F: Family, P: Packet>(packet: &P, l3: u32) -> Option<Learned> {
    Learned::back::<F, P>(packet, l3, 0)
}

#[inline(always)]
fn make<F: Family, P: Packet, T: Tables, W: Way, L: FnOnce(&P, u32) -> Option<W>>(
    packet: &mut P,
    tables: T,
    facts: &Facts,
    source: [u64; 2],
    what: Answer,
    find_way: L,
) -> Option<()> {
    let l3 = facts.l3 as u32;
    let (ip_len, longest, protocol) = if F::VERSION == 4 {
        (IPV4_LEN, LONGEST[0], IPPROTO_ICMP)
    } else {
        (IPV6_LEN, LONGEST[1], IPPROTO_ICMPV6)
    };
    let around = ip_len.wrapping_add(ICMP_LEN);
    let room = longest.wrapping_sub(around);
    let whole = facts.l3_len as u32;
    let quoted = if whole < room { whole } else { room };
    let class = if F::VERSION == 4 {
        packet.read::<u8>(l3.wrapping_add(1))? & KEPT_SERVICE | PRECEDENCE
    } else {
        0
    };
    packet.cut(l3.wrapping_add(quoted))?;
    let way = find_way(packet, l3)?;
    leave_by(packet, l3, around, way).ok()?;
    let l3 = way.header_len();
    let header = Header {
        class,
        whole: false,
        ttl: TTL,
        protocol,
        length: quoted.wrapping_add(around),
        source,
        destination: facts.src,
    };
    header.write::<F, P, T>(packet, l3, tables)?;
    let at = l3.wrapping_add(ip_len);
    let length = quoted.wrapping_add(ICMP_LEN);
    let kind = what.kind::<F>();
    packet.write(at, [kind, what.rest::<F>()])?;
    let mut sum = packet.sum(at, length)?;
    if F::VERSION == 6 {
        sum = sum
            .wrapping_add(halves::<F>(source))
            .wrapping_add(halves::<F>(facts.src))
            .wrapping_add(checksum_tail(protocol, length));
    }
    packet.write(at.wrapping_add(2), !fold(sum))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        family::{V4, V6},
        forward::testing::{Any, any_frame, facts, tables, words},
        host::{HostPacket, frame::Frame, frame::Frame6, sums},
    };

    fn said(frame: &[u8], source: [u64; 2], what: Answer) -> Vec<u8> {
        let mut packet = HostPacket::new(frame, 7);
        let facts = facts(frame);
        match facts.family {
            4 => answer::<V4, _, _>(&mut packet, &tables(), &facts, source, what),
            _ => answer::<V6, _, _>(&mut packet, &tables(), &facts, source, what),
        }
        .unwrap();
        sums::check(packet.bytes()).unwrap();
        packet.bytes().to_vec()
    }

    fn four() -> Frame {
        let at = |text: &str| text.parse().unwrap();
        Frame {
            misc: (0, 0x1234, 0x4000),
            ..Frame::tcp(at("1.2.3.4:1000"), at("10.9.9.1:80"), 2)
        }
    }

    fn six() -> Frame6 {
        let at = |text: &str| text.parse().unwrap();
        Frame6::tcp(at("[2001:db8::1]:1000"), at("[2001:db8::2]:80"), 2)
    }

    #[test]
    fn no_server_as_the_kernel_was_seen_to_say_it() {
        let frame = Frame {
            padding: 6,
            ..four()
        };
        let vip = words("10.9.9.1");
        let sent = said(&frame.build(), vip, Answer::PortUnreachable);
        assert_eq!(sent[..6], frame.stations[1], "back to the sender");
        assert_eq!(sent[6..12], frame.stations[0]);
        assert_eq!(sent[14..18], [0x45, 0xc0, 0, 68], "padding is not quoted");
        assert_ne!(sent[18..20], [0, 0]);
        assert_eq!(sent[20..24], [0, 0, 64, 1]);
        assert_eq!(sent[26..34], [10, 9, 9, 1, 1, 2, 3, 4]);
        assert_eq!((sent[34], sent[35]), (3, 3));
        assert_eq!(sent[38..42], [0; 4]);
        assert_eq!(sent[42..], frame.packet());
    }

    #[test]
    fn every_kind_in_both_families() {
        let vip = [words("10.9.9.1"), words("2001:db8::2")];
        for (what, four_says, six_says) in [
            (Answer::PortUnreachable, [3, 3, 0, 0], [1, 4, 0, 0]),
            (Answer::TimeExceeded, [11, 0, 0, 0], [3, 0, 0, 0]),
            (Answer::HostUnreachable, [3, 1, 0, 0], [1, 3, 0, 0]),
            (Answer::TooBig { mtu: 1480 }, [3, 4, 5, 200], [2, 0, 5, 200]),
        ] {
            let sent = said(&four().build(), vip[0], what);
            assert_eq!([sent[34], sent[35], sent[40], sent[41]], four_says);
            assert_eq!(sent[38..40], [0, 0], "unused");
            let sent = said(&six().build(), vip[1], what);
            assert_eq!([sent[54], sent[55], sent[60], sent[61]], six_says);
            assert_eq!(sent[14..22], [0x60, 0, 0, 0, 0, 68, 58, 64]);
            assert_eq!(sent[22..38], six().destination.ip().octets());
            assert_eq!(sent[38..54], six().source.ip().octets());
            assert_eq!(sent[62..], six().packet());
        }
    }

    #[test]
    fn a_router_may_speak_for_itself() {
        let sent = said(&four().build(), words("10.7.0.254"), Answer::TimeExceeded);
        assert_eq!(sent[26..34], [10, 7, 0, 254, 1, 2, 3, 4]);
    }

    #[test]
    fn long_packets_are_quoted_in_part() {
        let payload = vec![7; 1400];
        let frame = Frame {
            payload: payload.clone(),
            ..four()
        };
        let what = Answer::TooBig { mtu: 1400 };
        let sent = said(&frame.build(), words("10.9.9.1"), what);
        assert_eq!(sent.len(), 14 + 576);
        assert_eq!(sent[42..], frame.packet()[..548]);
        let frame = Frame6 { payload, ..six() };
        let sent = said(&frame.build(), words("2001:db8::2"), what);
        assert_eq!(sent.len(), 14 + 1280);
        assert_eq!(sent[62..], frame.packet()[..1232]);
    }

    proptest! {
        #[test]
        fn answers_quote_the_packet_and_keep_its_tags(frame in any_frame()) {
            let bytes = frame.bytes();
            let before = facts(&bytes);
            let sent = said(&bytes, before.dst, Answer::TimeExceeded);
            let after = facts(&sent);
            prop_assert_eq!((after.src, after.dst), (before.dst, before.src));
            let l3 = before.l3 as usize;
            prop_assert_eq!(after.l3, before.l3);
            prop_assert_eq!(&sent[12..l3], &bytes[12..l3]);
            let quoted = after.l4 as usize + 8;
            prop_assert_eq!(&sent[quoted..], &bytes[l3..]);
            let class = match &frame {
                Any::Four(frame) => frame.misc.0 & 0x1e | 0xc0,
                Any::Six(_) => 0,
            };
            if before.family == 4 {
                prop_assert_eq!(sent[l3 + 1], class);
            }
        }
    }
}
