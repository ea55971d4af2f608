use super::{
    LOST, STAGE_AGAIN, STAGE_BIND, STAGE_DONE, STAGE_INSERT, Stages, Stop, send::server_end,
    stage_answer, walk::find_iface_slot,
};
use crate::{
    facts::{Facts, outcome},
    family::Family,
    flow::{self, FlowCell, Link, NewReverse, Prepared},
    forward::{End, Learned, client_way},
    layout::{DestView, ForwardMethod, LocalView},
    packet::Packet,
    parse,
    reason::Reason,
    tables::{Cell, Table, Tables},
};

/// Local ports that are tried for a FULLNAT connection: with nine of ten taken,
/// three of a hundred connections find none.
pub const LOCAL_PORT_TRIES: u32 = 32;

/// Stage: notes the way by which a client's packet came, of the connection in
/// cell `facts.cell`, whose method translates or (once, with its first packet)
/// tunnels. [`STAGE_BIND`] when the reverse
/// cell is still to be made, or to be made anew because the way is another.
#[inline(always)]
pub fn learn<F: Family, P: Packet, T: Tables>(packet: &P, tables: T, facts: &mut Facts) -> u32 {
    match note_way::<F, P, T>(packet, tables, facts) {
        Ok(true) => STAGE_BIND,
        Ok(false) => STAGE_DONE,
        Err(stop) => stage_answer(facts, Err(stop)),
    }
}

#[inline(always)]
fn note_way<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: T,
    facts: &mut Facts,
) -> Result<bool, Stop> {
    let conn = FlowCell(tables.cell(F::FLOW, facts.cell as u32).ok_or(LOST)?);
    let ethernet = parse::ethernet(packet).ok_or(LOST)?;
    let (slot, iface) = find_iface_slot(tables, ethernet.iface).ok_or(LOST)?;
    let way = Learned::back::<F, P>(packet, ethernet.l3, iface.mtu() as u32).ok_or(LOST)?;
    let packed = client_way::pack(&way, slot, iface);
    if facts.forward_method() == ForwardMethod::Tunnel {
        conn.keep_client_way::<F>(packed);
        return Ok(false);
    }
    facts.way = way.words();
    let reverse = conn.link::<F>();
    if reverse == Link::NONE {
        return Ok(true);
    }
    // FULLNAT has its local end there.
    let keeps = facts.forward_method() == ForwardMethod::Masq && packed != 0;
    if keeps && packed == conn.client_way::<F>() && !is_time_to_look(facts) {
        return Ok(false);
    }
    let known = FlowCell(tables.cell(F::FLOW, reverse.index()).ok_or(LOST)?);
    let is_held = known.state().generation() == reverse.generation();
    let is_same = is_held && flow::way_of::<F, _>(known) == facts.way;
    if keeps {
        conn.keep_client_way::<F>(if is_same { packed } else { 0 });
    }
    Ok(!is_same)
}

/// Whether the reverse cell itself is looked at, though the connection's own says that
/// it has this way: its cache line is another one, and with many connections a packet
/// would wait for it as long as for the connection's. The interface's MTU may have
/// changed, or a newer connection have taken it in the moment in which that was noted.
#[inline(always)]
fn is_time_to_look(facts: &Facts) -> bool {
    const ONE_TICK_OF: u64 = 64;
    (u64::from(facts.tick()) ^ facts.cell).is_multiple_of(ONE_TICK_OF)
}

/// Has the reverse cell made, with the way that [`learn`] noted. [`STAGE_AGAIN`]
/// when the local port tried is taken.
#[inline(always)]
pub(super) fn make_reverse<F: Family, P, S: Stages<P>>(
    packet: &mut P,
    stages: &S,
    facts: &mut Facts,
) -> u32 {
    let answer = stages.pair::<F>(packet, facts);
    if answer != STAGE_INSERT {
        return answer;
    }
    stages.insert::<F>(packet, facts);
    stages.bind::<F>(packet, facts)
}

/// Stage: notes what the reverse cell will hold: [`STAGE_INSERT`].
#[inline(always)]
pub fn pair<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    let Some(cell) = tables.cell(F::FLOW, facts.cell as u32) else {
        return stage_answer(facts, Err(LOST.into()));
    };
    let conn = FlowCell(cell);
    let generation = conn.state().generation();
    match note_reverse::<F, T>(tables, facts, conn, generation) {
        Ok(()) => STAGE_INSERT,
        Err(stop) => give_up::<F, T>(tables, facts, conn, generation, stop),
    }
}

#[inline(always)]
fn note_reverse<F: Family, T: Tables>(
    tables: T,
    facts: &mut Facts,
    conn: FlowCell<T::Cell>,
    generation: u32,
) -> Result<(), Stop> {
    let is_new = conn.link::<F>() == Link::NONE;
    let chooses = facts.forward_method() == ForwardMethod::Fullnat;
    if chooses && is_new {
        let (addr, port) = choose_local(tables, facts).ok_or(Reason::DroppedNoLocalPort)?;
        conn.keep_local::<F>(addr, port);
    }
    let new = NewReverse {
        link: Link::new(facts.cell as u32, generation),
        way: facts.way,
        takes_over: is_new && !chooses,
    };
    facts.prepared = new.prepare().words();
    facts.new_key = reverse_key::<F, T>(tables, facts, conn)?;
    Ok(())
}

/// Stage: what follows from [`Facts::outcome`] of the reverse cell's insertion.
/// [`STAGE_AGAIN`] when the local port tried is taken.
#[inline(always)]
pub fn bind<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    let Some(cell) = tables.cell(F::FLOW, facts.cell as u32) else {
        return stage_answer(facts, Err(LOST.into()));
    };
    let conn = FlowCell(cell);
    let generation = Prepared::from_words(facts.prepared).link().generation();
    let reverse = conn.link::<F>();
    let is_new = reverse == Link::NONE;
    if facts.outcome == outcome::NEW {
        // The cell may be another flow's by now.
        if conn.state().generation() == generation {
            cell.compare_exchange(F::LINK, reverse.0, facts.inserted);
        }
        return STAGE_DONE;
    }
    if facts.outcome == outcome::EXISTS {
        facts.reason = if is_new && facts.forward_method() == ForwardMethod::Fullnat {
            Reason::DroppedNoLocalPort as u64
        } else {
            Reason::DroppedContended as u64
        };
    }
    // It had one before. Either a newer connection has the replies now, or the
    // old way stays for another tick.
    if !is_new && facts.reason == Reason::DroppedContended as u64 {
        return STAGE_DONE;
    }
    let stop = Stop(facts.reason as u32);
    give_up::<F, T>(tables, facts, conn, generation, stop)
}

/// A connection that got no reverse cell. A new one is released: its replies
/// would reach the client untranslated.
#[inline(always)]
fn give_up<F: Family, T: Tables>(
    tables: T,
    facts: &mut Facts,
    conn: FlowCell<T::Cell>,
    generation: u32,
    stop: Stop,
) -> u32 {
    let last = u64::from(LOCAL_PORT_TRIES).wrapping_sub(1);
    if stop == Reason::DroppedNoLocalPort.into() && facts.tries < last {
        return STAGE_AGAIN;
    }
    let state = conn.state();
    if conn.link::<F>() == Link::NONE && state.generation() == generation {
        flow::release::<F, T>(tables, conn, facts.cell as u32, state);
    }
    stage_answer(facts, Err(stop))
}

/// A local address of the server's pool and a port of it, at random.
#[inline(always)]
fn choose_local<T: Tables>(tables: T, facts: &Facts) -> Option<([u64; 2], u16)> {
    let pool = DestView(tables.cell(Table::Dest, facts.slot())?).local();
    let which = tables.random().checked_rem(pool.len())?;
    let local = LocalView(tables.cell(Table::Local, pool.start().wrapping_add(which))?);
    let (first, last) = (local.first_port(), local.last_port());
    let ports = last.wrapping_sub(first).wrapping_add(1);
    let port = first.wrapping_add(tables.random().checked_rem(ports)?) as u16;
    Some((local.addr(), port.to_be()))
}

/// The key of the server's packets of this connection, as [`Facts::new_key`].
#[inline(always)]
fn reverse_key<F: Family, T: Tables>(
    tables: T,
    facts: &Facts,
    conn: FlowCell<T::Cell>,
) -> Result<[u64; 5], Stop> {
    let server = server_end(tables, facts)?;
    let port = if server.port == 0 {
        facts.dst_port()
    } else {
        server.port
    };
    let client = if facts.forward_method() == ForwardMethod::Fullnat {
        local_end::<F, T>(conn)
    } else {
        End {
            addr: facts.src,
            port: facts.src_port(),
        }
    };
    let ports = facts.ports & !0xffff_ffff | u64::from(client.port) << 16 | u64::from(port);
    let ([a, b], [c, d]) = (server.addr, client.addr);
    Ok([a, b, c, d, ports])
}

/// The end that a FULLNAT connection's server sees.
#[inline(always)]
pub(super) fn local_end<F: Family, T: Tables>(conn: FlowCell<T::Cell>) -> End {
    let (addr, port) = conn.local::<F>();
    End { addr, port }
}
