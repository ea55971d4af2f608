//! The engine's tables over the mapped maps: the daemon does a few things that
//! packets do, with the same code.

use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;
use lb_common::{
    layout::{DestEntry, DestLoad, Root, Stats},
    tables::{Cell, Datagram, Destination, Param, Table, Tables},
    time::Tick,
};

use crate::dataplane::{Mapping, Maps};

/// The maps as packets see them. Counters of packets are not reached.
#[derive(Clone, Copy)]
pub struct Live<'a>(pub &'a Maps);

/// A record of one of the maps.
#[derive(Clone, Copy)]
pub enum LiveCell<'a> {
    /// IPv4 flows.
    Flow4(&'a Mapping<[u64; 8]>, u32),
    /// IPv6 flows.
    Flow6(&'a Mapping<[u64; 16]>, u32),
    /// Servers' loads.
    Load(&'a Mapping<DestLoad>, u32),
    /// Servers.
    Dest(&'a Mapping<DestEntry>, u32),
    /// Single words.
    Word(&'a Mapping<u64>, u32),
}

impl LiveCell<'_> {
    fn word(&self, word: usize) -> &AtomicU64 {
        match self {
            Self::Flow4(map, index) => map.word(*index, word),
            Self::Flow6(map, index) => map.word(*index, word),
            Self::Load(map, index) => map.word(*index, word),
            Self::Dest(map, index) => map.word(*index, word),
            Self::Word(map, index) => map.word(*index, word),
        }
    }
}

impl Cell for LiveCell<'_> {
    fn load(self, word: usize) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    fn store(self, word: usize, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    fn compare_exchange(self, word: usize, old: u64, new: u64) -> u64 {
        let word = self.word(word);
        match word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(was) | Err(was) => was,
        }
    }

    fn add(self, word: usize, value: u64) {
        self.word(word).fetch_add(value, Ordering::SeqCst);
    }

    fn set_bits(self, word: usize, bits: u64) {
        self.word(word).fetch_or(bits, Ordering::SeqCst);
    }

    fn clear_bits(self, word: usize, bits: u64) {
        self.word(word).fetch_and(!bits, Ordering::SeqCst);
    }
}

fn inside<'a, T: Pod>(
    map: &'a Mapping<T>,
    index: u32,
    cell: fn(&'a Mapping<T>, u32) -> LiveCell<'a>,
) -> Option<LiveCell<'a>> {
    (index < map.len()).then(|| cell(map, index))
}

impl<'a> Tables for Live<'a> {
    type Cell = LiveCell<'a>;

    fn cell(self, table: Table, index: u32) -> Option<LiveCell<'a>> {
        let maps = self.0;
        match table {
            Table::Flow4 => inside(&maps.flow4, index, LiveCell::Flow4),
            Table::Flow6 => inside(&maps.flow6, index, LiveCell::Flow6),
            Table::Blocks4 => inside(&maps.blocks4, index, LiveCell::Word),
            Table::Blocks6 => inside(&maps.blocks6, index, LiveCell::Word),
            Table::DestLoad => inside(&maps.dest_loads, index, LiveCell::Load),
            Table::Dest => inside(&maps.dests, index, LiveCell::Dest),
            Table::Filter => inside(&maps.filter, index, LiveCell::Word),
            Table::Rules => inside(&maps.rules, index, LiveCell::Word),
            _ => None,
        }
    }

    fn root(self) -> Root {
        Root(self.0.root.get(0))
    }

    fn param(self, param: Param) -> u64 {
        self.0.params.get(param)
    }

    fn now(self) -> Tick {
        Maps::now()
    }

    fn random(self) -> u32 {
        rand::random()
    }

    fn fragment(self, _: &Datagram) -> Option<(u64, Tick)> {
        None
    }

    fn keep_fragment(self, _: &Datagram, _: u64, _: Tick) {}

    fn destination(self, _: &Destination) -> Option<LiveCell<'a>> {
        None
    }

    fn keep_destination(self, _: &Destination, _: u64, _: u64) {}

    fn count_dest(self, _: u32, _: Stats) {}

    fn count_rule(self, _: u32, _: u64) {}

    fn count_number(self, _: u32) {}
}
