//! The walk of a packet.

use crate::{
    conn::{Protocol, tcp},
    facts::Facts,
    family::{Family, V4},
    flow::{self, Found, Inserted, NewFlow, Times},
    forward,
    layout::{
        DestFlags, DestView, FILTER_WORDS, ForwardMethod, IFACE_WINDOW, IfaceKey, IfaceView,
        NextHopView, Root, SERVICE_WINDOW, ServiceFlags, ServiceKey, ServiceView, SettingsView,
        Stats, filter_bit,
    },
    packet::Packet,
    parse,
    reason::{Class, Reason},
    sched::{self, Picked},
    tables::{Cell, Param, Table, Tables},
    wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6},
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Up to the stack, untouched.
    Pass,
    /// Gone.
    Drop,
    /// Out of the interface it came in by.
    Transmit,
    /// Out of this interface.
    Redirect(u32),
}

/// Cold parts of the walk. In the kernel each is a global function, which the
/// verifier checks once; on the host they are called directly.
pub trait Stages<P> {
    /// [`schedule`]: answers 0 when `facts.dest` and `facts.method` tell where
    /// the packet goes, else [`stage_end`] of the reason.
    fn schedule(&self, packet: &mut P, facts: &mut Facts) -> u32;
}

/// What a stage answers when the walk ends with `reason`.
#[inline(always)]
pub const fn stage_end(reason: Reason) -> u32 {
    match reason.class() {
        Class::Dropped => 1,
        Class::Passed | Class::Forwarded => 2,
    }
}

/// Decides about one packet and rewrites it. Every call counts one reason.
#[inline(always)]
pub fn process<P: Packet, T: Tables, S: Stages<P>>(packet: &mut P, tables: T, stages: &S) -> Verdict {
    match walk(packet, tables, stages) {
        Ok(verdict) => verdict,
        Err(reason) => {
            tables.count(reason);
            match reason.class() {
                Class::Dropped => Verdict::Drop,
                Class::Passed | Class::Forwarded => Verdict::Pass,
            }
        }
    }
}

#[inline(always)]
fn walk<P: Packet, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
) -> Result<Verdict, Reason> {
    let ethernet = parse::ethernet(packet).ok_or(Reason::PassedNotIp)?;
    if ethernet.ethertype == ETHERTYPE_IPV6 {
        return Err(Reason::PassedIpv6);
    }
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return Err(Reason::PassedNotIp);
    }
    let root = tables.root();
    let ip = parse::ipv4(packet, ethernet.l3)?;
    if !root.has_services(V4::VERSION) || !may_be_vip(tables, root, ip.destination()) {
        return Err(Reason::PassedNoVip);
    }
    if !is_ours(tables, ethernet.iface, ethernet.destination) {
        return Err(Reason::PassedNotOurs);
    }
    let mut facts = Facts { root: root.0, ingress: packet.ingress().into(), ..Facts::default() };
    let protocol = parse::transport(packet, &ip, &mut facts)?;
    facts.now = tables.now().into();
    steer::<V4, P, T, S>(packet, tables, stages, &mut facts, protocol)
}

/// Whether `address` may be a service's: the filter has no false negatives.
#[inline(always)]
fn may_be_vip<T: Tables>(tables: T, root: Root, address: u32) -> bool {
    let bit = filter_bit(address, tables.param(Param::FilterSeed) as u32);
    let word = root.side().wrapping_mul(FILTER_WORDS).wrapping_add(bit / 64);
    match tables.cell(Table::Filter, word) {
        Some(cell) => cell.load(0) >> (bit % 64) & 1 != 0,
        None => false,
    }
}

/// Whether a frame to `mac` that came in by `iface` is ours to take: the stack
/// only looks at such frames too.
#[inline(always)]
fn is_ours<T: Tables>(tables: T, iface: IfaceKey, mac: u64) -> bool {
    let slots = tables.param(Param::IfaceSlots) as u32;
    let home = iface.home(slots);
    let mut i = 0;
    while i < IFACE_WINDOW {
        let index = home.wrapping_add(i) & slots.wrapping_sub(1);
        if let Some(cell) = tables.cell(Table::Iface, index) {
            let entry = IfaceView(cell);
            if entry.key() == iface.word() {
                return entry.owns(mac);
            }
        }
        i += 1;
    }
    false
}

/// A packet of a connection, or the first of one, to its server.
#[inline(always)]
fn steer<F: Family, P: Packet, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
    protocol: Protocol,
) -> Result<Verdict, Reason> {
    let key = F::key(facts);
    let known = match flow::find::<F, T>(tables, &key) {
        Some(found) if !found.times.is_dead(facts.tick()) => Some(found),
        _ => None,
    };
    let known = match known {
        Some(found) if starts_anew(protocol, &found, facts) => {
            flow::release::<F, T>(tables, found.cell, found.index, found.state);
            None
        }
        known => known,
    };
    match known {
        Some(found) => {
            facts.dest = found.slot().into();
            facts.method = found.method().into();
            follow(tables, &found, facts, protocol)?;
        }
        None => {
            let answer = stages.schedule(packet, facts);
            if answer != 0 {
                // Counted by the stage.
                return Ok(if answer == 1 { Verdict::Drop } else { Verdict::Pass });
            }
        }
    }
    send(packet, tables, facts)
}

/// Whether a SYN re-uses the port of a connection that is over
/// (`conn_reuse_mode` 1).
#[inline(always)]
fn starts_anew<C>(protocol: Protocol, found: &Found<C>, facts: &Facts) -> bool {
    protocol == Protocol::Tcp
        && facts.flags() & crate::wire::TCP_SYN != 0
        && tcp::is_reusable(found.state.protocol_state())
}

/// A packet of a known connection: counters, state, time-out.
#[inline(always)]
fn follow<T: Tables>(
    tables: T,
    found: &Found<T::Cell>,
    facts: &Facts,
    protocol: Protocol,
) -> Result<(), Reason> {
    const LOST: Reason = Reason::DroppedInternal;
    let dest = DestView(tables.cell(Table::Dest, facts.slot()).ok_or(LOST)?).word();
    if !dest.has(DestFlags::CLAIMED) {
        return Err(Reason::PassedNotClaimed);
    }
    if !dest.has(DestFlags::AVAILABLE) {
        return Err(Reason::DroppedNoDest);
    }
    tables.count_dest(
        facts.slot(),
        Stats { in_packets: 1, in_bytes: facts.l3_len, ..Stats::default() },
    );
    let was = found.state.protocol_state();
    let state = protocol.next_input_only(was, facts);
    if state != was {
        // The loser of a race has lost to another packet of this connection:
        // either order of the two is right.
        let _ = flow::transition(
            tables,
            found.cell,
            found.state,
            facts.slot(),
            state,
            protocol.counted(state),
        );
    }
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    found.cell.touch(found.times, Times::new(facts.tick(), settings.timeout(protocol, state)));
    Ok(())
}

/// To the server of `facts.dest`.
#[inline(always)]
fn send<P: Packet, T: Tables>(packet: &mut P, tables: T, facts: &Facts) -> Result<Verdict, Reason> {
    const LOST: Reason = Reason::DroppedInternal;
    let dest = DestView(tables.cell(Table::Dest, facts.slot()).ok_or(LOST)?).word();
    if dest.has(DestFlags::LOCAL) {
        return Err(Reason::PassedLocalServer);
    }
    if !dest.has(DestFlags::RESOLVED) {
        return Err(Reason::DroppedUnresolved);
    }
    let next_hop = NextHopView(tables.cell(Table::NextHop, dest.next_hop()).ok_or(LOST)?);
    let ifindex = next_hop.ifindex();
    match ForwardMethod::from_bits(facts.method as u8) {
        ForwardMethod::Route => forward::route(packet, facts, next_hop)?,
        ForwardMethod::Masq | ForwardMethod::Local | ForwardMethod::Tunnel => return Err(LOST),
    }
    if u64::from(ifindex) == facts.ingress {
        tables.count(Reason::ForwardedTx);
        Ok(Verdict::Transmit)
    } else {
        tables.count(Reason::ForwardedRedirect);
        Ok(Verdict::Redirect(ifindex))
    }
}

/// Stage: a packet without a connection. Finds its service, has a server
/// chosen, and makes the connection.
#[inline(always)]
pub fn schedule<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    match start::<F, T>(tables, facts) {
        Ok(()) => 0,
        Err(reason) => {
            tables.count(reason);
            stage_end(reason)
        }
    }
}

/// FTP's data port, which never starts a connection.
const FTP_DATA: u16 = 20_u16.to_be();

#[inline(always)]
fn start<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> Result<(), Reason> {
    let protocol = Protocol::from_number(facts.protocol()).ok_or(Reason::PassedProtocol)?;
    if !protocol.may_start(facts) {
        return Err(Reason::PassedNoConnection);
    }
    let (slot, method) = match choose(tables, facts) {
        // The configuration was switched under us: once more, in the new one.
        Err(None) => {
            facts.root = tables.root().0;
            choose(tables, facts).map_err(|reason| reason.unwrap_or(Reason::DroppedCursor))?
        }
        Err(Some(reason)) => return Err(reason),
        Ok(chosen) => chosen,
    };
    let state = protocol.next_input_only(0, facts);
    let settings =
        SettingsView(tables.cell(Table::Settings, 0).ok_or(Reason::DroppedInternal)?);
    let flow = NewFlow {
        slot,
        method,
        state,
        counted: protocol.counted(state),
        timeout: settings.timeout(protocol, state),
    };
    match flow::insert::<F, T>(tables, &F::key(facts), facts.tick(), &flow) {
        Inserted::New => {
            facts.dest = slot.into();
            facts.method = method as u64;
            tables.count_dest(
                slot,
                Stats {
                    conns: 1,
                    in_packets: 1,
                    in_bytes: facts.l3_len,
                    ..Stats::default()
                },
            );
            Ok(())
        }
        Inserted::Exists(found) => {
            facts.dest = found.slot().into();
            facts.method = found.method().into();
            follow(tables, &found, facts, protocol)
        }
        Inserted::Full => Err(Reason::DroppedWindowFull),
        Inserted::Contended => Err(Reason::DroppedContended),
    }
}

/// The server for a new connection of this packet. `Err(None)`: the
/// configuration it was read from is no longer the current one.
#[inline(always)]
fn choose<T: Tables>(tables: T, facts: &Facts) -> Result<(u32, ForwardMethod), Option<Reason>> {
    let side = facts.root().side();
    let service = find_service(tables, side, facts).ok_or(Reason::PassedNoService)?;
    if service.flags().0 & ServiceFlags::CLAIMED == 0 {
        return Err(Some(Reason::PassedNotClaimed));
    }
    if facts.src_port() == FTP_DATA {
        return Err(Some(Reason::PassedNoConnection));
    }
    match sched::pick(tables, side, service) {
        Picked::Dest { slot, method } => Ok((slot, method)),
        Picked::None => Err(Some(Reason::DroppedNoServer)),
        Picked::Contended => Err(Some(Reason::DroppedCursor)),
        Picked::Stale => Err(None),
    }
}

#[inline(always)]
fn find_service<T: Tables>(tables: T, side: u32, facts: &Facts) -> Option<ServiceView<T::Cell>> {
    let key = ServiceKey {
        addr: [
            facts.dst[0] as u32,
            (facts.dst[0] >> 32) as u32,
            facts.dst[1] as u32,
            (facts.dst[1] >> 32) as u32,
        ],
        port: facts.dst_port(),
        protocol: facts.protocol(),
        family: facts.family as u8,
    };
    let slots = tables.param(Param::ServiceSlots) as u32;
    let home = key.home(tables.param(Param::ServiceSeed), slots);
    let mut i = 0;
    while i < SERVICE_WINDOW {
        let slot = home.wrapping_add(i) & slots.wrapping_sub(1);
        let index = side.wrapping_mul(slots).wrapping_add(slot);
        if let Some(cell) = tables.cell(Table::Service, index) {
            let service = ServiceView(cell);
            if service.matches(&key) {
                return Some(service);
            }
        }
        i += 1;
    }
    None
}

