//! From the configuration to the half of the tables that packets do not read.
//!
//! A transaction rewrites the idle half as a whole. A delta would touch less,
//! but a whole half of 10,000 services with 10 servers each is written in
//! milliseconds, and there is nothing to get out of step.

use std::{collections::HashMap, net::IpAddr, sync::atomic::Ordering};

use lb_common::time::seconds;
use lb_common::{
    layout::{
        FILTER_WORDS, ListEntry, NO_OLD_POSITION, Root, RuleHeader, SchedulerKind, ServiceEntry,
        ServiceFlags, filter_bit, reply_bit,
    },
    sched::Compiled,
};

use super::{
    cursor::{self, Cursor, Step, Wrr, carry},
    sched_tables::servers,
    state::{Service, State, service_key},
    tables::Tables,
};
use crate::{
    address::words,
    model::{Family, Method, ServiceId},
};

/// A service whose cursor must follow its list into the new half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carry {
    slot: u32,
    generation: u32,
    steps: Vec<Step>,
}

/// Writes the configuration into the half `side`, which no packet reads.
/// `claimed` tells whether an address belongs to this director, `table` where
/// the table of the service in a slot is
/// ([`SchedTables::first`](super::sched_tables::SchedTables::first)). Returns
/// what [`carry_over`] has to do after the switch.
pub fn compile(
    tables: &Tables<'_>,
    state: &State,
    side: u32,
    claimed: &dyn Fn(IpAddr) -> bool,
    table: &dyn Fn(u32) -> u64,
) -> Vec<Carry> {
    let slots = tables.params.service_slots;
    let mut entries = vec![None; slots as usize];
    let mut filter = vec![0; FILTER_WORDS as usize];
    let mut carries = Vec::new();
    let mut list_start = 0;
    for (id, service) in state.services() {
        let Some(place) = state.place(id) else {
            continue;
        };
        let key = service_key(*id);
        let scheduler =
            SchedulerKind::from_name(&service.spec.scheduler).unwrap_or(SchedulerKind::None);
        // A table was made before, where it became another one.
        let compiled = if scheduler.compiles() && !scheduler.has_table() {
            scheduler.compile(&servers(id, service))
        } else {
            Compiled::default()
        };
        write_list(tables, service, side, list_start, &compiled.hints);
        // Packets with a mark are taken wherever they go.
        let claimed = vip(id).is_none_or(claimed);
        if let Some(vip) = vip(id).filter(|_| claimed) {
            mark(&mut filter, vip, tables.params.filter_seed);
        }
        let (seed_from, seed) = cursor(tables, service);
        if let Some(change) = service.change.as_ref().filter(|change| !change.created) {
            carries.push(Carry {
                slot: service.slot,
                generation: service.generation,
                steps: change.steps.clone(),
            });
        }
        let wrr = if scheduler == SchedulerKind::Wrr || scheduler.has_table() {
            service.wrr()
        } else {
            Wrr { gcd: 1, max: 0 }
        };
        let list_len = service.dests.len() as u32;
        entries[place as usize] = Some(ServiceEntry {
            addr: key.addr,
            port: key.port,
            protocol: key.protocol,
            family: key.family,
            flags: flags(service, claimed),
            scheduler: scheduler as u8,
            reserved0: 0,
            slot: service.slot,
            generation: service.generation,
            list_start,
            list_len,
            max_weight: wrr.max,
            gcd: wrr.gcd,
            seed_from,
            seed,
            sched: [compiled.word, table(service.slot), service.binding.into()],
            persistence: persistence(*id, service),
            reserved: [0; 2],
        });
        list_start += list_len;
    }
    // Packets of removed servers' connections must still be told from strangers'.
    for vip in state.trash().filter_map(|trashed| vip(&trashed.service)) {
        if claimed(vip) {
            mark(&mut filter, vip, tables.params.filter_seed);
        }
    }
    for family in [Family::V4, Family::V6] {
        let marked = state.marked(family);
        for addr in marked.addresses() {
            mark(&mut filter, addr, tables.params.filter_seed);
        }
        if marked.any {
            filter.fill(u64::MAX);
        }
    }
    // Replies of a server that is or was reached by NAT must be found too.
    let nodes = state.services().flat_map(|(_, service)| &service.dests);
    let servers = nodes.filter(|node| node.masq).map(|node| node.dest);
    let trash = state.trash().filter(|trashed| trashed.masq);
    for dest in servers.chain(trash.map(|trashed| trashed.dest)) {
        let bit = reply_bit(folded(dest.id.addr), tables.params.filter_seed);
        set_bit(&mut filter, bit);
    }
    for (place, entry) in entries.into_iter().enumerate() {
        let index = side * slots + place as u32;
        match entry {
            Some(entry) => tables.services.set(index, entry),
            // Word 2 holds the family: 0 is an empty slot.
            None if tables.services.word(index, 2).load(Ordering::Relaxed) != 0 => {
                tables.services.set(index, ServiceEntry::default());
            }
            None => {}
        }
    }
    for (word, value) in filter.into_iter().enumerate() {
        tables
            .filter
            .word(side * FILTER_WORDS + word as u32, 0)
            .store(value, Ordering::Release);
    }
    let rules = state.compiled_rules();
    let half = side * tables.params.rule_words;
    for (at, word) in (half..).zip(&rules.words) {
        tables.rules.word(at, 0).store(*word, Ordering::Release);
    }
    if rules.words.is_empty() {
        for at in half..half + RuleHeader::ALL.min(tables.params.rule_words) {
            tables.rules.word(at, 0).store(0, Ordering::Release);
        }
    }
    carries
}

/// Makes the half `side` the current one: a single store.
pub fn switch(tables: &Tables<'_>, state: &State, side: u32) {
    let family = |family| state.services().any(|(id, _)| id.family() == family);
    let tunnel = |v4| {
        let mut dests = state.services().flat_map(|(_, service)| &service.dests);
        dests.any(|node| {
            node.dest.spec.method == Method::Tunnel && node.dest.id.addr.is_ipv4() == v4
        })
    };
    let (v4, v6) = (family(Family::V4), family(Family::V6));
    let mut root = Root::new(state.epoch, side, v4, v6)
        .with_tunnels(tunnel(true), tunnel(false))
        .with_rules(state.has_rules(Family::V4), state.has_rules(Family::V6));
    if [Family::V4, Family::V6]
        .iter()
        .any(|family| state.marked(*family).any)
    {
        root = root.with_any_destination();
    }
    tables.root.word(0, 0).store(root.0, Ordering::Release);
}

/// Brings the cursors of changed lists up to the current half, from where
/// packets left them. Packets do the same on demand.
pub fn carry_over(tables: &Tables<'_>, carries: &[Carry]) {
    for Carry {
        slot,
        generation,
        steps,
    } in carries
    {
        let word = tables.service_states.word(*slot, 0);
        let mut live = word.load(Ordering::Acquire);
        while Cursor::from_word(live).generation != *generation as u16 {
            let next = carry(Cursor::from_word(live), steps, *generation).word();
            match word.compare_exchange(live, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => live = now,
            }
        }
    }
}

/// After a daemon died between the switch and [`carry_over`]: cursors that no
/// packet has brought up to the current half yet.
pub fn settle_cursors(tables: &Tables<'_>, side: u32) {
    let slots = tables.params.service_slots;
    for place in 0..slots {
        let entry = tables.services.get(side * slots + place);
        if entry.family == 0 || entry.slot >= tables.service_states.len() {
            continue;
        }
        let word = tables.service_states.word(entry.slot, 0);
        let live = word.load(Ordering::Acquire);
        let cursor = Cursor::from_word(live);
        if cursor.generation == entry.generation as u16 {
            continue;
        }
        let next = if live == entry.seed_from || entry.flags & ServiceFlags::REBOUND != 0 {
            entry.seed
        } else {
            follow(tables, &entry, side, cursor).word()
        };
        // A packet that was faster has done the same.
        let _ = word.compare_exchange(live, next, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Flags of a scheduler, which the entry has as they are.
const SCHED_FLAGS: u16 = ServiceFlags::SCHED_1 | ServiceFlags::SCHED_2 | ServiceFlags::SCHED_3;

fn flags(service: &Service, claimed: bool) -> u16 {
    let bound = service
        .change
        .as_ref()
        .is_some_and(|change| cursor::is_bound(&change.steps));
    let mut flags = service.spec.sched_flags as u16 & SCHED_FLAGS;
    if claimed {
        flags |= ServiceFlags::CLAIMED;
    }
    if bound {
        flags |= ServiceFlags::REBOUND;
    }
    if service.spec.toa {
        flags |= ServiceFlags::TOA;
    }
    if service.spec.persistent.is_some() {
        flags |= ServiceFlags::PERSISTENT;
    }
    if service.spec.ops {
        flags |= ServiceFlags::ONE_PACKET;
    }
    // The only engine there is.
    if service.spec.pe.is_some() {
        flags |= ServiceFlags::SIP;
    }
    flags
}

/// Time-out of a service's templates and the mask of its clients' addresses.
fn persistence(id: ServiceId, service: &Service) -> [u64; 3] {
    let Some(timeout) = service.spec.persistent else {
        return [0; 3];
    };
    let [first, second] = client_mask(id.family(), service.spec.netmask);
    [seconds(timeout).into(), first, second]
}

/// A granularity as two words in network byte order: of IPv4 a mask, of IPv6
/// the length of a prefix.
fn client_mask(family: Family, netmask: u32) -> [u64; 2] {
    match family {
        Family::V4 => [netmask.to_be().into(), 0],
        Family::V6 => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(netmask))
                .unwrap_or(0);
            bytemuck::cast(mask.to_be_bytes())
        }
    }
}

/// The cursor in the list of `entry`, by where its server (or the nearest one
/// before it) stands now.
fn follow(tables: &Tables<'_>, entry: &ServiceEntry, side: u32, cursor: Cursor) -> Cursor {
    if entry.scheduler == SchedulerKind::Wrr as u8 {
        let wrr = Wrr {
            gcd: entry.gcd,
            max: entry.max_weight,
        };
        return carry(cursor, &[Step::Reweigh(wrr)], entry.generation);
    }
    let start = side * tables.params.list_entries + entry.list_start;
    let old: HashMap<u32, u32> = (0..entry.list_len)
        .map(|position| (tables.lists.get(start + position).old_position, position))
        .collect();
    let position = (0..cursor.at)
        .rev()
        .find_map(|old_position| old.get(&old_position));
    Cursor {
        at: position.map_or(0, |position| *position + 1),
        generation: entry.generation as u16,
        weight: 0,
    }
}

fn vip(id: &ServiceId) -> Option<IpAddr> {
    match id {
        ServiceId::Address { addr, .. } => Some(*addr),
        ServiceId::Mark { .. } => None,
    }
}

fn mark(filter: &mut [u64], vip: IpAddr, seed: u32) {
    set_bit(filter, filter_bit(folded(vip), seed));
}

fn set_bit(filter: &mut [u64], bit: u32) {
    filter[bit as usize / 64] |= 1 << (bit % 64);
}

fn folded(addr: IpAddr) -> u32 {
    let ([a, b, c, d], _) = words(addr);
    a ^ b ^ c ^ d
}

fn write_list(tables: &Tables<'_>, service: &Service, side: u32, list_start: u32, hints: &[u16]) {
    let old: Option<HashMap<u32, u32>> = service
        .change
        .as_ref()
        .map(|change| change.before.iter().copied().zip(0..).collect());
    let start = side * tables.params.list_entries + list_start;
    for (node, position) in service.dests.iter().zip(0..) {
        let old_position = match &old {
            None => position,
            Some(old) => old.get(&node.slot).copied().unwrap_or(NO_OLD_POSITION),
        };
        let entry = ListEntry {
            slot: node.slot,
            weight: node.dest.spec.weight,
            old_position,
            method: node.dest.spec.method.forward() as u32,
        };
        let hint = hints.get(position as usize).copied().unwrap_or(0);
        tables.lists.set(start + position, entry.with_hint(hint));
    }
}

/// The service's cursor as it is, and as it will be in its new list. Sets that
/// of a new service, whose slot nobody uses yet.
fn cursor(tables: &Tables<'_>, service: &Service) -> (u64, u64) {
    let word = tables.service_states.word(service.slot, 0);
    let live = word.load(Ordering::Acquire);
    match &service.change {
        None => (live, live),
        Some(change) if change.created => {
            let first = carry(Cursor::default(), &change.steps, service.generation).word();
            word.store(first, Ordering::Release);
            (first, first)
        }
        Some(change) => {
            let seed = carry(Cursor::from_word(live), &change.steps, service.generation);
            (live, seed.word())
        }
    }
}

#[cfg(test)]
mod tests;
