//! Round robin: the next server with a weight after the one chosen last.

use super::{
    Cursor, List, NOBODY, Pick, Scheduler,
    cursor::{self, Round},
};
use crate::{
    layout::NO_OLD_POSITION,
    tables::{Step, Tables},
};

/// Round robin.
pub struct Rr;

impl Scheduler for Rr {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        cursor::go::<Self, T>(pick)
    }
}

impl Round for Rr {
    #[inline(always)]
    fn carry<T: Tables>(pick: Pick<'_, T>, cursor: Cursor) -> Cursor {
        Cursor {
            at: carry(pick.tables, pick.list, cursor.at),
            ..cursor
        }
    }

    #[inline(always)]
    fn next<T: Tables>(pick: Pick<'_, T>, cursor: Cursor) -> (Cursor, u64) {
        next(pick.tables, cursor, pick.list)
    }
}

#[derive(Clone, Copy)]
struct Next {
    list: List,
    /// Position + 1 of the server looked at last.
    at: u64,
    chosen: u64,
}

impl<T: Tables> Step<T> for Next {
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        let at = self.at;
        let position = if at >= self.list.len { 0 } else { at };
        self.at = position.wrapping_add(1);
        self.chosen = self.list.usable(tables, position);
        self.chosen == NOBODY
    }
}

/// The cursor after the choice and the position chosen. Every server is looked
/// at once: from behind the last one to the end, then from the front up to and
/// including it.
#[inline(always)]
fn next<T: Tables>(tables: T, cursor: Cursor, list: List) -> (Cursor, u64) {
    let mut next = Next {
        list,
        at: cursor.at.into(),
        chosen: NOBODY,
    };
    tables.repeat(list.len as u32, &mut next);
    if next.chosen == NOBODY {
        return (cursor, NOBODY);
    }
    (
        Cursor {
            at: next.at as u32,
            ..cursor
        },
        next.chosen,
    )
}

#[derive(Clone, Copy)]
struct CarryOver {
    list: List,
    old: u64,
    at: u64,
}

impl<T: Tables> Step<T> for CarryOver {
    #[inline(always)]
    fn step(&mut self, tables: T, position: u32) -> bool {
        if let Some(entry) = self.list.entry(tables, position.into()) {
            let was = entry.old_position();
            if was != NO_OLD_POSITION && u64::from(was) < self.old {
                self.at = u64::from(position).wrapping_add(1);
            }
        }
        true
    }
}

/// Where a cursor that stood at `old` in the list before stands in this one:
/// behind the same server, or, when that was deleted, behind the one that stood
/// in front of it (the head, if there is none).
#[inline(always)]
fn carry<T: Tables>(tables: T, list: List, old: u32) -> u32 {
    let mut carried = CarryOver {
        list,
        old: old.into(),
        at: 0,
    };
    tables.repeat(list.len as u32, &mut carried);
    carried.at as u32
}
