use super::{STAGE_AWAY, STAGE_DONE, STAGE_END};
use crate::{
    facts::{Facts, NO_CELL, NO_REVERSE},
    family::Family,
    forward::{
        Packed, Part, Way,
        icmp::{self, Answer},
    },
    layout::{DestFlags, DestView, ForwardMethod, NextHopView, Stats},
    packet::Packet,
    reason::Reason,
    tables::{Cell, Table, Tables},
    time::Tick,
};

/// Whether a packet that ended for this reason may be answered. The numbers are
/// few, so that the walk need not call the stage for others.
#[inline(always)]
pub(super) const fn may_be_answered(reason: u32) -> bool {
    reason == Reason::DroppedNoServer as u32
        || reason == Reason::DroppedTtl as u32
        || reason == Reason::DroppedTooBig as u32
        || reason == Reason::DroppedUnresolved as u32
        || reason == Reason::DroppedTunnelError as u32
}

/// Stage: turns the packet that ended for `facts.reason` into the ICMP error
/// that says so, where the kernel would send one, and the rate allows it.
/// [`STAGE_END`] leaves it to be dropped. [`STAGE_AWAY`] when the answer does not
/// leave by the way that the packet came.
#[inline(always)]
pub fn answer<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> u32 {
    match make::<F, P, T>(packet, tables, facts) {
        Some(()) if facts.reason as u32 == Reason::DroppedTunnelError as u32 => STAGE_AWAY,
        Some(()) => STAGE_DONE,
        None => STAGE_END,
    }
}

#[inline(always)]
fn make<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> Option<()> {
    let what = what(tables, facts)?;
    if facts.part == Part::Later as u64
        || facts.protocol() == F::ICMP
        || !is_one_host::<F>(facts.src)
        || !take_token(tables, facts.tick())
    {
        return None;
    }
    let is_reply = facts.reverse != NO_REVERSE;
    let source = if is_reply {
        own_address(tables, facts)?
    } else {
        facts.dst
    };
    if let Answer::Told { .. } = what {
        let way = Packed::<F>::new(facts.way);
        facts.egress = way.ifindex().into();
        icmp::answer_by::<F, P, T, _>(packet, tables, facts, source, what, way).ok()?;
    } else {
        icmp::answer::<F, P, T>(packet, tables, facts, source, what).ok()?;
    }
    // The kernel counts an error about a connection as a packet to its client; of
    // NAT's it does not find the connection, whose replies come from the server.
    let is_nat = facts.method == ForwardMethod::Masq as u64;
    let is_alone = facts.cell == NO_CELL;
    if !is_reply && !is_nat && !is_alone && is_counted(what) {
        let (longest, around) = if F::VERSION == 4 {
            (576, 28)
        } else {
            (1280, 48)
        };
        let whole = facts.l3_len.wrapping_add(around);
        let mut stats = Stats {
            out_packets: 1,
            out_bytes: if whole < longest { whole } else { longest },
            ..Stats::default()
        };
        if let Answer::Told { .. } = what {
            // And there, what a tunnel's error quotes of the client's packet.
            stats.out_packets = 2;
            stats.out_bytes = stats.out_bytes.wrapping_add(facts.l3_len);
        }
        tables.count_dest(facts.slot(), stats);
    }
    Some(())
}

#[inline(always)]
const fn is_counted(what: Answer) -> bool {
    matches!(
        what,
        Answer::TimeExceeded | Answer::TooBig { .. } | Answer::Told { .. }
    )
}

#[inline(always)]
fn what<T: Tables>(tables: T, facts: &Facts) -> Option<Answer> {
    let reason = facts.reason as u32;
    if reason == Reason::DroppedNoServer as u32 {
        Some(Answer::PortUnreachable)
    } else if reason == Reason::DroppedTtl as u32 {
        Some(Answer::TimeExceeded)
    } else if reason == Reason::DroppedTooBig as u32 && facts.mtu != 0 {
        Some(Answer::TooBig {
            mtu: facts.mtu as u32,
        })
    } else if reason == Reason::DroppedUnresolved as u32 {
        // Asked for only now, it may answer before the client repeats itself.
        let dest = DestView(tables.cell(Table::Dest, facts.slot())?);
        let is_known = dest.word().has(DestFlags::UNREACHABLE);
        is_known.then_some(Answer::HostUnreachable)
    } else if reason == Reason::DroppedTunnelError as u32 && facts.error != 0 && facts.way[1] != 0 {
        Some(Answer::Told {
            said: facts.error as u16,
            mtu: facts.mtu as u32,
        })
    } else {
        None
    }
}

/// Whether errors may go to this address: neither a group nor nobody.
#[inline(always)]
fn is_one_host<F: Family>(addr: [u64; 2]) -> bool {
    let first = addr[0] as u8;
    if F::VERSION == 4 {
        first != 0 && first < 224
    } else {
        first != 0xff && addr != [0, 0]
    }
}

/// This director's address on the way to the server: it speaks for itself when
/// a reply cannot go on.
#[inline(always)]
fn own_address<T: Tables>(tables: T, facts: &Facts) -> Option<[u64; 2]> {
    let dest = DestView(tables.cell(Table::Dest, facts.slot())?);
    let hop = NextHopView(tables.cell(Table::NextHop, dest.word().next_hop())?);
    let own = [hop.source(0), hop.source(1)];
    (own != [0, 0]).then_some(own)
}

/// A message costs this many units.
const MESSAGE: u32 = 256;
/// Units a tick: 1,000 messages a second, the kernel's `icmp_msgs_per_sec`.
const A_TICK: u32 = 1074;
/// The kernel's `icmp_msgs_burst`.
const BURST: u32 = 50 * MESSAGE;

/// Takes a message out of the bucket of all answers: the tick of the last one
/// in the high half, units in the low.
#[inline(always)]
fn take_token<T: Tables>(tables: T, now: Tick) -> bool {
    let Some(bucket) = tables.cell(Table::Limits, 0) else {
        return false;
    };
    let seen = bucket.load(0);
    let passed = now.wrapping_sub((seen >> 32) as u32);
    let units = if passed > BURST / A_TICK {
        BURST
    } else {
        let grown = (seen as u32).wrapping_add(passed.wrapping_mul(A_TICK));
        if grown < BURST { grown } else { BURST }
    };
    if units < MESSAGE {
        return false;
    }
    let left = u64::from(now) << 32 | u64::from(units.wrapping_sub(MESSAGE));
    // Who loses a race for it goes without.
    bucket.compare_exchange(0, seen, left) == seen
}
