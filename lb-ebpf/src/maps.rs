//! The maps. Sizes are set when the program is loaded; user space maps those
//! marked so into its memory.

use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};
use lb_common::{
    capture::Filter,
    facts::Facts,
    layout::{
        DestEntry, DestLoad, IfaceEntry, ListEntry, LocalAddress, NextHop, ServiceEntry,
        ServiceState, Settings, Stats, StatsPage,
    },
    packet::SEARCHED,
    parse::LONGEST_CALL_ID,
    reason::Reason,
    tables::{DESTINATION_WORDS, Datagram, Destination, LOOP_WORDS, Params},
};

use crate::capture::Record;

/// `BPF_F_MMAPABLE`.
const MAPPED: u32 = 1 << 10;

#[map]
pub static ROOT: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
pub static FLOW4: Array<[u64; 8]> = Array::with_max_entries(1, MAPPED);
#[map]
pub static FLOW6: Array<[u64; 16]> = Array::with_max_entries(1, MAPPED);
#[map]
pub static BLOCKS6: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
pub static BLOCKS4: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
pub static FILTER: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
pub static IFACES: Array<IfaceEntry> = Array::with_max_entries(1, MAPPED);
#[map]
pub static SERVICES: Array<ServiceEntry> = Array::with_max_entries(1, MAPPED);
#[map]
pub static LISTS: Array<ListEntry> = Array::with_max_entries(1, MAPPED);
#[map]
pub static SERVICE_STATES: Array<ServiceState> = Array::with_max_entries(1, MAPPED);
#[map]
pub static DESTS: Array<DestEntry> = Array::with_max_entries(1, MAPPED);
#[map]
pub static DEST_LOADS: Array<DestLoad> = Array::with_max_entries(1, MAPPED);
#[map]
pub static NEXT_HOPS: Array<NextHop> = Array::with_max_entries(1, MAPPED);
#[map]
pub static LOCALS: Array<LocalAddress> = Array::with_max_entries(1, MAPPED);
/// Tables of mh, in runs that never change while a service refers to them.
#[map]
pub static SCHED_TABLES: Array<u64> = Array::with_max_entries(1, MAPPED);
/// Servers by destination (lblc, lblcr). A loss is harmless, so the oldest may
/// make room.
#[map]
pub static DESTINATIONS: LruHashMap<Destination, [u64; DESTINATION_WORDS]> =
    LruHashMap::with_max_entries(16_384, 0);
#[map]
pub static RULES: Array<u64> = Array::with_max_entries(1, MAPPED);
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, MAPPED);
/// Read and written by the daemon only; here so that it is pinned with the rest.
#[map]
pub static PAGES: Array<StatsPage> = Array::with_max_entries(1, MAPPED);
/// As `PAGES`: what the sizes and secrets below were, for the next daemon.
#[map]
pub static PARAMS_KEPT: Array<Params> = Array::with_max_entries(1, MAPPED);

/// The bucket of ICMP answers, and the count of `drop_packet`.
#[map]
pub static LIMITS: Array<u64> = Array::with_max_entries(2, 0);
/// Ports of datagrams whose first fragment was seen. A loss is harmless, so the
/// oldest may make room.
#[map]
pub static FRAGMENTS: LruHashMap<Datagram, [u64; 2]> = LruHashMap::with_max_entries(16_384, 0);

/// Whose record of a scratch map it is: packets' that come in.
pub const IN: u32 = 0;
/// Packets' that the stack sends.
pub const OUT: u32 = 1;
/// The sweep's.
pub const SWEEP: u32 = 2;
/// Packets' that come in while they are captured.
pub const CAPTURED: u32 = 3;

/// State of the loop at hand.
#[map]
pub static LOOP: PerCpuArray<[u64; LOOP_WORDS]> = PerCpuArray::with_max_entries(4, 0);
/// Facts of the packet at hand.
#[map]
pub static FACTS: PerCpuArray<Facts> = PerCpuArray::with_max_entries(2, 0);
/// Bytes of the packet at hand, to be summed: a chunk and room for the verifier.
#[map]
pub static BYTES: PerCpuArray<[u64; 128]> = PerCpuArray::with_max_entries(2, 0);
/// Bytes of the packet at hand, to be searched, and room behind them.
#[map]
pub static TEXT: PerCpuArray<[u64; (SEARCHED as usize + TEXT_LEN) >> 3]> =
    PerCpuArray::with_max_entries(1, 0);
/// Call-IDs by what stands for them in the key of a template, for listings. A loss
/// is harmless, so the oldest may make room.
#[map]
pub static CALLS: LruHashMap<[u64; 2], [u8; TEXT_LEN]> = LruHashMap::with_max_entries(16_384, 0);
/// Bytes that are kept of a text: a Call-ID and an end of line.
pub const TEXT_LEN: usize = LONGEST_CALL_ID as usize + 1;
#[map]
pub static DEST_STATS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(1, 0);
/// Packets and bytes of filter rules.
#[map]
pub static RULE_STATS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::ALL.len() as u32, 0);

/// Set by the loader before the program is loaded; frozen then, so that the
/// verifier knows the values.
#[unsafe(no_mangle)]
pub static PARAMS: Params = Params {
    hash: [0; 12],
    multiplier: 1,
    service_seed: 0,
    filter_seed: 0,
    flow4_cells: 8192,
    flow6_cells: 8192,
    service_slots: 1,
    list_entries: 1,
    iface_slots: 1,
    rule_words: 1,
    reserved: 0,
};

/// Which packets the capturing program takes; set and frozen like the above.
#[unsafe(no_mangle)]
pub static CAPTURE_FILTER: Filter = Filter::EVERY;

/// The packet at hand of the capturing program.
#[map]
pub static CAPTURE: PerCpuArray<Record> = PerCpuArray::with_max_entries(1, 0);
/// What it hands on: [`Head`](lb_common::capture::Head) and bytes. Its size is set
/// by whoever loads that program.
#[map]
pub static CAPTURES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Tells whose sweep runs.
#[unsafe(no_mangle)]
pub static BUILD_ID: u64 = 0;
