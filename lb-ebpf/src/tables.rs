//! The engine's tables over BPF maps.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_loop,
        generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns},
    },
    maps::Array,
};
use lb_common::{
    layout::{Root, Stats},
    tables::{DESTINATION_WORDS, Datagram, Destination, LOOP_WORDS, Param, Step, Table, Tables},
    time::{Tick, tick_of},
};

use crate::{capture, cell::MapCell, maps};

/// The maps of this object, for code whose loops keep their state in record
/// `LOOP` of the scratch map: [`maps::IN`], [`maps::OUT`], [`maps::SWEEP`] or
/// [`maps::CAPTURED`]. A
/// timer may interrupt a test run, which is in process context.
#[derive(Clone, Copy)]
pub struct BpfTables<const LOOP: u32>;

#[inline(always)]
fn record<T>(map: &'static Array<T>, index: u32) -> Option<MapCell> {
    map.get_ptr_mut(index).map(MapCell::new)
}

impl<const LOOP: u32> Tables for BpfTables<LOOP> {
    type Cell = MapCell;

    #[inline(always)]
    fn cell(self, table: Table, index: u32) -> Option<MapCell> {
        match table {
            Table::Flow4 => record(&maps::FLOW4, index),
            Table::Blocks4 => record(&maps::BLOCKS4, index),
            Table::Flow6 => record(&maps::FLOW6, index),
            Table::Blocks6 => record(&maps::BLOCKS6, index),
            Table::Filter => record(&maps::FILTER, index),
            Table::Iface => record(&maps::IFACES, index),
            Table::Service => record(&maps::SERVICES, index),
            Table::List => record(&maps::LISTS, index),
            Table::ServiceState => record(&maps::SERVICE_STATES, index),
            Table::Dest => record(&maps::DESTS, index),
            Table::DestLoad => record(&maps::DEST_LOADS, index),
            Table::NextHop => record(&maps::NEXT_HOPS, index),
            Table::Settings => record(&maps::SETTINGS, index),
            Table::Local => record(&maps::LOCALS, index),
            Table::SchedTable => record(&maps::SCHED_TABLES, index),
            Table::Limits => record(&maps::LIMITS, index),
            Table::Rules => record(&maps::RULES, index),
        }
    }

    #[inline(always)]
    fn root(self) -> Root {
        match maps::ROOT.get_ptr(0) {
            // SAFETY: a map value; volatile, because the daemon writes.
            Some(root) => Root(unsafe { root.read_volatile() }),
            None => Root(0),
        }
    }

    #[inline(always)]
    fn param(self, param: Param) -> u64 {
        let params = &raw const maps::PARAMS;
        // SAFETY: a static; volatile, because the loader has replaced the
        // values that the compiler sees. The index is below 12 by contract,
        // and a constant wherever the engine uses it.
        unsafe {
            match param {
                Param::Hash(index) => (&raw const (*params).hash)
                    .cast::<u32>()
                    .add(index)
                    .read_volatile()
                    .into(),
                Param::Multiplier => (&raw const (*params).multiplier).read_volatile(),
                Param::ServiceSeed => (&raw const (*params).service_seed).read_volatile(),
                Param::FilterSeed => (&raw const (*params).filter_seed).read_volatile().into(),
                Param::Flow4Cells => (&raw const (*params).flow4_cells).read_volatile().into(),
                Param::Flow6Cells => (&raw const (*params).flow6_cells).read_volatile().into(),
                Param::ServiceSlots => (&raw const (*params).service_slots).read_volatile().into(),
                Param::ListEntries => (&raw const (*params).list_entries).read_volatile().into(),
                Param::IfaceSlots => (&raw const (*params).iface_slots).read_volatile().into(),
                Param::RuleWords => (&raw const (*params).rule_words).read_volatile().into(),
            }
        }
    }

    #[inline(always)]
    fn now(self) -> Tick {
        // SAFETY: the helper takes nothing. The coarse clock is a load; the
        // exact one costs more than the rest of a look-up.
        tick_of(unsafe { bpf_ktime_get_coarse_ns() })
    }

    #[inline(always)]
    fn random(self) -> u32 {
        // SAFETY: the helper takes nothing.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn fragment(self, datagram: &Datagram) -> Option<(u64, Tick)> {
        let kept = maps::FRAGMENTS.get_ptr(datagram)?;
        // SAFETY: a map value. It may be forgotten and be another's at any time;
        // then a fragment of a datagram that is being lost goes astray.
        let [ports, tick] = unsafe { kept.read_volatile() };
        Some((ports, tick as Tick))
    }

    #[inline(always)]
    fn keep_fragment(self, datagram: &Datagram, ports: u64, now: Tick) {
        // When there is no room the other fragments are dropped and counted.
        let _ = maps::FRAGMENTS.insert(datagram, [ports, now.into()], 0);
    }

    #[inline(always)]
    fn destination(self, key: &Destination) -> Option<MapCell> {
        // It may be forgotten and be another's at any time: then a connection
        // goes to a server that the other's destination has.
        maps::DESTINATIONS.get_ptr_mut(key).map(MapCell::new)
    }

    #[inline(always)]
    fn keep_destination(self, key: &Destination, first: u64, second: u64) {
        const { assert!(DESTINATION_WORDS == LOOP_WORDS) };
        // No loop runs now. On the stack it would take a quarter of what 6.1 has for
        // all nested calls.
        let Some(scratch) = maps::LOOP.get_ptr_mut(LOOP) else {
            return;
        };
        let words = scratch.cast::<u64>();
        // SAFETY: this CPU's record of so many words. Volatile: the compiler would
        // call a function to zero them.
        unsafe {
            words.write_volatile(first);
            words.add(1).write_volatile(second);
            let mut word = 2;
            while word < DESTINATION_WORDS {
                words.add(word).write_volatile(0);
                word = word.wrapping_add(1);
            }
            // When there is no room the next connection finds nothing remembered.
            let record = &*scratch;
            let _ = maps::DESTINATIONS.insert(key, record, 0);
        }
    }

    #[inline(always)]
    fn count_dest(self, slot: u32, stats: Stats) {
        let Some(sum) = maps::DEST_STATS.get_ptr_mut(slot) else {
            return;
        };
        // SAFETY: this CPU's record; programs on one CPU do not interrupt each other here.
        unsafe {
            if stats.conns != 0 {
                (*sum).conns = (*sum).conns.wrapping_add(stats.conns);
            }
            if stats.in_packets != 0 {
                (*sum).in_packets = (*sum).in_packets.wrapping_add(stats.in_packets);
                (*sum).in_bytes = (*sum).in_bytes.wrapping_add(stats.in_bytes);
            }
            if stats.out_packets != 0 {
                (*sum).out_packets = (*sum).out_packets.wrapping_add(stats.out_packets);
                (*sum).out_bytes = (*sum).out_bytes.wrapping_add(stats.out_bytes);
            }
        }
    }

    #[inline(always)]
    fn count_rule(self, slot: u32, bytes: u64) {
        let Some(sum) = maps::RULE_STATS.get_ptr_mut(slot) else {
            return;
        };
        // SAFETY: as for count_dest.
        unsafe {
            (*sum)[0] = (*sum)[0].wrapping_add(1);
            (*sum)[1] = (*sum)[1].wrapping_add(bytes);
        }
    }

    #[inline(always)]
    fn count_number(self, reason: u32) {
        if let Some(counter) = maps::REASONS.get_ptr_mut(reason) {
            // SAFETY: as for count_dest.
            unsafe { *counter = (*counter).wrapping_add(1) };
        }
        if LOOP == maps::CAPTURED {
            capture::note(reason);
        }
    }

    #[inline(always)]
    fn repeat<S: Step<Self>>(self, count: u32, state: &mut S) {
        const { assert!(size_of::<S>() <= LOOP_WORDS * 8 && align_of::<S>() <= 8) };
        let Some(scratch) = maps::LOOP.get_ptr_mut(LOOP) else {
            return;
        };
        let scratch = scratch.cast::<S>();
        let mut context = 0_u64;
        // SAFETY: the scratch record is this CPU's, large enough, and loops do
        // not nest; the callback is instantiated for the same state.
        unsafe {
            scratch.write(*state);
            bpf_loop(
                count,
                step::<S, LOOP> as *mut c_void,
                (&raw mut context).cast(),
                0,
            );
            *state = scratch.read();
        }
    }
}

/// One step of a loop; 1 ends it.
#[inline(never)]
extern "C" fn step<S: Step<BpfTables<LOOP>>, const LOOP: u32>(index: u64, _: *mut c_void) -> i64 {
    let Some(scratch) = maps::LOOP.get_ptr_mut(LOOP) else {
        return 1;
    };
    // SAFETY: see Tables::repeat.
    let state = unsafe { &mut *scratch.cast::<S>() };
    i64::from(!state.step(BpfTables::<LOOP>, index as u32))
}
