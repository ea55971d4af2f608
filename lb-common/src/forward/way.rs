use crate::{
    checksum,
    facts::Facts,
    family::Family,
    layout::NextHopView,
    packet::Packet,
    reason::Reason,
    tables::Cell,
    wire::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, TAG_LEN},
};

/// How a packet leaves: interface, room, and the layer-2 header, ready to copy.
pub trait Way: Copy {
    /// Outgoing interface.
    fn ifindex(self) -> u32;
    /// Largest layer-3 length that fits.
    fn mtu(self) -> u32;
    /// Bytes of the header: 14, 18 or 22.
    fn header_len(self) -> u32;
    /// Word `i` (0 to 2) of the header, as loaded.
    fn header_word(self, i: usize) -> u64;
}

impl<C: Cell> Way for NextHopView<C> {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        self.ifindex()
    }

    #[inline(always)]
    fn mtu(self) -> u32 {
        self.mtu()
    }

    #[inline(always)]
    fn header_len(self) -> u32 {
        self.header_len()
    }

    #[inline(always)]
    fn header_word(self, i: usize) -> u64 {
        self.header_word(i)
    }
}

/// A way back, learned from a packet that came by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Learned {
    /// Outgoing interface.
    pub ifindex: u32,
    /// Largest layer-3 length that fits.
    pub mtu: u32,
    /// Station to send to: low 48 bits, wire order.
    pub to: u64,
    /// Station to send from: low 48 bits, wire order.
    pub from: u64,
    /// Tags, outermost first, as loaded: tag protocol in the low half, tag
    /// control in the high. 0 is no tag.
    pub tags: [u32; 2],
    /// EtherType behind the tags, as loaded.
    pub ethertype: u16,
}

/// The low 48 bits.
const STATION: u64 = 0xffff_ffff_ffff;

impl Learned {
    /// The way back of a frame of family `F` whose layer 3 starts at `l3`: out of
    /// the interface it came in by, with stations changed over and tags kept.
    /// `None` when the frame ends before `l3`.
    #[inline(always)]
    pub fn back<F: Family, P: Packet>(packet: &P, l3: u32, mtu: u32) -> Option<Self> {
        let word = packet.read::<u64>(0)?;
        let rest = packet.read::<u32>(8)?;
        let mut tags = [0; 2];
        if l3 > ETHERNET_LEN {
            tags[0] = packet.read::<u32>(12)?;
        }
        if l3 > ETHERNET_LEN + TAG_LEN {
            tags[1] = packet.read::<u32>(16)?;
        }
        Some(Self {
            ifindex: packet.ingress(),
            mtu,
            to: word >> 48 | u64::from(rest) << 16,
            from: word & STATION,
            tags,
            ethertype: ethertype::<F>(),
        })
    }
}

/// EtherType of a family.
#[inline(always)]
pub(super) const fn ethertype<F: Family>() -> u16 {
    if F::VERSION == 4 {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    }
}

impl Way for Learned {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        self.ifindex
    }

    #[inline(always)]
    fn mtu(self) -> u32 {
        self.mtu
    }

    #[inline(always)]
    fn header_len(self) -> u32 {
        if self.tags[0] == 0 {
            ETHERNET_LEN
        } else if self.tags[1] == 0 {
            ETHERNET_LEN + TAG_LEN
        } else {
            ETHERNET_LEN + 2 * TAG_LEN
        }
    }

    #[inline(always)]
    fn header_word(self, i: usize) -> u64 {
        // What follows the stations: tags, then the EtherType.
        let ethertype = u64::from(self.ethertype);
        let (first, second) = (u64::from(self.tags[0]), u64::from(self.tags[1]));
        let behind = if first == 0 {
            ethertype
        } else if second == 0 {
            first | ethertype << 32
        } else {
            first | second << 32
        };
        match i {
            0 => self.to & STATION | self.from << 48,
            1 => (self.from & STATION) >> 16 | behind << 32,
            _ if first != 0 && second != 0 => behind >> 32 | ethertype << 32,
            _ => behind >> 32,
        }
    }
}

/// Puts the layer-2 header of `way` and `extra` bytes behind it in front of
/// layer 3, which starts at `l3`. The extra bytes are undefined.
#[inline(always)]
pub(super) fn leave_by<P: Packet, W: Way>(
    packet: &mut P,
    l3: u32,
    extra: u32,
    way: W,
) -> Result<(), Reason> {
    write_header(packet, l3, extra, way).ok_or(Reason::DroppedInternal)
}

#[inline(always)]
fn write_header<P: Packet, W: Way>(packet: &mut P, l3: u32, extra: u32, way: W) -> Option<()> {
    let length = way.header_len();
    if extra != 0 || length != l3 {
        let more = length.wrapping_add(extra).wrapping_sub(l3);
        packet.grow_front(more as i32)?;
    }
    packet.write(0, way.header_word(0))?;
    packet.write(8, way.header_word(1) as u32)?;
    packet.write(12, (way.header_word(1) >> 32) as u16)?;
    if length > ETHERNET_LEN {
        packet.write(14, (way.header_word(1) >> 48) as u16)?;
        packet.write(16, way.header_word(2) as u16)?;
        if length > ETHERNET_LEN + TAG_LEN {
            packet.write(18, (way.header_word(2) >> 16) as u32)?;
        }
    }
    Some(())
}

/// "Don't fragment", as loaded.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();

/// Whether an IPv4 packet must not be fragmented on its way; always true of IPv6.
#[inline(always)]
pub(super) fn must_not_fragment<F: Family, P: Packet>(packet: &P, l3: u32) -> Option<bool> {
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

/// Whether a packet has room in `mtu` bytes.
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

/// As [`fits`], for packets to servers: the kernel decrements the time to live
/// of these before it looks at the length, so the packet that is quoted in
/// the answer has the lower one.
///
/// # Errors
/// As for [`fits`].
#[inline(always)]
pub(super) fn fits_server<F: Family, P: Packet>(
    packet: &mut P,
    facts: &mut Facts,
    mtu: u32,
) -> Result<(), Reason> {
    let fits = fits::<F, P>(packet, facts, mtu);
    if fits.is_err() {
        decrement_ttl::<F, P>(packet, facts)?;
    }
    fits
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
        let at = l3.wrapping_add(8);
        let [ttl_and_protocol, sum] = packet.read::<[u16; 2]>(at).ok_or(LOST)?;
        // Little-endian: the TTL is the low byte.
        let rewritten = [
            ttl_and_protocol.wrapping_sub(1),
            checksum::after_ttl_decrement(sum),
        ];
        packet.write(at, rewritten).ok_or(LOST)
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

    #[test]
    fn the_way_back_of_a_frame() {
        for tags in 0..3 {
            let mut frame = between(FOUR[0], FOUR[1]);
            if let Any::Four(frame) = &mut frame {
                frame.tags = vec![(0x88a8, 7), (0x8100, 0xe005)][..tags].to_vec();
            }
            let packet = frame.packet();
            let l3 = 14 + 4 * tags as u32;
            let way = Learned::back::<V4, _>(&packet, l3, 1400).unwrap();
            assert_eq!((way.ifindex, way.mtu, way.header_len()), (7, 1400, l3));
            let mut copy = packet.clone();
            leave_by(&mut copy, l3, 0, way).unwrap();
            let mut wanted = packet.bytes().to_vec();
            wanted[..12].rotate_left(6);
            assert_eq!(copy.bytes(), wanted, "{tags} tags");
        }
    }
}
