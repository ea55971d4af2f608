//! The table of interfaces whose frames may be claimed.

use lb_common::layout::{IFACE_WINDOW, IfaceEntry, IfaceKey};

use crate::dataplane::Mapping;

/// Makes the table hold exactly `wanted`. Entries stay where they are, and a
/// packet never finds one that is half another: an entry is emptied before its
/// slot is reused. Returns the keys for which there was no room.
pub fn publish(table: &Mapping<IfaceEntry>, wanted: &[IfaceEntry]) -> Vec<IfaceKey> {
    let slots = table.len();
    for index in 0..slots {
        let entry = table.get(index);
        if entry.key != 0 && !wanted.iter().any(|wanted| wanted.key == entry.key) {
            table
                .word(index, 0)
                .store(0, std::sync::atomic::Ordering::Release);
        }
    }
    let mut left = Vec::new();
    for entry in wanted {
        let key = key(entry.key);
        let home = key.home(slots);
        let window = || (0..IFACE_WINDOW.min(slots)).map(|i| (home + i) & (slots - 1));
        let found = window()
            .find(|index| table.get(*index).key == entry.key)
            .or_else(|| window().find(|index| table.get(*index).key == 0));
        match found {
            Some(index) if table.get(index) != *entry => table.set(index, *entry),
            Some(_) => {}
            None => left.push(key),
        }
    }
    left
}

fn key(word: u64) -> IfaceKey {
    IfaceKey {
        ifindex: word as u32,
        outer: (word >> 32) as u16,
        inner: (word >> 48) as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ifindex: u32, outer: u16, mac: u8) -> IfaceEntry {
        let key = IfaceKey {
            ifindex,
            outer,
            inner: 0,
        }
        .word();
        let mut entry = IfaceEntry {
            key,
            ..IfaceEntry::default()
        };
        entry.macs[0] = IfaceEntry::mac_word([2, 0, 0, 0, 0, mac]);
        entry
    }

    fn find(table: &Mapping<IfaceEntry>, word: u64) -> Option<IfaceEntry> {
        let home = key(word).home(table.len());
        (0..IFACE_WINDOW)
            .map(|i| table.get((home + i) & (table.len() - 1)))
            .find(|entry| entry.key == word)
    }

    #[test]
    fn entries_come_change_and_go() {
        let table = Mapping::anonymous(64).unwrap();
        let mut wanted: Vec<IfaceEntry> = (1..=10).map(|i| entry(i, i as u16 * 3, 1)).collect();
        assert_eq!(publish(&table, &wanted), []);
        wanted.retain(|entry| key(entry.key).ifindex.is_multiple_of(2));
        wanted[0].macs[1] = 99;
        wanted.push(entry(77, 0, 4));
        assert_eq!(publish(&table, &wanted), []);
        for entry in &wanted {
            assert_eq!(find(&table, entry.key), Some(*entry));
        }
        let stored = (0..64).filter(|index| table.get(*index).key != 0).count();
        assert_eq!(stored, wanted.len());
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let table = Mapping::anonymous(4).unwrap();
        let wanted: Vec<IfaceEntry> = (1..=5).map(|i| entry(i, 0, 1)).collect();
        assert_eq!(
            publish(&table, &wanted),
            [IfaceKey {
                ifindex: 5,
                outer: 0,
                inner: 0
            }]
        );
    }
}
