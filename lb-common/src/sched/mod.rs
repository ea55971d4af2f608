//! The schedulers: one small file each.
//!
//! A scheduler's memory is one [`Cursor`] word of its service, outside the
//! halves of the configuration, changed by compare-and-swap. It carries the
//! generation of the server list it belongs to. When the configuration
//! changes, the daemon, or the first packet that needs it, carries the cursor
//! over to the new list as the kernel would have moved it.

pub mod rr;
pub mod wrr;

use crate::{
    layout::{
        DestFlags, DestView, ForwardMethod, ListView, SchedulerKind, ServiceFlags, ServiceView,
    },
    tables::{Cell, Param, Table, Tables},
};

/// Tries for the cursor word.
pub const CURSOR_TRIES: u32 = 8;

/// A scheduler's memory, packed in one word: bits 0–15 position + 1 of the
/// server chosen last (0 is the list head), 16–31 generation of the list,
/// 32–63 wrr's current weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Position + 1 in the list; 0 is the head.
    pub at: u32,
    /// wrr: current weight.
    pub weight: i32,
    /// Low 16 bits of the list's generation.
    pub generation: u16,
}

impl Cursor {
    /// The cursor of a word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            at: word as u32 & 0xffff,
            weight: (word >> 32) as i32,
            generation: (word >> 16) as u16,
        }
    }

    /// As a word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.at & 0xffff) as u64
            | (self.generation as u64) << 16
            | (self.weight as u32 as u64) << 32
    }
}

/// Longest list: positions are 16 bits of the cursor.
pub const MAX_LIST: u32 = 0xffff;

/// What a scheduler says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// The server in this slot, reached by this method.
    Dest {
        /// Server slot.
        slot: u32,
        /// Method of the connection.
        method: ForwardMethod,
    },
    /// No server can take a connection.
    None,
    /// The cursor was not to be had.
    Contended,
    /// The configuration was switched meanwhile: read the root again.
    Stale,
}

/// A service's server list as a scheduler walks it. Words only, because it lies
/// on the BPF stack.
#[derive(Clone, Copy)]
pub struct List {
    first: u64,
    /// Number of servers.
    pub len: u64,
}

impl List {
    /// The list of `service` in half `side`.
    #[inline(always)]
    pub fn of<T: Tables>(tables: T, side: u32, service: ServiceView<T::Cell>) -> Self {
        let start = tables.param(Param::ListEntries).wrapping_mul(side.into());
        let first = start.wrapping_add(service.list_start().into());
        Self {
            first,
            len: service.list_len().into(),
        }
    }

    /// The server at `position`.
    #[inline(always)]
    pub fn entry<T: Tables>(self, tables: T, position: u64) -> Option<ListView<T::Cell>> {
        let index = self.first.wrapping_add(position) as u32;
        tables.cell(Table::List, index).map(ListView)
    }
}

/// A position that no list has.
const NOBODY: u64 = u64::MAX;

/// Whether a server may get new connections: it has a weight, and is not full.
#[inline(always)]
pub(crate) fn is_eligible<T: Tables>(tables: T, entry: ListView<T::Cell>) -> bool {
    entry.weight() > 0
        && tables
            .cell(Table::Dest, entry.slot())
            .is_none_or(|dest| !DestView(dest).word().has(DestFlags::OVERLOAD))
}

/// Chooses a server for a new connection: one try, which fails when another CPU
/// moved the cursor meanwhile.
#[inline(always)]
pub fn try_pick<T: Tables>(tables: T, side: u32, service: ServiceView<T::Cell>) -> Picked {
    let Some(state) = tables.cell(Table::ServiceState, service.slot()) else {
        return Picked::None;
    };
    let list = List::of(tables, side, service);
    let word = state.load(0);
    let Some(cursor) = current(tables, word, list, service) else {
        return Picked::Stale;
    };
    let scheduler = service.scheduler();
    let (next, position) = if scheduler == SchedulerKind::Rr as u8 {
        rr::choose(tables, cursor, list)
    } else if scheduler == SchedulerKind::Wrr as u8 {
        wrr::choose(tables, cursor, list, service)
    } else {
        return Picked::None;
    };
    let next = next.word();
    if next != word && state.compare_exchange(0, word, next) != word {
        return Picked::Contended;
    }
    if position == NOBODY {
        return Picked::None;
    }
    match list.entry(tables, position) {
        Some(entry) => Picked::Dest {
            slot: entry.slot(),
            method: entry.method(),
        },
        None => Picked::None,
    }
}

/// The cursor in `word`, carried over if it is of the list before this one;
/// `None` if it is of a later one.
#[inline(always)]
fn current<T: Tables>(
    tables: T,
    word: u64,
    list: List,
    service: ServiceView<T::Cell>,
) -> Option<Cursor> {
    let cursor = Cursor::from_word(word);
    let generation = service.generation() as u16;
    if cursor.generation == generation {
        return Some(cursor);
    }
    if cursor.generation.wrapping_sub(generation) as i16 > 0 {
        return None;
    }
    if word == service.seed_from() || service.flags().0 & ServiceFlags::REBOUND != 0 {
        return Some(Cursor::from_word(service.seed()));
    }
    let carried = if service.scheduler() == SchedulerKind::Wrr as u8 {
        wrr::carry(cursor, service.max_weight(), service.gcd())
    } else {
        Cursor {
            at: rr::carry(tables, list, cursor.at),
            ..cursor
        }
    };
    Some(Cursor {
        generation,
        ..carried
    })
}

#[cfg(test)]
mod tests;
