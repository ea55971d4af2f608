//! A packet whose connection may be given up for a new one: a SYN, or any when
//! the server was removed.

use super::{LOST, STAGE_ANEW, STAGE_DONE, Stop, stage_answer};
use crate::{
    conn::{Tracking, tcp::state::FIN_WAIT},
    facts::Facts,
    family::Family,
    flow::{self, FlowCell, StateWord, TEMPLATE_SHIFT},
    layout::{DestFlags, DestView, DestWord, Knobs, SettingsView},
    reason::Reason,
    tables::{Table, Tables},
};

/// Stage: whether the packet of the connection in cell `facts.cell` starts
/// another: [`STAGE_ANEW`] when that was released. [`STAGE_DONE`] leaves it
/// to the connection, [`STAGE_END`] drops it because its server was removed.
#[inline(always)]
pub fn reconsider<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    match decide::<F, T>(tables, facts) {
        Ok(answer) => answer,
        Err(stop) => stage_answer(facts, Err(stop)),
    }
}

#[inline(always)]
fn decide<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> Result<u32, Stop> {
    let index = facts.cell as u32;
    let cell = FlowCell(tables.cell(F::FLOW, index).ok_or(LOST)?);
    let (state, dest) = (cell.state(), cell.dest());
    if !state.is_live() || !cell.has_key::<F>(&F::key(facts)) {
        return Ok(STAGE_ANEW);
    }
    let server = DestView(tables.cell(Table::Dest, dest as u32).ok_or(LOST)?).word();
    let knobs = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?).knobs();
    let tracking = Tracking::of(facts.protocol());
    let is_removed = !server.has(DestFlags::AVAILABLE);
    let is_over = is_removed && knobs.has(Knobs::EXPIRE_NODEST)
        || tracking.opens(facts) && is_reusable(tracking, state, dest, server, knobs);
    if is_over {
        // The new one is scheduled with the old one still counted.
        if flow::vacate::<F, T>(tables, cell, index, state) {
            facts.owed = [flow::load_of(state.counted()), dest & u64::from(u32::MAX)];
        }
        return Ok(STAGE_ANEW);
    }
    if is_removed && server.has(DestFlags::CLAIMED) {
        return Err(Reason::DroppedNoDest.into());
    }
    Ok(STAGE_DONE)
}

/// Whether a packet that opens a connection re-uses the port of this one: it
/// is over (`conn_reuse_mode`), or its server takes no new ones. What belongs to a
/// template stays where that sends the client.
#[inline(always)]
fn is_reusable(
    tracking: Tracking,
    state: StateWord,
    dest: u64,
    server: DestWord,
    knobs: Knobs,
) -> bool {
    if server.has(DestFlags::QUIESCED) && knobs.has(Knobs::EXPIRE_NODEST) {
        return true;
    }
    if !knobs.has(Knobs::REUSE) || dest >> TEMPLATE_SHIFT != 0 {
        return false;
    }
    let was = state.protocol_state();
    let in_fin_wait = tracking == Tracking::Flags && was == FIN_WAIT && !state.sees_replies();
    tracking.is_reusable(was) || in_fin_wait && knobs.has(Knobs::REUSE_FIN_WAIT)
}
