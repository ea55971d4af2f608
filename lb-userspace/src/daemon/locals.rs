//! The table of local addresses that FULLNAT connections are made from: runs
//! that never change while a server may refer to them.

use std::{collections::HashMap, fs, ops::RangeInclusive};

use lb_common::layout::{LocalAddress, LocalPool};

use super::tables::Tables;

/// A run of addresses as words: what tells two apart.
type Words = Vec<[u64; 4]>;

/// Which run of entries holds which pool.
pub struct Locals {
    runs: HashMap<Words, LocalPool>,
    /// Withdrawn since the last grace period; packets may still read them.
    retired: Vec<LocalPool>,
}

impl Locals {
    /// The runs that servers refer to already, as a dead daemon left them.
    pub fn restore(tables: &Tables<'_>) -> Self {
        let pools = (0..tables.dests.len()).map(|slot| LocalPool(tables.dests.get(slot).local));
        let runs = pools
            .filter(|pool| !pool.is_empty() && is_within(*pool, tables.locals.len()))
            .map(|pool| {
                let indexes = pool.start()..pool.start() + pool.len();
                let entries = indexes.map(|index| bytemuck::cast(tables.locals.get(index)));
                (entries.collect(), pool)
            });
        Self {
            runs: runs.collect(),
            retired: Vec::new(),
        }
    }

    /// Opens a transaction: no packet uses what was withdrawn before.
    pub fn begin(&mut self) {
        self.retired.clear();
    }

    /// The run with these addresses, which is published first if there is none.
    /// `None` when the table has no room for it.
    pub fn run(&mut self, tables: &Tables<'_>, addresses: &[LocalAddress]) -> Option<LocalPool> {
        let words: Words = addresses
            .iter()
            .map(|address| bytemuck::cast(*address))
            .collect();
        if let Some(pool) = self.runs.get(&words) {
            return Some(*pool);
        }
        let len = u32::try_from(addresses.len()).ok()?;
        let start = self.gap(len, tables.locals.len())?;
        for (index, address) in (start..).zip(addresses) {
            tables.locals.set(index, *address);
        }
        let pool = LocalPool::new(start, len);
        self.runs.insert(words, pool);
        Some(pool)
    }

    /// The first `len` entries of `room` that no run has.
    fn gap(&self, len: u32, room: u32) -> Option<u32> {
        let mut taken: Vec<LocalPool> = self.runs.values().chain(&self.retired).copied().collect();
        taken.sort_unstable_by_key(|pool| pool.start());
        let mut start = 0;
        for pool in taken {
            if pool.start().saturating_sub(start) >= len {
                break;
            }
            start = start.max(pool.start() + pool.len());
        }
        (len <= room.saturating_sub(start)).then_some(start)
    }

    /// Withdraws every run that `is_used` does not name, once no server refers
    /// to it.
    pub fn retain(&mut self, is_used: impl Fn(LocalPool) -> bool) {
        let retired = &mut self.retired;
        self.runs.retain(|_, pool| {
            let keep = is_used(*pool);
            if !keep {
                retired.push(*pool);
            }
            keep
        });
    }
}

fn is_within(pool: LocalPool, room: u32) -> bool {
    let end = pool.start().checked_add(pool.len());
    end.is_some_and(|end| end <= room)
}

/// The ports that connections of the director's own do not use, as it is set
/// now: the larger part of those outside `net.ipv4.ip_local_port_range` (IPv6
/// has no other). `None` when that leaves none.
pub fn free_ports() -> Option<RangeInclusive<u16>> {
    // Read anew each time: it belongs to the network namespace, and may change.
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => outside(first, last),
        // The kernel's default.
        _ => outside(32_768, 60_999),
    }
}

/// The larger part of 1024 to 65535 without `first` to `last`.
fn outside(first: u16, last: u16) -> Option<RangeInclusive<u16>> {
    let below = (first > 1024).then(|| 1024..=first - 1);
    let above = last.checked_add(1).map(|next| next.max(1024)..=u16::MAX);
    below.into_iter().chain(above).max_by_key(|part| part.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::tables::memory::Memory;

    fn addresses(from: u32, count: u32) -> Vec<LocalAddress> {
        let address = |n| LocalAddress {
            addr: [n, 0, 0, 0],
            first_port: 1024,
            last_port: 2048,
            ..LocalAddress::default()
        };
        (from..from + count).map(address).collect()
    }

    #[test]
    fn a_run_is_reused_only_after_a_grace_period() {
        let memory = Memory::new(1, 1);
        let tables = memory.tables();
        let room = tables.locals.len();
        let mut locals = Locals::restore(&tables);
        let first = locals.run(&tables, &addresses(0, room / 2)).unwrap();
        let second = locals.run(&tables, &addresses(9000, room / 4)).unwrap();
        assert_eq!((first.start(), second.start()), (0, room / 2));
        assert_eq!(
            locals.run(&tables, &addresses(0, room / 2)),
            Some(first),
            "one run for all servers with that pool"
        );
        assert_eq!(locals.run(&tables, &addresses(1, room / 2)), None, "full");
        locals.retain(|pool| pool != first);
        assert_eq!(
            locals.run(&tables, &addresses(1, room / 2)),
            None,
            "packets may still read it"
        );
        assert_eq!(tables.locals.get(1), addresses(1, 1)[0]);
        locals.begin();
        let third = locals.run(&tables, &addresses(1, room / 2)).unwrap();
        assert_eq!(third, first);
        assert_eq!(tables.locals.get(0), addresses(1, 1)[0]);
        // The rest of the table goes to whom it is large enough for.
        assert_eq!(locals.run(&tables, &addresses(5, room / 4 + 1)), None);
        let last = locals.run(&tables, &addresses(5, room / 4)).unwrap();
        assert_eq!(last.start() + last.len(), room);
    }

    #[test]
    fn runs_in_use_survive_the_daemon() {
        let memory = Memory::new(1, 2);
        let tables = memory.tables();
        let pool = addresses(7, 3);
        let run = Locals::restore(&tables).run(&tables, &pool).unwrap();
        for (slot, local) in [(0, run), (1, LocalPool::new(u32::MAX, 2))] {
            let mut dest = tables.dests.get(slot);
            dest.local = local.0;
            tables.dests.set(slot, dest);
        }
        let mut locals = Locals::restore(&tables);
        assert_eq!(locals.run(&tables, &pool), Some(run));
        let other = locals.run(&tables, &addresses(8, 3)).unwrap();
        assert!(other.start() >= run.start() + run.len(), "{other:?}");
    }

    #[test]
    fn ports_outside_the_directors_own() {
        for (first, last, want) in [
            (32_768, 60_999, Some(1024..=32_767)),
            (1024, 40_000, Some(40_001..=65_535)),
            (1024, 65_535, None),
            (1, 500, Some(1024..=65_535)),
            (1025, 65_535, Some(1024..=1024)),
        ] {
            assert_eq!(outside(first, last), want, "{first} {last}");
        }
        assert!(free_ports().is_some());
    }
}
