//! The memory by destination (lblc, lblcr): which servers had connections to an
//! address. It is an LRU hash outside the halves; a server is remembered by its
//! slot and the slot's generation.

use super::{NOBODY, Pick, least::Burden};
use crate::{
    layout::DestView,
    tables::{Cell, Destination, Table, Tables},
    time::{Tick, seconds},
};

/// What is not used for so long is forgotten (the kernel's `lblc_expiration` and
/// `lblcr_expiration`).
pub(super) const EXPIRATION: Tick = seconds(24 * 3600);

/// Word of a record: ticks of the last use and, above it, of the last change.
pub(super) const TIMES: usize = 0;

/// The key of a packet's destination.
#[inline(always)]
pub(super) fn key<T: Tables>(pick: Pick<'_, T>) -> Destination {
    [
        u64::from(pick.service.slot()) | pick.service.binding() << 32,
        pick.facts.dst[0],
        pick.facts.dst[1],
    ]
}

/// A server as it is remembered; 0 is nobody.
#[inline(always)]
pub(super) fn member<T: Tables>(tables: T, slot: u32) -> u64 {
    match tables.cell(Table::Dest, slot) {
        Some(dest) => DestView(dest).tenant(slot),
        None => 0,
    }
}

/// The record of a destination, unless it was not used for too long.
#[inline(always)]
pub(super) fn recall<T: Tables>(pick: Pick<'_, T>, key: &Destination) -> Option<T::Cell> {
    let record = pick.tables.destination(key)?;
    let used = record.load(TIMES) as Tick;
    let idle = (pick.facts.now as Tick).wrapping_sub(used);
    // A clock a tick behind counts as the same moment.
    if idle as i32 >= 0 && idle > EXPIRATION {
        return None;
    }
    Some(record)
}

/// The least loaded server so far.
#[derive(Clone, Copy)]
pub(super) struct Least {
    pub(super) position: u64,
    pub(super) burden: Burden,
}

impl Least {
    pub(super) const NONE: Self = Self {
        position: NOBODY,
        burden: Burden { load: 0, weight: 0 },
    };

    /// Whether a server is better.
    #[inline(always)]
    pub(super) const fn gives_way(self, burden: Burden) -> bool {
        self.position == NOBODY || burden.is_less(self.burden)
    }
}
