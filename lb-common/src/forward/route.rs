use super::way::{Way, decrement_ttl, fits_server, leave_by, lives_on};
use crate::{facts::Facts, family::Family, packet::Packet, reason::Reason};

/// Direct routing: the time to live decreases, the layer-2 header becomes the
/// next hop's, nothing else changes.
///
/// # Errors
/// Why the packet cannot be sent.
#[inline(always)]
pub fn route<F: Family, P: Packet, W: Way>(
    packet: &mut P,
    facts: &mut Facts,
    way: W,
) -> Result<(), Reason> {
    lives_on(facts)?;
    fits_server::<F, P>(packet, facts, way.mtu())?;
    decrement_ttl::<F, P>(packet, facts)?;
    leave_by(packet, facts.l3 as u32, 0, way)
}
