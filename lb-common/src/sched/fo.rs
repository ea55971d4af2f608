//! Failover: the first of the heaviest servers.

use super::{
    Pick, Scheduler,
    least::{self, Burden, Rule},
    list::Conns,
};
use crate::tables::Tables;

/// Weighted failover.
#[derive(Clone, Copy)]
pub struct Fo;

impl Scheduler for Fo {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        least::choose::<Self, T>(pick)
    }
}

impl Rule for Fo {
    #[inline(always)]
    fn load(_: Conns) -> u64 {
        0
    }

    #[inline(always)]
    fn beats(server: Burden, best: Burden) -> bool {
        server.weight > best.weight
    }
}
