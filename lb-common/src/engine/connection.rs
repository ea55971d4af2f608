//! Packets of connections that exist.

use super::{LOST, Stop, Verdict};
use crate::{
    conn::{Seen, Tracking},
    facts::Facts,
    family::Family,
    flow::{self, Found, Times},
    forward::Part,
    layout::{DestFlags, DestView, DestWord, ForwardMethod, SettingsView, Stats},
    reason::Reason,
    tables::{Table, Tables},
};

/// The word of the server of `facts.dest`.
#[inline(always)]
pub(super) fn dest_word<T: Tables>(tables: T, facts: &Facts) -> Result<DestWord, Stop> {
    Ok(DestView(tables.cell(Table::Dest, facts.slot()).ok_or(LOST)?).word())
}

/// A client's packet of a known connection to the server of `facts.dest`, whose
/// word is `dest`: counters, state, time-out.
#[inline(always)]
pub(super) fn follow<F: Family, T: Tables>(
    tables: T,
    found: &Found<T::Cell>,
    facts: &mut Facts,
    tracking: Tracking,
    dest: DestWord,
) -> Result<(), Stop> {
    facts.method = found.method().into();
    if !dest.has(DestFlags::CLAIMED) {
        return Err(Reason::PassedNotClaimed.into());
    }
    tables.count_dest(
        facts.slot(),
        Stats {
            in_packets: 1,
            in_bytes: facts.l3_len,
            ..Stats::default()
        },
    );
    let seen = if found.state.sees_replies() {
        Seen::FromClient
    } else {
        Seen::FromClientOnly
    };
    advance::<F, T>(tables, found, facts, tracking, seen)
}

/// Whether the way back to the client is to be looked at: of NAT connections,
/// once a tick.
#[inline(always)]
pub(super) fn is_time_to_learn<C>(found: &Found<C>, facts: &Facts) -> bool {
    facts.forward_method().translates() && found.times.0 as u32 != facts.tick()
}

/// The connection of a packet that a reverse cell was found for.
#[inline(always)]
pub(super) fn of_reply<F: Family, T: Tables>(
    tables: T,
    reverse: &Found<T::Cell>,
    facts: &mut Facts,
) -> Option<Found<T::Cell>> {
    let link = reverse.cell.link::<F>();
    if reverse.cell.state() != reverse.state {
        return None;
    }
    let conn = flow::linked::<F, T>(tables, link)?;
    if conn.times.is_dead(facts.tick()) {
        return None;
    }
    facts.cell = conn.index.into();
    facts.reverse = reverse.index.into();
    facts.dest = conn.slot().into();
    facts.method = conn.method().into();
    Some(conn)
}

/// A server's packet of a known connection. Also with a server that was removed
/// it goes on its way, but counts for nothing, as in the kernel.
#[inline(always)]
pub(super) fn follow_reply<F: Family, T: Tables>(
    tables: T,
    conn: &Found<T::Cell>,
    facts: &Facts,
    tracking: Tracking,
) -> Result<(), Stop> {
    if dest_word(tables, facts)?.has(DestFlags::AVAILABLE) {
        tables.count_dest(
            facts.slot(),
            Stats {
                out_packets: 1,
                out_bytes: facts.l3_len,
                ..Stats::default()
            },
        );
    }
    advance::<F, T>(tables, conn, facts, tracking, Seen::FromServer)
}

/// A packet that is not for a service, as [`Facts::reason`] says: of a service's
/// address, it may be a reply that goes through the stack of this director.
#[inline(always)]
pub(super) fn pass_reply<F: Family, T: Tables>(
    tables: T,
    key: &F::Key,
    facts: &mut Facts,
    tracking: Tracking,
) -> Result<Verdict, Stop> {
    let Some(conn) = flow::find::<F, T>(tables, &F::opposite(key)) else {
        return Err(Stop(facts.reason as u32));
    };
    if conn.state.is_reverse() || conn.times.is_dead(facts.tick()) {
        return Err(Stop(facts.reason as u32));
    }
    // NAT's replies come from the server's address.
    if ForwardMethod::from_bits(conn.method()).translates() {
        return Err(Stop(facts.reason as u32));
    }
    facts.dest = conn.slot().into();
    follow_reply::<F, T>(tables, &conn, facts, tracking)?;
    Err(Reason::PassedReply.into())
}

/// State and time-out after a packet.
#[inline(always)]
fn advance<F: Family, T: Tables>(
    tables: T,
    conn: &Found<T::Cell>,
    facts: &Facts,
    tracking: Tracking,
    seen: Seen,
) -> Result<(), Stop> {
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    let was = conn.state.protocol_state();
    // The kernel sees a datagram once, whole.
    let state = if facts.part == Part::Later as u64 {
        was
    } else {
        tracking.next(was, facts, seen, settings.knobs())
    };
    let known = match seen {
        // From now on both sides decide.
        Seen::FromServer => conn.state.answered(),
        Seen::FromClient | Seen::FromClientOnly => conn.state,
    };
    let new = known.live(state, tracking.counted(state));
    if new != conn.state {
        // The loser of a race has lost to another packet of this connection:
        // either order of the two is right.
        let _ = flow::transition(tables, conn.cell, conn.state, facts.slot(), new);
        if conn.template() != 0 && tracking.assures(state, seen) {
            flow::assure::<F, T>(tables, conn.template());
        }
    }
    conn.cell.touch(
        conn.times,
        Times::new(
            facts.tick(),
            settings.timeout(tracking, facts.timeouts, state),
        ),
    );
    Ok(())
}
