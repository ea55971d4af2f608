//! A packet without a connection.

use super::{
    LOCAL_PORT_TRIES, LOST, STAGE_AGAIN, STAGE_BIND, STAGE_DONE, STAGE_END, STAGE_STALE, Stages,
    Stop, classify::classified, connection, service::find_service, stage_answer, stage_done,
};
use crate::{
    conn::{Protocol, Seen, Tracking},
    facts::{Facts, told},
    family::Family,
    flow::{self, Inserted, NewFlow},
    forward::Part,
    layout::{DestFlags, FilterVerdict, ForwardMethod, ServiceFlags, SettingsView, Stats},
    reason::Reason,
    sched::{self, Picked},
    tables::{Table, Tables},
};

/// Has a server chosen and the connection made; then `facts.dest` and
/// `facts.method` tell where the packet goes. Part of the walk and no stage of
/// its own: on 6.1 every call takes of the 512 bytes of stack.
#[inline(always)]
pub(super) fn schedule<F: Family, P, T: Tables, S: Stages<P>>(
    packet: &mut P,
    tables: T,
    stages: &S,
    facts: &mut Facts,
) -> Result<(), Stop> {
    classified::<F, P, S>(packet, stages, facts);
    let mut tries = 0;
    while tries < sched::CURSOR_TRIES {
        match stages.choose(packet, facts) {
            STAGE_DONE => {
                let answer = stages.insert::<F>(packet, facts);
                stage_done(facts, answer)?;
                if facts.forward_method().translates() {
                    let answer = pair_with::<F, P, S>(packet, stages, facts);
                    stage_done(facts, answer)?;
                } else if facts.forward_method() == ForwardMethod::Tunnel {
                    let answer = stages.learn::<F>(packet, facts);
                    stage_done(facts, answer)?;
                }
                return Ok(());
            }
            STAGE_AGAIN => {}
            STAGE_STALE => {
                facts.root = tables.root().0;
                classified::<F, P, S>(packet, stages, facts);
            }
            end => return stage_done(facts, end),
        }
        tries += 1;
    }
    Err(Reason::DroppedCursor.into())
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

/// FTP's data port, which never starts a connection.
const FTP_DATA: u16 = 20_u16.to_be();

/// Stage: finds the service of a packet that may start a connection, and tries
/// once to have a server chosen.
#[inline(always)]
pub fn choose<T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    let picked = pick(tables, facts);
    let result = match picked {
        Ok(Picked::Dest { slot, method }) => {
            facts.dest = slot.into();
            facts.method = method as u64;
            Ok(())
        }
        Ok(Picked::None) => Err(Reason::DroppedNoServer),
        Ok(Picked::Contended) => return STAGE_AGAIN,
        Ok(Picked::Stale) => return STAGE_STALE,
        Err(reason) => Err(reason),
    };
    stage_answer(facts, result.map_err(Stop::from))
}

#[inline(always)]
fn pick<T: Tables>(tables: T, facts: &mut Facts) -> Result<Picked, Reason> {
    let verdict = FilterVerdict(facts.verdict as u32);
    // The filter drops what it says whether it may start a connection or not.
    if !verdict.drops() {
        may_start(facts)?;
    }
    let side = facts.root().side();
    let service = find_service(tables, side, facts).ok_or(Reason::PassedNoService)?;
    if service.flags().0 & ServiceFlags::CLAIMED == 0 {
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
    if facts.src_port() == FTP_DATA {
        return Err(Reason::PassedNoConnection);
    }
    facts.toa = if service.flags().0 & ServiceFlags::TOA != 0 {
        told::WANTED
    } else {
        told::NOT
    };
    Ok(sched::try_pick(tables, facts, side, service))
}

#[inline(always)]
fn may_start(facts: &Facts) -> Result<(), Reason> {
    let protocol = Protocol::from_number(facts.protocol()).ok_or(Reason::PassedProtocol)?;
    if facts.part == Part::Later as u64 || protocol.may_start(facts) {
        Ok(())
    } else {
        Err(Reason::PassedNoConnection)
    }
}

/// Stage: makes the connection to the server of `facts.dest`, or joins the one
/// that another CPU made meanwhile.
#[inline(always)]
pub fn insert<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    let result = enter::<F, T>(tables, facts);
    stage_answer(facts, result)
}

#[inline(always)]
fn enter<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> Result<(), Stop> {
    let tracking = Tracking::of(facts.protocol());
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
    let state = tracking.next(0, facts, seen);
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    let flow = NewFlow {
        slot: facts.slot(),
        method,
        state,
        counted: tracking.counted(state),
        timeout: settings.timeout(tracking, facts.timeouts, state),
        tells_client: facts.toa == told::WANTED
            && method == ForwardMethod::Fullnat
            && tracking == Tracking::Flags,
    };
    match flow::insert::<F, T, _>(tables, &F::key(facts), facts.tick(), &flow) {
        Inserted::New(link) => {
            facts.cell = link.index().into();
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
        // A server's connection under the very key of this client's.
        Inserted::Exists(found) if found.state.is_reverse() => Err(Reason::DroppedContended.into()),
        Inserted::Exists(found) => {
            connection::follow(tables, &found, facts, tracking)?;
            Ok(())
        }
        Inserted::Full => Err(Reason::DroppedWindowFull.into()),
        Inserted::Contended => Err(Reason::DroppedContended.into()),
    }
}
