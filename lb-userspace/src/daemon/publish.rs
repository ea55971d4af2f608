//! Servers as packets see them: one word each, stored at once, outside the
//! halves.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    ops::RangeInclusive,
    sync::atomic::Ordering,
};

use lb_common::layout::{
    DestEntry, DestFlags, DestWord, LocalAddress, LocalPool, StatsPage, Thresholds, TunnelKind,
};

use super::{
    locals::Locals,
    next_hops::NextHops,
    overload,
    sched_tables::SchedTables,
    state::{Node, Service, State},
    tables::Tables,
};
use crate::{
    address::words,
    model::{Dest, Family, LocalRange, Method, ServiceId},
    netlink::{PacketFamily, Resolution, View, next_hop},
};

/// What decides about servers' words besides the configuration.
pub struct World<'a> {
    /// The network.
    pub view: &'a View,
    /// Service addresses are ours wherever they are (`--vip-scope any`).
    pub any_vip: bool,
    /// Local ports of FULLNAT where none were configured; `None` when the
    /// director's own connections use all.
    pub ports: Option<RangeInclusive<u16>>,
}

impl World<'_> {
    /// Whether packets to `vip` may be claimed.
    pub fn claims(&self, vip: IpAddr) -> bool {
        self.any_vip || self.has(vip)
    }

    /// Whether `addr` is an address of this director.
    fn has(&self, addr: IpAddr) -> bool {
        matches!(self.view.targets.get(&addr), Some(Resolution::Local))
            || self
                .view
                .addresses
                .range((addr, 0)..=(addr, u32::MAX))
                .next()
                .is_some()
    }
}

/// Entries that servers share, and that never change while one refers to them.
pub struct Shared {
    /// Next hops.
    pub hops: NextHops,
    /// Local addresses.
    pub locals: Locals,
    /// Tables of schedulers.
    pub sched_tables: SchedTables,
}

impl Shared {
    /// What servers refer to already, as a dead daemon left it.
    pub fn restore(tables: &Tables<'_>) -> Self {
        Self {
            hops: NextHops::restore(tables),
            locals: Locals::restore(tables),
            sched_tables: SchedTables::restore(tables),
        }
    }

    /// Opens a transaction: no packet uses what was withdrawn before.
    pub fn begin(&mut self) {
        self.hops.begin();
        self.locals.begin();
        self.sched_tables.begin();
    }
}

/// Servers that cannot be reached, with the reason.
pub type Unresolved = BTreeMap<IpAddr, String>;

/// How a warning about foreign local addresses begins.
pub const FOREIGN: &str = "no address of this director, so replies to it do not come back: ";

/// Most addresses that a warning names.
const NAMED: usize = 8;

/// What publishing found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Servers that cannot be reached.
    pub unresolved: Unresolved,
    /// Local addresses that do not work, a line each.
    pub warnings: Vec<String>,
}

/// Publishes new servers, and every configured server's word: before the
/// switch, so that no packet finds a server it cannot use. Returns what is
/// wrong.
pub fn publish(
    tables: &Tables<'_>,
    state: &State,
    shared: &mut Shared,
    world: &World<'_>,
) -> Found {
    let mut unresolved = Unresolved::new();
    let mut pools = Pools::new(tables, state, world);
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
                &mut shared.hops,
                world,
                &node.dest,
                DestWord(known),
                &mut unresolved,
            );
            let mut flags = way.flags() | claimed | DestFlags::AVAILABLE;
            if node.dest.spec.weight == 0 {
                flags |= DestFlags::QUIESCED;
            }
            let word = DestWord::new(way.next_hop(), flags);
            start_page(tables, node);
            let old = tables.dests.get(node.slot);
            let local = match node.dest.spec.method {
                Method::Fullnat => pools.of(&mut shared.locals, id, &node.dest),
                _ => None,
            };
            // Packets that still choose the server by FULLNAT need what it had.
            let known = if node.fresh { 0 } else { old.local };
            let local = local.map_or(known, |pool| pool.0);
            let new = DestEntry {
                local,
                ..entry(id, service, node, word, &old)
            };
            overload::store(tables, node, old, new);
        }
    }
    let mut warnings = pools.warnings;
    warnings.extend(foreign_addresses(state, world));
    Found {
        unresolved,
        warnings,
    }
}

/// Whether a server, configured or removed, is this director, or was when its
/// word was published last: what the director's own stack sends may be its
/// replies.
pub fn any_local(tables: &Tables<'_>, state: &State, world: &World<'_>) -> bool {
    let is_local = |addr: &IpAddr, slot: u32| match world.view.targets.get(addr) {
        Some(resolution) => matches!(resolution, Resolution::Local),
        None => DestWord(tables.dests.get(slot).word).has(DestFlags::LOCAL),
    };
    let nodes = state.services().flat_map(|(_, service)| &service.dests);
    nodes
        .filter(|node| !node.fresh || world.view.targets.contains_key(&node.dest.id.addr))
        .any(|node| is_local(&node.dest.id.addr, node.slot))
        || state
            .trash()
            .any(|trashed| is_local(&trashed.dest.id.addr, trashed.slot))
}

/// Publishes the words of removed servers, which are no longer available:
/// after the switch, when no new connection can be given to them. Then
/// withdraws next hops and local addresses that nobody uses.
pub fn withdraw(tables: &Tables<'_>, state: &State, shared: &mut Shared, world: &World<'_>) {
    let Shared {
        hops,
        locals,
        sched_tables,
    } = shared;
    sched_tables.retain(state);
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
        if new != known.overloaded(false) {
            overload::store_word(word, new);
        }
    }
    let nodes = state
        .services()
        .flat_map(|(_, service)| &service.dests)
        .map(|node| node.slot);
    let slots = nodes.chain(state.trash().map(|trashed| trashed.slot));
    let (mut used_hops, mut used_locals) = (BTreeSet::new(), BTreeSet::new());
    for slot in slots {
        let dest = tables.dests.get(slot);
        let word = DestWord(dest.word);
        if word.has(DestFlags::RESOLVED) {
            used_hops.insert(word.next_hop());
        }
        used_locals.insert(dest.local);
    }
    hops.retain(&used_hops);
    locals.retain(|pool| used_locals.contains(&pool.0));
}

/// Pools as runs of entries, each looked up once in a transaction.
struct Pools<'a> {
    tables: &'a Tables<'a>,
    state: &'a State,
    world: &'a World<'a>,
    made: HashMap<(Option<ServiceId>, Family), Option<LocalPool>>,
    warnings: Vec<String>,
}

impl<'a> Pools<'a> {
    fn new(tables: &'a Tables<'a>, state: &'a State, world: &'a World<'a>) -> Self {
        Self {
            tables,
            state,
            world,
            made: HashMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Where connections to a server come from: its service's pool or, if there
    /// is none, the address that the kernel would use towards it. `None` while
    /// that is not known, or cannot be had.
    fn of(&mut self, locals: &mut Locals, id: &ServiceId, dest: &Dest) -> Option<LocalPool> {
        let Some(owner) = self.state.pool_of(id) else {
            let Some(Resolution::Via {
                source: Some(source),
                ..
            }) = self.world.view.targets.get(&dest.id.addr)
            else {
                return None;
            };
            let mut addresses = Vec::new();
            self.add(&mut addresses, *source, None);
            return self.run(locals, &addresses);
        };
        let family = id.family();
        if let Some(pool) = self.made.get(&(owner, family)) {
            return *pool;
        }
        let mut addresses = Vec::new();
        for range in self.state.pool_ranges(owner, family) {
            for addr in range.addresses() {
                self.add(&mut addresses, addr, range.ports);
            }
        }
        let pool = self.run(locals, &addresses);
        self.made.insert((owner, family), pool);
        pool
    }

    fn add(&mut self, to: &mut Vec<LocalAddress>, addr: IpAddr, ports: Option<(u16, u16)>) {
        let free = self.world.ports.as_ref();
        let Some((first, last)) = ports.or(free.map(|free| (*free.start(), *free.end()))) else {
            self.warn(
                "net.ipv4.ip_local_port_range leaves no port to FULLNAT: \
                 'lvx laddr add ADDRESS --ports FIRST-LAST' gives it some, \
                 of an address that the director's own connections do not use",
            );
            return;
        };
        to.push(LocalAddress {
            addr: words(addr).0,
            first_port: first,
            last_port: last,
            ..LocalAddress::default()
        });
    }

    fn run(&mut self, locals: &mut Locals, addresses: &[LocalAddress]) -> Option<LocalPool> {
        if addresses.is_empty() {
            return None;
        }
        let run = locals.run(self.tables, addresses);
        if run.is_none() {
            self.warn(&format!(
                "the table of local addresses is full ({}): a change of a pool was not carried out; \
                 'lvx laddr del' makes room",
                self.tables.locals.len()
            ));
        }
        run
    }

    fn warn(&mut self, text: &str) {
        if !self.warnings.iter().any(|known| known == text) {
            self.warnings.push(text.to_owned());
        }
    }
}

/// A line for each pool with addresses that are not this director's.
fn foreign_addresses(state: &State, world: &World<'_>) -> Vec<String> {
    let line = |(owner, ranges): (Option<ServiceId>, &[LocalRange])| {
        let addresses = ranges.iter().flat_map(|range| range.addresses());
        let foreign: Vec<String> = addresses
            .filter(|addr| !world.has(*addr))
            .map(|addr| addr.to_string())
            .collect();
        let named = foreign.iter().take(NAMED).map(String::as_str);
        let mut names = named.collect::<Vec<_>>().join(", ");
        if foreign.len() > NAMED {
            names.push_str(&format!(" and {} more", foreign.len() - NAMED));
        }
        let whose = owner.map_or("the director".into(), |id| id.to_string());
        (!foreign.is_empty()).then(|| {
            format!(
                "{FOREIGN}{names} in the pool of {whose} \
                 ('ip address add' takes it, 'lvx laddr del' does without)"
            )
        })
    };
    state.pools().filter_map(line).collect()
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
        let kept = DestFlags::LOCAL | DestFlags::RESOLVED | DestFlags::UNREACHABLE;
        let flags = known.flags() & kept;
        if flags & (DestFlags::LOCAL | DestFlags::RESOLVED) == 0 {
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
    let flags = match resolution {
        Resolution::Via { failed: false, .. } => 0,
        _ => DestFlags::UNREACHABLE,
    };
    DestWord::new(0, flags)
}

fn entry(
    id: &ServiceId,
    service: &Service,
    node: &Node,
    word: DestWord,
    old: &DestEntry,
) -> DestEntry {
    let (addr, family) = words(node.dest.id.addr);
    let spec = &node.dest.spec;
    let limits = Thresholds::new(spec.u_threshold, spec.l_threshold);
    // A service of any port never maps ports, that of a mark only while it is not
    // persistent.
    let maps = match id {
        ServiceId::Address { port, .. } => *port != 0,
        ServiceId::Mark { .. } => service.spec.persistent.is_none(),
    };
    let port = if maps { node.dest.id.port } else { 0 };
    let (kind, tunnel_port, checksum) = spec.tunnel.layout();
    // A tunnel that was GUE keeps its port: the entry is rewritten word by word,
    // the kind last, while packets read it.
    let tunnel_port = match kind {
        TunnelKind::Gue => tunnel_port.to_be(),
        TunnelKind::Ipip | TunnelKind::Gre => old.tunnel_port,
    };
    DestEntry {
        word: word.0,
        addr,
        port: port.to_be(),
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
        method: spec.method.forward() as u8,
        local: 0,
        path_mtu: if node.fresh { 0 } else { old.path_mtu },
        thresholds: limits.0,
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
