use crate::{
    checksum, facts::Facts, layout::NextHopView, packet::Packet, reason::Reason, tables::Cell,
};

/// Direct routing: the time to live decreases, the layer-2 header becomes the
/// next hop's, nothing else changes. IPv4.
///
/// # Errors
/// Why the packet cannot be sent; it may be half rewritten then, and is dropped.
#[inline(always)]
pub fn route<P: Packet, C: Cell>(
    packet: &mut P,
    facts: &Facts,
    next_hop: NextHopView<C>,
) -> Result<(), Reason> {
    if facts.ttl <= 1 {
        return Err(Reason::DroppedTtl);
    }
    if facts.l3_len > u64::from(next_hop.mtu()) {
        return Err(Reason::DroppedTooBig);
    }
    const LOST: Reason = Reason::DroppedInternal;
    let l3 = facts.l3 as u32;
    let [ttl_and_protocol, sum] = packet.read::<[u16; 2]>(l3 + 8).ok_or(LOST)?;
    // Little-endian: the TTL is the low byte, and it is at least 2.
    let rewritten = [
        ttl_and_protocol.wrapping_sub(1),
        checksum::after_ttl_decrement(sum),
    ];
    packet.write(l3 + 8, rewritten).ok_or(LOST)?;

    let length = next_hop.header_len();
    if length != l3 {
        let more = length as i32 - l3 as i32;
        packet.grow_front(more).ok_or(LOST)?;
    }
    packet.write(0, next_hop.header_word(0)).ok_or(LOST)?;
    packet
        .write(8, next_hop.header_word(1) as u32)
        .ok_or(LOST)?;
    packet
        .write(12, (next_hop.header_word(1) >> 32) as u16)
        .ok_or(LOST)?;
    if length > 14 {
        packet
            .write(14, (next_hop.header_word(1) >> 48) as u16)
            .ok_or(LOST)?;
        packet
            .write(16, next_hop.header_word(2) as u16)
            .ok_or(LOST)?;
        if length > 18 {
            packet
                .write(18, (next_hop.header_word(2) >> 16) as u32)
                .ok_or(LOST)?;
        }
    }
    Ok(())
}
