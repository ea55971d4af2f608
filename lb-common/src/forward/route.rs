use super::{
    hop::{decrement_ttl, fits, lives_on},
    way::{Way, leave_by},
};
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
    decrement_ttl::<F, P>(packet, facts)?;
    fits::<F, P>(packet, facts, way.mtu())?;
    leave_by(packet, facts.l3 as u32, 0, way)
}
