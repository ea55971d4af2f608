//! Locality-based least connections: a destination keeps its server, until that
//! has more active connections than its weight while another has half as many;
//! then, and at first, as wlc.

use super::{
    List, NOBODY, Pick, Scheduler,
    destination::{self, Least},
    least::Burden,
    list::{Conns, takes_more},
};
use crate::tables::{Cell, Step, Tables};

/// Word of a record: the server.
const SERVER: usize = 1;

/// Locality-based least connections.
pub struct Lblc;

impl Scheduler for Lblc {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        let Pick { tables, list, .. } = pick;
        let key = destination::key(pick);
        let now = pick.facts.now & 0xffff_ffff;
        let record = destination::recall(pick, &key);
        let mut walk = Walk {
            list,
            least: Least::NONE,
            kept: 0,
            kept_at: NOBODY,
            busy: 0,
            idle: 0,
        };
        if let Some(record) = record {
            record.store(destination::TIMES, now);
            walk.kept = record.load(SERVER);
        }
        tables.repeat(list.len as u32, &mut walk);
        // Whether the kept server is overloaded is not asked, as in the kernel.
        if walk.kept_at != NOBODY && walk.busy & walk.idle == 0 {
            return walk.kept_at;
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
            Some(record) => record.store(SERVER, member),
            None => tables.keep_destination(&key, now, member),
        }
        chosen
    }
}

/// Flags are 0 or 1.
#[derive(Clone, Copy)]
struct Walk {
    list: List,
    least: Least,
    /// The server that the destination has.
    kept: u64,
    kept_at: u64,
    /// The kept server has more active connections than its weight.
    busy: u64,
    /// Some server has less than half as many as its weight.
    idle: u64,
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
            self.idle = 1;
        }
        if weight == 0 {
            return true;
        }
        if self.kept != 0 && self.kept == destination::member(tables, slot) {
            self.kept_at = position.into();
            self.busy = u64::from(conns.active() > weight);
        }
        let burden = Burden {
            load: conns.overhead(),
            weight,
        };
        if self.least.gives_way(burden) && takes_more(tables, slot) {
            self.least = Least {
                position: position.into(),
                burden,
            };
        }
        true
    }
}
