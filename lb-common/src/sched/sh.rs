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
        let buckets = Buckets {
            list: pick.list,
            cycle: pick.service.sched_word(),
        };
        let first = hash::golden(client);
        let chosen = buckets.usable(pick.tables, first);
        if chosen != NOBODY || pick.service.flags().0 & ServiceFlags::SCHED_1 == 0 {
            return chosen;
        }
        // The kernel adds the hash to the bucket where it starts: a second time.
        let mut fallback = Fallback {
            buckets,
            start: first.wrapping_add(first),
            chosen: NOBODY,
        };
        pick.tables.repeat(BUCKETS as u32, &mut fallback);
        fallback.chosen
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

/// Which server has which bucket.
#[derive(Clone, Copy)]
struct Buckets {
    list: List,
    /// After so many buckets the list begins again; 0 without servers.
    cycle: u64,
}

impl Buckets {
    /// The server that has a bucket, if it may be given a new connection.
    #[inline(always)]
    fn usable<T: Tables>(self, tables: T, bucket: u64) -> u64 {
        let Some(bucket) = (bucket & (BUCKETS - 1)).checked_rem(self.cycle) else {
            return NOBODY;
        };
        // Without branches: the verifier would follow each way of each look.
        let mut position = 0;
        let mut half = BUCKETS / 2;
        while half > 0 {
            let there = below(position + half, self.list.len);
            let Some(entry) = self.list.entry(tables, position + (half & there)) else {
                return NOBODY;
            };
            position += half & there & below(entry.hint(), bucket + 1);
            half /= 2;
        }
        self.list.usable(tables, position)
    }
}

/// All ones if `a` is below `b`, else zero; both are small.
#[inline(always)]
const fn below(a: u64, b: u64) -> u64 {
    (a.wrapping_sub(b) as i64 >> 63) as u64
}

#[derive(Clone, Copy)]
struct Fallback {
    buckets: Buckets,
    start: u64,
    chosen: u64,
}

impl<T: Tables> Step<T> for Fallback {
    #[inline(always)]
    fn step(&mut self, tables: T, index: u32) -> bool {
        let bucket = self.start.wrapping_add(index.into());
        self.chosen = self.buckets.usable(tables, bucket);
        self.chosen == NOBODY
    }
}
