//! What differs between IPv4 and IPv6.

use crate::{
    facts::Facts,
    tables::{Param, Table, Tables},
};

/// An address family. The engine is generic over it; a flow key is a few
/// 64-bit words and a cell one cache line (IPv4) or two (IPv6).
pub trait Family: Copy + 'static {
    /// 4 or 6.
    const VERSION: u8;
    /// The flow table.
    const FLOW: Table;
    /// Its occupancy counts.
    const BLOCKS: Table;
    /// Its size.
    const CELLS: Param;
    /// Words of a flow key.
    const KEY_WORDS: usize;
    /// A flow key: `[u64; KEY_WORDS]`.
    type Key: Copy + PartialEq + core::fmt::Debug;

    /// The key of a packet's flow from client to service.
    fn key(facts: &Facts) -> Self::Key;
    /// Word `word` of a key.
    fn key_word(key: &Self::Key, word: usize) -> u64;
    /// The key read from words.
    fn key_from(word: impl Fn(usize) -> u64) -> Self::Key;
    /// Universal hash sum of a key (NH over 32-bit words, secret keys).
    fn hash<T: Tables>(tables: T, key: &Self::Key) -> u64;
}

/// One step of NH: two words, each added to its secret, multiplied.
#[inline(always)]
fn nh<T: Tables>(tables: T, word: u64, pair: usize) -> u64 {
    let low = (word as u32).wrapping_add(tables.param(Param::Hash(2 * pair)) as u32);
    let high = ((word >> 32) as u32).wrapping_add(tables.param(Param::Hash(2 * pair + 1)) as u32);
    u64::from(low).wrapping_mul(u64::from(high))
}

/// IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V4;

impl Family for V4 {
    const VERSION: u8 = 4;
    const FLOW: Table = Table::Flow4;
    const BLOCKS: Table = Table::Blocks4;
    const CELLS: Param = Param::Flow4Cells;
    const KEY_WORDS: usize = 2;
    type Key = [u64; 2];

    #[inline(always)]
    fn key(facts: &Facts) -> [u64; 2] {
        [facts.src[0] | facts.dst[0] << 32, facts.ports]
    }

    #[inline(always)]
    fn key_word(key: &[u64; 2], word: usize) -> u64 {
        key[word]
    }

    #[inline(always)]
    fn key_from(word: impl Fn(usize) -> u64) -> [u64; 2] {
        [word(0), word(1)]
    }

    #[inline(always)]
    fn hash<T: Tables>(tables: T, key: &[u64; 2]) -> u64 {
        nh(tables, key[0], 0).wrapping_add(nh(tables, key[1], 1))
    }
}

/// IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V6;

impl Family for V6 {
    const VERSION: u8 = 6;
    const FLOW: Table = Table::Flow6;
    const BLOCKS: Table = Table::Blocks6;
    const CELLS: Param = Param::Flow6Cells;
    const KEY_WORDS: usize = 5;
    type Key = [u64; 5];

    #[inline(always)]
    fn key(facts: &Facts) -> [u64; 5] {
        [
            facts.src[0],
            facts.src[1],
            facts.dst[0],
            facts.dst[1],
            facts.ports,
        ]
    }

    #[inline(always)]
    fn key_word(key: &[u64; 5], word: usize) -> u64 {
        key[word]
    }

    #[inline(always)]
    fn key_from(word: impl Fn(usize) -> u64) -> [u64; 5] {
        [word(0), word(1), word(2), word(3), word(4)]
    }

    #[inline(always)]
    fn hash<T: Tables>(tables: T, key: &[u64; 5]) -> u64 {
        let mut sum = 0u64;
        let mut word = 0;
        while word < 5 {
            sum = sum.wrapping_add(nh(tables, key[word], word));
            word += 1;
        }
        sum
    }
}
