//! To a server that is this director itself.

use super::{LOST, Stages, Stop, Verdict, send::server_end, stage_answer, stage_done};
use crate::{
    facts::Facts,
    family::Family,
    forward::{self, End, Ends, Part, icmp},
    packet::Packet,
    parse,
    reason::Reason,
    tables::Tables,
};

/// Up the stack: by NAT with the server's address and port, by other methods
/// as it came.
#[inline(always)]
pub(super) fn deliver<F: Family, P: Packet, S: Stages<P>>(
    packet: &mut P,
    stages: &S,
    facts: &mut Facts,
) -> Result<Verdict, Stop> {
    if facts.forward_method().translates() {
        let answer = stages.to_local::<F>(packet, facts);
        stage_done(facts, answer)?;
    }
    Err(Reason::PassedLocalServer.into())
}

/// Stage: NAT, to the server of `facts.dest`, which is this director: as
/// [`to_server`](super::to_server), but this is no hop and asks for no room.
#[inline(always)]
pub fn to_local<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> u32 {
    let result = translate::<F, P, T>(packet, tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn translate<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &Facts,
) -> Result<(), Stop> {
    let server = reachable_end::<F, T>(tables, facts)?;
    let part = Part::of(facts);
    forward::translate::<F, P>(packet, facts, Ends::destination(server), part, 0)?;
    Ok(())
}

/// A client's error about a reply, to the stack that sent it.
#[inline(always)]
pub(super) fn tell<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &Facts,
) -> Result<(), Stop> {
    let server = reachable_end::<F, T>(tables, facts)?;
    let quoted = parse::quoted::<F, P>(packet, facts).ok_or(LOST)?;
    icmp::retell::<F, P>(packet, facts, &quoted, Ends::destination(server), 0)?;
    Ok(())
}

/// The server's end, if packets from outside may go there.
#[inline(always)]
fn reachable_end<F: Family, T: Tables>(tables: T, facts: &Facts) -> Result<End, Stop> {
    let server = server_end(tables, facts)?;
    let [first, second] = server.addr;
    let is_loopback = if F::VERSION == 4 {
        first as u8 == 127
    } else {
        first == 0 && second == 1_u64.to_be()
    };
    if is_loopback {
        return Err(Reason::DroppedLoopback.into());
    }
    Ok(server)
}
