//! What this director's own stack sends: replies of servers that are the
//! director itself, which no interface sees come in.

use super::{
    LOST, Stop, Verdict, connection, send::client_ends, stage_answer, stage_done, walk::is_marked,
};
use crate::{
    conn::{Protocol, Tracking},
    facts::{Facts, NO_REVERSE},
    family::{Family, V4, V6},
    flow::{self, FlowCell, read_reverse},
    forward::{self, Ends, Part, icmp},
    layout::{DestFlags, ForwardMethod, Stats, filter_bit, reply_bit},
    packet::Packet,
    parse::{self, Header},
    reason::{Class, Reason},
    tables::{Param, Tables},
    wire::{IPPROTO_TCP, IPPROTO_UDP},
};

/// Parts of this walk that are not inlined, as [`Stages`](super::Stages) are of
/// the other one.
pub trait LeavingStages<P> {
    /// [`extensions`](super::extensions).
    fn extensions(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`transport`](super::transport).
    fn transport(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`icmp`](super::icmp).
    fn icmp<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`count_error`].
    fn count_error<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`retell`].
    fn retell<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`of_local`].
    fn of_local<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
}

/// Looks at one packet of this director's own stack on its way out:
/// [`Verdict::Pass`], or [`Verdict::Drop`] of a reply that could not be
/// translated, which is counted. What `facts` held before does not matter.
#[inline(always)]
pub fn leaving<P: Packet, T: Tables, S: LeavingStages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
) -> Verdict {
    match walk(packet, tables, stages, facts) {
        Ok(()) => Verdict::Pass,
        Err(Stop(number)) => match Reason::class_of(number) {
            // Its reason is counted where packets come in; only what ends here
            // is added to those.
            Class::Passed | Class::Forwarded => Verdict::Pass,
            Class::Dropped => {
                tables.count_number(number);
                Verdict::Drop
            }
        },
    }
}

#[inline(always)]
fn walk<P: Packet, T: Tables, S: LeavingStages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let ethernet = parse::ethernet(packet).ok_or(Reason::PassedNotIp)?;
    if ethernet.ethertype == V4::ETHERTYPE {
        walk_family::<V4, P, T, S>(packet, tables, stages, facts, ethernet.l3)
    } else if ethernet.ethertype == V6::ETHERTYPE {
        walk_family::<V6, P, T, S>(packet, tables, stages, facts, ethernet.l3)
    } else {
        Err(Reason::PassedNotIp.into())
    }
}

#[inline(always)]
fn walk_family<F: Family, P: Packet, T: Tables, S: LeavingStages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
    l3: u32,
) -> Result<(), Stop> {
    let root = tables.root();
    let ip = F::Header::read(packet, l3)?;
    if !root.has_services(F::VERSION) {
        return Err(Reason::PassedNoVip.into());
    }
    let seed = tables.param(Param::FilterSeed) as u32;
    if !is_marked(tables, root, reply_bit(ip.source(), seed))
        && !is_marked(tables, root, filter_bit(ip.source(), seed))
    {
        return Err(Reason::PassedNoVip.into());
    }
    facts.root = root.0;
    let mut next = ip.check(packet, facts)?;
    if F::VERSION == 6 && next != IPPROTO_TCP && next != IPPROTO_UDP && next != F::ICMP {
        facts.ports = next.into();
        let answer = stages.extensions(packet, facts);
        stage_done(facts, answer)?;
        next = facts.ports as u8;
    }
    facts.now = tables.now().into();
    facts.reverse = NO_REVERSE;
    if next == F::ICMP {
        let answer = stages.icmp::<F>(packet, facts);
        if stage_done(facts, answer).is_err() {
            let answer = stages.count_error::<F>(packet, facts);
            return stage_done(facts, answer);
        }
        let answer = stages.retell::<F>(packet, facts);
        return stage_done(facts, answer);
    }
    let protocol = Protocol::from_number(next).ok_or(Reason::PassedProtocol)?;
    if facts.part == Part::Whole as u64 && protocol != Protocol::Sctp {
        parse::transport(packet, protocol, facts)?;
    } else {
        facts.ports = next.into();
        let answer = stages.transport(packet, facts);
        if stage_done(facts, answer).is_err() {
            // Of a datagram of which nothing is known: nobody's.
            return Err(Reason::PassedNoConnection.into());
        }
    }
    reply::<F, P, T, S>(packet, tables, stages, facts, Tracking::of(next))
}

#[inline(always)]
fn reply<F: Family, P: Packet, T: Tables, S: LeavingStages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
    tracking: Tracking,
) -> Result<(), Stop> {
    let key = F::key(facts);
    if let Some(found) = flow::find::<F, T>(tables, &key)
        && found.state.is_reverse()
        && let Some(conn) = connection::of_reply::<F, T>(tables, &found, facts)
    {
        // FULLNAT's servers are elsewhere: their replies are not sent from here.
        if facts.forward_method() != ForwardMethod::Masq {
            return Err(Reason::PassedNoConnection.into());
        }
        connection::follow_reply::<F, T>(tables, &conn, facts, tracking)?;
        let answer = stages.of_local::<F>(packet, facts);
        return stage_done(facts, answer);
    }
    facts.reason = Reason::PassedNoVip as u64;
    connection::pass_reply::<F, T>(tables, &key, facts, tracking).map(|_| ())
}

/// Stage: gives a reply, found by the reverse cell `facts.reverse`, its
/// service's address and port.
#[inline(always)]
pub fn of_local<F: Family, P: Packet, T: Tables>(
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
    let ends = service_end::<F, T>(tables, facts)?;
    forward::translate::<F, P>(packet, facts, ends, Part::of(facts), 0)?;
    Ok(())
}

/// The service's end of the connection in cell `facts.cell`, as the source.
#[inline(always)]
fn service_end<F: Family, T: Tables>(tables: T, facts: &Facts) -> Result<Ends, Stop> {
    let conn = FlowCell(tables.cell(F::FLOW, facts.cell as u32).ok_or(LOST)?);
    let reverse = FlowCell(tables.cell(F::FLOW, facts.reverse as u32).ok_or(LOST)?);
    let (_, service) = client_ends::<F, T>(conn);
    // Both cells may have become other flows' since they were found.
    let (link, _) = read_reverse::<F, _>(reverse).ok_or(Reason::DroppedContended)?;
    if u64::from(link.index()) != facts.cell || link.generation() != conn.state().generation() {
        return Err(Reason::DroppedContended.into());
    }
    Ok(Ends::source(service))
}

/// Stage: an ICMP error of this director's stack about a client's packet that no
/// method has changed: it counts as the server's, as in the kernel.
#[inline(always)]
pub fn count_error<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: T,
    facts: &mut Facts,
) -> u32 {
    let result = count_unchanged::<F, P, T>(packet, tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn count_unchanged<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: T,
    facts: &mut Facts,
) -> Result<(), Stop> {
    if facts.part != Part::Whole as u64 {
        return Err(Reason::PassedProtocol.into());
    }
    let quoted = parse::quoted::<F, P>(packet, facts).ok_or(Reason::PassedProtocol)?;
    let key = F::opposite(&quoted.key::<F>());
    let conn = flow::find_rare::<F, T>(tables, &key).ok_or(Reason::PassedNoConnection)?;
    if conn.state.is_reverse()
        || conn.times.is_dead(facts.tick())
        || ForwardMethod::from_bits(conn.method()).translates()
    {
        return Err(Reason::PassedNoConnection.into());
    }
    facts.dest = conn.slot().into();
    if connection::dest_word(tables, facts)?.has(DestFlags::AVAILABLE) {
        count_out(tables, facts);
    }
    Err(Reason::PassedReply.into())
}

/// A packet of the server of `facts.dest`.
#[inline(always)]
fn count_out<T: Tables>(tables: T, facts: &Facts) {
    tables.count_dest(
        facts.slot(),
        Stats {
            out_packets: 1,
            out_bytes: facts.l3_len,
            ..Stats::default()
        },
    );
}

/// Stage: an ICMP error of this director's stack about a packet of the
/// connection in cell `facts.cell`.
#[inline(always)]
pub fn retell<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> u32 {
    let result = tell::<F, P, T>(packet, tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn tell<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &Facts,
) -> Result<(), Stop> {
    // About a reply that the director got as a client of its own, for example.
    if facts.reverse == NO_REVERSE || facts.forward_method() != ForwardMethod::Masq {
        return Err(Reason::PassedNoConnection.into());
    }
    let ends = service_end::<F, T>(tables, facts)?;
    if connection::dest_word(tables, facts)?.has(DestFlags::AVAILABLE) {
        count_out(tables, facts);
    }
    let quoted = parse::quoted::<F, P>(packet, facts).ok_or(LOST)?;
    icmp::retell::<F, P>(packet, facts, &quoted, ends, 0)?;
    Ok(())
}
