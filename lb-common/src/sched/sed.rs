//! Shortest expected delay: the first server that would have the fewest active
//! connections for its weight with one more.

use super::{
    Pick, Scheduler,
    least::{self, Burden, Rule},
    list::Conns,
};
use crate::tables::Tables;

/// Shortest expected delay.
#[derive(Clone, Copy)]
pub struct Sed;

impl Scheduler for Sed {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        least::choose::<Self, T>(pick)
    }
}

impl Rule for Sed {
    #[inline(always)]
    fn load(conns: Conns) -> u64 {
        conns.active().wrapping_add(1)
    }

    #[inline(always)]
    fn beats(server: Burden, best: Burden) -> bool {
        server.is_less(best)
    }
}
