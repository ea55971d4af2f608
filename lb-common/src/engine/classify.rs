//! Mark and filter rules of a packet that has no connection.
//!
//! The rules are compiled ([`crate::layout::RuleHeader`]). A packet's addresses
//! are looked up by binary search, which gives the labels of the sets of
//! addresses they lie in; then every combination of a source label, a destination
//! label and a port key is looked up in a hash. The rule with the greatest order
//! is found first; the one before it only matters if that one keeps a bit of
//! the mark.

use super::{STAGE_DONE, Stages};
use crate::{
    facts::Facts,
    family::Family,
    layout::{
        FilterVerdict, LabelList, POINT_WORDS, RuleEffect, RuleEntry, RuleHeader, RuleKind,
        port_key, rule_hash,
    },
    packet::Packet,
    parse,
    tables::{Cell, Param, Step, Table, Tables},
};

/// Most steps of a search: more points than any memory has.
const SEARCH: u32 = 32;
/// Most steps of a walk: what the kernel allows a loop.
const STEPS: u32 = 1 << 20;

/// Has the rules looked at, where there are any.
#[inline(always)]
pub(super) fn classified<F: Family, P, S: Stages<P>>(
    packet: &mut P,
    stages: &S,
    facts: &mut Facts,
) {
    facts.mark = 0;
    facts.verdict = FilterVerdict::NONE.0.into();
    if facts.root().has_rules(F::VERSION) {
        // Cannot fail.
        let _ = stages.classify::<F>(packet, facts);
    }
}

/// Stage: the mark that the rules give the packet, and what the filter says.
#[inline(always)]
pub fn classify<F: Family, P: Packet, T: Tables>(packet: &P, tables: T, facts: &mut Facts) -> u32 {
    let iface = match parse::ethernet(packet) {
        Some(ethernet) => ethernet.iface.word(),
        None => 0,
    };
    // No loop over the two: it was entered in its middle, which 6.1 refuses.
    facts.mark = look_up::<F, T>(tables, RuleKind::Mark as u32, facts, iface).into();
    facts.verdict = look_up::<F, T>(tables, RuleKind::Filter as u32, facts, iface).into();
    STAGE_DONE
}

/// What the filter says of the packets of a connection.
pub fn filter_verdict<F: Family, T: Tables>(tables: T, facts: &Facts) -> FilterVerdict {
    FilterVerdict(look_up::<F, T>(tables, RuleKind::Filter as u32, facts, 0))
}

/// The mark, or the [`FilterVerdict`], of a packet by the rules of one kind (a
/// [`RuleKind`] as a number). `iface` is the word of the
/// [`IfaceKey`](crate::layout::IfaceKey) that it came in by.
#[inline(always)]
fn look_up<F: Family, T: Tables>(tables: T, kind: u32, facts: &Facts, iface: u64) -> u32 {
    let half = (tables.param(Param::RuleWords) as u32).wrapping_mul(facts.root().side());
    let six = F::VERSION == 6;
    let header = half
        .wrapping_add(RuleHeader::position(RuleKind::Mark, six))
        .wrapping_add(kind.wrapping_mul(2 * RuleHeader::WORDS));
    let sources = word(tables, header);
    let destinations = word(tables, header.wrapping_add(1));
    let directory = word(tables, header.wrapping_add(2));
    if sources >> 32 == 0 {
        return 0;
    }
    let src = search::<F, T>(tables, half, sources, facts.src);
    let dst = search::<F, T>(tables, half, destinations, facts.dst);
    let span = |list: LabelList| {
        let start = half.wrapping_add(list.start());
        u64::from(start) | u64::from(start.wrapping_add(list.len())) << 32
    };
    let mut walk = Walk {
        half: half.into(),
        directory,
        sources: span(src),
        destinations: span(dst),
        src_at: 0,
        dst_at: 0,
        labels: 0,
        port_key: 0,
        entry: 0,
        entry_end: 0,
        ports: u64::from(facts.src_port().swap_bytes())
            | u64::from(facts.dst_port().swap_bytes()) << 16
            | u64::from(facts.protocol()) << 32,
        iface,
        bound: u32::MAX.into(),
        best: 0,
        effect: 0,
        whole: RuleEffect::NONE.word(),
    };
    if !src.is_empty() && !dst.is_empty() {
        walk.src_at = walk.sources & 0xffff_ffff;
        walk.dst_at = walk.destinations & 0xffff_ffff;
        tables.repeat(STEPS, &mut walk);
    }
    RuleEffect::from_word(walk.whole).apply(0)
}

/// A word of rule memory.
#[inline(always)]
fn word<T: Tables>(tables: T, index: u32) -> u64 {
    match tables.cell(Table::Rules, index) {
        Some(cell) => cell.load(0),
        None => 0,
    }
}

/// The labels of an address among the points `span` (start and count).
#[inline(always)]
fn search<F: Family, T: Tables>(tables: T, half: u32, span: u64, address: [u64; 2]) -> LabelList {
    let start = half.wrapping_add(span as u32);
    let mut search = Search {
        start: start.into(),
        low: 0,
        high: span >> 32,
        six: (F::VERSION == 6).into(),
        address: if F::VERSION == 6 {
            [address[0].swap_bytes(), address[1].swap_bytes()]
        } else {
            [u64::from((address[0] as u32).swap_bytes()), 0]
        },
    };
    tables.repeat(SEARCH, &mut search);
    let low = search.low as u32;
    let last = if F::VERSION == 6 {
        start
            .wrapping_add(low.wrapping_mul(POINT_WORDS[1]))
            .wrapping_add(2)
    } else {
        start.wrapping_add(low)
    };
    LabelList(word(tables, last) as u32)
}

/// A binary search for the last point that is not above an address. The first
/// point is not above any.
#[derive(Clone, Copy)]
struct Search {
    start: u64,
    low: u64,
    high: u64,
    six: u64,
    address: [u64; 2],
}

impl<T: Tables> Step<T> for Search {
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        if self.high <= self.low.wrapping_add(1) {
            return false;
        }
        let middle = self.low.wrapping_add(self.high) >> 1;
        let start = self.start as u32;
        let above = if self.six != 0 {
            let at = start.wrapping_add((middle as u32).wrapping_mul(POINT_WORDS[1]));
            let high = word(tables, at);
            let low = word(tables, at.wrapping_add(1));
            high > self.address[0] || (high == self.address[0] && low > self.address[1])
        } else {
            word(tables, start.wrapping_add(middle as u32)) >> 32 > self.address[0]
        };
        if above {
            self.high = middle;
        } else {
            self.low = middle;
        }
        true
    }
}

/// A walk over the combinations of labels, and over the rules of each. Positions
/// are from the start of rule memory; a span is where it starts and, in the high
/// half, where it ends.
#[derive(Clone, Copy)]
struct Walk {
    half: u64,
    /// Position in the half, and the mask.
    directory: u64,
    sources: u64,
    destinations: u64,
    src_at: u64,
    dst_at: u64,
    /// Source and destination label of the run at hand.
    labels: u64,
    /// Its port key, 0 before the run by port.
    port_key: u64,
    entry: u64,
    entry_end: u64,
    /// Source port, destination port, protocol; host order.
    ports: u64,
    iface: u64,
    /// Rules from this order on are in `whole`.
    bound: u64,
    /// Greatest order below the bound so far, and the rule's effect.
    best: u64,
    effect: u64,
    /// The effect of all rules from `bound` on.
    whole: u64,
}

impl Walk {
    /// Whether the rest of a rule's conditions hold; `at` is its first word.
    #[inline(always)]
    fn holds<T: Tables>(&self, tables: T, at: u32) -> bool {
        let ranges = word(tables, at.wrapping_add(3));
        let sport = self.ports & 0xffff;
        let dport = self.ports >> 16 & 0xffff;
        if sport < ranges & 0xffff
            || sport > ranges >> 16 & 0xffff
            || dport < ranges >> 32 & 0xffff
            || dport > ranges >> 48
        {
            return false;
        }
        let rest = word(tables, at.wrapping_add(4));
        let protocol = rest & 0xff;
        if protocol != 0 && (protocol == self.ports >> 32) == (rest >> 8 & 1 != 0) {
            return false;
        }
        rest >> 16 & 1 == 0 || word(tables, at.wrapping_add(5)) == self.iface
    }

    /// Opens the next run of rules. `false` when there is none.
    #[inline(always)]
    fn open<T: Tables>(&mut self, tables: T) -> bool {
        if self.src_at == self.sources >> 32 {
            return false;
        }
        let half = self.half as u32;
        if self.port_key == 0 {
            let src = word(tables, self.src_at as u32);
            let dst = word(tables, self.dst_at as u32);
            self.labels = src | dst << 32;
            self.port_key = port_key((self.ports >> 32) as u8, (self.ports >> 16) as u16).into();
        } else {
            self.port_key = 0;
            self.dst_at = self.dst_at.wrapping_add(1);
            if self.dst_at == self.destinations >> 32 {
                self.dst_at = self.destinations & 0xffff_ffff;
                self.src_at = self.src_at.wrapping_add(1);
            }
        }
        let slot = rule_hash(self.labels, self.port_key as u32) & (self.directory >> 32) as u32;
        let at = half.wrapping_add(self.directory as u32).wrapping_add(slot);
        let run = word(tables, at);
        self.entry = half.wrapping_add(run as u32).into();
        self.entry_end = self.entry.wrapping_add(run >> 32);
        true
    }

    /// Takes the best rule of a round into the whole. `false` when nothing
    /// before it matters.
    #[inline(always)]
    fn close(&mut self) -> bool {
        if self.best == 0 {
            return false;
        }
        let first = RuleEffect::from_word(self.effect);
        let whole = RuleEffect::from_word(self.whole).after(first);
        self.whole = whole.word();
        self.bound = self.best;
        self.best = 0;
        self.src_at = self.sources & 0xffff_ffff;
        self.dst_at = self.destinations & 0xffff_ffff;
        self.port_key = 0;
        whole.keep != 0
    }
}

impl<T: Tables> Step<T> for Walk {
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        if self.entry == self.entry_end {
            return self.open(tables) || self.close();
        }
        let at = self.entry as u32;
        let head = word(tables, at.wrapping_add(1));
        let order = head >> 32;
        if order <= self.best {
            // The rest of the run is no better.
            self.entry = self.entry_end;
            return true;
        }
        if order < self.bound
            && head & 0xffff_ffff == self.port_key
            && word(tables, at) == self.labels
            && self.holds(tables, at)
        {
            self.best = order;
            self.effect = word(tables, at.wrapping_add(2));
            self.entry = self.entry_end;
        } else {
            self.entry = self.entry.wrapping_add(RuleEntry::WORDS.into());
        }
        true
    }
}
