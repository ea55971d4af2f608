//! The flag that a server is full lies in its word, which both the daemon and
//! packets write: packets that flag alone, the daemon all the rest.

use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::layout::{DestEntry, DestFlags, DestLoad, DestWord, Thresholds};

use super::{state::Node, tables::Tables};

/// Stores a server's word but for the flag that it is full.
pub(super) fn store_word(word: &AtomicU64, new: DestWord) {
    update(word, |seen| new.overloaded(seen.has(DestFlags::OVERLOAD)));
}

fn update(word: &AtomicU64, new: impl Fn(DestWord) -> DestWord) {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        let next = new(DestWord(seen)).0;
        if next == seen {
            return;
        }
        match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

/// Stores a server's entry where it differs, its word last, and then says whether
/// it is full if its thresholds are others now.
pub(super) fn store(tables: &Tables<'_>, node: &Node, old: DestEntry, new: DestEntry) {
    let (before, after): ([u64; 8], [u64; 8]) = (bytemuck::cast(old), bytemuck::cast(new));
    for word in (1..after.len()).rev() {
        if before[word] != after[word] {
            tables
                .dests
                .word(node.slot, word)
                .store(after[word], Ordering::Release);
        }
    }
    let word = tables.dests.word(node.slot, 0);
    if node.fresh {
        // The last tenant's flag.
        update(word, |_| DestWord(new.word));
    } else {
        store_word(word, DestWord(new.word));
    }
    let (was, is) = (Thresholds(old.thresholds), Thresholds(new.thresholds));
    if was != is {
        judge(tables, node.slot, is);
    }
}

/// Whether a server is full under new thresholds, by the rules of Linux 6.12: at
/// the upper one it is, below the lower one it is not, between them it stays
/// what it was.
fn judge(tables: &Tables<'_>, slot: u32, limits: Thresholds) {
    let word = tables.dests.word(slot, 0);
    let total = || DestLoad::total(tables.dest_loads.word(slot, 0).load(Ordering::Acquire));
    let say = |full| update(word, |seen| seen.overloaded(full));
    if limits.upper() == 0 {
        return say(false);
    }
    // Packets may bind and unbind meanwhile: the last look decides.
    for _ in 0..2 {
        let total = total();
        let lower = match limits.lower() {
            0 => limits.upper() - limits.upper() / 4,
            lower => lower,
        };
        if limits.is_reached(total) {
            say(true);
        } else if total < lower {
            say(false);
        }
    }
}
