//! What differs between IPv4 and IPv6.

use crate::{
    facts::Facts,
    parse::{Header, Ipv4, Ipv6},
    tables::{Param, Table, Tables},
    wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPPROTO_ICMP, IPPROTO_ICMPV6},
};

/// An address family. The engine is generic over it; a flow key is a few
/// 64-bit words and a cell one cache line (IPv4) or two (IPv6).
pub trait Family: Copy + 'static {
    /// 4 or 6.
    const VERSION: u8;
    /// EtherType, as loaded.
    const ETHERTYPE: u16;
    /// ICMP's protocol number.
    const ICMP: u8;
    /// Its header.
    type Header: Header;
    /// The flow table.
    const FLOW: Table;
    /// Its occupancy counts.
    const BLOCKS: Table;
    /// Its size.
    const CELLS: Param;
    /// Words of a flow key.
    const KEY_WORDS: usize;
    /// Words of a cell in which a flow key lies: each as many as it has, the last one
    /// repeated. All that a look-up reads is in the first eight, a cache line.
    const KEY: [usize; 5];
    /// Of a home cell: a [`HomeWord`](crate::flow::HomeWord). Never cleared by a release.
    const HOME: usize;
    /// Index and generation of the cell this one belongs to: a reverse cell's connection,
    /// a NAT connection's reverse cell; of a template, [`Control`](crate::flow::Control).
    const LINK: usize;
    /// Part of a reverse cell's way; in a connection's own cell [`Family::LOCAL`] of IPv4,
    /// by tunnel the way to the client.
    const SPARE: usize;
    /// Words of a cell in which a FULLNAT connection keeps its local end: the
    /// first two words of the address (one for IPv4, with the port above it),
    /// then the port.
    const LOCAL: [usize; 3];
    /// A flow key: `[u64; KEY_WORDS]`.
    type Key: Copy + PartialEq + core::fmt::Debug;

    /// The key of a packet's flow.
    fn key(facts: &Facts) -> Self::Key;
    /// The key of the other direction.
    fn opposite(key: &Self::Key) -> Self::Key;
    /// A key's source and destination address, as in the facts.
    fn ends(key: &Self::Key) -> [[u64; 2]; 2];
    /// The key of a flow from one address to another; ports and protocol as in
    /// [`Facts::ports`].
    fn key_of(from: [u64; 2], to: [u64; 2], ports: u64) -> Self::Key;
    /// A key's ports and protocol.
    fn ports(key: &Self::Key) -> u64;
    /// Word `word` of a key.
    fn key_word(key: &Self::Key, word: usize) -> u64;
    /// The key read from words.
    fn key_from(word: impl Fn(usize) -> u64) -> Self::Key;
    /// Universal hash of a key (NH over 32-bit words with secret keys, scattered).
    fn hash<T: Tables>(tables: T, key: &Self::Key) -> u64;
}

/// [`Facts::ports`] of the other direction.
#[inline(always)]
const fn swapped(ports: u64) -> u64 {
    ports & !0xffff_ffff | (ports & 0xffff) << 16 | ports >> 16 & 0xffff
}

/// Scatters a sum of NH, one to one. A sum is linear in each word, and so would be the
/// multiplication that makes a home of it: flows whose addresses and ports follow one
/// another would lie in a pattern, which for one secret of twenty leaves some of them,
/// once a quarter, without a place in a table that is half full.
#[inline(always)]
const fn scattered(sum: u64) -> u64 {
    sum ^ sum >> 32
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
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;
    const ICMP: u8 = IPPROTO_ICMP;
    type Header = Ipv4;
    const FLOW: Table = Table::Flow4;
    const BLOCKS: Table = Table::Blocks4;
    const CELLS: Param = Param::Flow4Cells;
    const KEY_WORDS: usize = 2;
    const HOME: usize = 1;
    const LINK: usize = 4;
    const SPARE: usize = 5;
    const KEY: [usize; 5] = [6, 7, 7, 7, 7];
    const LOCAL: [usize; 3] = [Self::SPARE; 3];
    type Key = [u64; 2];

    #[inline(always)]
    fn key(facts: &Facts) -> [u64; 2] {
        Self::key_of(facts.src, facts.dst, facts.ports)
    }

    #[inline(always)]
    fn opposite(key: &[u64; 2]) -> [u64; 2] {
        [key[0].rotate_left(32), swapped(key[1])]
    }

    #[inline(always)]
    fn ends(key: &[u64; 2]) -> [[u64; 2]; 2] {
        [[key[0] & 0xffff_ffff, 0], [key[0] >> 32, 0]]
    }

    #[inline(always)]
    fn key_of(from: [u64; 2], to: [u64; 2], ports: u64) -> [u64; 2] {
        [from[0] | to[0] << 32, ports]
    }

    #[inline(always)]
    fn ports(key: &[u64; 2]) -> u64 {
        key[1]
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
        scattered(nh(tables, key[0], 0).wrapping_add(nh(tables, key[1], 1)))
    }
}

/// IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V6;

impl Family for V6 {
    const VERSION: u8 = 6;
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;
    const ICMP: u8 = IPPROTO_ICMPV6;
    type Header = Ipv6;
    const FLOW: Table = Table::Flow6;
    const BLOCKS: Table = Table::Blocks6;
    const CELLS: Param = Param::Flow6Cells;
    const KEY_WORDS: usize = 5;
    const KEY: [usize; 5] = [1, 4, 5, 6, 7];
    const HOME: usize = 8;
    const LINK: usize = 9;
    const SPARE: usize = 10;
    const LOCAL: [usize; 3] = [12, 13, 14];
    type Key = [u64; 5];

    #[inline(always)]
    fn key(facts: &Facts) -> [u64; 5] {
        Self::key_of(facts.src, facts.dst, facts.ports)
    }

    #[inline(always)]
    fn opposite(key: &[u64; 5]) -> [u64; 5] {
        [key[2], key[3], key[0], key[1], swapped(key[4])]
    }

    #[inline(always)]
    fn ends(key: &[u64; 5]) -> [[u64; 2]; 2] {
        [[key[0], key[1]], [key[2], key[3]]]
    }

    #[inline(always)]
    fn key_of(from: [u64; 2], to: [u64; 2], ports: u64) -> [u64; 5] {
        [from[0], from[1], to[0], to[1], ports]
    }

    #[inline(always)]
    fn ports(key: &[u64; 5]) -> u64 {
        key[4]
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
        scattered(sum)
    }
}
