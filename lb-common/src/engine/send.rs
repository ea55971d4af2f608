//! The last part of a walk: out by the connection's method.

use super::{
    LOST, STAGE_DONE, STAGE_TELL, STAGE_UNTOLD, Stages, Stop, Verdict, local, pair::local_end,
    stage_answer, stage_done,
};
use crate::{
    facts::{Facts, told},
    family::Family,
    flow::{FlowCell, read_reverse},
    forward::{self, End, Ends, Packed, Part, Way},
    layout::{DestFlags, DestView, DestWord, ForwardMethod, NextHopView},
    packet::Packet,
    reason::Reason,
    tables::{Table, Tables},
    wire::TCP_SYN,
};

/// To the server of `facts.dest`, whose word is `dest`.
#[inline(always)]
pub(super) fn send<F: Family, P: Packet, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
    dest: DestWord,
) -> Result<Verdict, Stop> {
    if dest.has(DestFlags::LOCAL) {
        return local::deliver::<F, P, S>(packet, stages, facts);
    }
    if !dest.has(DestFlags::RESOLVED) {
        return Err(Reason::DroppedUnresolved.into());
    }
    match facts.forward_method() {
        ForwardMethod::Route => {
            let next_hop = NextHopView(tables.cell(Table::NextHop, dest.next_hop()).ok_or(LOST)?);
            let ifindex = next_hop.ifindex();
            forward::route::<F, P, _>(packet, facts, next_hop)?;
            return Ok(leave(tables, facts, ifindex));
        }
        ForwardMethod::Masq | ForwardMethod::Fullnat => {
            facts.toa = told::NOT;
            let answer = stages.to_server::<F>(packet, facts);
            if answer != STAGE_DONE {
                return tell_and_send::<F, P, T, S>(packet, tables, stages, facts, answer);
            }
        }
        ForwardMethod::Tunnel => {
            let answer = stages.tunnel::<F>(packet, facts);
            stage_done(facts, answer)?;
        }
        ForwardMethod::Local => return Err(Reason::PassedLocalServer.into()),
    }
    Ok(leave(tables, facts, facts.egress as u32))
}

/// Has the client's address put into its segment, if the stage asked for that,
/// and sends it; or ends as the stage said.
#[inline(always)]
fn tell_and_send<F: Family, P: Packet, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
    mut answer: u32,
) -> Result<Verdict, Stop> {
    if answer == STAGE_TELL {
        answer = stages.tell::<F>(packet, facts);
        stage_done(facts, answer)?;
        answer = stages.to_server::<F>(packet, facts);
    }
    let ifindex = facts.egress as u32;
    if answer == STAGE_UNTOLD {
        tables.count(Reason::ForwardedUntold);
        return Ok(verdict(facts, ifindex));
    }
    stage_done(facts, answer)?;
    Ok(leave(tables, facts, ifindex))
}

/// Out by an interface.
#[inline(always)]
pub(super) fn verdict(facts: &Facts, ifindex: u32) -> Verdict {
    if u64::from(ifindex) == facts.ingress {
        Verdict::Transmit
    } else {
        Verdict::Redirect(ifindex)
    }
}

/// Out by an interface; counted.
#[inline(always)]
pub(super) fn leave<T: Tables>(tables: T, facts: &Facts, ifindex: u32) -> Verdict {
    if u64::from(ifindex) == facts.ingress {
        tables.count(Reason::ForwardedTx);
        Verdict::Transmit
    } else {
        tables.count(Reason::ForwardedRedirect);
        Verdict::Redirect(ifindex)
    }
}

/// Stage: NAT, to the server of `facts.dest`. [`STAGE_TELL`] when a FULLNAT server
/// is to be told the client's address and nothing was tried yet; [`STAGE_UNTOLD`]
/// when there was no room for it.
#[inline(always)]
pub fn to_server<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> u32 {
    let conn = tables.cell(F::FLOW, facts.cell as u32).map(FlowCell);
    let Some(conn) = conn else {
        return stage_answer(facts, Err(LOST.into()));
    };
    let is_told = facts.forward_method() == ForwardMethod::Fullnat
        && conn.state().tells_client()
        && facts.part != Part::Later as u64;
    if is_told && facts.toa == told::NOT {
        return STAGE_TELL;
    }
    let result = translate::<F, P, T>(packet, tables, facts, conn);
    if is_told && facts.toa == told::NO_ROOM && result.is_ok() {
        return STAGE_UNTOLD;
    }
    stage_answer(facts, result)
}

#[inline(always)]
fn translate<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
    conn: FlowCell<T::Cell>,
) -> Result<(), Stop> {
    let server = server_end(tables, facts)?;
    let (_, next_hop) = next_hop(tables, facts)?;
    let part = Part::of(facts);
    // Two calls: the compiler would pass on an end that is none as registers
    // without a value, which the verifier refuses.
    if facts.forward_method() == ForwardMethod::Fullnat {
        let ends = Ends::both(local_end::<F, T>(conn), server);
        forward::to_server::<F, P, _>(packet, facts, ends, part, next_hop)?;
    } else {
        let ends = Ends::destination(server);
        forward::to_server::<F, P, _>(packet, facts, ends, part, next_hop)?;
    }
    Ok(())
}

/// Address and port of the server of `facts.dest`; port 0 keeps the packet's.
#[inline(always)]
pub(super) fn server_end<T: Tables>(tables: T, facts: &Facts) -> Result<End, Stop> {
    let dest = DestView(tables.cell(Table::Dest, facts.slot()).ok_or(LOST)?);
    Ok(End {
        addr: [dest.addr(0), dest.addr(1)],
        port: dest.port(),
    })
}

/// Stage: a reply, found by the reverse cell `facts.reverse`, to the client of
/// the connection in cell `facts.cell`.
#[inline(always)]
pub fn to_client<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> u32 {
    let result = reply::<F, P, T>(packet, tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn reply<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let conn = FlowCell(tables.cell(F::FLOW, facts.cell as u32).ok_or(LOST)?);
    let reverse = FlowCell(tables.cell(F::FLOW, facts.reverse as u32).ok_or(LOST)?);
    let (client, service) = client_ends::<F, T>(conn);
    // Both cells may have become other flows' since they were found.
    let (link, way) = read_reverse::<F, _>(reverse).ok_or(Reason::DroppedContended)?;
    let way = Packed::<F>::new(way);
    if link.index() != facts.cell as u32 || link.generation() != conn.state().generation() {
        return Err(Reason::DroppedContended.into());
    }
    facts.egress = way.ifindex().into();
    let part = Part::of(facts);
    if facts.forward_method() == ForwardMethod::Fullnat {
        let state = conn.state();
        // What a server sends after its SYN shows that it has taken a segment of
        // the client's after the SYN, and all of those carried the address.
        if state.tells_client() && facts.flags() & TCP_SYN == 0 {
            conn.set_state(state, state.client_told());
        }
        let ends = Ends::both(service, client);
        forward::to_client::<F, P, _>(packet, facts, ends, part, way)?;
    } else {
        forward::to_client::<F, P, _>(packet, facts, Ends::source(service), part, way)?;
    }
    Ok(())
}

/// A connection's client and service.
#[inline(always)]
pub(super) fn client_ends<F: Family, T: Tables>(conn: FlowCell<T::Cell>) -> (End, End) {
    let key = conn.key::<F>();
    let ([client, service], ports) = (F::ends(&key), F::ports(&key));
    (
        End {
            addr: client,
            port: ports as u16,
        },
        End {
            addr: service,
            port: (ports >> 16) as u16,
        },
    )
}

/// Stage: through a tunnel, to the server of `facts.dest`.
#[inline(always)]
pub fn tunnel<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> u32 {
    let result = next_hop(tables, facts).and_then(|(dest, next_hop)| {
        forward::tunnel::<F, P, T>(packet, tables, facts, dest, next_hop)?;
        Ok(())
    });
    stage_answer(facts, result)
}

/// A server and the next hop to it.
pub(super) type Hop<C> = (DestView<C>, NextHopView<C>);

/// The server of `facts.dest` and the next hop to it.
#[inline(always)]
pub(super) fn next_hop<T: Tables>(tables: T, facts: &mut Facts) -> Result<Hop<T::Cell>, Stop> {
    let dest = DestView(tables.cell(Table::Dest, facts.slot()).ok_or(LOST)?);
    let next_hop = tables.cell(Table::NextHop, dest.word().next_hop());
    let next_hop = NextHopView(next_hop.ok_or(LOST)?);
    facts.egress = next_hop.ifindex().into();
    Ok((dest, next_hop))
}
