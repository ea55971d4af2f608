//! How the engine reaches its tables.

use bytemuck::{Pod, Zeroable};

use crate::{
    layout::{Root, Stats},
    reason::Reason,
    time::Tick,
};

/// A record in a table: a `Copy` handle to 64-bit words that other CPUs may
/// write at the same time. Loads and stores are of whole words and never tear.
pub trait Cell: Copy {
    /// Word `word`, with acquire ordering on the host (on x86-64 every load has it).
    fn load(self, word: usize) -> u64;
    /// Stores word `word`, with release ordering.
    fn store(self, word: usize, value: u64);
    /// Replaces word `word` by `new` if it is `old`; returns what it was. A
    /// full barrier.
    fn compare_exchange(self, word: usize, old: u64, new: u64) -> u64;
    /// Adds to word `word` (wrapping); a full barrier.
    fn add(self, word: usize, value: u64);
    /// Sets `bits` of word `word`; a full barrier.
    fn set_bits(self, word: usize, bits: u64);
    /// Clears `bits` of word `word`; a full barrier.
    fn clear_bits(self, word: usize, bits: u64);
}

/// The tables that are addressed by an index. Those marked *halved* hold two
/// halves one after the other; see [`Root::side`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// IPv4 connections and templates: 8 words a cell.
    Flow4,
    /// IPv6 connections and templates: 16 words a cell.
    Flow6,
    /// Occupied cells of each block of [`crate::flow::BLOCK`] flow cells, IPv4: 1 word.
    Blocks4,
    /// As `Blocks4` for IPv6.
    Blocks6,
    /// VIP filter words, halved: 1 word.
    Filter,
    /// Interfaces: 8 words.
    Iface,
    /// Services, halved: 16 words.
    Service,
    /// Server lists, halved: 2 words.
    List,
    /// Scheduler state by service slot: 8 words.
    ServiceState,
    /// Servers by slot: 8 words.
    Dest,
    /// Servers' loads by slot: 8 words.
    DestLoad,
    /// Next hops: 8 words.
    NextHop,
    /// One [`Settings`](crate::layout::Settings): 17 words.
    Settings,
    /// Local addresses of FULLNAT: 4 words.
    Local,
    /// Tables of schedulers, four 16-bit list positions a record: 1 word.
    SchedTable,
    /// What our own limits remember: the ICMP bucket, and how many packets are let
    /// through before `drop_packet` drops one; 1 word each.
    Limits,
    /// Mark and filter rules, halved: 1 word. See
    /// [`RuleHeader`](crate::layout::RuleHeader).
    Rules,
}

/// Sizes and secrets that are fixed when the program is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    /// Keys of the flow hash.
    pub hash: [u32; 12],
    /// Odd multiplier of the flow hash.
    pub multiplier: u64,
    /// Seed of the service table.
    pub service_seed: u64,
    /// Seed of the VIP filter.
    pub filter_seed: u32,
    /// Cells of the IPv4 flow table without its stash: a power of two, at least 8192.
    pub flow4_cells: u32,
    /// Cells of the IPv6 flow table without its stash.
    pub flow6_cells: u32,
    /// Slots of one half of the service table: a power of two.
    pub service_slots: u32,
    /// Entries of one half of the lists.
    pub list_entries: u32,
    /// Slots of the interface table: a power of two.
    pub iface_slots: u32,
    /// 64-bit words of one half of the rule memory.
    pub rule_words: u32,
    /// Zero.
    pub reserved: u32,
}

/// One of the [`Params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// [`Params::hash`], by index below 12.
    Hash(usize),
    /// [`Params::multiplier`].
    Multiplier,
    /// [`Params::service_seed`].
    ServiceSeed,
    /// [`Params::filter_seed`].
    FilterSeed,
    /// [`Params::flow4_cells`].
    Flow4Cells,
    /// [`Params::flow6_cells`].
    Flow6Cells,
    /// [`Params::service_slots`].
    ServiceSlots,
    /// [`Params::list_entries`].
    ListEntries,
    /// [`Params::iface_slots`].
    IfaceSlots,
    /// [`Params::rule_words`].
    RuleWords,
}

impl Params {
    /// The value of one parameter, widened.
    pub const fn get(&self, param: Param) -> u64 {
        match param {
            Param::Hash(index) => self.hash[index] as u64,
            Param::Multiplier => self.multiplier,
            Param::ServiceSeed => self.service_seed,
            Param::FilterSeed => self.filter_seed as u64,
            Param::Flow4Cells => self.flow4_cells as u64,
            Param::Flow6Cells => self.flow6_cells as u64,
            Param::ServiceSlots => self.service_slots as u64,
            Param::ListEntries => self.list_entries as u64,
            Param::IfaceSlots => self.iface_slots as u64,
            Param::RuleWords => self.rule_words as u64,
        }
    }
}

/// What the fragments of one datagram have in common: source, destination, and
/// identification with the family above it (bit 32).
pub type Datagram = [u64; 5];

/// What a destination is remembered by (lblc, lblcr): service slot with the
/// number of the scheduler's binding above it, and the packet's destination
/// address.
pub type Destination = [u64; 3];

/// Words of what is remembered of a destination.
pub const DESTINATION_WORDS: usize = 16;

/// State of a loop that [`Tables::repeat`] runs: plain words, at most
/// [`LOOP_WORDS`] of them. In the kernel it lies in a map while the loop runs:
/// the verifier follows what lies on the stack through every step, and counters
/// there would never let it finish.
pub trait Step<T>: Copy + 'static {
    /// One step; `false` ends the loop.
    fn step(&mut self, tables: T, index: u32) -> bool;
}

/// Room for the state of a loop, in 64-bit words.
pub const LOOP_WORDS: usize = 16;

/// Everything the engine may ask for besides the packet.
pub trait Tables: Copy {
    /// Handle to a record.
    type Cell: Cell;

    /// Record `index` of `table`; `None` when it is out of range.
    fn cell(self, table: Table, index: u32) -> Option<Self::Cell>;
    /// The root word as it is now.
    fn root(self) -> Root;
    /// A load-time size or secret.
    fn param(self, param: Param) -> u64;
    /// The clock.
    fn now(self) -> Tick;
    /// A number that differs from call to call, no secret.
    fn random(self) -> u32;
    /// Ports and protocol, as in [`Facts::ports`](crate::facts::Facts::ports), of
    /// the datagram that a fragment is of, and when its first fragment came.
    fn fragment(self, datagram: &Datagram) -> Option<(u64, Tick)>;
    /// Remembers a datagram's ports and protocol; an old one may be forgotten.
    fn keep_fragment(self, datagram: &Datagram, ports: u64, now: Tick);
    /// What is remembered of a destination: [`DESTINATION_WORDS`] words.
    fn destination(self, key: &Destination) -> Option<Self::Cell>;
    /// Remembers a destination, with `first` and `second` as its first words and
    /// zeros behind; the one used least lately may be forgotten.
    fn keep_destination(self, key: &Destination, first: u64, second: u64);
    /// Adds to the counters of the server in `slot` on this CPU.
    fn count_dest(self, slot: u32, stats: Stats);
    /// Counts a packet of `bytes` under the filter rule in `slot` on this CPU.
    fn count_rule(self, slot: u32, bytes: u64);
    /// Counts one packet under the reason with this number on this CPU.
    fn count_number(self, reason: u32);
    /// Counts one packet under `reason` on this CPU.
    #[inline(always)]
    fn count(self, reason: Reason) {
        self.count_number(reason as u32);
    }
    /// Runs `state.step` with 0, 1, … below `count` until it returns `false`.
    /// Loops do not nest. (In the kernel a helper runs them.)
    fn repeat<S: Step<Self>>(self, count: u32, state: &mut S) {
        for index in 0..count {
            if !state.step(self, index) {
                break;
            }
        }
    }
}
