use super::{LOST, Stop, stage_answer, walk::find_iface};
use crate::{
    facts::Facts,
    family::Family,
    flow::{self, FlowCell, Inserted, Link, NewReverse, word},
    forward::Learned,
    layout::DestView,
    packet::Packet,
    parse,
    reason::Reason,
    tables::{Cell, Table, Tables},
};

/// Stage: sees to it that the NAT connection in cell `facts.cell` has a reverse
/// cell, and that it holds the way by which this packet came. A new connection
/// that gets none is released: its replies would reach the client untranslated.
#[inline(always)]
pub fn pair<F: Family, P: Packet, T: Tables>(packet: &P, tables: T, facts: &mut Facts) -> u32 {
    let result = join::<F, P, T>(packet, tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn join<F: Family, P: Packet, T: Tables>(packet: &P, tables: T, facts: &Facts) -> Result<(), Stop> {
    let index = facts.cell as u32;
    let conn = FlowCell(tables.cell(F::FLOW, index).ok_or(LOST)?);
    let state = conn.state();
    let ethernet = parse::ethernet(packet).ok_or(LOST)?;
    let iface = find_iface(tables, ethernet.iface).ok_or(LOST)?;
    let way = Learned::back::<F, P>(packet, ethernet.l3, iface.mtu() as u32).ok_or(LOST)?;
    let way = way.words();
    let reverse = conn.link();
    if reverse != Link::NONE
        && let Some(known) = tables.cell(F::FLOW, reverse.index())
    {
        let known = FlowCell(known);
        if known.state().generation() == reverse.generation() && flow::way_of(known) == way {
            return Ok(());
        }
    }
    let new = NewReverse {
        link: Link::new(index, state.generation()),
        way,
        takes_over: reverse == Link::NONE,
    };
    let key = reverse_key::<F, T>(tables, facts)?;
    match flow::insert::<F, T, _>(tables, &key, facts.tick(), &new) {
        Inserted::New(link) => {
            // The cell may be another flow's by now.
            conn.0.compare_exchange(word::LINK, reverse.0, link.0);
            Ok(())
        }
        // It had one before. Either a newer connection has the replies now, or
        // the old way stays for another tick.
        Inserted::Exists(_) | Inserted::Contended if reverse != Link::NONE => Ok(()),
        refused => {
            flow::release::<F, T>(tables, conn, index, state);
            Err(match refused {
                Inserted::Full => Reason::DroppedWindowFull.into(),
                _ => Reason::DroppedContended.into(),
            })
        }
    }
}

/// The key of the server's packets of this connection.
#[inline(always)]
fn reverse_key<F: Family, T: Tables>(tables: T, facts: &Facts) -> Result<F::Key, Stop> {
    let dest = DestView(tables.cell(Table::Dest, facts.slot()).ok_or(LOST)?);
    let port = match dest.port() {
        0 => facts.dst_port(),
        port => port,
    };
    let ports = facts.ports & !0xffff_ffff | u64::from(facts.src_port()) << 16 | u64::from(port);
    Ok(F::key_of([dest.addr(0), dest.addr(1)], facts.src, ports))
}
