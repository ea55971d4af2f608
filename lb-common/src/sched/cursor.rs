//! The memory of a scheduler that goes round its list: one word of the service,
//! outside the halves of the configuration, changed by compare-and-swap.
//!
//! It carries the generation of the server list it belongs to. When the
//! configuration changes, the daemon, or the first packet that needs it, carries
//! the cursor over to the new list as the kernel would have moved it.

use super::{CONTENDED, Pick, STALE};
use crate::{
    layout::ServiceFlags,
    tables::{Cell, Table, Tables},
};

/// Tries for the cursor word.
pub const CURSOR_TRIES: u32 = 8;

/// The memory, packed in one word: bits 0–15 position + 1 of the server chosen
/// last (0 is the list head), 16–31 generation of the list, 32–63 wrr's current
/// weight.
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

/// A scheduler that goes round.
pub(super) trait Round {
    /// The cursor in this list after a change of the list.
    fn carry<T: Tables>(pick: Pick<'_, T>, cursor: Cursor) -> Cursor;

    /// The cursor after the choice and the position chosen.
    fn next<T: Tables>(pick: Pick<'_, T>, cursor: Cursor) -> (Cursor, u64);
}

/// One try at a round's next server.
#[inline(always)]
pub(super) fn go<R: Round, T: Tables>(pick: Pick<'_, T>) -> u64 {
    let Some(state) = pick.tables.cell(Table::ServiceState, pick.service.slot()) else {
        return STALE;
    };
    let word = state.load(0);
    let Some(cursor) = current::<R, T>(pick, word) else {
        return STALE;
    };
    let (next, position) = R::next(pick, cursor);
    let next = next.word();
    if next != word && state.compare_exchange(0, word, next) != word {
        return CONTENDED;
    }
    position
}

/// The cursor in `word`, carried over if it is of the list before this one;
/// `None` if it is of a later one.
#[inline(always)]
fn current<R: Round, T: Tables>(pick: Pick<'_, T>, word: u64) -> Option<Cursor> {
    let service = pick.service;
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
    Some(Cursor {
        generation,
        ..R::carry(pick, cursor)
    })
}
