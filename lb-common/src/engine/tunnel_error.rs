//! Errors about tunnel packets of our own: a router between director and server
//! tells the director what the client should know.

use super::{LOST, STAGE_END, Stop};
use crate::{
    facts::{Facts, NO_REVERSE},
    family::Family,
    flow,
    forward::{Part, client_way, icmp::too_big, must_not_fragment},
    layout::{DestFlags, DestView, ForwardMethod, IfaceView, NextHopView, PathMtu, TunnelKind},
    packet::Packet,
    parse::{self, TunnelError},
    reason::Reason,
    tables::{Cell, Table, Tables},
    wire::IPV6_LEN,
};

/// The least path MTU that is believed: the kernel's `route.min_pmtu`, and what
/// IPv6 promises. An error that says less would be the means to stop a service.
const LEAST: [u32; 2] = [552, 1280];

/// Stage: an ICMP error about a tunnel packet, as [`parse::carried`] left it, whose
/// packet within is of family `F`. Remembers the path MTU. If the error is about a
/// connection it is consumed, for [`Reason::DroppedTunnelError`], and the facts are
/// those of the packet within, so that its client is told; else it is the stack's.
#[inline(always)]
pub fn tunnel_error<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: T,
    facts: &mut Facts,
) -> u32 {
    let Stop(number) = match take::<F, P, T>(packet, tables, facts) {
        Ok(()) => Reason::DroppedTunnelError.into(),
        Err(stop) => stop,
    };
    facts.reason = number.into();
    STAGE_END
}

#[inline(always)]
fn take<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: T,
    facts: &mut Facts,
) -> Result<(), Stop> {
    const FOREIGN: Reason = Reason::PassedNoConnection;
    let l3 = facts.l4 as u32;
    let end = (facts.l3 as u32).wrapping_add(facts.l3_len as u32);
    let inner = parse::packet_at::<F, P>(packet, l3, end).ok_or(FOREIGN)?;
    // Only what quotes a packet of a connection, in a tunnel to its server, is
    // believed.
    let key = F::key_of(inner.src, inner.dst, inner.ports);
    let found = flow::find_rare::<F, T>(tables, &key).ok_or(FOREIGN)?;
    let method = ForwardMethod::from_bits(found.method());
    if found.state.is_reverse()
        || found.times.is_dead(facts.tick())
        || method != ForwardMethod::Tunnel
    {
        return Err(FOREIGN.into());
    }
    let dest = DestView(tables.cell(Table::Dest, found.slot()).ok_or(LOST)?);
    let error = TunnelError(facts.error);
    const USED: u32 = DestFlags::AVAILABLE | DestFlags::CLAIMED | DestFlags::RESOLVED;
    if !dest.word().has(USED)
        || u64::from(dest.family()) != facts.family
        || [dest.addr(0), dest.addr(1)] != facts.dst
        || dest.tunnel_kind() != error.tunnel()
        || (error.tunnel() == TunnelKind::Gue as u8 && dest.tunnel_port() != error.port())
    {
        return Err(FOREIGN.into());
    }
    let mut said = translated::<F>(facts.family as u8, error.kind(), error.code());
    if said == too_big::<F>() {
        let hop = tables.cell(Table::NextHop, dest.word().next_hop());
        let hop = NextHopView(hop.ok_or(LOST)?);
        let whole = must_not_fragment::<F, P>(packet, l3).ok_or(LOST)?;
        if facts.family == 4 && (F::VERSION == 6 || !whole) {
            // Its outer header lets routers fragment: none says this about it.
            said = 0;
        } else {
            facts.mtu = remember(facts, dest, hop.mtu())
                .wrapping_sub(error.around())
                .into();
        }
        if !whole {
            said = 0;
        }
    }
    let length = packet_len::<F, P>(packet, l3).ok_or(LOST)?;
    let there = end.wrapping_sub(l3);
    facts.error = said.into();
    facts.src = inner.src;
    facts.dst = inner.dst;
    facts.ports = inner.ports;
    facts.l3 = l3.into();
    facts.l3_len = if length < there { length } else { there }.into();
    facts.family = F::VERSION.into();
    facts.part = Part::Whole as u64;
    facts.dest = found.slot().into();
    facts.cell = found.index.into();
    facts.method = method as u64;
    facts.reverse = NO_REVERSE;
    facts.way = way_to_client::<F, T>(tables, found.cell.client_way::<F>());
    Ok(())
}

/// Remembers the MTU that an error tells, if it is news; answers the one that
/// holds now.
#[inline(always)]
fn remember<C: Cell>(facts: &Facts, dest: DestView<C>, first: u32) -> u32 {
    let least = LEAST[usize::from(facts.family != 4)];
    let told = if facts.mtu < least.into() {
        least
    } else {
        facts.mtu as u32
    };
    let old = dest.path_mtu();
    let known = match old.at(facts.tick()) {
        Some(path) if path < first => path,
        _ => first,
    };
    if told > known || told >= first {
        // A message never raises it, nor says more than is known.
        return known;
    }
    // The loser of a race was told by another router, or the same.
    dest.set_path_mtu(old, PathMtu::new(told, facts.tick()));
    told
}

/// Length of the packet at `l3` by its own header.
#[inline(always)]
fn packet_len<F: Family, P: Packet>(packet: &P, l3: u32) -> Option<u32> {
    if F::VERSION == 4 {
        let length = packet.read::<u16>(l3.wrapping_add(2))?;
        return Some(u16::from_be(length).into());
    }
    let payload = packet.read::<u16>(l3.wrapping_add(4))?;
    Some(u32::from(u16::from_be(payload)).wrapping_add(IPV6_LEN))
}

/// Type and code (above it) that tell the sender of a packet of family `F` what an
/// error of family `outer` says: the same or, from one family to the other, the
/// closest (RFC 7915); 0 when there is none.
#[inline(always)]
const fn translated<F: Family>(outer: u8, kind: u8, code: u8) -> u16 {
    let (kind, code) = if outer == F::VERSION {
        (kind, code)
    } else if outer == 4 {
        match (kind, code) {
            (3, 4) => (2, 0),
            (3, 3) => (1, 4),
            (3, _) => (1, 3),
            // Source quench: IPv6 has none.
            (4, _) => (0, 0),
            _ => (3, code),
        }
    } else {
        match (kind, code) {
            (2, _) => (3, 4),
            (1, 4) => (3, 3),
            (1, _) => (3, 1),
            _ => (11, code),
        }
    };
    kind as u16 | (code as u16) << 8
}

/// The way to the client that its connection keeps, in words; zeros when it is
/// not known.
#[inline(always)]
fn way_to_client<F: Family, T: Tables>(tables: T, kept: u64) -> [u64; 3] {
    let Some(cell) = tables.cell(Table::Iface, client_way::slot(kept)) else {
        return [0; 3];
    };
    client_way::unpack::<F, _>(kept, IfaceView(cell)).words()
}
