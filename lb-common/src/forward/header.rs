use crate::{
    checksum::{fold, ipv4_sum},
    family::Family,
    packet::Packet,
    tables::Tables,
    wire::IPV6_LEN,
};

/// An IP header of our own, without options or extension headers.
#[derive(Clone, Copy)]
pub(super) struct Header {
    /// Type of service or traffic class.
    pub(super) class: u8,
    /// Whether it must not be fragmented. IPv4.
    pub(super) whole: bool,
    /// Time to live.
    pub(super) ttl: u8,
    /// What follows.
    pub(super) protocol: u8,
    /// Length of the packet with this header, below 2^16.
    pub(super) length: u32,
    /// Source, as in [`Facts`](crate::facts::Facts).
    pub(super) source: [u64; 2],
    /// Destination.
    pub(super) destination: [u64; 2],
}

impl Header {
    /// Writes it at `at`, as family `F`.
    #[inline(always)]
    pub(super) fn write<F: Family, P: Packet, T: Tables>(
        self,
        packet: &mut P,
        at: u32,
        tables: T,
    ) -> Option<()> {
        if F::VERSION == 4 {
            return packet.write(at, self.ipv4(tables));
        }
        let first = u32::from(self.class) << 20 | 6 << 28;
        let payload = (self.length.wrapping_sub(IPV6_LEN) as u16).to_be();
        let second =
            u32::from(payload) | u32::from(self.protocol) << 16 | u32::from(self.ttl) << 24;
        packet.write(at, [first.to_be(), second])?;
        packet.write(at.wrapping_add(8), self.source)?;
        packet.write(at.wrapping_add(24), self.destination)
    }

    #[inline(always)]
    fn ipv4<T: Tables>(self, tables: T) -> [u32; 5] {
        let fragment = if self.whole {
            u32::from(0x4000_u16.to_be()) << 16
        } else {
            identification(tables)
        };
        let length = (self.length as u16).to_be();
        let mut words = [
            0x45 | u32::from(self.class) << 8 | u32::from(length) << 16,
            fragment,
            u32::from(self.ttl) | u32::from(self.protocol) << 8,
            self.source[0] as u32,
            self.destination[0] as u32,
        ];
        words[2] |= u32::from(!fold(ipv4_sum(&words))) << 16;
        words
    }
}

/// An identification for a packet that may be fragmented: any but 0.
#[inline(always)]
fn identification<T: Tables>(tables: T) -> u32 {
    match tables.random() & 0xffff {
        0 => 1,
        id => id,
    }
}
