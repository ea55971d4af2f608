use crate::{
    facts::Facts,
    family::Family,
    layout::TunnelKind,
    packet::Packet,
    wire::{
        ETHERTYPE_IPV4, ETHERTYPE_IPV6, GRE_LEN, GUE_LEN, ICMP_LEN, IPPROTO_GRE, IPPROTO_IPIP,
        IPPROTO_IPV6, IPPROTO_UDP, IPV4_LEN, IPV6_LEN, UDP_LEN,
    },
};

/// What an ICMP error says about a tunnel's packet, in one word:
/// [`Facts::error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TunnelError(pub u64);

impl TunnelError {
    /// Type of the ICMP message.
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        self.0 as u8
    }

    /// Its code.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// [`TunnelKind`] as a number.
    #[inline(always)]
    pub const fn tunnel(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// 4 or 6: what the tunnel's packet carries.
    #[inline(always)]
    pub const fn family(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// UDP port of a GUE packet in network byte order; 0 of others.
    #[inline(always)]
    pub const fn port(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Bytes that the tunnel has put around.
    #[inline(always)]
    pub const fn around(self) -> u32 {
        (self.0 >> 48) as u32
    }
}

/// No header is looked for from here on; see [`Packet::read`].
const REACH: u32 = 224;
/// An offset, as loaded: not the first fragment.
const OFFSET: u16 = 0x1fff_u16.to_be();
/// GRE: a checksum is there, and nothing else.
const GRE_CHECKSUM: u16 = 0x8000_u16.to_be();
/// All of a GUE header but the protocol within, as loaded: version 0, no control
/// message, no options.
const GUE_OTHERS: u32 = !0xff00;

/// Reads the ICMP error of `facts`, whose header is at `facts.l4`, as one about a
/// tunnel packet that its receiver sent. Then [`Facts::error`] is the error,
/// [`Facts::l4`] is where the packet within starts, [`Facts::dst`] the tunnel's
/// other end, [`Facts::mtu`] the length that would have fitted, 0 when it was not
/// about that. `None` of everything else, and nothing changed.
#[inline(always)]
pub fn carried<F: Family, P: Packet>(packet: &P, facts: &mut Facts) -> Option<()> {
    let at = facts.l4 as u32;
    if at > REACH {
        return None;
    }
    let [first, rest] = packet.read::<[u32; 2]>(at)?;
    let (kind, code) = (first as u8, (first >> 8) as u8);
    let outer = at.wrapping_add(ICMP_LEN);
    let (mtu, l4, protocol, src, dst) = if F::VERSION == 4 {
        if kind != 3 && kind != 4 && kind != 11 {
            return None;
        }
        let words = packet.read::<[u32; 5]>(outer)?;
        // Ours have no options.
        if words[0] as u8 != 0x45 || (words[1] >> 16) as u16 & OFFSET != 0 {
            return None;
        }
        let mtu = if kind == 3 && code == 4 {
            u32::from_be(rest) & 0xffff
        } else {
            0
        };
        let (src, dst) = ([words[3].into(), 0], [words[4].into(), 0]);
        let l4 = outer.wrapping_add(IPV4_LEN);
        (mtu, l4, (words[2] >> 8) as u8, src, dst)
    } else {
        if kind != 1 && kind != 2 && kind != 3 {
            return None;
        }
        let [version, _, _, _, _, _, next, _] = packet.read::<[u8; 8]>(outer)?;
        if version >> 4 != 6 {
            return None;
        }
        let src = packet.read::<[u64; 2]>(outer.wrapping_add(8))?;
        let dst = packet.read::<[u64; 2]>(outer.wrapping_add(24))?;
        let mtu = if kind == 2 { u32::from_be(rest) } else { 0 };
        (mtu, outer.wrapping_add(IPV6_LEN), next, src, dst)
    };
    if src != facts.dst {
        return None;
    }
    let (tunnel, family, port, length) = within(packet, l4, protocol)?;
    let inner = l4.wrapping_add(length);
    facts.error = u64::from(kind)
        | u64::from(code) << 8
        | (tunnel as u64) << 16
        | family << 24
        | u64::from(port) << 32
        | u64::from(inner.wrapping_sub(outer)) << 48;
    facts.l4 = inner.into();
    facts.dst = dst;
    facts.mtu = mtu.into();
    Some(())
}

/// Kind of the tunnel whose header is at `l4`, the family within, the port of
/// GUE, and the header's length.
#[inline(always)]
fn within<P: Packet>(packet: &P, l4: u32, protocol: u8) -> Option<(TunnelKind, u64, u16, u32)> {
    match protocol {
        IPPROTO_IPIP => Some((TunnelKind::Ipip, 4, 0, 0)),
        IPPROTO_IPV6 => Some((TunnelKind::Ipip, 6, 0, 0)),
        IPPROTO_UDP => {
            let [ports, _, gue] = packet.read::<[u32; 3]>(l4)?;
            if gue & GUE_OTHERS != 0 {
                return None;
            }
            let family = match (gue >> 8) as u8 {
                IPPROTO_IPIP => 4,
                IPPROTO_IPV6 => 6,
                _ => return None,
            };
            let port = (ports >> 16) as u16;
            Some((TunnelKind::Gue, family, port, UDP_LEN + GUE_LEN))
        }
        IPPROTO_GRE => {
            let [flags, ethertype] = packet.read::<[u16; 2]>(l4)?;
            let family = match ethertype {
                ETHERTYPE_IPV4 => 4,
                ETHERTYPE_IPV6 => 6,
                _ => return None,
            };
            let length = match flags {
                0 => GRE_LEN,
                GRE_CHECKSUM => 2 * GRE_LEN,
                _ => return None,
            };
            Some((TunnelKind::Gre, family, 0, length))
        }
        _ => None,
    }
}
