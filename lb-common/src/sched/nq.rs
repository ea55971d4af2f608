//! Never queue: the first server without an active connection; if there is none,
//! as sed.

use super::{
    Pick, Scheduler,
    least::{self, Burden, Rule},
    list::Conns,
};
use crate::tables::Tables;

/// Never queue.
#[derive(Clone, Copy)]
pub struct Nq;

impl Scheduler for Nq {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        least::choose::<Self, T>(pick)
    }
}

impl Rule for Nq {
    #[inline(always)]
    fn settles(conns: Conns) -> bool {
        conns.active() == 0
    }

    #[inline(always)]
    fn load(conns: Conns) -> u64 {
        conns.active().wrapping_add(1)
    }

    #[inline(always)]
    fn beats(server: Burden, best: Burden) -> bool {
        server.is_less(best)
    }
}
