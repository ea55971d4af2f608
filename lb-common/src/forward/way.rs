use crate::{
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
    // Two writes that overlap: three would look for the end of the frame once more.
    let (first, second) = (way.header_word(0), way.header_word(1));
    packet.write(0, first)?;
    packet.write(6, first >> 48 | second << 16)?;
    if length > ETHERNET_LEN {
        packet.write(14, (second >> 48) as u16)?;
        packet.write(16, way.header_word(2) as u16)?;
        if length > ETHERNET_LEN + TAG_LEN {
            packet.write(18, (way.header_word(2) >> 16) as u32)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        family::V4,
        forward::testing::{Any, between},
    };

    #[test]
    fn the_way_back_of_a_frame() {
        for tags in 0..3 {
            let mut frame = between("1.2.3.4:1000", "10.9.9.1:80");
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
