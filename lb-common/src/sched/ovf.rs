//! Overflow: the first of the heaviest servers that have not more active
//! connections than their weight. (As many are not too many: a server takes one
//! more than its weight, as in the kernel.)

use super::{
    Pick, Scheduler,
    least::{self, Burden, Rule},
    list::Conns,
};
use crate::tables::Tables;

/// Weighted overflow.
#[derive(Clone, Copy)]
pub struct Ovf;

impl Scheduler for Ovf {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        least::choose::<Self, T>(pick)
    }
}

impl Rule for Ovf {
    #[inline(always)]
    fn admits(conns: Conns, weight: u64) -> bool {
        conns.active() <= weight
    }

    #[inline(always)]
    fn load(_: Conns) -> u64 {
        0
    }

    #[inline(always)]
    fn beats(server: Burden, best: Burden) -> bool {
        server.weight > best.weight
    }
}
