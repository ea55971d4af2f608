//! Round robin: the next server with a weight after the one chosen last.

use super::{Cursor, List};
use crate::{
    layout::NO_OLD_POSITION,
    tables::{Step, Tables},
};

struct Next<T> {
    list: List<T>,
    at: u32,
    chosen: u32,
}

impl<T: Tables> Step<T> for Next<T> {
    #[inline(always)]
    fn step(&mut self, _: T, _: u32) -> bool {
        let position = if self.at >= self.list.len { 0 } else { self.at };
        self.at = position.wrapping_add(1);
        match self.list.entry(position) {
            Some(entry) if entry.weight() > 0 => {
                self.chosen = self.at;
                false
            }
            Some(_) => true,
            None => false,
        }
    }
}

/// The cursor after the choice and the position chosen. Every server is looked
/// at once: from behind the last one to the end, then from the front up to and
/// including it.
#[inline(always)]
pub(super) fn choose<T: Tables>(tables: T, cursor: Cursor, list: List<T>) -> (Cursor, Option<u32>) {
    let mut next = Next { list, at: cursor.at, chosen: 0 };
    // Mostly the first step decides: spare it the call.
    if list.len > 0 && next.step(tables, 0) {
        tables.repeat(list.len.wrapping_sub(1), &mut next);
    }
    if next.chosen == 0 {
        return (cursor, None);
    }
    (Cursor { at: next.chosen, ..cursor }, Some(next.chosen.wrapping_sub(1)))
}

struct CarryOver<T> {
    list: List<T>,
    old: u32,
    at: u32,
}

impl<T: Tables> Step<T> for CarryOver<T> {
    #[inline(always)]
    fn step(&mut self, _: T, position: u32) -> bool {
        if let Some(entry) = self.list.entry(position) {
            let was = entry.old_position();
            if was != NO_OLD_POSITION && was < self.old {
                self.at = position.wrapping_add(1);
            }
        }
        true
    }
}

/// Where a cursor that stood at `old` in the list before stands in this one:
/// behind the same server, or, when that was deleted, behind the one that stood
/// in front of it (the head, if there is none).
#[inline(always)]
pub(super) fn carry<T: Tables>(list: List<T>, old: u32) -> u32 {
    let mut carried = CarryOver { list, old, at: 0 };
    list.tables.repeat(list.len, &mut carried);
    carried.at
}
