//! A packet without a connection.
//!
//! Stages, one after the other: [`choose`] a server (or [`template`](super::template)
//! knows one), [`prepare`] what the new connection's cell will hold, [`insert`]
//! it, [`settle`] what follows from that. Apart because the verifier would
//! follow every kind of connection through the insertion.

use super::{
    LOCAL_PORT_TRIES, LOST, STAGE_AGAIN, STAGE_BIND, STAGE_DONE, STAGE_END, STAGE_INSERT,
    STAGE_LEARN, STAGE_STALE, STAGE_TEMPLATE, Stages, Stop, classify::classified, connection, pair,
    persistence, service::find_service, stage_answer, stage_done,
};
use crate::{
    conn::{Protocol, Seen, Tracking, sctp::Event},
    facts::{Facts, NO_CELL, outcome, told},
    family::Family,
    flow::{self, HomeWord, Inserted, Link, NewFlow, Prepared},
    forward::Part,
    layout::{
        DestFlags, DestLoad, FilterVerdict, ForwardMethod, ServiceFlags, SettingsView, Stats,
    },
    load,
    reason::Reason,
    sched::{self, Picked},
    tables::{Cell, Table, Tables},
    wire::{FTP_DATA, IPPROTO_SCTP, IPPROTO_UDP},
};

/// Has a server chosen, by the client's template or the scheduler, and the
/// connection made; then `facts.dest` and `facts.method` tell where the packet
/// goes. Part of the walk and no stage of its own: on 6.1 every call takes of the
/// 512 bytes of stack.
#[inline(always)]
pub(super) fn schedule<F: Family, P, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
) -> Result<(), Stop> {
    facts.wants_template = 0;
    facts.template = 0;
    classified::<F, P, S>(packet, stages, facts);
    let mut tries = 0;
    let mut chosen = STAGE_AGAIN;
    while tries < sched::CURSOR_TRIES {
        chosen = stages.choose(packet, facts);
        if chosen == STAGE_TEMPLATE {
            if facts.service_flags & u64::from(ServiceFlags::SIP) != 0
                && stages.call_id(packet, facts) != STAGE_DONE
            {
                return Err(Stop(facts.reason as u32));
            }
            chosen = stages.template::<F>(packet, facts);
        }
        if chosen == STAGE_STALE {
            facts.root = tables.root().0;
            classified::<F, P, S>(packet, stages, facts);
        } else if chosen != STAGE_AGAIN && chosen != STAGE_TEMPLATE {
            break;
        }
        tries += 1;
    }
    if tries == sched::CURSOR_TRIES {
        return Err(Reason::DroppedCursor.into());
    }
    stage_done(facts, chosen)?;
    if facts.wants_template != 0 && facts.template == 0 {
        persistence::prepare_template(facts);
        stages.insert::<F>(packet, facts);
        let mut answer = stages.keep::<F>(packet, facts);
        if answer == STAGE_AGAIN {
            answer = stages.template::<F>(packet, facts);
        }
        stage_done(facts, answer)?;
    }
    if stages.prepare(packet, facts) == STAGE_INSERT {
        stages.insert::<F>(packet, facts);
    }
    let mut answer = stages.settle::<F>(packet, facts);
    if answer == STAGE_BIND {
        answer = pair_with::<F, P, S>(packet, stages, facts);
    } else if answer == STAGE_LEARN {
        answer = stages.learn::<F>(packet, facts);
    }
    stage_done(facts, answer)
}

/// Has the connection's reverse cell made; FULLNAT tries another local port as
/// long as one is taken.
#[inline(always)]
fn pair_with<F: Family, P, S: Stages<P>>(packet: &mut P, stages: &S, facts: &mut Facts) -> u32 {
    let answer = stages.learn::<F>(packet, facts);
    if answer != STAGE_BIND {
        return answer;
    }
    // Counted here and not in the facts: the verifier must see the loop end.
    let mut tries = 0;
    while tries < LOCAL_PORT_TRIES {
        facts.tries = tries.into();
        let answer = pair::make_reverse::<F, P, S>(packet, stages, facts);
        if answer != STAGE_AGAIN {
            return answer;
        }
        tries += 1;
    }
    STAGE_END
}

/// Stage: finds the service of a packet that may start a connection, and tries
/// once to have a server chosen. [`STAGE_TEMPLATE`] when the client's template is
/// asked first.
#[inline(always)]
pub fn choose<T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    let result = match pick(tables, facts) {
        Ok(Choice::Template) => return STAGE_TEMPLATE,
        Ok(Choice::Picked(Picked::Dest { slot, method })) => {
            facts.dest = slot.into();
            facts.method = method as u64;
            Ok(())
        }
        Ok(Choice::Picked(Picked::None)) => Err(Reason::DroppedNoServer),
        Ok(Choice::Picked(Picked::Contended)) => return STAGE_AGAIN,
        Ok(Choice::Picked(Picked::Stale)) => return STAGE_STALE,
        Err(reason) => Err(reason),
    };
    stage_answer(facts, result.map_err(Stop::from))
}

/// Who chooses the server.
enum Choice {
    /// The client's template, if there is one.
    Template,
    /// The scheduler, which says this.
    Picked(Picked),
}

#[inline(always)]
fn pick<T: Tables>(tables: T, facts: &mut Facts) -> Result<Choice, Reason> {
    let verdict = FilterVerdict(facts.verdict as u32);
    // The filter drops what it says whether it may start a connection or not.
    if !verdict.drops() {
        may_start(tables, facts)?;
    }
    let side = facts.root().side();
    let service = find_service(tables, side, facts).ok_or(Reason::PassedNoService)?;
    let flags = service.flags().0;
    if flags & ServiceFlags::CLAIMED == 0 {
        return Err(Reason::PassedNotClaimed);
    }
    // From here on the packet is for a service.
    if verdict.is_some() {
        tables.count_rule(verdict.slot(), facts.l3_len);
        facts.verdict = FilterVerdict::NONE.0.into();
        if verdict.drops() {
            return Err(Reason::DroppedFilter);
        }
    }
    if facts.part == Part::Later as u64 {
        return Err(Reason::DroppedFragment);
    }
    // The kernel drops them, also where there is no service.
    if has_no_chunk(facts) {
        return Err(Reason::DroppedNoChunk);
    }
    // A packet that was asked about its template has been counted.
    if facts.wants_template == 0 && is_one_too_many(tables)? {
        return Err(Reason::DroppedDefence);
    }
    if facts.src_port() == FTP_DATA {
        return Err(Reason::PassedNoConnection);
    }
    facts.service_flags = flags.into();
    if flags & ServiceFlags::PERSISTENT != 0 {
        if facts.wants_template == 0 {
            persistence::note(facts, service);
            return Ok(Choice::Template);
        }
    } else if service.port() != facts.dst_port() && !service.is_by_mark() {
        // Any port, which only a persistent service takes.
        return Err(Reason::DroppedNoServer);
    }
    Ok(Choice::Picked(sched::try_pick(
        tables, facts, side, service,
    )))
}

/// Whether the packet is one of those that `drop_packet` drops: of so many that
/// would start a connection, one.
#[inline(always)]
fn is_one_too_many<T: Tables>(tables: T) -> Result<bool, Reason> {
    let rate = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?).drop_rate();
    if rate == 0 {
        return Ok(false);
    }
    let counter = tables.cell(Table::Limits, 1).ok_or(LOST)?;
    let left = counter.load(0);
    let drops = left <= 1;
    let next = if drops {
        rate.into()
    } else {
        left.wrapping_sub(1)
    };
    // Who loses a race for it is let through.
    Ok(counter.compare_exchange(0, left, next) == left && drops)
}

/// Whether an SCTP packet ends behind its header.
#[inline(always)]
fn has_no_chunk(facts: &Facts) -> bool {
    facts.protocol() == IPPROTO_SCTP && facts.flags() == Event::Nothing as u8
}

#[inline(always)]
fn may_start<T: Tables>(tables: T, facts: &Facts) -> Result<(), Reason> {
    let protocol = Protocol::from_number(facts.protocol()).ok_or(Reason::PassedProtocol)?;
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    if facts.part == Part::Later as u64
        || has_no_chunk(facts)
        || protocol.may_start(facts, settings.knobs())
    {
        Ok(())
    } else {
        Err(Reason::PassedNoConnection)
    }
}

/// Stage: notes what the cell of the connection to the server of `facts.dest`
/// will hold. [`STAGE_INSERT`] when one is to be made; a datagram that is
/// scheduled alone has none.
#[inline(always)]
pub fn prepare<T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    facts.toa = if facts.service_flags & u64::from(ServiceFlags::TOA) != 0 {
        told::WANTED
    } else {
        told::NOT
    };
    if is_one_packet(facts) {
        count_one(tables, facts);
        facts.outcome = outcome::ALONE;
        return STAGE_DONE;
    }
    match note_flow(tables, facts) {
        Ok(()) => STAGE_INSERT,
        Err(Stop(number)) => {
            facts.reason = number.into();
            facts.outcome = outcome::REFUSED;
            STAGE_DONE
        }
    }
}

/// Whether the packet is scheduled alone (`-o`): datagrams only. FULLNAT needs a
/// connection for its replies.
#[inline(always)]
fn is_one_packet(facts: &Facts) -> bool {
    facts.service_flags & u64::from(ServiceFlags::ONE_PACKET) != 0
        && facts.protocol() == IPPROTO_UDP
        && facts.forward_method() != ForwardMethod::Fullnat
}

/// Counts a packet that was scheduled alone: a connection that is over at once.
#[inline(always)]
fn count_one<T: Tables>(tables: T, facts: &mut Facts) {
    // NAT reads a cell, and does not look at what is there.
    facts.cell = if facts.forward_method().translates() {
        0
    } else {
        NO_CELL
    };
    count_new(tables, facts);
    load::bind(tables, facts.slot(), DestLoad::INACTIVE);
    load::unbind(tables, facts.slot(), DestLoad::INACTIVE);
}

#[inline(always)]
fn count_new<T: Tables>(tables: T, facts: &Facts) {
    tables.count_dest(
        facts.slot(),
        Stats {
            conns: 1,
            in_packets: 1,
            in_bytes: facts.l3_len,
            ..Stats::default()
        },
    );
}

/// Whose packets the state of a new connection follows.
#[inline(always)]
fn seen(method: ForwardMethod) -> Seen {
    if method.translates() {
        Seen::FromClient
    } else {
        Seen::FromClientOnly
    }
}

#[inline(always)]
fn note_flow<T: Tables>(tables: T, facts: &mut Facts) -> Result<(), Stop> {
    let tracking = Tracking::of(facts.protocol());
    let mut method = facts.forward_method();
    if method == ForwardMethod::Fullnat
        && connection::dest_word(tables, facts)?.has(DestFlags::LOCAL)
    {
        // This director knows the way back to the client without it.
        method = ForwardMethod::Masq;
        facts.method = method as u64;
    }
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    let state = tracking.next(0, facts, seen(method), settings.knobs());
    let flow = NewFlow {
        slot: facts.slot(),
        method,
        state,
        counted: tracking.counted(state),
        timeout: settings.timeout(tracking, facts.timeouts, state),
        tells_client: facts.toa == told::WANTED
            && method == ForwardMethod::Fullnat
            && tracking == Tracking::Flags,
        template: facts.template,
    };
    let ([a, b], [c, d]) = (facts.src, facts.dst);
    facts.new_key = [a, b, c, d, facts.ports];
    let new = flow.prepare(facts.tick());
    facts.prepared = new.absent_from(HomeWord(facts.home)).words();
    Ok(())
}

/// [`Facts::new_key`].
#[inline(always)]
pub(super) fn new_key<F: Family>(facts: &Facts) -> F::Key {
    let [a, b, c, d, ports] = facts.new_key;
    F::key_of([a, b], [c, d], ports)
}

/// Stage: inserts the cell that [`Facts::prepared`] says: a connection, its
/// reverse cell or a template. [`Facts::outcome`] says what became of it.
#[inline(always)]
pub fn insert<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    let new = Prepared::from_words(facts.prepared);
    facts.outcome = match flow::insert::<F, T>(tables, &new_key::<F>(facts), facts.tick(), &new) {
        Inserted::New(link) => {
            facts.inserted = link.0;
            outcome::NEW
        }
        Inserted::Exists => outcome::EXISTS,
        Inserted::Full => {
            facts.reason = Reason::DroppedWindowFull as u64;
            outcome::REFUSED
        }
        Inserted::Contended => {
            facts.reason = Reason::DroppedContended as u64;
            outcome::REFUSED
        }
    };
    STAGE_DONE
}

/// Stage: what follows from [`Facts::outcome`]. [`STAGE_BIND`] when the server's
/// packets are to be found too, [`STAGE_LEARN`] when the way to the client is to
/// be kept.
#[inline(always)]
pub fn settle<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    if facts.outcome == outcome::NEW {
        facts.cell = Link(facts.inserted).index().into();
        count_new(tables, facts);
        // A first packet may establish it (`sloppy_tcp`).
        if facts.template != 0 && is_assuring(facts) {
            flow::assure::<F, T>(tables, facts.template);
        }
        return next_stage(facts);
    }
    // Only a connection that was made is one that the template counts.
    flow::let_go::<F, T>(tables, facts.template);
    if facts.outcome == outcome::ALONE {
        return STAGE_DONE;
    }
    if facts.outcome == outcome::REFUSED {
        return STAGE_END;
    }
    match join::<F, T>(tables, facts) {
        Ok(()) => next_stage(facts),
        Err(stop) => stage_answer(facts, Err(stop)),
    }
}

#[inline(always)]
fn is_assuring(facts: &Facts) -> bool {
    let state = Prepared::from_words(facts.prepared).protocol_state();
    Tracking::of(facts.protocol()).assures(state, seen(facts.forward_method()))
}

#[inline(always)]
fn next_stage(facts: &Facts) -> u32 {
    match facts.forward_method() {
        ForwardMethod::Masq | ForwardMethod::Fullnat => STAGE_BIND,
        ForwardMethod::Tunnel => STAGE_LEARN,
        _ => STAGE_DONE,
    }
}

/// Joins the connection that another CPU made.
#[inline(always)]
fn join<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> Result<(), Stop> {
    let found = flow::find_rare::<F, T>(tables, &F::key(facts)).ok_or(Reason::DroppedContended)?;
    // A server's connection under the very key of this client's.
    if found.state.is_reverse() {
        return Err(Reason::DroppedContended.into());
    }
    facts.cell = found.index.into();
    facts.dest = found.slot().into();
    let dest = connection::dest_word(tables, facts)?;
    if !dest.has(DestFlags::AVAILABLE) {
        return Err(Reason::DroppedNoDest.into());
    }
    connection::follow::<F, T>(tables, &found, facts, Tracking::of(facts.protocol()), dest)
}
