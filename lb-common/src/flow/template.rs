//! Templates: which server a client of a persistent service is sent to.
//!
//! A template lives in a cell like a connection, under a key that no packet has
//! (see [`persistence`](crate::engine)). Connections made from it are counted in
//! it and know it by its index: it is released only when it counts none. When
//! its time is over while it counts some it lives on for [`CONTROLLED`], and
//! that is its time-out from then on.

use super::{FlowCell, Found, HomeWord, Prepared, StateWord, Times, word};
use crate::{
    family::Family,
    layout::ForwardMethod,
    tables::{Cell, Tables},
    time::{Tick, is_past, seconds},
};

/// Time-out, in ticks, of a template whose own ended while it had connections.
pub const CONTROLLED: u32 = seconds(60);

/// Ticks between a template's deadline and the sweep's look at it: by then a
/// pass has released the connections that ended before it did.
const DELAY: u32 = seconds(2);

/// Tries to count a connection in a template that other CPUs count theirs in.
const TRIES: u32 = 4;

/// A template's [`word::LINK`]: its connections in the low 31 bits, bit 31 while
/// more may come, its generation above. No link to a cell has bit 31, so that a
/// count never is taken up in a cell that has become another flow's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control(pub u64);

impl Control {
    const OPEN: u64 = 1 << 31;

    /// Of a new template of generation 0, with one connection to come.
    pub const FIRST: Self = Self(Self::OPEN | 1);

    /// This one of generation 0, of another generation.
    #[inline(always)]
    pub(super) const fn of_generation(self, generation: u32) -> Self {
        Self(self.0 | (generation as u64) << 32)
    }

    /// Connections.
    #[inline(always)]
    pub const fn count(self) -> u32 {
        self.0 as u32 & !(Self::OPEN as u32)
    }

    /// Whether it is of a template of this generation that may get connections.
    #[inline(always)]
    const fn is_open(self, generation: u32) -> bool {
        self.0 & Self::OPEN != 0 && (self.0 >> 32) as u32 == generation
    }
}

/// A template to be inserted, with its first connection to come.
#[derive(Clone, Copy, Debug)]
pub struct NewTemplate {
    /// Server slot.
    pub slot: u32,
    /// Time-out in ticks.
    pub timeout: u32,
    /// Address and port of its service, where the key does not tell them; else zeros.
    pub service: [u64; 3],
}

impl NewTemplate {
    /// What its cell will hold.
    #[inline(always)]
    pub fn prepare(&self, now: Tick) -> Prepared {
        Prepared {
            live: StateWord::live_template(),
            times: Times::new(now, self.timeout).0,
            // Its connections go by whatever method the server has then.
            dest: FlowCell::<()>::dest_word(self.slot, ForwardMethod::Route),
            link: Control::FIRST.0,
            spare: 0,
            load: 0,
            takes_over: 0,
            service: self.service,
            absent: HomeWord::NONE,
        }
    }
}

/// A template's count of connections.
#[inline(always)]
fn control<C: Cell>(cell: FlowCell<C>) -> Control {
    Control(cell.0.load(word::LINK))
}

/// Whether a template that was found is to be used: its time is not over, or it
/// has connections.
#[inline(always)]
pub fn is_alive<C: Cell>(found: &Found<C>, now: Tick) -> bool {
    !found.times.is_dead(now) || control(found.cell).count() != 0
}

/// Counts a connection to come in a template; whether that was possible.
#[inline(always)]
pub fn hold<C: Cell>(found: &Found<C>) -> bool {
    let generation = found.state.generation();
    let mut tries = 0;
    while tries < TRIES {
        let seen = control(found.cell);
        if !seen.is_open(generation) {
            return false;
        }
        let more = seen.0.wrapping_add(1);
        if found.cell.0.compare_exchange(word::LINK, seen.0, more) == seen.0 {
            return true;
        }
        tries += 1;
    }
    false
}

/// Takes a connection off the count of its template: `template` is its index + 1,
/// or 0.
#[inline(always)]
pub fn let_go<F: Family, T: Tables>(tables: T, template: u64) {
    if template != 0
        && let Some(cell) = tables.cell(F::FLOW, template.wrapping_sub(1) as u32)
    {
        // It is still this template: it counts the caller's connection.
        cell.add(word::LINK, 1u64.wrapping_neg());
    }
}

/// Has a template live anew: for a new connection of it.
#[inline(always)]
pub fn renew<C: Cell>(found: &Found<C>, now: Tick) {
    let timeout = if found.times.is_dead(now) {
        CONTROLLED
    } else {
        (found.times.0 >> 32) as u32
    };
    found.cell.touch(found.times, Times::new(now, timeout));
}

/// Takes a live template out of the look-ups; it lives on without being found.
/// Whether this caller did it.
#[inline(always)]
pub fn retire<C: Cell>(found: &Found<C>) -> bool {
    found.cell.set_state(found.state, found.state.retired())
}

/// Marks the template with this index + 1 as one that a connection was
/// established from.
#[inline(always)]
pub fn assure<F: Family, T: Tables>(tables: T, template: u64) {
    let Some(cell) = tables.cell(F::FLOW, template.wrapping_sub(1) as u32) else {
        return;
    };
    let cell = FlowCell(cell);
    let seen = cell.state();
    if seen.is_template() && !seen.is_assured() {
        // Who is faster does the same, or retires it.
        cell.set_state(seen, seen.assured());
    }
}

/// Closes the count of a template that has no connections; whether it is closed,
/// and so may be released.
#[inline(always)]
pub fn close<C: Cell>(cell: FlowCell<C>, state: StateWord) -> bool {
    let seen = control(cell);
    if seen.count() != 0 {
        return false;
    }
    if !seen.is_open(state.generation()) {
        return true;
    }
    let closed = seen.0 & !Control::OPEN;
    cell.0.compare_exchange(word::LINK, seen.0, closed) == seen.0
}

/// The sweep's look at a template: whether it may be released. One with
/// connections lives on; one whose server was removed (`orphan`) goes early.
#[inline(always)]
pub(super) fn is_over<C: Cell>(
    cell: FlowCell<C>,
    state: StateWord,
    now: Tick,
    orphan: bool,
) -> bool {
    let times = cell.times();
    let deadline = times.deadline();
    let is_past = is_past(now, deadline.wrapping_add(DELAY));
    if !is_past && !orphan {
        return false;
    }
    if control(cell).count() != 0 {
        if !is_past {
            return false;
        }
        cell.touch(times, Times::new(deadline, CONTROLLED));
        return false;
    }
    close(cell, state)
}
