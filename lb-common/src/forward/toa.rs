//! The client's address in a TCP option ("TOA"): kind 254, length, port and
//! address in network byte order.

use super::nat::halves;
use crate::{
    checksum::{replaced, updated},
    facts::Facts,
    family::Family,
    packet::Packet,
    wire::{IPV6_LEN, TCP_LEN},
};

/// Kind of the option: experimental (RFC 4727), what servers' modules look for.
const KIND: u8 = 254;
/// Words that are moved at most: headers of two tags, IPv4 with options or IPv6
/// with a few extension headers, TCP without options.
const WORDS: u32 = 32;
/// Longest TCP header.
const LONGEST: u32 = 60;

/// Bytes of the option.
#[inline(always)]
pub const fn length<F: Family>() -> u32 {
    if F::VERSION == 4 { 8 } else { 20 }
}

/// Whether the segment's TCP header has room for the option.
#[inline(always)]
pub fn has_room<F: Family, P: Packet>(packet: &P, facts: &Facts) -> Option<bool> {
    let l4 = facts.l4 as u32;
    let header = tcp_len(packet.read::<u16>(l4.wrapping_add(12))?);
    let moved = l4.wrapping_add(TCP_LEN).wrapping_sub(2) / 4;
    Some(
        header >= TCP_LEN
            && header.wrapping_add(length::<F>()) <= LONGEST
            && moved <= WORDS
            && facts.l4.wrapping_add(header.into()) <= facts.l3.wrapping_add(facts.l3_len),
    )
}

/// Bytes of the TCP header, from its 13th and 14th byte as loaded.
#[inline(always)]
const fn tcp_len(offset_and_flags: u16) -> u32 {
    (offset_and_flags as u32 >> 4 & 15) * 4
}

/// Puts the option in front of all others, with the source of `facts`, which then
/// tell the new length; the checksum is right afterwards. Needs [`has_room`].
#[inline(always)]
pub fn insert<F: Family, P: Packet>(packet: &mut P, facts: &mut Facts) -> Option<()> {
    let more = length::<F>();
    let (l3, l4) = (facts.l3 as u32, facts.l4 as u32);
    packet.grow_front(more as i32)?;
    // Up to the options, which stay where they are. Layer 2 has 2 bytes more than
    // whole words.
    let start = packet.read::<u16>(more)?;
    packet.write(0, start)?;
    let words = l4.wrapping_add(TCP_LEN).wrapping_sub(2) / 4;
    let mut word = 0;
    while word < WORDS {
        if word >= words {
            break;
        }
        let at = word.wrapping_mul(4).wrapping_add(2);
        let moved = packet.read::<u32>(at.wrapping_add(more))?;
        packet.write(at, moved)?;
        word += 1;
    }
    let at = l4.wrapping_add(TCP_LEN);
    let port = facts.ports as u16;
    let first = u32::from(KIND) | more << 8 | u32::from(port) << 16;
    packet.write(at, first)?;
    if F::VERSION == 4 {
        packet.write(at.wrapping_add(4), facts.src[0] as u32)?;
    } else {
        packet.write(at.wrapping_add(4), facts.src)?;
    }
    lengthen::<F, P>(packet, facts, l3, more)?;
    // The segment's length in the pseudo-header, the data offset, the option.
    let segment = facts.l3.wrapping_add(facts.l3_len).wrapping_sub(facts.l4) as u16;
    let longer = segment.wrapping_add(more as u16);
    let offset = packet.read::<u16>(l4.wrapping_add(12))?;
    let new_offset = offset.wrapping_add((more as u16 / 4) << 4);
    packet.write(l4.wrapping_add(12), new_offset)?;
    let check = packet.read::<u16>(l4.wrapping_add(16))?;
    let sum = replaced(segment.to_be().into(), longer.to_be().into())
        .wrapping_add(replaced(offset.into(), new_offset.into()))
        .wrapping_add(first.into())
        .wrapping_add(halves::<F>(facts.src));
    packet.write(l4.wrapping_add(16), updated(check, sum))?;
    facts.l3_len = facts.l3_len.wrapping_add(more.into());
    Some(())
}

/// Makes the packet's length in its IP header `more` bytes longer.
#[inline(always)]
fn lengthen<F: Family, P: Packet>(packet: &mut P, facts: &Facts, l3: u32, more: u32) -> Option<()> {
    let length = (facts.l3_len as u32).wrapping_add(more);
    if F::VERSION == 6 {
        let payload = length.wrapping_sub(IPV6_LEN) as u16;
        return packet.write(l3.wrapping_add(4), payload.to_be());
    }
    let new = (length as u16).to_be();
    let old = packet.read::<u16>(l3.wrapping_add(2))?;
    packet.write(l3.wrapping_add(2), new)?;
    let check = packet.read::<u16>(l3.wrapping_add(10))?;
    let sum = replaced(old.into(), new.into());
    packet.write(l3.wrapping_add(10), updated(check, sum))
}
