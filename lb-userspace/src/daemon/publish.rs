//! Servers as packets see them: one word each, stored at once, outside the
//! halves.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::atomic::Ordering,
};

use lb_common::layout::{DestEntry, DestFlags, DestWord, StatsPage, TunnelKind};

use super::{
    next_hops::NextHops,
    state::{Node, Service, State},
    tables::Tables,
};
use crate::{
    address::words,
    model::{Dest, Method, ServiceId},
    netlink::{PacketFamily, Resolution, View, next_hop},
};

/// What decides about servers' words besides the configuration.
pub struct World<'a> {
    /// The network.
    pub view: &'a View,
    /// Service addresses are ours wherever they are (`--vip-scope any`).
    pub any_vip: bool,
}

impl World<'_> {
    /// Whether packets to `vip` may be claimed.
    pub fn claims(&self, vip: IpAddr) -> bool {
        self.any_vip
            || matches!(self.view.targets.get(&vip), Some(Resolution::Local))
            || self
                .view
                .addresses
                .range((vip, 0)..=(vip, u32::MAX))
                .next()
                .is_some()
    }
}

/// Servers that cannot be reached, with the reason.
pub type Unresolved = BTreeMap<IpAddr, String>;

/// Publishes new servers, and every configured server's word: before the
/// switch, so that no packet finds a server it cannot use. Returns who is
/// unresolved.
pub fn publish(
    tables: &Tables<'_>,
    state: &State,
    hops: &mut NextHops,
    world: &World<'_>,
) -> Unresolved {
    let mut unresolved = Unresolved::new();
    for (id, service) in state.services() {
        start_service_page(tables, service);
        let claimed = claimed(id, world);
        for node in &service.dests {
            let known = if node.fresh {
                0
            } else {
                tables.dests.get(node.slot).word
            };
            let way = way(
                tables,
                hops,
                world,
                &node.dest,
                DestWord(known),
                &mut unresolved,
            );
            let word = DestWord::new(way.next_hop(), way.flags() | claimed | DestFlags::AVAILABLE);
            start_page(tables, node);
            let old = tables.dests.get(node.slot);
            let new = entry(service, node, word, &old);
            if new != old {
                tables.dests.set(node.slot, new);
            }
        }
    }
    unresolved
}

/// Publishes the words of removed servers, which are no longer available:
/// after the switch, when no new connection can be given to them. Then
/// withdraws next hops that nobody uses.
pub fn withdraw(tables: &Tables<'_>, state: &State, hops: &mut NextHops, world: &World<'_>) {
    for trashed in state.trash() {
        let word = tables.dests.word(trashed.slot, 0);
        let known = DestWord(word.load(Ordering::Relaxed));
        let way = way(
            tables,
            hops,
            world,
            &trashed.dest,
            known,
            &mut Unresolved::new(),
        );
        let new = DestWord::new(
            way.next_hop(),
            way.flags() | claimed(&trashed.service, world),
        );
        if new != known {
            word.store(new.0, Ordering::Release);
        }
    }
    let nodes = state
        .services()
        .flat_map(|(_, service)| &service.dests)
        .map(|node| node.slot);
    let slots = nodes.chain(state.trash().iter().map(|trashed| trashed.slot));
    let words = slots.map(|slot| DestWord(tables.dests.word(slot, 0).load(Ordering::Relaxed)));
    hops.retain(
        &words
            .filter(|word| word.has(DestFlags::RESOLVED))
            .map(DestWord::next_hop)
            .collect::<BTreeSet<_>>(),
    );
}

fn claimed(id: &ServiceId, world: &World<'_>) -> u32 {
    match id {
        ServiceId::Address { addr, .. } if !world.claims(*addr) => 0,
        ServiceId::Address { .. } | ServiceId::Mark { .. } => DestFlags::CLAIMED,
    }
}

/// How to reach a server, as a word with that part of the flags. While the
/// network has not been asked about it, what was known stays.
fn way(
    tables: &Tables<'_>,
    hops: &mut NextHops,
    world: &World<'_>,
    dest: &Dest,
    known: DestWord,
    unresolved: &mut Unresolved,
) -> DestWord {
    let addr = dest.id.addr;
    let Some(resolution) = world.view.targets.get(&addr) else {
        let flags = known.flags() & (DestFlags::LOCAL | DestFlags::RESOLVED);
        if flags == 0 {
            unresolved.insert(addr, "not looked up yet".into());
        }
        return DestWord::new(known.next_hop(), flags);
    };
    if matches!(resolution, Resolution::Local) {
        return DestWord::new(0, DestFlags::LOCAL);
    }
    let family = if addr.is_ipv4() {
        PacketFamily::V4
    } else {
        PacketFamily::V6
    };
    let reason = match next_hop(resolution, &world.view.links, family) {
        Ok(Some(hop)) if dest.spec.method == Method::Tunnel && hop.source == [0; 4] => {
            "this director has no address to send its tunnel packets from".into()
        }
        Ok(Some(hop)) => match hops.index(tables, hop) {
            Some(index) => return DestWord::new(index, DestFlags::RESOLVED),
            None => "the table of next hops is full".into(),
        },
        Ok(None) => match resolution {
            Resolution::Via {
                ifindex, neighbour, ..
            } => {
                let link = world
                    .view
                    .links
                    .get(ifindex)
                    .map_or("?", |link| link.name.as_str());
                format!("{neighbour} does not answer on {link}")
            }
            Resolution::Local | Resolution::Unreachable(_) => "no next hop".into(),
        },
        Err(error) => error.to_string(),
    };
    unresolved.insert(addr, reason);
    DestWord::default()
}

fn entry(service: &Service, node: &Node, word: DestWord, old: &DestEntry) -> DestEntry {
    let (addr, family) = words(node.dest.id.addr);
    let (kind, port, checksum) = node.dest.spec.tunnel.layout();
    // A tunnel that was GUE keeps its port: the entry is rewritten word by word,
    // the kind last, while packets read it.
    let tunnel_port = match kind {
        TunnelKind::Gue => port.to_be(),
        TunnelKind::Ipip | TunnelKind::Gre => old.tunnel_port,
    };
    DestEntry {
        word: word.0,
        addr,
        port: node.dest.id.port.to_be(),
        family,
        tunnel_kind: kind as u8,
        service_slot: service.slot,
        generation: if node.fresh {
            old.generation.wrapping_add(1)
        } else {
            old.generation
        },
        tunnel_port,
        tunnel_checksum: checksum as u8,
        reserved0: 0,
        local: 0,
        reserved1: [0; 2],
    }
}

/// Statistics of a server whose slot, or whose service, is new to it.
fn start_page(tables: &Tables<'_>, node: &Node) {
    if let Some(start) = node.start {
        tables.pages.set(
            node.slot,
            StatsPage {
                last: start,
                base: start,
                ..StatsPage::default()
            },
        );
    }
}

fn start_service_page(tables: &Tables<'_>, service: &Service) {
    let index = tables.service_page(service.slot);
    let old = tables.pages.get(index);
    let new = if service.change.as_ref().is_some_and(|change| change.created) {
        StatsPage {
            left: service.left,
            ..StatsPage::default()
        }
    } else {
        StatsPage {
            left: service.left,
            ..old
        }
    };
    if new != old {
        tables.pages.set(index, new);
    }
}

#[cfg(test)]
mod tests;
