//! Locality-based least connections with replication: a destination has a set of
//! servers, of which the least loaded is chosen; when that is busy (see lblc),
//! the set gains the server that wlc would choose. A set that did not change for
//! a day loses its most loaded server.

use super::{
    List, NOBODY, Pick, Scheduler,
    destination::{self, EXPIRATION, Least, TIMES},
    least::Burden,
    list::{Conns, takes_more},
};
use crate::tables::{Cell, DESTINATION_WORDS, Destination, Step, Tables};

/// Word of a record: the number of servers; they follow, the newest first.
const COUNT: usize = 1;
/// Word of a record: the newest server.
const NEWEST: usize = 2;
/// Greatest set. (The kernel's has no limit.)
pub const MOST: usize = DESTINATION_WORDS - NEWEST;

/// Locality-based least connections with replication.
pub struct Lblcr;

impl Scheduler for Lblcr {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        let Pick { tables, list, .. } = pick;
        let key = destination::key(pick);
        let now = pick.facts.now & 0xffff_ffff;
        let record = destination::recall(pick, &key);
        let mut walk = Walk {
            list,
            key: if record.is_some() { key } else { NO_RECORD },
            least: Least::NONE,
            mine: Least::NONE,
            mine_rank: NOBODY,
            worst: Burden { load: 0, weight: 0 },
            worst_rank: NOBODY,
            flags: 0,
        };
        tables.repeat(list.len as u32, &mut walk);
        if let Some(record) = record {
            let mut changed = record.load(TIMES) >> 32;
            let age = (now as u32).wrapping_sub(changed as u32);
            if record.load(COUNT) > 1 && age as i32 >= 0 && age > EXPIRATION {
                remove(record, walk.worst_rank);
                changed = now;
            }
            record.store(TIMES, now | changed << 32);
        }
        if walk.mine.position != NOBODY && walk.flags != BUSY | IDLE {
            return walk.mine.position;
        }
        let chosen = walk.least.position;
        if chosen == NOBODY {
            return NOBODY;
        }
        let Some(entry) = list.entry(tables, chosen) else {
            return NOBODY;
        };
        let member = destination::member(tables, entry.slot());
        match record {
            Some(record) => {
                if insert(record, member) {
                    record.store(TIMES, now | now << 32);
                }
            }
            None => {
                tables.keep_destination(&key, now | now << 32, 1);
                if let Some(record) = tables.destination(&key) {
                    record.store(NEWEST, member);
                }
            }
        }
        chosen
    }
}

/// The rank of a server in a set: 0 is the newest; [`NOBODY`] if it is not there.
#[inline(always)]
fn rank<C: Cell>(record: C, member: u64) -> u64 {
    let mut i = 0;
    while i < MOST {
        if record.load(NEWEST + i) == member {
            return i as u64;
        }
        i += 1;
    }
    NOBODY
}

/// Puts a server in front, unless it is in the set; of a full set the oldest is
/// lost.
#[inline(always)]
fn insert<C: Cell>(record: C, member: u64) -> bool {
    if rank(record, member) != NOBODY {
        return false;
    }
    let mut i = MOST - 1;
    while i > 0 {
        record.store(NEWEST + i, record.load(NEWEST + i - 1));
        i -= 1;
    }
    record.store(NEWEST, member);
    let count = record.load(COUNT);
    if count < MOST as u64 {
        record.store(COUNT, count.wrapping_add(1));
    }
    true
}

/// Takes the server of a rank out.
#[inline(always)]
fn remove<C: Cell>(record: C, rank: u64) {
    if rank == NOBODY {
        return;
    }
    let mut i = 0;
    while i < MOST {
        if i as u64 >= rank {
            let next = if i + 1 < MOST {
                record.load(NEWEST + i + 1)
            } else {
                0
            };
            record.store(NEWEST + i, next);
        }
        i += 1;
    }
    record.store(COUNT, record.load(COUNT).wrapping_sub(1));
}

/// The key of a destination of which nothing is remembered.
const NO_RECORD: Destination = [u64::MAX; 3];
/// In [`Walk::flags`]: the set's best has more active connections than its weight.
const BUSY: u64 = 1;
/// In [`Walk::flags`]: some server has less than half as many as its weight.
const IDLE: u64 = 2;

#[derive(Clone, Copy)]
struct Walk {
    list: List,
    /// Of the set: a loop's state is words, so it cannot hold the record.
    key: Destination,
    least: Least,
    /// The least loaded of the set; among equals the newest member.
    mine: Least,
    mine_rank: u64,
    /// The most loaded of the set; among equals the newest member.
    worst: Burden,
    worst_rank: u64,
    flags: u64,
}

impl Walk {
    /// Takes a member of the set into account.
    #[inline(always)]
    fn meet(&mut self, position: u64, rank: u64, burden: Burden, conns: Conns, takes_more: bool) {
        let first = self.worst_rank == NOBODY;
        let above = self.worst.is_less(burden);
        let newer = rank < self.worst_rank && !burden.is_less(self.worst);
        if first || above || newer {
            self.worst = burden;
            self.worst_rank = rank;
        }
        let better = self.mine.gives_way(burden);
        let newer = rank < self.mine_rank && !self.mine.burden.is_less(burden);
        if takes_more && (better || newer) {
            self.mine = Least { position, burden };
            self.mine_rank = rank;
            let busy = u64::from(conns.active() > burden.weight);
            self.flags = self.flags & IDLE | busy;
        }
    }
}

impl<T: Tables> Step<T> for Walk {
    #[inline(always)]
    fn step(&mut self, tables: T, position: u32) -> bool {
        let Some(entry) = self.list.entry(tables, position.into()) else {
            return false;
        };
        let slot = entry.slot();
        let weight = u64::from(entry.weight());
        let conns = Conns::of(tables, slot);
        if conns.active().wrapping_add(conns.active()) < weight {
            self.flags |= IDLE;
        }
        if weight == 0 {
            return true;
        }
        let takes_more = takes_more(tables, slot);
        let burden = Burden {
            load: conns.overhead(),
            weight,
        };
        let position = u64::from(position);
        if takes_more && self.least.gives_way(burden) {
            self.least = Least { position, burden };
        }
        if let Some(record) = tables.destination(&self.key) {
            let rank = rank(record, destination::member(tables, slot));
            if rank != NOBODY {
                self.meet(position, rank, burden, conns, takes_more);
            }
        }
        true
    }
}
