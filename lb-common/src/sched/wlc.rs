//! Weighted least connections: the first server with the least to do for its
//! weight. Among idle servers that is the first of the list, not the heaviest.

use super::{
    Pick, Scheduler,
    least::{self, Burden, Rule},
    list::Conns,
};
use crate::tables::Tables;

/// Weighted least connections.
#[derive(Clone, Copy)]
pub struct Wlc;

impl Scheduler for Wlc {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        least::choose::<Self, T>(pick)
    }
}

impl Rule for Wlc {
    #[inline(always)]
    fn load(conns: Conns) -> u64 {
        conns.overhead()
    }

    #[inline(always)]
    fn beats(server: Burden, best: Burden) -> bool {
        server.is_less(best)
    }
}
