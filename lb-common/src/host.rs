//! The engine's traits over plain memory: what host tests, fuzzers and the
//! differential harness run it on.

pub mod frame;
pub mod sums;

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytemuck::{AnyBitPattern, NoUninit, Pod};

use crate::{
    checksum,
    engine::{self, LeavingStages, Stages, Verdict},
    facts::Facts,
    family::Family,
    flow,
    layout::{FILTER_WORDS, Root, Settings, Stats},
    packet::{Packet, Search, Searched},
    reason::Reason,
    sched::mh,
    tables::{Cell, DESTINATION_WORDS, Datagram, Destination, Param, Params, Table, Tables},
    time::Tick,
};

/// A frame in memory, with room in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPacket {
    buffer: Vec<u8>,
    start: usize,
    ingress: u32,
    is_partial: bool,
}

/// Bytes in front of a frame: `XDP_PACKET_HEADROOM`.
const HEADROOM: usize = 256;

impl HostPacket {
    /// A frame that came in by interface `ingress`.
    pub fn new(frame: &[u8], ingress: u32) -> Self {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(frame);
        Self {
            buffer,
            start: HEADROOM,
            ingress,
            is_partial: false,
        }
    }

    /// A frame on its way out, whose transport checksum is left to the hardware:
    /// so far it is the sum of the pseudo-header.
    pub fn partial(frame: &[u8]) -> Self {
        Self {
            is_partial: true,
            ..Self::new(frame, 0)
        }
    }

    /// The frame as it is now.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

impl Packet for HostPacket {
    fn reaches(&self, length: u32) -> bool {
        self.bytes().len() >= length as usize
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }

    fn read<V: AnyBitPattern>(&self, offset: u32) -> Option<V> {
        let bytes = self.bytes().get(offset as usize..)?.get(..size_of::<V>())?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }

    fn write<V: NoUninit>(&mut self, offset: u32, value: V) -> Option<()> {
        let at = self.start + offset as usize;
        let target = self.buffer.get_mut(at..)?.get_mut(..size_of::<V>())?;
        target.copy_from_slice(bytemuck::bytes_of(&value));
        Some(())
    }

    fn adjust_checksum(
        &mut self,
        offset: u32,
        pseudo: u64,
        rest: u64,
        zero_is_none: bool,
    ) -> Option<()> {
        let old = self.read::<u16>(offset)?;
        let new = if self.is_partial {
            checksum::fold(u64::from(old) + pseudo)
        } else {
            checksum::updated(old, pseudo + rest)
        };
        self.write(
            offset,
            if zero_is_none && new == 0 {
                0xffff
            } else {
                new
            },
        )
    }

    fn grow_front(&mut self, bytes: i32) -> Option<()> {
        let start = self.start.checked_add_signed(-(bytes as isize))?;
        // As bpf_xdp_adjust_head: an Ethernet header must remain.
        if start + 14 > self.buffer.len() {
            return None;
        }
        self.start = start;
        Some(())
    }

    fn cut(&mut self, length: u32) -> Option<()> {
        let length = length as usize;
        if length < 14 || length > self.bytes().len() {
            return None;
        }
        self.buffer.truncate(self.start + length);
        Some(())
    }

    fn sum(&self, offset: u32, length: u32) -> Option<u64> {
        let bytes = self.bytes().get(offset as usize..)?;
        let bytes = bytes.get(..length as usize)?;
        let words = bytes.chunks(2).map(|pair| {
            let second = pair.get(1).copied().unwrap_or(0);
            u64::from(u16::from_ne_bytes([pair[0], second]))
        });
        Some(words.sum())
    }
}

impl Searched for HostPacket {
    fn search<S: Search>(&self, offset: u32, length: u32, search: &mut S) -> Option<()> {
        let bytes = self.bytes().get(offset as usize..)?;
        let bytes = bytes.get(..length as usize)?;
        let mut indexed = (0..).zip(bytes);
        while let Some((index, byte)) = indexed.next()
            && search.step(*byte, index)
        {}
        Some(())
    }

    fn keep_text(&self, _: [u64; 2], _: u64) {}
}

/// Tables in memory. Shared by reference between threads, like maps.
pub struct HostTables {
    params: Params,
    root: AtomicU64,
    now: AtomicU32,
    random: AtomicU32,
    tables: Vec<(usize, Vec<AtomicU64>)>,
    stats: Vec<AtomicU64>,
    reasons: Vec<AtomicU64>,
    fragments: Mutex<HashMap<Datagram, (u64, Tick)>>,
    rules: Mutex<HashMap<u32, [u64; 2]>>,
    destinations: Destinations,
}

/// What is remembered of destinations: the record of each, and which is next to go.
struct Destinations {
    places: Mutex<(HashMap<Destination, usize>, usize)>,
    memory: Vec<AtomicU64>,
}

/// Destinations that are remembered.
const DESTINATIONS: usize = 64;

const TABLES: usize = 17;
/// Local addresses, at least.
const LOCALS: u32 = 16;

impl HostTables {
    /// Empty tables of the sizes in `params`, with `dests` servers and
    /// `services` services.
    pub fn new(params: Params, dests: u32, services: u32) -> Self {
        let flow4 = flow::total_cells(params.flow4_cells);
        let flow6 = flow::total_cells(params.flow6_cells);
        let sizes = [
            (Table::Flow4, 8, flow4),
            (Table::Flow6, 16, flow6),
            (Table::Blocks4, 1, flow4.div_ceil(flow::BLOCK)),
            (Table::Blocks6, 1, flow6.div_ceil(flow::BLOCK)),
            (Table::Filter, 1, 2 * FILTER_WORDS),
            (Table::Iface, 8, params.iface_slots),
            (Table::Service, 16, 2 * params.service_slots),
            (Table::List, 2, 2 * params.list_entries),
            (Table::ServiceState, 8, services),
            (Table::Dest, 8, dests),
            (Table::DestLoad, 8, dests),
            (Table::NextHop, 8, dests),
            (Table::Settings, size_of::<Settings>() / 8, 1),
            (Table::Local, 4, dests.max(LOCALS)),
            (Table::SchedTable, 1, services.saturating_mul(mh::WORDS)),
            (Table::Limits, 1, 2),
            (Table::Rules, 1, 2 * params.rule_words),
        ];
        let mut tables: Vec<(usize, Vec<AtomicU64>)> =
            (0..TABLES).map(|_| (0, Vec::new())).collect();
        for (table, words, records) in sizes {
            let memory = (0..words * records as usize)
                .map(|_| AtomicU64::new(0))
                .collect();
            tables[table as usize] = (words, memory);
        }
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let host = Self {
            params,
            root: AtomicU64::new(0),
            now: AtomicU32::new(1),
            random: AtomicU32::new(0),
            tables,
            stats: zeros(5 * dests as usize),
            reasons: zeros(Reason::ALL.len()),
            fragments: Mutex::default(),
            rules: Mutex::default(),
            destinations: Destinations {
                places: Mutex::default(),
                memory: zeros(DESTINATIONS * DESTINATION_WORDS),
            },
        };
        host.set(Table::Settings, 0, Settings::kernel_defaults());
        host
    }

    /// Writes a record.
    ///
    /// # Panics
    /// When it is out of range or of another size.
    pub fn set<R: Pod>(&self, table: Table, index: u32, record: R) {
        let (words, memory) = &self.tables[table as usize];
        let bytes = bytemuck::bytes_of(&record);
        assert_eq!(bytes.len(), words * 8, "record of {table:?}");
        for (i, word) in bytes.chunks_exact(8).enumerate() {
            let value = bytemuck::pod_read_unaligned(word);
            memory[index as usize * words + i].store(value, Ordering::SeqCst);
        }
    }

    /// A copy of a record.
    ///
    /// # Panics
    /// When it is out of range or of another size.
    pub fn get<R: Pod>(&self, table: Table, index: u32) -> R {
        let (words, memory) = &self.tables[table as usize];
        assert_eq!(size_of::<R>(), words * 8, "record of {table:?}");
        let words: Vec<u64> = (0..*words)
            .map(|i| memory[index as usize * words + i].load(Ordering::SeqCst))
            .collect();
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words))
    }

    /// Switches the configuration.
    pub fn set_root(&self, root: Root) {
        self.root.store(root.0, Ordering::SeqCst);
    }

    /// Sets the clock.
    pub fn set_now(&self, now: Tick) {
        self.now.store(now, Ordering::SeqCst);
    }

    /// Packets counted under `reason`.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize].load(Ordering::SeqCst)
    }

    /// Packets counted altogether.
    pub fn counted(&self) -> u64 {
        self.reasons
            .iter()
            .map(|counter| counter.load(Ordering::SeqCst))
            .sum()
    }

    /// Counters of a server.
    pub fn stats(&self, slot: u32) -> Stats {
        let at = |i: usize| self.stats[slot as usize * 5 + i].load(Ordering::SeqCst);
        Stats {
            conns: at(0),
            in_packets: at(1),
            out_packets: at(2),
            in_bytes: at(3),
            out_bytes: at(4),
        }
    }

    /// Packets and bytes counted under the filter rule in `slot`.
    pub fn rule(&self, slot: u32) -> [u64; 2] {
        let rules = self.rules.lock().expect("nobody panics with it");
        rules.get(&slot).copied().unwrap_or_default()
    }

    /// Runs the engine on a packet.
    pub fn process(&self, packet: &mut HostPacket) -> Verdict {
        engine::process(packet, self, &HostStages(self), &mut Facts::default())
    }

    /// Runs the engine on a packet that this director's stack sends.
    pub fn leave(&self, packet: &mut HostPacket) -> Verdict {
        engine::leaving(packet, self, &HostStages(self), &mut Facts::default())
    }
}

/// A record in [`HostTables`].
#[derive(Clone, Copy)]
pub struct HostCell<'a>(&'a [AtomicU64]);

impl Cell for HostCell<'_> {
    fn load(self, word: usize) -> u64 {
        self.0[word].load(Ordering::Acquire)
    }

    fn store(self, word: usize, value: u64) {
        self.0[word].store(value, Ordering::Release);
    }

    fn compare_exchange(self, word: usize, old: u64, new: u64) -> u64 {
        match self.0[word].compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(was) | Err(was) => was,
        }
    }

    fn add(self, word: usize, value: u64) {
        self.0[word].fetch_add(value, Ordering::SeqCst);
    }

    fn set_bits(self, word: usize, bits: u64) {
        self.0[word].fetch_or(bits, Ordering::SeqCst);
    }

    fn clear_bits(self, word: usize, bits: u64) {
        self.0[word].fetch_and(!bits, Ordering::SeqCst);
    }
}

impl<'a> Tables for &'a HostTables {
    type Cell = HostCell<'a>;

    fn cell(self, table: Table, index: u32) -> Option<HostCell<'a>> {
        let (words, memory) = &self.tables[table as usize];
        memory
            .get(index as usize * words..)?
            .get(..*words)
            .map(HostCell)
    }

    fn root(self) -> Root {
        Root(self.root.load(Ordering::SeqCst))
    }

    fn param(self, param: Param) -> u64 {
        self.params.get(param)
    }

    fn now(self) -> Tick {
        self.now.load(Ordering::SeqCst)
    }

    fn random(self) -> u32 {
        // Reproducible: the same packets give the same bytes. The low bits must be
        // as good as the others (murmur3's finish): remainders are taken.
        let count = self.random.fetch_add(1, Ordering::SeqCst);
        let mut bits = count.wrapping_add(1).wrapping_mul(0x9e37_79b1);
        bits = (bits ^ bits >> 16).wrapping_mul(0x85eb_ca6b);
        bits = (bits ^ bits >> 13).wrapping_mul(0xc2b2_ae35);
        bits ^ bits >> 16
    }

    fn fragment(self, datagram: &Datagram) -> Option<(u64, Tick)> {
        let fragments = self.fragments.lock().expect("nobody panics with it");
        fragments.get(datagram).copied()
    }

    fn keep_fragment(self, datagram: &Datagram, ports: u64, now: Tick) {
        let mut fragments = self.fragments.lock().expect("nobody panics with it");
        fragments.insert(*datagram, (ports, now));
    }

    fn destination(self, key: &Destination) -> Option<HostCell<'a>> {
        let places = self
            .destinations
            .places
            .lock()
            .expect("nobody panics with it");
        let at = *places.0.get(key)? * DESTINATION_WORDS;
        Some(HostCell(
            &self.destinations.memory[at..at + DESTINATION_WORDS],
        ))
    }

    fn keep_destination(self, key: &Destination, first: u64, second: u64) {
        let mut places = self
            .destinations
            .places
            .lock()
            .expect("nobody panics with it");
        let (known, next) = &mut *places;
        let place = *known.get(key).unwrap_or(next);
        if place == *next {
            known.retain(|_, other| *other != place);
            *next = (place + 1) % DESTINATIONS;
        }
        known.insert(*key, place);
        let at = place * DESTINATION_WORDS;
        let words = &self.destinations.memory[at..at + DESTINATION_WORDS];
        for (word, value) in words.iter().zip([first, second].into_iter().chain([0; 14])) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn count_dest(self, slot: u32, stats: Stats) {
        let values = [
            stats.conns,
            stats.in_packets,
            stats.out_packets,
            stats.in_bytes,
            stats.out_bytes,
        ];
        for (i, value) in values.into_iter().enumerate() {
            self.stats[slot as usize * 5 + i].fetch_add(value, Ordering::SeqCst);
        }
    }

    fn count_rule(self, slot: u32, bytes: u64) {
        let mut rules = self.rules.lock().expect("nobody panics with it");
        let count = rules.entry(slot).or_default();
        count[0] += 1;
        count[1] += bytes;
    }

    fn count_number(self, reason: u32) {
        self.reasons[reason as usize].fetch_add(1, Ordering::SeqCst);
    }
}

struct HostStages<'a>(&'a HostTables);

impl Stages<HostPacket> for HostStages<'_> {
    fn extensions(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::extensions(packet, facts)
    }

    fn transport(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::transport(packet, self.0, facts)
    }

    fn icmp<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::icmp::<F, _, _>(packet, self.0, facts)
    }

    fn relay<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::relay::<F, _, _>(packet, self.0, facts)
    }

    fn answer<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::answer::<F, _, _>(packet, self.0, facts)
    }

    fn tunnel_error<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::tunnel_error::<F, _, _>(packet, self.0, facts)
    }

    fn classify<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::classify::<F, _, _>(packet, self.0, facts)
    }

    fn choose(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::choose(self.0, facts)
    }

    fn call_id(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::call_id(packet, self.0, facts)
    }

    fn prepare(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::prepare(self.0, facts)
    }

    fn settle<F: Family>(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::settle::<F, _>(self.0, facts)
    }

    fn insert<F: Family>(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::insert::<F, _>(self.0, facts)
    }

    fn reconsider<F: Family>(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::reconsider::<F, _>(self.0, facts)
    }

    fn template<F: Family>(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::template::<F, _>(self.0, facts)
    }

    fn keep<F: Family>(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::keep::<F, _>(self.0, facts)
    }

    fn learn<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::learn::<F, _, _>(packet, self.0, facts)
    }

    fn pair<F: Family>(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::pair::<F, _>(self.0, facts)
    }

    fn bind<F: Family>(&self, _: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::bind::<F, _>(self.0, facts)
    }

    fn to_local<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::to_local::<F, _, _>(packet, self.0, facts)
    }

    fn to_server<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::to_server::<F, _, _>(packet, self.0, facts)
    }

    fn tell<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::tell::<F, _, _>(packet, self.0, facts)
    }

    fn to_client<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::to_client::<F, _, _>(packet, self.0, facts)
    }

    fn tunnel<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::tunnel::<F, _, _>(packet, self.0, facts)
    }
}

impl LeavingStages<HostPacket> for HostStages<'_> {
    fn extensions(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::extensions(packet, facts)
    }

    fn transport(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::transport(packet, self.0, facts)
    }

    fn icmp<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::icmp::<F, _, _>(packet, self.0, facts)
    }

    fn count_error<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::count_error::<F, _, _>(packet, self.0, facts)
    }

    fn retell<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::retell::<F, _, _>(packet, self.0, facts)
    }

    fn of_local<F: Family>(&self, packet: &mut HostPacket, facts: &mut Facts) -> u32 {
        engine::of_local::<F, _, _>(packet, self.0, facts)
    }
}
