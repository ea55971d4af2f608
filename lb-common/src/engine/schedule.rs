//! A packet without a connection.

use super::{
    LOCAL_PORT_TRIES, LOST, STAGE_AGAIN, STAGE_BIND, STAGE_DONE, STAGE_END, STAGE_STALE,
    STAGE_TEMPLATE, Stages, Stop, connection, persistence, service::find_service, stage_answer,
    stage_done,
};
use crate::{
    conn::{Protocol, Seen},
    facts::Facts,
    family::Family,
    flow::{self, Inserted, NewFlow},
    forward::Part,
    layout::{DestFlags, DestLoad, ForwardMethod, ServiceFlags, SettingsView, Stats},
    load,
    reason::Reason,
    sched::{self, Picked},
    tables::{Table, Tables},
    wire::{FTP_DATA, IPPROTO_UDP},
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
    let mut tries = 0;
    let mut chosen = STAGE_AGAIN;
    while tries < sched::CURSOR_TRIES {
        chosen = stages.choose(packet, facts);
        if chosen == STAGE_TEMPLATE {
            chosen = stages.template::<F>(packet, facts);
        }
        if chosen == STAGE_STALE {
            facts.root = tables.root().0;
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
        let mut answer = stages.keep::<F>(packet, facts);
        if answer == STAGE_AGAIN {
            answer = stages.template::<F>(packet, facts);
        }
        stage_done(facts, answer)?;
    }
    let mut answer = stages.insert::<F>(packet, facts);
    if answer == STAGE_BIND {
        answer = pair_with::<F, P, S>(packet, stages, facts);
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
        let answer = stages.bind::<F>(packet, facts);
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
    let picked = may_start(tables, facts).and_then(|()| {
        let side = facts.root().side();
        let service = find_service(tables, side, facts).ok_or(Reason::PassedNoService)?;
        let flags = service.flags().0;
        if flags & ServiceFlags::CLAIMED == 0 {
            return Err(Reason::PassedNotClaimed);
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
        } else if service.port() != facts.dst_port() {
            // Any port, which only a persistent service takes.
            return Err(Reason::DroppedNoServer);
        }
        Ok(Choice::Picked(sched::try_pick(tables, side, service)))
    });
    let result = match picked {
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
fn may_start<T: Tables>(tables: T, facts: &Facts) -> Result<(), Reason> {
    let protocol = Protocol::from_number(facts.protocol()).ok_or(Reason::PassedProtocol)?;
    if facts.part == Part::Later as u64 {
        return Err(Reason::DroppedFragment);
    }
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    if protocol.may_start(facts, settings.knobs()) {
        Ok(())
    } else {
        Err(Reason::PassedNoConnection)
    }
}

/// Stage: makes the connection to the server of `facts.dest`, or joins the one
/// that another CPU made meanwhile. [`STAGE_BIND`] when its server's packets are
/// to be found too.
#[inline(always)]
pub fn insert<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    let held = facts.template;
    let entered = if is_one_packet(facts) {
        count_one(tables, facts);
        Ok(Entered::Nothing)
    } else {
        enter::<F, T>(tables, facts)
    };
    // Only a connection that was made is one that the template counts.
    if !matches!(entered, Ok(Entered::New)) {
        flow::let_go::<F, T>(tables, held);
    }
    match entered {
        Ok(Entered::Nothing) => STAGE_DONE,
        Ok(_) if facts.forward_method().translates() => STAGE_BIND,
        Ok(_) => STAGE_DONE,
        Err(stop) => stage_answer(facts, Err(stop)),
    }
}

/// What a packet has come to.
enum Entered {
    /// A connection of its own.
    New,
    /// One that was there.
    Joined,
    /// None: it was scheduled alone.
    Nothing,
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
    // No connection's; NAT does not look at what is there.
    facts.cell = 0;
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

#[inline(always)]
fn enter<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> Result<Entered, Stop> {
    let protocol = Protocol::from_number(facts.protocol()).ok_or(LOST)?;
    let mut method = facts.forward_method();
    if method == ForwardMethod::Fullnat
        && connection::dest_word(tables, facts)?.has(DestFlags::LOCAL)
    {
        // This director knows the way back to the client without it.
        method = ForwardMethod::Masq;
        facts.method = method as u64;
    }
    let seen = if method.translates() {
        Seen::FromClient
    } else {
        Seen::FromClientOnly
    };
    let state = protocol.next(0, facts, seen);
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    let flow = NewFlow {
        slot: facts.slot(),
        method,
        state,
        counted: protocol.counted(state),
        timeout: settings.timeout(protocol, state),
        template: facts.template,
    };
    match flow::insert::<F, T, _>(tables, &F::key(facts), facts.tick(), &flow) {
        Inserted::New(link) => {
            facts.cell = link.index().into();
            count_new(tables, facts);
            // A first packet may establish it (`sloppy_tcp`).
            if facts.template != 0 && connection::is_assuring(protocol, state, seen) {
                flow::assure::<F, T>(tables, facts.template);
            }
            Ok(Entered::New)
        }
        // A server's connection under the very key of this client's.
        Inserted::Exists(found) if found.state.is_reverse() => Err(Reason::DroppedContended.into()),
        Inserted::Exists(found) => {
            facts.cell = found.index.into();
            facts.dest = found.slot().into();
            let dest = connection::dest_word(tables, facts)?;
            if !dest.has(DestFlags::AVAILABLE) {
                return Err(Reason::DroppedNoDest.into());
            }
            connection::follow::<F, T>(tables, &found, facts, protocol, dest)?;
            Ok(Entered::Joined)
        }
        Inserted::Full => Err(Reason::DroppedWindowFull.into()),
        Inserted::Contended => Err(Reason::DroppedContended.into()),
    }
}
