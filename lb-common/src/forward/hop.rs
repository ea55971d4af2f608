use crate::{checksum, facts::Facts, family::Family, packet::Packet, reason::Reason};

/// "Don't fragment", as loaded.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();

/// Whether an IPv4 packet must not be fragmented on its way; always true of IPv6.
#[inline(always)]
pub(crate) fn must_not_fragment<F: Family, P: Packet>(packet: &P, l3: u32) -> Option<bool> {
    if F::VERSION != 4 {
        return Some(true);
    }
    let word = packet.read::<u16>(l3.wrapping_add(6))?;
    Some(word & DONT_FRAGMENT != 0)
}

/// Whether the packet lives on after this hop.
///
/// # Errors
/// [`Reason::DroppedTtl`].
#[inline(always)]
pub(super) fn lives_on(facts: &Facts) -> Result<(), Reason> {
    if facts.ttl <= 1 {
        return Err(Reason::DroppedTtl);
    }
    Ok(())
}

/// Whether a packet has room in `mtu` bytes. To servers, the kernel decrements
/// the time to live before it looks at the length: the packet that its answer
/// quotes has the lower one.
///
/// # Errors
/// [`Reason::DroppedTooBig`]; `facts.mtu` is then what to tell the sender, or 0
/// when the sender asked for fragments, which cannot be made here.
#[inline(always)]
pub(super) fn fits<F: Family, P: Packet>(
    packet: &P,
    facts: &mut Facts,
    mtu: u32,
) -> Result<(), Reason> {
    if facts.l3_len <= u64::from(mtu) {
        return Ok(());
    }
    let refuse = must_not_fragment::<F, P>(packet, facts.l3 as u32);
    facts.mtu = if refuse == Some(true) { mtu.into() } else { 0 };
    Err(Reason::DroppedTooBig)
}

/// One hop less to live. The time to live is at least 1.
///
/// # Errors
/// [`Reason::DroppedInternal`] beyond the end of the frame.
#[inline(always)]
pub(super) fn decrement_ttl<F: Family, P: Packet>(
    packet: &mut P,
    facts: &Facts,
) -> Result<(), Reason> {
    const LOST: Reason = Reason::DroppedInternal;
    let l3 = facts.l3 as u32;
    if F::VERSION == 4 {
        // Little-endian: the TTL is the low byte.
        let hop = |[ttl_and_protocol, sum]: [u16; 2]| {
            [
                ttl_and_protocol.wrapping_sub(1),
                checksum::after_ttl_decrement(sum),
            ]
        };
        packet.change(l3.wrapping_add(8), hop).ok_or(LOST)
    } else {
        let ttl = (facts.ttl as u8).wrapping_sub(1);
        packet.write(l3.wrapping_add(7), ttl).ok_or(LOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        family::{V4, V6},
        forward::{
            route,
            testing::{Any, between, facts, header, way},
        },
        host::frame::Frame,
    };

    const FOUR: [&str; 2] = ["1.2.3.4:1000", "10.9.9.1:80"];
    const SIX: [&str; 2] = ["[2001:db8::1]:1000", "[2001:db8::2]:80"];

    #[test]
    fn a_routed_packet_changes_in_ttl_and_layer_2_only() {
        for (before, after) in [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (1, 2)] {
            for ends in [FOUR, SIX] {
                let mut frame = between(ends[0], ends[1]);
                let tags = vec![(0x8100, 5); before];
                let wanted = match &mut frame {
                    Any::Four(frame) => {
                        frame.tags = tags;
                        let rest = Frame {
                            ttl: 63,
                            ..frame.clone()
                        }
                        .packet();
                        [header(4, after), rest].concat()
                    }
                    Any::Six(frame) => {
                        frame.tags = tags;
                        let mut rest = frame.packet();
                        rest[7] = 63;
                        [header(6, after), rest].concat()
                    }
                };
                let mut packet = frame.packet();
                let mut facts = facts(packet.bytes());
                let sent = match facts.family {
                    4 => route::<V4, _, _>(&mut packet, &mut facts, way(4, after, 1500)),
                    _ => route::<V6, _, _>(&mut packet, &mut facts, way(6, after, 1500)),
                };
                assert_eq!(sent, Ok(()));
                assert_eq!(packet.bytes(), wanted, "{before} tags to {after}");
            }
        }
    }

    #[test]
    fn ttl_is_checked_before_length_and_length_before_writing() {
        for (ends, l3, ttl_at) in [(FOUR, 40, 8), (SIX, 60, 7)] {
            let frame = between(ends[0], ends[1]);
            for (ttl, mtu, wanted) in [
                (1, l3 - 1, Err(Reason::DroppedTtl)),
                (0, l3, Err(Reason::DroppedTtl)),
                (2, l3 - 1, Err(Reason::DroppedTooBig)),
                (2, l3, Ok(())),
            ] {
                let frame = match frame.clone() {
                    Any::Four(frame) => Any::Four(Frame { ttl, ..frame }),
                    Any::Six(mut frame) => {
                        frame.ttl = ttl;
                        Any::Six(frame)
                    }
                };
                let mut packet = frame.packet();
                let mut facts = facts(packet.bytes());
                let sent = match facts.family {
                    4 => route::<V4, _, _>(&mut packet, &mut facts, way(4, 0, mtu)),
                    _ => route::<V6, _, _>(&mut packet, &mut facts, way(6, 0, mtu)),
                };
                assert_eq!(sent, wanted);
                let too_big = wanted == Err(Reason::DroppedTooBig);
                assert_eq!(facts.mtu, if too_big { mtu.into() } else { 0 });
                if sent.is_err() {
                    let left = packet.bytes()[14 + ttl_at];
                    assert_eq!(left, if too_big { ttl - 1 } else { ttl }, "as quoted");
                    crate::host::sums::check(packet.bytes()).unwrap();
                    assert_eq!(packet.bytes()[..6], frame.bytes()[..6]);
                }
            }
        }
    }

    #[test]
    fn a_packet_that_may_be_fragmented_is_refused_without_a_size() {
        let mut frame = Frame::tcp(FOUR[0].parse().unwrap(), FOUR[1].parse().unwrap(), 16);
        frame.misc.2 = 0;
        let mut packet = Any::Four(frame).packet();
        let mut facts = facts(packet.bytes());
        let sent = route::<V4, _, _>(&mut packet, &mut facts, way(4, 0, 39));
        assert_eq!((sent, facts.mtu), (Err(Reason::DroppedTooBig), 0));
    }
}
