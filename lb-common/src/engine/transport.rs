use super::{Stop, stage_answer};
use crate::{
    conn::Protocol,
    facts::Facts,
    forward::Part,
    layout::Settings,
    packet::Packet,
    parse,
    reason::Reason,
    tables::{Datagram, Tables},
    time::seconds,
};

/// How long a datagram's first fragment is remembered: the kernel's
/// `ipfrag_time`.
const LIFE: u32 = seconds(30);

/// Stage: the transport header of what is rare: SCTP and fragments. A first
/// fragment tells the ports, which are kept for the others; another one is given
/// the ports that were kept. The protocol comes in by [`Facts::ports`].
#[inline(always)]
pub fn transport<P: Packet, T: Tables>(packet: &P, tables: T, facts: &mut Facts) -> u32 {
    let result = find_ports(packet, tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn find_ports<P: Packet, T: Tables>(packet: &P, tables: T, facts: &mut Facts) -> Result<(), Stop> {
    let number = facts.ports as u8;
    let protocol = Protocol::from_number(number).ok_or(Reason::PassedProtocol)?;
    let now = facts.tick();
    let datagram: Datagram = [
        facts.src[0],
        facts.src[1],
        facts.dst[0],
        facts.dst[1],
        facts.fragment | u64::from(number) << 32 | facts.family << 40,
    ];
    if facts.part != Part::Later as u64 {
        parse::transport(packet, protocol, facts)?;
        if facts.part == Part::First as u64 {
            tables.keep_fragment(&datagram, facts.ports, now);
        }
        return Ok(());
    }
    match tables.fragment(&datagram) {
        Some((ports, first)) if now.wrapping_sub(first) <= LIFE => {
            facts.ports = ports;
            facts.flags = 0;
            facts.timeouts = match protocol {
                Protocol::Sctp => Settings::SCTP,
                Protocol::Tcp | Protocol::Udp => Settings::UDP,
            };
            Ok(())
        }
        // With such rules everything comes here that passes this director.
        _ if facts.root().any_destination() => Err(Reason::PassedNoConnection.into()),
        _ => Err(Reason::DroppedFragment.into()),
    }
}
