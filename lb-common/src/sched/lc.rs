//! Least connections: the first server with the least to do; the size of a weight
//! does not matter.

use super::{
    Pick, Scheduler,
    least::{self, Burden, Rule},
    list::Conns,
};
use crate::tables::Tables;

/// Least connections.
#[derive(Clone, Copy)]
pub struct Lc;

impl Scheduler for Lc {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        least::choose::<Self, T>(pick)
    }
}

impl Rule for Lc {
    #[inline(always)]
    fn load(conns: Conns) -> u64 {
        conns.overhead()
    }

    #[inline(always)]
    fn beats(server: Burden, best: Burden) -> bool {
        server.load < best.load
    }
}
