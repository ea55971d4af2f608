//! Source hashing: 256 buckets, of which each server in turn has as many as its
//! weight says, and one if that is 0.
//!
//! The kernel fills a table. Here each server of the list knows the first of its
//! buckets, and the bucket's server is found by halving: eight looks.

#[cfg(any(test, feature = "compile"))]
use super::{Compiled, Server};
use super::{
    List, NOBODY, Pick, Scheduler,
    hash::{self, BUCKETS},
};
use crate::{
    layout::ServiceFlags,
    tables::{Step, Tables},
};

/// Source hashing.
pub struct Sh;

impl Scheduler for Sh {
    const COMPILES: bool = true;

    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        let client = hash::fold(pick.facts.src).wrapping_add(hash::source_port(pick));
        let first = hash::golden(client);
        let falls_back = pick.service.flags().0 & ServiceFlags::SCHED_1 != 0;
        let mut search = Search {
            list: pick.list,
            cycle: pick.service.sched_word(),
            // The kernel adds the hash to the bucket where it starts: a second time.
            next: first.wrapping_add(first),
            tries: if falls_back { BUCKETS + 1 } else { 1 },
            bucket: first,
            position: 0,
            half: BUCKETS / 2,
            chosen: NOBODY,
        };
        let looks = (search.tries as u32).wrapping_mul(LOOKS + 1);
        pick.tables.repeat(looks, &mut search);
        search.chosen
    }

    #[cfg(any(test, feature = "compile"))]
    fn compile(servers: &[Server]) -> Compiled {
        let mut next = 0;
        let buckets = servers.iter().map(|server| {
            let first = next;
            next = u32::min(first + server.weight.clamp(1, 256), 256);
            first as u16
        });
        Compiled {
            hints: buckets.collect(),
            word: next.into(),
            ..Compiled::default()
        }
    }
}

/// Looks that find the server of a bucket.
const LOOKS: u32 = BUCKETS.trailing_zeros();

/// The search for the server of a bucket, and of the next one while that may not
/// be given a new connection. One loop over all looks: the verifier would follow
/// each way of each look.
#[derive(Clone, Copy)]
struct Search {
    list: List,
    /// After so many buckets the list begins again; 0 without servers.
    cycle: u64,
    /// The bucket to be tried after this one.
    next: u64,
    /// Buckets left, this one included.
    tries: u64,
    bucket: u64,
    /// The server's position so far, and by how much it may be greater.
    position: u64,
    half: u64,
    chosen: u64,
}

impl<T: Tables> Step<T> for Search {
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        let Some(bucket) = (self.bucket & (BUCKETS - 1)).checked_rem(self.cycle) else {
            return false;
        };
        if self.half != 0 {
            let further = self.position.wrapping_add(self.half);
            if further < self.list.len
                && let Some(entry) = self.list.entry(tables, further)
                && entry.hint() <= bucket
            {
                self.position = further;
            }
            self.half >>= 1;
            return true;
        }
        self.chosen = self.list.usable(tables, self.position);
        self.tries = self.tries.wrapping_sub(1);
        self.bucket = self.next;
        self.next = self.next.wrapping_add(1);
        self.position = 0;
        self.half = BUCKETS / 2;
        self.chosen == NOBODY && self.tries != 0
    }
}
