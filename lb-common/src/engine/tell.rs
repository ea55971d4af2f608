use super::{LOST, Stop, send::next_hop, stage_answer};
use crate::{
    facts::{Facts, told},
    family::Family,
    forward::{Part, Way, toa},
    packet::Packet,
    tables::Tables,
};

/// Stage: puts the client's address into its segment, if there is room. The ends
/// are still the client's. [`Facts::toa`] tells what became of it.
#[inline(always)]
pub fn tell<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: T, facts: &mut Facts) -> u32 {
    let result = put::<F, P, T>(packet, tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn put<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let (_, hop) = next_hop(tables, facts)?;
    // A segment that is refused for its size or its time to live is quoted as it
    // came. One that fits, but not with the option, goes without: the client cannot
    // know of the option, and the handshake has carried it.
    let length = facts.l3_len.wrapping_add(toa::length::<F>().into());
    facts.toa = told::NO_ROOM;
    if facts.part == Part::Whole as u64
        && facts.ttl > 1
        && length <= u64::from(Way::mtu(hop))
        && toa::has_room::<F, P>(packet, facts).ok_or(LOST)?
    {
        toa::insert::<F, P>(packet, facts).ok_or(LOST)?;
        facts.toa = told::YES;
    }
    Ok(())
}
