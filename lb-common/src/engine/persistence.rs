//! Persistent services: a client's template decides, and is made when there is
//! none.

use super::{
    LOST, STAGE_AGAIN, STAGE_DONE, STAGE_END, STAGE_TEMPLATE, Stop, schedule::new_key, stage_answer,
};
use crate::{
    facts::{Facts, outcome},
    family::Family,
    flow::{self, Found, Link, NewTemplate},
    layout::{DestFlags, DestView, Knobs, ServiceView, SettingsView},
    reason::Reason,
    tables::{Cell, Table, Tables},
    wire::FTP,
};

/// The key of a template, as [`Facts::new_key`] holds it: the client's
/// address under the service's mask, what stands for the service's, and the tail
/// of a flow key with a bit that no packet's has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateKey {
    /// Client, masked.
    pub client: [u64; 2],
    /// VIP; of a service by mark, the mark in its first 32 bits.
    pub service: [u64; 2],
    /// No client port, the service's port or 0, protocol (0 of a mark), and
    /// [`TEMPLATE_KEY`].
    pub ports: u64,
}

/// Set in the tail of a template's key: above ports and protocol.
pub const TEMPLATE_KEY: u64 = 1 << 40;

/// Set in the tail of a template's key that is by Call-ID: the service's words and
/// the other bits of the tail, but for the protocol, are sums of the Call-ID.
pub const CALL_KEY: u64 = 1 << 41;

impl TemplateKey {
    /// Of the client of a packet. A service of any port has one template a
    /// client and protocol, as has FTP, whose data ports belong to it.
    #[inline(always)]
    fn of<C: Cell>(facts: &Facts, service: ServiceView<C>) -> Self {
        let client = [
            facts.src[0] & service.client_mask(0),
            facts.src[1] & service.client_mask(1),
        ];
        // One a client and mark, for all addresses, ports and protocols.
        if service.is_by_mark() {
            return Self {
                client,
                service: [u64::from((facts.mark as u32).to_be()), 0],
                ports: TEMPLATE_KEY,
            };
        }
        let port = match service.port() {
            FTP => 0,
            port => port,
        };
        Self {
            client,
            service: facts.dst,
            ports: u64::from(port) << 16 | u64::from(facts.protocol()) << 32 | TEMPLATE_KEY,
        }
    }

    #[inline(always)]
    fn words(self) -> [u64; 5] {
        let ([a, b], [c, d]) = (self.client, self.service);
        [a, b, c, d, self.ports]
    }
}

/// Notes what the template of a packet's client is found by, and made with.
#[inline(always)]
pub(super) fn note<C: Cell>(facts: &mut Facts, service: ServiceView<C>) {
    facts.new_key = TemplateKey::of(facts, service).words();
    facts.template_timeout = service.persistence().into();
}

/// Stage: looks for the client's template. [`STAGE_DONE`] when it says where the
/// connection goes: it counts it then. [`STAGE_TEMPLATE`] when there is none that
/// may be used; one that may not be any more is retired.
#[inline(always)]
pub fn template<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    facts.wants_template = 1;
    match find::<F, T>(tables, facts) {
        Ok(true) => STAGE_DONE,
        Ok(false) => STAGE_TEMPLATE,
        Err(stop) => stage_answer(facts, Err(stop)),
    }
}

#[inline(always)]
fn find<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> Result<bool, Stop> {
    let key = new_key::<F>(facts);
    let Some(found) = flow::find_rare::<F, T>(tables, &key) else {
        return Ok(false);
    };
    if !flow::is_alive::<F, _>(&found, facts.tick()) {
        return Ok(false);
    }
    if is_usable(tables, &found)? {
        follow::<F, T>(tables, &found, facts)?;
        return Ok(true);
    }
    // Another packet has just changed it: the client repeats.
    if !flow::retire(&found) {
        return Err(Reason::DroppedContended.into());
    }
    Ok(false)
}

/// Whether a template's server may get connections of it: overload does not matter.
#[inline(always)]
fn is_usable<T: Tables>(tables: T, found: &Found<T::Cell>) -> Result<bool, Stop> {
    let dest = DestView(tables.cell(Table::Dest, found.slot()).ok_or(LOST)?).word();
    let settings = SettingsView(tables.cell(Table::Settings, 0).ok_or(LOST)?);
    let is_void = dest.has(DestFlags::QUIESCED) && settings.knobs().has(Knobs::EXPIRE_QUIESCENT);
    Ok(dest.has(DestFlags::AVAILABLE) && !is_void)
}

/// Sends the packet where a template says.
#[inline(always)]
fn follow<F: Family, T: Tables>(
    tables: T,
    found: &Found<T::Cell>,
    facts: &mut Facts,
) -> Result<(), Stop> {
    if found.index < MOST {
        // One that is being released counts nothing any more; the client repeats.
        if !flow::hold::<F, _>(found) {
            return Err(Reason::DroppedContended.into());
        }
        facts.template = u64::from(found.index).wrapping_add(1);
    }
    flow::renew(found, facts.tick());
    let dest = DestView(tables.cell(Table::Dest, found.slot()).ok_or(LOST)?);
    facts.dest = found.slot().into();
    facts.method = dest.method() as u64;
    Ok(())
}

/// A connection has 29 bits for the index of its template, plus 1. In a greater
/// table those behind do not count their connections.
const MOST: u32 = (1 << 29) - 1;

/// Notes the client's template, to the server of `facts.dest`, for [`insert`];
/// then [`keep`].
///
/// [`insert`]: super::insert
#[inline(always)]
pub(super) fn prepare_template(facts: &mut Facts) {
    let new = NewTemplate {
        slot: facts.slot(),
        timeout: facts.template_timeout as u32,
        service: if facts.new_key[4] & CALL_KEY != 0 {
            facts.call
        } else {
            [0; 3]
        },
    };
    facts.prepared = new.prepare(facts.tick()).words();
}

/// Stage: what follows from [`Facts::outcome`] of the template's insertion.
/// [`STAGE_AGAIN`] when another CPU made one meanwhile, which decides.
#[inline(always)]
pub fn keep<F: Family, T: Tables>(tables: T, facts: &mut Facts) -> u32 {
    if facts.outcome == outcome::NEW {
        let index = Link(facts.inserted).index();
        let template = u64::from(index).wrapping_add(1);
        if index < MOST {
            facts.template = template;
        } else {
            flow::let_go::<F, T>(tables, template);
        }
        return STAGE_DONE;
    }
    if facts.outcome == outcome::EXISTS {
        // In case that one may not be used either.
        facts.reason = Reason::DroppedContended as u64;
        return STAGE_AGAIN;
    }
    STAGE_END
}
