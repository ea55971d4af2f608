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
/// verifier checks once; on the host they are called directly. They read and
/// write the facts and answer one of the `STAGE_` numbers.
pub trait Stages<P> {
    /// [`schedule`].
    fn schedule(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`choose`].
    fn choose(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`insert`].
    fn insert(&self, packet: &mut P, facts: &mut Facts) -> u32;
}

/// Go on.
pub const STAGE_DONE: u32 = 0;
/// The packet was counted and is to be dropped.
pub const STAGE_DROP: u32 = 1;
/// The packet was counted and is the stack's.
pub const STAGE_PASS: u32 = 2;
/// Try this stage again.
pub const STAGE_AGAIN: u32 = 3;
/// The configuration was switched: read the root and try this stage again.
pub const STAGE_STALE: u32 = 4;

/// Counts `reason` and answers what the walk is to do.
#[inline(always)]
pub fn stage_end<T: Tables>(tables: T, reason: Reason) -> u32 {
    tables.count(reason);
    match reason.class() {
        Class::Dropped => STAGE_DROP,
        Class::Passed | Class::Forwarded => STAGE_PASS,
    }
}

/// Decides about one packet and rewrites it. Every call counts one reason. What
/// `facts` held before does not matter.
#[inline(always)]
pub fn process<P: Packet, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
) -> Verdict {
    match walk(packet, tables, stages, facts) {
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
    facts: &mut Facts,
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
    facts.root = root.0;
    facts.ingress = packet.ingress().into();
    let protocol = parse::transport(packet, &ip, facts)?;
    facts.now = tables.now().into();
    steer::<V4, P, T, S>(packet, tables, stages, facts, protocol)
}

/// Whether `address` may be a service's: the filter has no false negatives.
#[inline(always)]
fn may_be_vip<T: Tables>(tables: T, root: Root, address: u32) -> bool {
    let bit = filter_bit(address, tables.param(Param::FilterSeed) as u32);
    let word = root
        .side()
        .wrapping_mul(FILTER_WORDS)
        .wrapping_add(bit / 64);
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
            if answer != STAGE_DONE {
                return Ok(if answer == STAGE_PASS {
                    Verdict::Pass
                } else {
                    Verdict::Drop
                });
            }
        }
    }
    send::<F, P, T>(packet, tables, facts)
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
        Stats {
            in_packets: 1,
            in_bytes: facts.l3_len,
            ..Stats::default()
        },
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
    found.cell.touch(
        found.times,
        Times::new(facts.tick(), settings.timeout(protocol, state)),
    );
    Ok(())
}

/// To the server of `facts.dest`.
#[inline(always)]
fn send<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
) -> Result<Verdict, Reason> {
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
        ForwardMethod::Route => forward::route::<F, P, _>(packet, facts, next_hop)?,
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

/// Stage: a packet without a connection. Has a server chosen and the connection
/// made; then `facts.dest` and `facts.method` tell where the packet goes.
#[inline(always)]
pub fn schedule<P, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
) -> u32 {
    let mut tries = 0;
    while tries < sched::CURSOR_TRIES {
        match stages.choose(packet, facts) {
            STAGE_DONE => return stages.insert(packet, facts),
            STAGE_AGAIN => {}
            STAGE_STALE => facts.root = tables.root().0,
            end => return end,
        }
        tries += 1;
    }
    stage_end(tables, Reason::DroppedCursor)
}

/// FTP's data port, which never starts a connection.
const FTP_DATA: u16 = 20_u16.to_be();

/// Stage: finds the service of a packet that may start a connection, and tries
/// once to have a server chosen.
#[inline(always)]
pub fn choose<T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    let picked = may_start(facts).and_then(|()| {
        let side = facts.root().side();
        let service = find_service(tables, side, facts).ok_or(Reason::PassedNoService)?;
        if service.flags().0 & ServiceFlags::CLAIMED == 0 {
            return Err(Reason::PassedNotClaimed);
        }
        if facts.src_port() == FTP_DATA {
            return Err(Reason::PassedNoConnection);
        }
        Ok(sched::try_pick(tables, side, service))
    });
    match picked {
        Ok(Picked::Dest { slot, method }) => {
            facts.dest = slot.into();
            facts.method = method as u64;
            STAGE_DONE
        }
        Ok(Picked::None) => stage_end(tables, Reason::DroppedNoServer),
        Ok(Picked::Contended) => STAGE_AGAIN,
        Ok(Picked::Stale) => STAGE_STALE,
        Err(reason) => stage_end(tables, reason),
    }
}

#[inline(always)]
fn may_start(facts: &Facts) -> Result<(), Reason> {
    let protocol = Protocol::from_number(facts.protocol()).ok_or(Reason::PassedProtocol)?;
    if protocol.may_start(facts) {
        Ok(())
    } else {
        Err(Reason::PassedNoConnection)
    }
}

/// Stage: makes the connection to the server of `facts.dest`, or joins the one
/// that another CPU made meanwhile.
#[inline(always)]
pub fn insert<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    match enter::<F, T>(tables, facts) {
        Ok(()) => STAGE_DONE,
        Err(reason) => stage_end(tables, reason),
    }
}

#[inline(always)]
fn enter<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> Result<(), Reason> {
    const LOST: Reason = Reason::DroppedInternal;
    let protocol = Protocol::from_number(facts.protocol()).ok_or(LOST)?;
    let state = protocol.next_input_only(0, facts);
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    let flow = NewFlow {
        slot: facts.slot(),
        method: ForwardMethod::from_bits(facts.method as u8),
        state,
        counted: protocol.counted(state),
        timeout: settings.timeout(protocol, state),
    };
    match flow::insert::<F, T>(tables, &F::key(facts), facts.tick(), &flow) {
        Inserted::New => {
            let bytes = facts.l3_len;
            tables.count_dest(
                facts.slot(),
                Stats {
                    conns: 1,
                    in_packets: 1,
                    in_bytes: bytes,
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
