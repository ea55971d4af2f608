use bytemuck::{Pod, Zeroable};

/// Which rules: firewall marks, or the filter. Stored as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum RuleKind {
    /// Rules that set a mark.
    Mark = 0,
    /// Rules that drop or accept.
    Filter = 1,
}

/// Rule memory is an array of 64-bit words in two halves. Each half begins with
/// four [`RuleHeader`]s: marks and filter, IPv4 and IPv6. All positions in it are
/// counted from the start of the half.
///
/// A classifier turns source and destination address into *labels*, small numbers
/// for the sets of addresses that rules name: the address range a packet's
/// address lies in has a list of all labels it belongs to. Each combination of
/// a source label, a destination label and a port key has a run of rules in a
/// directory hashed over them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RuleHeader {
    /// First of the sorted points of source addresses.
    pub src_start: u32,
    /// Number of them; 0 is no rules at all.
    pub src_count: u32,
    /// First of the sorted points of destination addresses.
    pub dst_start: u32,
    /// Number of them.
    pub dst_count: u32,
    /// First word of the directory.
    pub directory: u32,
    /// Its size less one; the size is a power of two.
    pub mask: u32,
    /// Zero.
    pub reserved: [u64; 5],
}

impl RuleHeader {
    /// Words of a header.
    pub const WORDS: u32 = 8;
    /// Words of the headers of one half.
    pub const ALL: u32 = 4 * Self::WORDS;

    /// Where the header of a classifier begins. `six`: IPv6.
    #[inline(always)]
    pub const fn position(kind: RuleKind, six: bool) -> u32 {
        ((kind as u32) << 1 | six as u32) * Self::WORDS
    }
}

/// Words of a point, from which on addresses have other labels. IPv4: one, the
/// address (host order) in the high half, the [`LabelList`] in the low. IPv6:
/// the address as two words (host order), then the list.
pub const POINT_WORDS: [u32; 2] = [1, 3];

/// A run of words, each a label: position in the low 24 bits, length above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LabelList(pub u32);

impl LabelList {
    /// The longest list.
    pub const MOST: u32 = 255;
    /// Positions are below this.
    pub const REACH: u32 = 1 << 24;

    /// Puts a list together.
    pub const fn new(start: u32, len: u32) -> Self {
        Self(start | len << 24)
    }

    /// First word.
    #[inline(always)]
    pub const fn start(self) -> u32 {
        self.0 & (Self::REACH - 1)
    }

    /// Number of labels.
    #[inline(always)]
    pub const fn len(self) -> u32 {
        self.0 >> 24
    }

    /// Whether there is no label.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The port key of a rule for one destination port (host order) of one
/// protocol; that of any other rule is 0.
#[inline(always)]
pub const fn port_key(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

/// Slot in the directory, before the mask.
#[inline(always)]
pub const fn rule_hash(labels: u64, port_key: u32) -> u32 {
    let mut x = labels.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (port_key as u64) << 20;
    x = (x ^ (x >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 36) as u32
}

/// A rule under one combination of labels and port key, in a run that is sorted
/// by falling order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RuleEntry {
    /// Source label.
    pub src: u32,
    /// Destination label.
    pub dst: u32,
    /// [`port_key`] or 0.
    pub port_key: u32,
    /// The greater one decides: position in the chain of marks, from its end in
    /// the filter. Not 0.
    pub order: u32,
    /// [`RuleEffect`].
    pub effect: u64,
    /// Least source port, host order.
    pub sport_low: u16,
    /// Greatest source port.
    pub sport_high: u16,
    /// Least destination port.
    pub dport_low: u16,
    /// Greatest destination port.
    pub dport_high: u16,
    /// IP protocol number; 0 is any.
    pub protocol: u8,
    /// 1: any protocol but that.
    pub not_protocol: u8,
    /// 1: only frames of `iface`.
    pub has_iface: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// [`IfaceKey::word`](super::IfaceKey::word) of the interface.
    pub iface: u64,
}

impl RuleEntry {
    /// Words of an entry.
    pub const WORDS: u32 = 6;
}

/// What a rule does to a packet's mark: keeps some bits, then inverts some.
/// (Setting is keeping none.) Rules one after the other are one such effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleEffect {
    /// Bits that stay.
    pub keep: u32,
    /// Bits that are inverted then.
    pub flip: u32,
}

impl RuleEffect {
    /// Nothing.
    pub const NONE: Self = Self {
        keep: u32::MAX,
        flip: 0,
    };

    /// As stored.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.keep as u64 | (self.flip as u64) << 32
    }

    /// As read.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            keep: word as u32,
            flip: (word >> 32) as u32,
        }
    }

    /// This one after `first`.
    #[inline(always)]
    pub const fn after(self, first: Self) -> Self {
        Self {
            keep: self.keep & first.keep,
            flip: self.flip ^ (first.flip & self.keep),
        }
    }

    /// What becomes of a mark.
    #[inline(always)]
    pub const fn apply(self, mark: u32) -> u32 {
        (mark & self.keep) ^ self.flip
    }
}

/// What the filter says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterVerdict(pub u32);

impl FilterVerdict {
    /// No rule matched.
    pub const NONE: Self = Self(0);

    /// The rule whose counters are in `slot` decided.
    pub const fn new(slot: u32, drop: bool) -> Self {
        Self(slot << 2 | 2 | drop as u32)
    }

    /// Whether a rule matched.
    #[inline(always)]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }

    /// Whether the packet is to be dropped.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        self.0 & 1 != 0
    }

    /// Slot of the rule's counters.
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        self.0 >> 2
    }

    /// As the effect of a rule: nothing before it matters.
    pub const fn effect(self) -> RuleEffect {
        RuleEffect {
            keep: 0,
            flip: self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_combine() {
        let marks = [0, 1, 0xffff_ffff, 0x1234_5678];
        let words = [0_u32, 0xff, 0xffff_0000, 0xffff_ffff, 0x0f0f_0f0f];
        for keep in words {
            for flip in words {
                let second = RuleEffect { keep, flip };
                assert_eq!(RuleEffect::from_word(second.word()), second);
                let first = RuleEffect {
                    keep: !flip,
                    flip: keep >> 3,
                };
                for mark in marks {
                    let whole = second.after(first).apply(mark);
                    assert_eq!(whole, second.apply(first.apply(mark)));
                }
            }
        }
    }

    #[test]
    fn verdicts_keep_their_slot() {
        let drop = FilterVerdict::new(65_535, true);
        let accept = FilterVerdict::new(0, false);
        assert!(drop.is_some() && drop.drops() && drop.slot() == 65_535);
        assert!(accept.is_some() && !accept.drops() && accept.slot() == 0);
        assert!(!FilterVerdict::NONE.is_some() && !FilterVerdict::NONE.drops());
        assert_eq!(drop.effect().apply(77), drop.0);
    }
}
