use super::{
    hop::{decrement_ttl, fits, lives_on},
    way::{Way, leave_by},
};
use crate::{
    checksum::{fold, replaced, updated},
    facts::Facts,
    family::Family,
    packet::Packet,
    reason::Reason,
    wire::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP},
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

impl Ends {
    /// The source alone.
    #[inline(always)]
    pub const fn source(src: End) -> Self {
        Self {
            src: Some(src),
            dst: None,
        }
    }

    /// The destination alone.
    #[inline(always)]
    pub const fn destination(dst: End) -> Self {
        Self {
            src: None,
            dst: Some(dst),
        }
    }

    /// Both.
    #[inline(always)]
    pub const fn both(src: End, dst: End) -> Self {
        Self {
            src: Some(src),
            dst: Some(dst),
        }
    }

    /// The ports of a packet between them, as its first four bytes.
    #[inline(always)]
    fn ports(&self, facts: &Facts) -> u32 {
        let mut ports = facts.ports as u32;
        if let Some(End {
            port: port @ 1.., ..
        }) = self.src
        {
            ports = ports & 0xffff_0000 | u32::from(port);
        }
        if let Some(End {
            port: port @ 1.., ..
        }) = self.dst
        {
            ports = ports & 0xffff | u32::from(port) << 16;
        }
        ports
    }
}

/// How much of a datagram a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// All of it.
    Whole = 0,
    /// The first fragment: ports, but not all that the checksum covers.
    First = 1,
    /// Another fragment: no ports.
    Later = 2,
}

impl Part {
    /// The part of a number, as in [`Facts::part`].
    #[inline(always)]
    pub const fn of(facts: &Facts) -> Self {
        match facts.part {
            0 => Self::Whole,
            1 => Self::First,
            _ => Self::Later,
        }
    }
}

/// NAT towards a server: `ends` as the server is to see them.
///
/// # Errors
/// Why the packet cannot be sent.
#[inline(always)]
pub fn to_server<F: Family, P: Packet, W: Way>(
    packet: &mut P,
    facts: &mut Facts,
    ends: Ends,
    part: Part,
    way: W,
) -> Result<(), Reason> {
    lives_on(facts)?;
    decrement_ttl::<F, P>(packet, facts)?;
    fits::<F, P>(packet, facts, way.mtu())?;
    translate::<F, P>(packet, facts, ends, part, 0)?;
    leave_by(packet, facts.l3 as u32, 0, way)
}

/// NAT towards a client: `ends` as the client is to see them. What does not fit is
/// refused as forwarding does it, with the time to live as it came.
///
/// # Errors
/// Why the packet cannot be sent.
#[inline(always)]
pub fn to_client<F: Family, P: Packet, W: Way>(
    packet: &mut P,
    facts: &mut Facts,
    ends: Ends,
    part: Part,
    way: W,
) -> Result<(), Reason> {
    lives_on(facts)?;
    fits::<F, P>(packet, facts, way.mtu())?;
    translate::<F, P>(packet, facts, ends, part, 1)?;
    leave_by(packet, facts.l3 as u32, 0, way)
}

/// Rewrites the ends of a packet and its checksums, and takes `hops` (0 or 1)
/// off its time to live. Ports and the transport checksum of TCP, UDP and SCTP;
/// of other protocols the addresses only.
///
/// # Errors
/// [`Reason::DroppedFragment`] when SCTP's checksum would have to change and the
/// packet is a first fragment: what it adds depends on the whole length.
/// [`Reason::DroppedInternal`] when the frame ends before its headers.
#[inline(always)]
pub fn translate<F: Family, P: Packet>(
    packet: &mut P,
    facts: &Facts,
    ends: Ends,
    part: Part,
    hops: u8,
) -> Result<(), Reason> {
    if part == Part::First
        && facts.protocol() == IPPROTO_SCTP
        && ends.ports(facts) != facts.ports as u32
    {
        return Err(Reason::DroppedFragment);
    }
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
        packet.change(l3.wrapping_add(8), |[old, check]: [u16; 2]| {
            // Little-endian: the TTL is the low byte.
            let new = old.wrapping_sub(hops.into());
            let sum = sum.wrapping_add(replaced(old.into(), new.into()));
            [new, updated(check, sum)]
        })?;
    } else if hops != 0 {
        let ttl = (facts.ttl as u8).wrapping_sub(hops);
        packet.write(l3.wrapping_add(7), ttl)?;
    }
    if part == Part::Later {
        return Some(());
    }
    let protocol = facts.protocol();
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP {
        return Some(());
    }
    let old = facts.ports as u32;
    let ports = ends.ports(facts);
    let l4 = facts.l4 as u32;
    packet.write(l4, ports)?;
    let changed = replaced(old.into(), ports.into());
    if protocol == IPPROTO_TCP {
        return packet.adjust_checksum(l4.wrapping_add(16), sum, changed, false);
    }
    if protocol == IPPROTO_SCTP {
        if ports == old {
            return Some(());
        }
        let at = l4.wrapping_add(8);
        let check = packet.read::<u32>(at)?;
        let length = facts.l3_len.wrapping_sub(facts.l4.wrapping_sub(facts.l3));
        let change = packet.crc_change(old ^ ports, length as u32);
        return packet.write(at, check ^ change);
    }
    let at = l4.wrapping_add(6);
    if packet.read::<u16>(at)? != 0 {
        return packet.adjust_checksum(at, sum, changed, true);
    }
    if part != Part::Whole || facts.l3_len >= MOST_SUMMED {
        return Some(());
    }
    // The kernel puts a checksum where there was none.
    let check = whole_udp::<F, P>(packet, facts, ends)?;
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
pub(crate) fn halves<F: Family>(addr: [u64; 2]) -> u64 {
    let sum = |word: u64| (word & 0xffff_ffff).wrapping_add(word >> 32);
    if F::VERSION == 4 {
        addr[0] & 0xffff_ffff
    } else {
        sum(addr[0]).wrapping_add(sum(addr[1]))
    }
}

/// What a pseudo-header adds to the sum besides the addresses.
#[inline(always)]
pub(crate) fn checksum_tail(protocol: u8, length: u32) -> u64 {
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

#[cfg(test)]
mod tests;
