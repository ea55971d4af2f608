//! A learned way in three words, as a reverse cell keeps it.
//!
//! Word 0: station to send to, low 16 bits of the one to send from. Word 1: its
//! rest, interface above. Word 2: bits 0–15 the MTU, 16–31 the outer tag, 32–47
//! the inner one; a tag is its identifier and two bits of what it is.

use core::marker::PhantomData;

use super::way::{Learned, Way, ethertype};
use crate::{
    family::Family,
    wire::{ETHERTYPE_QINQ, ETHERTYPE_VLAN},
};

const STATION: u64 = 0xffff_ffff_ffff;
const VLAN: u64 = 1 << 12;
const QINQ: u64 = 2 << 12;

/// Identifier and kind of a tag. Priority and DEI are their sender's.
#[inline(always)]
const fn pack(tag: u32) -> u64 {
    let kind = match tag as u16 {
        ETHERTYPE_VLAN => VLAN,
        ETHERTYPE_QINQ => QINQ,
        _ => return 0,
    };
    kind | u16::from_be((tag >> 16) as u16) as u64 & 0xfff
}

#[inline(always)]
const fn unpack(packed: u64) -> u32 {
    let protocol = match packed & (VLAN | QINQ) {
        VLAN => ETHERTYPE_VLAN,
        QINQ => ETHERTYPE_QINQ,
        _ => return 0,
    };
    protocol as u32 | (((packed & 0xfff) as u16).to_be() as u32) << 16
}

impl Learned {
    /// As three words; the EtherType is not among them.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        [
            self.to & STATION | self.from << 48,
            (self.from & STATION) >> 16 | (self.ifindex as u64) << 32,
            self.mtu as u64 & 0xffff | pack(self.tags[0]) << 16 | pack(self.tags[1]) << 32,
        ]
    }

    /// What [`Self::words`] wrote, for packets of family `F`.
    #[inline(always)]
    const fn from_words<F: Family>(words: [u64; 3]) -> Self {
        Self {
            ifindex: (words[1] >> 32) as u32,
            mtu: words[2] as u32 & 0xffff,
            to: words[0] & STATION,
            from: words[0] >> 48 | (words[1] & 0xffff_ffff) << 16,
            tags: [
                unpack(words[2] >> 16 & 0xffff),
                unpack(words[2] >> 32 & 0xffff),
            ],
            ethertype: ethertype::<F>(),
        }
    }
}

/// A learned way, taken apart when it is used: the verifier would follow each
/// shape of its tags through all that comes before.
#[derive(Clone, Copy, Debug)]
pub struct Packed<F> {
    words: [u64; 3],
    family: PhantomData<F>,
}

impl<F: Family> Packed<F> {
    /// The way of [`Learned::words`].
    #[inline(always)]
    pub const fn new(words: [u64; 3]) -> Self {
        Self {
            words,
            family: PhantomData,
        }
    }

    #[inline(always)]
    fn learned(self) -> Learned {
        Learned::from_words::<F>(self.words)
    }
}

impl<F: Family> Way for Packed<F> {
    #[inline(always)]
    fn ifindex(self) -> u32 {
        self.learned().ifindex
    }

    #[inline(always)]
    fn mtu(self) -> u32 {
        self.learned().mtu
    }

    #[inline(always)]
    fn header_len(self) -> u32 {
        self.learned().header_len()
    }

    #[inline(always)]
    fn header_word(self, i: usize) -> u64 {
        self.learned().header_word(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::V6;

    #[test]
    fn a_way_survives_packing() {
        let tag = |protocol: u16, id: u16| u32::from(protocol) | u32::from(id.to_be()) << 16;
        for tags in [
            [0, 0],
            [tag(ETHERTYPE_VLAN, 0xfff), 0],
            [tag(ETHERTYPE_QINQ, 1), tag(ETHERTYPE_VLAN, 0x801)],
        ] {
            let way = Learned {
                ifindex: 0x8123_4567,
                mtu: 0xffff,
                to: 0xf1f2_f3f4_f5f6,
                from: 0xe1e2_e3e4_e5e6,
                tags,
                ethertype: ethertype::<V6>(),
            };
            assert_eq!(Learned::from_words::<V6>(way.words()), way);
        }
        let priority = tag(ETHERTYPE_VLAN, 0xe005);
        assert_eq!(unpack(pack(priority)), tag(ETHERTYPE_VLAN, 5));
    }
}
