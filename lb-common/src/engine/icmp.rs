use super::{
    LOST, STAGE_TUNNEL, Stop, connection, local,
    pair::local_end,
    send::{self, client_ends},
    stage_answer,
};
use crate::{
    facts::{Facts, NO_REVERSE},
    family::Family,
    flow::{self, FlowCell, read_reverse},
    forward::{self, Ends, Packed, Part, Way, icmp},
    layout::{DestFlags, ForwardMethod, Stats},
    packet::Packet,
    parse,
    reason::Reason,
    tables::Tables,
};

/// Stage: an ICMP message. Finds the connection that it is an error about;
/// [`relay`] sends it on. [`STAGE_TUNNEL`] when it may be about a tunnel packet of
/// ours: for [`tunnel_error`](super::tunnel_error).
#[inline(always)]
pub fn icmp<F: Family, P: Packet, T: Tables>(packet: &P, tables: T, facts: &mut Facts) -> u32 {
    let result = find_connection::<F, P, T>(packet, tables, facts);
    if result.is_err() && is_about_tunnel::<F, P>(packet, facts) {
        return STAGE_TUNNEL;
    }
    stage_answer(facts, result)
}

#[inline(always)]
fn is_about_tunnel<F: Family, P: Packet>(packet: &P, facts: &mut Facts) -> bool {
    if !facts.root().has_tunnels(F::VERSION) || facts.part != Part::Whole as u64 {
        return false;
    }
    parse::is_error::<F, P>(packet, facts.l4 as u32)
        && icmp::is_intact::<F, P>(packet, facts)
        && parse::carried::<F, P>(packet, facts).is_some()
}

#[inline(always)]
fn find_connection<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: T,
    facts: &mut Facts,
) -> Result<(), Stop> {
    if facts.part != Part::Whole as u64 {
        return Err(Reason::PassedProtocol.into());
    }
    if !facts.root().has_services(F::VERSION) {
        return Err(Reason::PassedNoVip.into());
    }
    let quoted = parse::quoted::<F, P>(packet, facts).ok_or(Reason::PassedProtocol)?;
    let found = flow::find_rare::<F, T>(tables, &quoted.key::<F>());
    let found = found.ok_or(Reason::PassedNoConnection)?;
    facts.ports = u64::from(F::ICMP) << 32;
    if found.state.is_reverse() {
        let conn = connection::of_reply::<F, T>(tables, &found, facts);
        return match conn {
            Some(_) => Ok(()),
            None => Err(Reason::PassedNoConnection.into()),
        };
    }
    if found.times.is_dead(facts.tick()) || quoted.src != facts.dst {
        return Err(Reason::PassedNoConnection.into());
    }
    facts.cell = found.index.into();
    facts.dest = found.slot().into();
    facts.method = found.method().into();
    Ok(())
}

/// Stage: sends on an ICMP error about a packet of the connection in cell
/// `facts.cell`: to the server when it is about a reply, to the client when it is
/// about a request and the method is NAT. `facts.egress` tells by which interface.
/// Through a tunnel it is left to [`tunnel`](super::tunnel).
#[inline(always)]
pub fn relay<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: T, facts: &mut Facts) -> u32 {
    let result = pass_on::<F, P, T>(packet, tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn pass_on<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let conn = FlowCell(tables.cell(F::FLOW, facts.cell as u32).ok_or(LOST)?);
    if facts.reverse == NO_REVERSE {
        return about_reply::<F, P, T>(packet, tables, facts, conn);
    }
    let reverse = FlowCell(tables.cell(F::FLOW, facts.reverse as u32).ok_or(LOST)?);
    if !icmp::is_intact::<F, P>(packet, facts) {
        return Err(Reason::DroppedIcmp.into());
    }
    about_request::<F, P, T>(packet, tables, facts, conn, reverse)
}

/// From the server's side, to the client.
#[inline(always)]
fn about_request<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
    conn: FlowCell<T::Cell>,
    reverse: FlowCell<T::Cell>,
) -> Result<(), Stop> {
    let quoted = parse::quoted::<F, P>(packet, facts).ok_or(LOST)?;
    let (client, service) = client_ends::<F, T>(conn);
    let (link, way) = read_reverse::<F, _>(reverse).ok_or(Reason::DroppedContended)?;
    if u64::from(link.index()) != facts.cell || link.generation() != conn.state().generation() {
        return Err(Reason::DroppedContended.into());
    }
    let way = Packed::<F>::new(way);
    if connection::dest_word(tables, facts)?.has(DestFlags::AVAILABLE) {
        tables.count_dest(
            facts.slot(),
            Stats {
                out_packets: 1,
                out_bytes: facts.l3_len,
                ..Stats::default()
            },
        );
    }
    facts.egress = way.ifindex().into();
    let ends = Ends {
        src: Some(service),
        dst: (facts.forward_method() == ForwardMethod::Fullnat).then_some(client),
    };
    icmp::relay::<F, P, _>(packet, facts, &quoted, ends, way)?;
    Ok(())
}

/// From the client's side, to the server.
#[inline(always)]
fn about_reply<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
    conn: FlowCell<T::Cell>,
) -> Result<(), Stop> {
    let word = connection::dest_word(tables, facts)?;
    if !word.has(DestFlags::CLAIMED) {
        return Err(Reason::PassedNotClaimed.into());
    }
    let is_local = word.has(DestFlags::LOCAL);
    if !is_local && !word.has(DestFlags::RESOLVED) {
        return Err(Reason::DroppedUnresolved.into());
    }
    if !icmp::is_intact::<F, P>(packet, facts) {
        return Err(Reason::DroppedIcmp.into());
    }
    if word.has(DestFlags::AVAILABLE) {
        tables.count_dest(
            facts.slot(),
            Stats {
                in_packets: 1,
                in_bytes: facts.l3_len,
                ..Stats::default()
            },
        );
    }
    if is_local {
        if facts.forward_method().translates() {
            local::tell::<F, P, T>(packet, tables, facts)?;
        }
        return Err(Reason::PassedLocalServer.into());
    }
    let (_, next_hop) = send::next_hop(tables, facts)?;
    match facts.forward_method() {
        ForwardMethod::Route => forward::route::<F, P, _>(packet, facts, next_hop)?,
        // As any packet, by the stage that is there for it.
        ForwardMethod::Tunnel => {}
        ForwardMethod::Masq | ForwardMethod::Fullnat => {
            let quoted = parse::quoted::<F, P>(packet, facts).ok_or(LOST)?;
            let is_fullnat = facts.forward_method() == ForwardMethod::Fullnat;
            let ends = Ends {
                src: is_fullnat.then(|| local_end::<F, T>(conn)),
                dst: Some(send::server_end(tables, facts)?),
            };
            icmp::relay::<F, P, _>(packet, facts, &quoted, ends, next_hop)?;
        }
        ForwardMethod::Local => return Err(Reason::PassedLocalServer.into()),
    }
    Ok(())
}
