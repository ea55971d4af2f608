use super::way::{Way, fits, fits_server, leave_by, lives_on};
use crate::{
    checksum::{fold, replaced},
    facts::Facts,
    family::Family,
    packet::Packet,
    reason::Reason,
    wire::{IPPROTO_TCP, IPPROTO_UDP},
};

/// One end of a packet as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Address in network byte order, as in [`Facts`].
    pub addr: [u64; 2],
    /// Port in network byte order; 0 keeps the packet's.
    pub port: u16,
}

/// Which ends of a packet change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ends {
    /// Source; `None` keeps it.
    pub src: Option<End>,
    /// Destination; `None` keeps it.
    pub dst: Option<End>,
}

/// How much of a datagram a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment: ports, but not all that the checksum covers.
    First,
    /// Another fragment: no ports.
    Later,
}

/// NAT towards a server: the destination becomes `server`.
///
/// # Errors
/// Why the packet cannot be sent.
#[inline(always)]
pub fn to_server<F: Family, P: Packet, W: Way>(
    packet: &mut P,
    facts: &mut Facts,
    server: End,
    part: Part,
    way: W,
) -> Result<(), Reason> {
    lives_on(facts)?;
    fits_server::<F, P>(packet, facts, way.mtu())?;
    let ends = Ends {
        src: None,
        dst: Some(server),
    };
    translate::<F, P>(packet, facts, ends, part, 1)?;
    leave_by(packet, facts.l3 as u32, 0, way)
}

/// NAT towards a client: the source becomes `service`. What does not fit is
/// refused as forwarding does it, with the time to live as it came.
///
/// # Errors
/// Why the packet cannot be sent.
#[inline(always)]
pub fn to_client<F: Family, P: Packet, W: Way>(
    packet: &mut P,
    facts: &mut Facts,
    service: End,
    part: Part,
    way: W,
) -> Result<(), Reason> {
    lives_on(facts)?;
    fits::<F, P>(packet, facts, way.mtu())?;
    let ends = Ends {
        src: Some(service),
        dst: None,
    };
    translate::<F, P>(packet, facts, ends, part, 1)?;
    leave_by(packet, facts.l3 as u32, 0, way)
}

/// Rewrites the ends of a packet and its checksums, and takes `hops` (0 or 1)
/// off its time to live. Ports and the transport checksum of TCP and UDP; of
/// other protocols the addresses only.
///
/// # Errors
/// [`Reason::DroppedInternal`] when the frame ends before its headers.
#[inline(always)]
pub fn translate<F: Family, P: Packet>(
    packet: &mut P,
    facts: &Facts,
    ends: Ends,
    part: Part,
    hops: u8,
) -> Result<(), Reason> {
    rewrite::<F, P>(packet, facts, ends, part, hops).ok_or(Reason::DroppedInternal)
}

#[inline(always)]
fn rewrite<F: Family, P: Packet>(
    packet: &mut P,
    facts: &Facts,
    ends: Ends,
    part: Part,
    hops: u8,
) -> Option<()> {
    let l3 = facts.l3 as u32;
    let (src_at, dst_at) = addresses_at::<F>(l3);
    let mut sum = 0;
    if let Some(end) = ends.src {
        write_address::<F, P>(packet, src_at, end.addr)?;
        sum = changed::<F>(facts.src, end.addr);
    }
    if let Some(end) = ends.dst {
        write_address::<F, P>(packet, dst_at, end.addr)?;
        sum = sum.wrapping_add(changed::<F>(facts.dst, end.addr));
    }
    if F::VERSION == 4 {
        let at = l3.wrapping_add(8);
        let [old, check] = packet.read::<[u16; 2]>(at)?;
        // Little-endian: the TTL is the low byte.
        let new = old.wrapping_sub(hops.into());
        let sum = sum.wrapping_add(replaced(old.into(), new.into()));
        packet.write(at, [new, updated(check, sum)])?;
    } else {
        let ttl = (facts.ttl as u8).wrapping_sub(hops);
        packet.write(l3.wrapping_add(7), ttl)?;
    }
    if part == Part::Later {
        return Some(());
    }
    let protocol = facts.protocol();
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP {
        return Some(());
    }
    let old = facts.ports as u32;
    let mut ports = old;
    if let Some(End {
        port: port @ 1.., ..
    }) = ends.src
    {
        ports = ports & 0xffff_0000 | u32::from(port);
    }
    if let Some(End {
        port: port @ 1.., ..
    }) = ends.dst
    {
        ports = ports & 0xffff | u32::from(port) << 16;
    }
    let l4 = facts.l4 as u32;
    packet.write(l4, ports)?;
    sum = sum.wrapping_add(replaced(old.into(), ports.into()));
    if protocol == IPPROTO_TCP {
        let at = l4.wrapping_add(16);
        let check = packet.read::<u16>(at)?;
        return packet.write(at, updated(check, sum));
    }
    let at = l4.wrapping_add(6);
    let check = packet.read::<u16>(at)?;
    let check = if check != 0 {
        updated(check, sum)
    } else if part == Part::Whole && facts.l3_len < MOST_SUMMED {
        // The kernel puts a checksum where there was none.
        whole_udp::<F, P>(packet, facts, ends)?
    } else {
        return Some(());
    };
    packet.write(at, if check == 0 { 0xffff } else { check })
}

/// Lengths below this can be summed; see [`Packet::sum`].
const MOST_SUMMED: u64 = 1 << 14;

/// The checksum of a whole UDP datagram between the new ends, whose ports are
/// written and whose checksum field is 0.
#[inline(always)]
fn whole_udp<F: Family, P: Packet>(packet: &P, facts: &Facts, ends: Ends) -> Option<u16> {
    let header = facts.l4.wrapping_sub(facts.l3) as u32;
    let length = (facts.l3_len as u32).wrapping_sub(header);
    let src = match ends.src {
        Some(end) => end.addr,
        None => facts.src,
    };
    let dst = match ends.dst {
        Some(end) => end.addr,
        None => facts.dst,
    };
    let sum = packet
        .sum(facts.l4 as u32, length)?
        .wrapping_add(halves::<F>(src))
        .wrapping_add(halves::<F>(dst))
        .wrapping_add(checksum_tail(IPPROTO_UDP, length));
    Some(!fold(sum))
}

/// Sum of an address.
#[inline(always)]
pub(super) fn halves<F: Family>(addr: [u64; 2]) -> u64 {
    let sum = |word: u64| (word & 0xffff_ffff).wrapping_add(word >> 32);
    if F::VERSION == 4 {
        addr[0] & 0xffff_ffff
    } else {
        sum(addr[0]).wrapping_add(sum(addr[1]))
    }
}

/// What a pseudo-header adds to the sum besides the addresses.
#[inline(always)]
pub(super) fn checksum_tail(protocol: u8, length: u32) -> u64 {
    // Each as a 16-bit word in network byte order; lengths are below 2^16.
    u64::from(u16::from(protocol).to_be()).wrapping_add(u64::from((length as u16).to_be()))
}

/// Where the source and destination address stand in a packet at `l3`.
#[inline(always)]
pub(super) fn addresses_at<F: Family>(l3: u32) -> (u32, u32) {
    if F::VERSION == 4 {
        (l3.wrapping_add(12), l3.wrapping_add(16))
    } else {
        (l3.wrapping_add(8), l3.wrapping_add(24))
    }
}

/// Writes an address.
#[inline(always)]
pub(super) fn write_address<F: Family, P: Packet>(
    packet: &mut P,
    at: u32,
    addr: [u64; 2],
) -> Option<()> {
    if F::VERSION == 4 {
        packet.write(at, addr[0] as u32)
    } else {
        packet.write(at, addr[0])?;
        packet.write(at.wrapping_add(8), addr[1])
    }
}

/// What a change of address adds to a sum.
#[inline(always)]
pub(super) fn changed<F: Family>(old: [u64; 2], new: [u64; 2]) -> u64 {
    if F::VERSION == 4 {
        replaced(old[0], new[0])
    } else {
        replaced(old[0], new[0]).wrapping_add(replaced(old[1], new[1]))
    }
}

/// A checksum after its sum changed by `sum`.
#[inline(always)]
pub(super) fn updated(check: u16, sum: u64) -> u16 {
    !fold(u64::from(!check).wrapping_add(sum))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        family::{V4, V6},
        forward::testing::{Any, any_frame, between, end, facts, header, way},
        host::{HostPacket, frame::Frame, sums},
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
            server,
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
    fn a_reply_is_what_the_builder_makes_from_the_service() {
        let frame = between(SERVER, CLIENT);
        let mut packet = frame.packet();
        let mut facts = facts(packet.bytes());
        let service = end_of(SERVICE);
        to_client::<V4, _, _>(
            &mut packet,
            &mut facts,
            service,
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
        let sent =
            to_client::<V4, _, _>(&mut packet, &mut facts, service, Part::Whole, way(4, 0, 39));
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
}
