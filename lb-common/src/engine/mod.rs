//! The walk of a packet.

mod answer;
mod call_id;
mod classify;
mod connection;
mod icmp;
mod leaving;
mod local;
mod pair;
mod persistence;
mod reconsider;
mod schedule;
mod send;
mod service;
mod tell;
mod transport;
mod tunnel_error;
mod walk;

pub use answer::answer;
pub use call_id::call_id;
pub use classify::{classify, filter_verdict};
pub use icmp::{icmp, relay};
pub use leaving::{LeavingStages, count_error, leaving, of_local, retell};
pub use local::to_local;
pub use pair::{LOCAL_PORT_TRIES, bind, learn, pair};
pub use persistence::{CALL_KEY, TEMPLATE_KEY, TemplateKey, keep, template};
pub use reconsider::reconsider;
pub use schedule::{choose, insert, prepare, settle};
pub use send::{to_client, to_server, tunnel};
pub use tell::tell;
pub use transport::transport;
pub use tunnel_error::tunnel_error;

use crate::{
    facts::Facts,
    family::{Family, V4, V6},
    packet::Packet,
    parse,
    reason::{Class, Reason},
    tables::Tables,
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

/// Parts of the walk that are not inlined. In the kernel each is a global
/// function for each family, which the verifier checks once; on the host they
/// are called directly. They read and write the facts and answer one of the
/// `STAGE_` numbers.
pub trait Stages<P> {
    /// [`extensions`].
    fn extensions(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`transport`].
    fn transport(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`icmp`].
    fn icmp<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`relay`].
    fn relay<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`tunnel_error`].
    fn tunnel_error<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`answer`].
    fn answer<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`classify`].
    fn classify<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`choose`].
    fn choose(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`call_id`].
    fn call_id(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`prepare`].
    fn prepare(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`settle`].
    fn settle<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`insert`].
    fn insert<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`reconsider`].
    fn reconsider<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`template`].
    fn template<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`keep`].
    fn keep<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`learn`].
    fn learn<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`pair()`].
    fn pair<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`bind`].
    fn bind<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`to_local`].
    fn to_local<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`to_server`].
    fn to_server<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`tell`].
    fn tell<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`to_client`].
    fn to_client<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
    /// [`tunnel`].
    fn tunnel<F: Family>(&self, packet: &mut P, facts: &mut Facts) -> u32;
}

/// Go on.
pub const STAGE_DONE: u32 = 0;
/// The walk ends for [`Facts::reason`].
pub const STAGE_END: u32 = 1;
/// Try this stage again.
pub const STAGE_AGAIN: u32 = 3;
/// The configuration was switched: read the root and try this stage again.
pub const STAGE_STALE: u32 = 4;

/// The reverse cell is to be made.
pub const STAGE_BIND: u32 = 5;
/// The service is persistent: the client's template is to be looked for, or made.
pub const STAGE_TEMPLATE: u32 = 6;
/// The connection is over: the packet starts another.
pub const STAGE_ANEW: u32 = 7;
/// A cell is to be inserted.
pub const STAGE_INSERT: u32 = 8;
/// The way to the client is to be kept.
pub const STAGE_LEARN: u32 = 9;
/// An ICMP error may be about a tunnel packet of ours.
pub const STAGE_TUNNEL: u32 = 10;
/// The answer leaves by [`Facts::egress`].
pub const STAGE_AWAY: u32 = 11;
/// The segment is to carry the client's address: for [`tell`], then again.
pub const STAGE_TELL: u32 = 12;
/// Done; there was no room for the client's address.
pub const STAGE_UNTOLD: u32 = 13;

/// Why a walk ended: the number of a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stop(u32);

impl From<Reason> for Stop {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self(reason as u32)
    }
}

/// A table entry that must be there was not.
const LOST: Reason = Reason::DroppedInternal;

/// The answer of a stage.
#[inline(always)]
fn stage_answer(facts: &mut Facts, result: Result<(), Stop>) -> u32 {
    match result {
        Ok(()) => STAGE_DONE,
        Err(Stop(number)) => {
            facts.reason = number.into();
            STAGE_END
        }
    }
}

/// Goes on when a stage says so.
#[inline(always)]
fn stage_done(facts: &Facts, answer: u32) -> Result<(), Stop> {
    if answer == STAGE_DONE {
        Ok(())
    } else {
        Err(Stop(facts.reason as u32))
    }
}

/// Stage: skips IPv6 extension headers. The number of the first goes in by
/// [`Facts::ports`], that of the header behind them comes out.
#[inline(always)]
pub fn extensions<P: Packet>(packet: &P, facts: &mut Facts) -> u32 {
    let first = facts.ports as u8;
    let result = match parse::skip_extensions(packet, first, facts) {
        Ok(next) => {
            facts.ports = next.into();
            Ok(())
        }
        Err(reason) => Err(reason.into()),
    };
    stage_answer(facts, result)
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
    match walk::walk(packet, tables, stages, facts) {
        Ok(verdict) => verdict,
        Err(Stop(number)) => {
            tables.count_number(number);
            match Reason::class_of(number) {
                Class::Dropped if answer::may_be_answered(number) => {
                    facts.reason = number.into();
                    let answer = if facts.family == V4::VERSION.into() {
                        stages.answer::<V4>(packet, facts)
                    } else {
                        stages.answer::<V6>(packet, facts)
                    };
                    match answer {
                        STAGE_DONE => Verdict::Transmit,
                        STAGE_AWAY => send::verdict(facts, facts.egress as u32),
                        _ => Verdict::Drop,
                    }
                }
                Class::Dropped => Verdict::Drop,
                Class::Passed | Class::Forwarded => Verdict::Pass,
            }
        }
    }
}
