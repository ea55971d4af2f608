//! The table of next hops: entries that never change while a server may refer
//! to them.

use std::collections::{BTreeSet, HashMap};

use lb_common::layout::{DestFlags, DestWord, NextHop};

use super::tables::Tables;

/// A next hop as words: what tells two apart.
type Words = [u64; 8];

/// Which entry holds which next hop.
pub struct NextHops {
    entries: HashMap<Words, u32>,
    free: Vec<u32>,
    /// Withdrawn since the last grace period; packets may still read them.
    retired: Vec<u32>,
}

impl NextHops {
    /// The entries that servers refer to already, as a dead daemon left them.
    /// Entry 0 is never used, so that a zero word refers to nothing.
    pub fn restore(tables: &Tables<'_>) -> Self {
        let words = (0..tables.dests.len()).map(|slot| DestWord(tables.dests.get(slot).word));
        let used: BTreeSet<u32> = words
            .filter(|word| word.has(DestFlags::RESOLVED))
            .map(DestWord::next_hop)
            .filter(|index| *index < tables.next_hops.len())
            .collect();
        let entries = used
            .iter()
            .map(|index| (bytemuck::cast(tables.next_hops.get(*index)), *index));
        let free = (1..tables.next_hops.len())
            .rev()
            .filter(|index| !used.contains(index));
        Self {
            entries: entries.collect(),
            free: free.collect(),
            retired: Vec::new(),
        }
    }

    /// Opens a transaction: no packet uses what was withdrawn before.
    pub fn begin(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// Index of `hop`, which is published first if no entry holds it. `None`
    /// when the table is full.
    pub fn index(&mut self, tables: &Tables<'_>, hop: NextHop) -> Option<u32> {
        let words: Words = bytemuck::cast(hop);
        if let Some(index) = self.entries.get(&words) {
            return Some(*index);
        }
        let index = self.free.pop()?;
        tables.next_hops.set(index, hop);
        self.entries.insert(words, index);
        Some(index)
    }

    /// Indexes of the interfaces that the entries lead to.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        self.entries
            .keys()
            .map(|words| bytemuck::cast::<Words, NextHop>(*words).ifindex)
            .collect()
    }

    /// Withdraws every entry that is not in `used`, once no server's word
    /// refers to it.
    pub fn retain(&mut self, used: &BTreeSet<u32>) {
        self.entries.retain(|_, index| {
            let keep = used.contains(index);
            if !keep {
                self.retired.push(*index);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::tables::memory::Memory;

    fn hop(ifindex: u32) -> NextHop {
        NextHop {
            ifindex,
            mtu: 1500,
            header_len: 14,
            ..NextHop::default()
        }
    }

    #[test]
    fn an_entry_is_reused_only_after_a_grace_period() {
        let memory = Memory::new(1, 1);
        let tables = memory.tables();
        let mut hops = NextHops::restore(&tables);
        let count = tables.next_hops.len() - 1;
        let indexes: BTreeSet<u32> = (0..count)
            .map(|i| hops.index(&tables, hop(i)).unwrap())
            .collect();
        assert_eq!((indexes.len() as u32, indexes.contains(&0)), (count, false));
        assert_eq!(hops.index(&tables, hop(0)), hops.index(&tables, hop(0)));
        assert_eq!(hops.index(&tables, hop(count)), None, "full");
        let gone = hops.index(&tables, hop(3)).unwrap();
        let used = indexes.into_iter().filter(|index| *index != gone).collect();
        hops.retain(&used);
        assert_eq!(
            hops.index(&tables, hop(count)),
            None,
            "packets may still read it"
        );
        assert_eq!(tables.next_hops.get(gone), hop(3));
        hops.begin();
        assert_eq!(hops.index(&tables, hop(count)), Some(gone));
    }

    #[test]
    fn entries_in_use_survive_the_daemon() {
        let memory = Memory::new(1, 1);
        let tables = memory.tables();
        let index = NextHops::restore(&tables).index(&tables, hop(9)).unwrap();
        let mut dest = tables.dests.get(0);
        dest.word = DestWord::new(index, DestFlags::AVAILABLE | DestFlags::RESOLVED).0;
        tables.dests.set(0, dest);
        let mut hops = NextHops::restore(&tables);
        assert_eq!(hops.index(&tables, hop(9)), Some(index));
        assert_ne!(hops.index(&tables, hop(8)), Some(index));
    }
}
