//! Destination hashing: 256 buckets, each of which has one server of the list in
//! turn, whatever its weight. A server that is not to be used is not replaced.
//!
//! The kernel fills a table when a server is added or removed. The list's order
//! says the same.

use super::{NOBODY, Pick, Scheduler, hash};
use crate::tables::Tables;

/// Destination hashing.
pub struct Dh;

impl Scheduler for Dh {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        let bucket = hash::golden(hash::fold(pick.facts.dst));
        match bucket.checked_rem(pick.list.len) {
            Some(position) => pick.list.usable(pick.tables, position),
            None => NOBODY,
        }
    }
}
