use super::{
    STAGE_ANEW, STAGE_BIND, STAGE_DONE, STAGE_TUNNEL, Stages, Stop, Verdict, connection,
    pair::{LOCAL_PORT_TRIES, make_reverse},
    schedule::schedule,
    send, stage_done,
};
use crate::{
    conn::{Protocol, Tracking},
    facts::{Facts, NO_REVERSE},
    family::{Family, V4, V6},
    flow::{self, HomeWord},
    forward::Part,
    layout::{
        DestFlags, FILTER_WORDS, ForwardMethod, IFACE_WINDOW, IfaceKey, IfaceView, Root,
        filter_bit, reply_bit,
    },
    load,
    packet::Packet,
    parse::{self, Ethernet, Header, TunnelError},
    reason::Reason,
    tables::{Cell, Param, Table, Tables},
    wire::{IPPROTO_TCP, IPPROTO_UDP},
};

#[inline(always)]
pub(super) fn walk<P: Packet, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
) -> Result<Verdict, Stop> {
    let ethernet = parse::ethernet(packet).ok_or(Reason::PassedNotIp)?;
    if ethernet.ethertype == V4::ETHERTYPE {
        walk_family::<V4, P, T, S>(packet, tables, stages, facts, ethernet)
    } else if ethernet.ethertype == V6::ETHERTYPE {
        walk_family::<V6, P, T, S>(packet, tables, stages, facts, ethernet)
    } else {
        Err(Reason::PassedNotIp.into())
    }
}

#[inline(always)]
fn walk_family<F: Family, P: Packet, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
    ethernet: Ethernet,
) -> Result<Verdict, Stop> {
    let root = tables.root();
    let ip = F::Header::read(packet, ethernet.l3)?;
    // Errors about tunnels may be of a family without services.
    if !root.has_services(F::VERSION) && (ip.protocol() != F::ICMP || !root.has_tunnels(F::VERSION))
    {
        return Err(Reason::PassedNoVip.into());
    }
    let seed = tables.param(Param::FilterSeed) as u32;
    let to_vip = is_marked(tables, root, filter_bit(ip.destination(), seed));
    // An ICMP error about a packet to a NAT server may come from any router.
    if !to_vip
        && !is_marked(tables, root, reply_bit(ip.source(), seed))
        && !is_marked(tables, root, filter_bit(ip.source(), seed))
        && ip.protocol() != F::ICMP
    {
        return Err(Reason::PassedNoVip.into());
    }
    if !is_ours(tables, ethernet.iface, ethernet.destination) {
        return Err(Reason::PassedNotOurs.into());
    }
    facts.root = root.0;
    facts.ingress = packet.ingress().into();
    let mut next = ip.check(packet, facts)?;
    if F::VERSION == 6 && next != IPPROTO_TCP && next != IPPROTO_UDP && next != F::ICMP {
        facts.ports = next.into();
        let answer = stages.extensions(packet, facts);
        stage_done(facts, answer)?;
        next = facts.ports as u8;
    }
    facts.now = tables.now().into();
    facts.reverse = NO_REVERSE;
    if next == F::ICMP {
        let mut answer = stages.icmp::<F>(packet, facts);
        if answer == STAGE_TUNNEL {
            answer = if TunnelError(facts.error).family() == V4::VERSION {
                stages.tunnel_error::<V4>(packet, facts)
            } else {
                stages.tunnel_error::<V6>(packet, facts)
            };
        }
        stage_done(facts, answer)?;
        let answer = stages.relay::<F>(packet, facts);
        stage_done(facts, answer)?;
        if facts.forward_method() == ForwardMethod::Tunnel {
            let answer = stages.tunnel::<F>(packet, facts);
            stage_done(facts, answer)?;
        }
        return Ok(send::leave(tables, facts, facts.egress as u32));
    }
    let protocol = Protocol::from_number(next).ok_or(Reason::PassedProtocol)?;
    if facts.part == Part::Whole as u64 && protocol != Protocol::Sctp {
        parse::transport(packet, protocol, facts)?;
    } else {
        facts.ports = next.into();
        let answer = stages.transport(packet, facts);
        stage_done(facts, answer)?;
    }
    steer::<F, P, T, S>(packet, tables, stages, facts, Tracking::of(next), to_vip)
}

/// Whether a bit of the filter is set: no false negatives.
#[inline(always)]
pub(super) fn is_marked<T: Tables>(tables: T, root: Root, bit: u32) -> bool {
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
    match find_iface_slot(tables, iface) {
        Some((_, entry)) => entry.owns(mac),
        None => false,
    }
}

/// The entry of an interface, and its slot.
#[inline(always)]
pub(super) fn find_iface_slot<T: Tables>(
    tables: T,
    iface: IfaceKey,
) -> Option<(u32, IfaceView<T::Cell>)> {
    let slots = tables.param(Param::IfaceSlots) as u32;
    let home = iface.home(slots);
    let mut i = 0;
    while i < IFACE_WINDOW {
        let index = home.wrapping_add(i) & slots.wrapping_sub(1);
        if let Some(cell) = tables.cell(Table::Iface, index) {
            let entry = IfaceView(cell);
            if entry.key() == iface.word() {
                return Some((index, entry));
            }
        }
        i += 1;
    }
    None
}

/// A packet of a connection, in either direction, or the first of one.
#[inline(always)]
fn steer<F: Family, P: Packet, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
    tracking: Tracking,
    to_vip: bool,
) -> Result<Verdict, Stop> {
    let key = F::key(facts);
    // No flag in a register: the verifier would walk all that follows twice.
    facts.owed[0] = 0;
    let dest = 'dest: {
        match flow::find_or_home::<F, T>(tables, &key) {
            Ok(found) => {
                if found.state.is_reverse() {
                    if let Some(conn) = connection::of_reply::<F, T>(tables, &found, facts) {
                        connection::follow_reply::<F, T>(tables, &conn, facts, tracking)?;
                        let answer = stages.to_client::<F>(packet, facts);
                        stage_done(facts, answer)?;
                        return Ok(send::leave(tables, facts, facts.egress as u32));
                    }
                } else if to_vip && !found.times.is_dead(facts.tick()) {
                    facts.cell = found.index.into();
                    facts.dest = found.slot().into();
                    let dest = connection::dest_word(tables, facts)?;
                    let mut answer = STAGE_DONE;
                    if tracking.opens(facts) || !dest.has(DestFlags::AVAILABLE) {
                        answer = stages.reconsider::<F>(packet, facts);
                    }
                    if answer != STAGE_ANEW {
                        stage_done(facts, answer)?;
                        connection::follow::<F, T>(tables, &found, facts, tracking, dest)?;
                        if connection::is_time_to_learn(&found, facts) {
                            let mut answer = stages.learn::<F>(packet, facts);
                            if answer == STAGE_BIND {
                                facts.tries = u64::from(LOCAL_PORT_TRIES);
                                answer = make_reverse::<F, P, S>(packet, stages, facts);
                            }
                            stage_done(facts, answer)?;
                        }
                        break 'dest dest;
                    }
                }
                facts.home = HomeWord::NONE.0;
            }
            Err(home) => facts.home = home.0,
        }
        facts.reason = Reason::PassedNoVip as u64;
        if to_vip {
            // In both arms: a result that is kept over the call reaches the verifier as
            // a register that was never written.
            match schedule::<F, P, T, S>(packet, tables, stages, facts) {
                Ok(()) => {
                    forget_old(tables, facts);
                    break 'dest connection::dest_word(tables, facts)?;
                }
                Err(stop) => {
                    forget_old(tables, facts);
                    // The filter knows addresses only roughly, and may let all through.
                    if stop != Reason::PassedNoService.into() {
                        return Err(stop);
                    }
                }
            }
        }
        return connection::pass_reply::<F, T>(tables, &key, facts, tracking);
    };
    send::send::<F, P, T, S>(packet, tables, stages, facts, dest)
}

/// Takes a connection that was given up for a new one off its server's counts.
#[inline(always)]
fn forget_old<T: Tables>(tables: T, facts: &Facts) {
    let [load, slot] = facts.owed;
    load::unbind(tables, slot as u32, load);
}
