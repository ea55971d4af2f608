//! The programs of `lvx-lab bench`. A repeated test run does not put the packet
//! back, so each of them first makes it the next flow's.
//!
//! | program | does |
//! | --- | --- |
//! | `bench_harness` | makes the packet and parses it |
//! | `bench_line` | the same, then loads a word of its flow's home cell: memory alone |
//! | `bench_cells` | as `bench_harness`, then looks up and touches its flow in lvx's table |
//! | `bench_hash` | the same, with a `BPF_MAP_TYPE_HASH` |
//! | `bench_behind` | makes the packet and calls a whole program |
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features)]

mod bench_run;
#[allow(dead_code, reason = "only the types of its maps are here")]
mod capture;
mod cell;
#[allow(dead_code, reason = "scratch records of programs that are not here")]
mod maps;
mod packet;
mod tables;

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{HashMap, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use lb_common::{
    checksum::fold,
    conn::{Counted, Protocol},
    facts::Facts,
    family::{Family, V4},
    flow::{self, FlowCell, Inserted, NewFlow, StateWord, Times},
    layout::ForwardMethod,
    packet::Packet,
    parse::{self, Header, Ipv4},
    tables::Tables,
    time::{Tick, seconds},
};

use crate::{bench_run::Run, packet::XdpPacket, tables::BpfTables};

const TABLES: BpfTables<{ maps::IN }> = BpfTables;

#[map]
static RUN: PerCpuArray<Run> = PerCpuArray::with_max_entries(1, 0);
#[map]
static PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// The flow table that lvx does not have: key to times and server.
#[map]
static HASH: HashMap<[u64; 2], [u64; 2]> = HashMap::with_max_entries(1, 0);
#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// No flow ends while the benchmark runs.
const TIMEOUT: u32 = seconds(3600);
/// Where the flow's part of the frame is: untagged, no options.
const IP_TTL: u32 = 22;
const IP_SOURCE: u32 = 26;
const IP_DESTINATION: u32 = 30;
const PORTS: u32 = 34;

/// Spreads packet numbers over the flows, each number's bits over all of the
/// answer's (the finish of MurmurHash3).
#[inline(always)]
fn scramble(number: u64) -> u64 {
    let mut mixed = number as u32;
    mixed ^= mixed >> 16;
    mixed = mixed.wrapping_mul(0x85eb_ca6b);
    mixed ^= mixed >> 13;
    mixed = mixed.wrapping_mul(0xc2b2_ae35);
    mixed ^= mixed >> 16;
    mixed.into()
}

fn run() -> Option<&'static mut Run> {
    let run = RUN.get_ptr_mut(0)?;
    // SAFETY: this CPU's record, and no packet interrupts another here.
    Some(unsafe { &mut *run })
}

/// Makes the packet the next flow's, as if it had just come in: addresses, TTL
/// and checksum too, which a program under test may have rewritten.
#[inline(always)]
fn next_packet(ctx: &XdpContext, run: &mut Run) -> Option<XdpPacket> {
    let number = run.next;
    run.next = number.wrapping_add(1);
    let number = if run.scrambled != 0 {
        scramble(number)
    } else {
        number
    };
    let flow = number & run.mask;
    // 10.0.0.0/8 and a port that takes part.
    let source = 0x0a_u64 | (flow << 8 & 0xffff_ff00);
    let source_port = 1024_u64.wrapping_add(flow & 0x7fff);
    let ports = (source_port as u16).to_be() as u32 | (run.port as u32) << 16;
    let sum = !fold(run.sum.wrapping_add(source));
    let mut packet = XdpPacket::new(ctx.ctx);
    // 02:00:00:00:00:01 from 02:00:00:00:00:aa.
    packet.write(0, 0x0002_0100_0000_0002_u64)?;
    packet.write(8, 0xaa00_0000_u32)?;
    // TTL 64, UDP.
    packet.write(IP_TTL, 0x1140_u32 | u32::from(sum) << 16)?;
    packet.write(IP_SOURCE, source as u32)?;
    packet.write(IP_DESTINATION, run.destination as u32)?;
    packet.write(PORTS, ports)?;
    Some(packet)
}

#[inline(always)]
fn parsed(packet: &XdpPacket) -> Option<&'static mut Facts> {
    let facts = maps::FACTS.get_ptr_mut(0)?;
    // SAFETY: as for run.
    let facts = unsafe { &mut *facts };
    let ethernet = parse::ethernet(packet)?;
    let ip = Ipv4::read(packet, ethernet.l3).ok()?;
    let protocol = Protocol::from_number(ip.check(packet, facts).ok()?)?;
    parse::transport(packet, protocol, facts).ok()?;
    Some(facts)
}

#[inline(always)]
fn count() {
    if let Some(packets) = PACKETS.get_ptr_mut(0) {
        // SAFETY: as for run.
        unsafe { *packets = (*packets).wrapping_add(1) };
    }
}

/// What it costs to make and parse a packet.
#[xdp]
pub fn bench_harness(ctx: XdpContext) -> u32 {
    harness(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
}

#[inline(always)]
fn harness(ctx: &XdpContext) -> Option<()> {
    let packet = next_packet(ctx, run()?)?;
    parsed(&packet).map(|_| ())
}

/// What every table of that size pays at least: one cache line of it.
#[xdp]
pub fn bench_line(ctx: XdpContext) -> u32 {
    line(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
}

#[inline(always)]
fn line(ctx: &XdpContext) -> Option<()> {
    let packet = next_packet(ctx, run()?)?;
    let facts = parsed(&packet)?;
    count();
    let home = flow::home::<V4, _>(TABLES, &V4::key(facts));
    // Compared, so that it is loaded: no state word is all ones.
    let cell = FlowCell(TABLES.cell(V4::FLOW, home)?);
    (cell.state() != StateWord(u64::MAX)).then_some(())
}

/// lvx's flow table.
#[xdp]
pub fn bench_cells(ctx: XdpContext) -> u32 {
    cells(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
}

#[inline(always)]
fn cells(ctx: &XdpContext) -> Option<()> {
    let run = run()?;
    let packet = next_packet(ctx, run)?;
    let facts = parsed(&packet)?;
    let now = TABLES.now();
    count();
    match flow::find::<V4, _>(TABLES, &V4::key(facts)) {
        Some(found) if !found.times.is_dead(now) => {
            found.cell.touch(found.times, Times::new(now, TIMEOUT));
            Some(())
        }
        _ => {
            run.misses = run.misses.wrapping_add(1);
            bench_insert(facts, now).then_some(())
        }
    }
}

/// Out of the way of the look-up, as in lvx.
#[inline(never)]
fn bench_insert(facts: &Facts, now: Tick) -> bool {
    let flow = NewFlow {
        tells_client: false,
        slot: 0,
        method: ForwardMethod::Route,
        state: 1,
        counted: Counted::No,
        timeout: TIMEOUT,
        template: 0,
    };
    let inserted = flow::insert::<V4, _>(TABLES, &V4::key(facts), now, &flow.prepare(now));
    matches!(inserted, Inserted::New(_))
}

/// A hash of the kernel's with the same key.
#[xdp]
pub fn bench_hash(ctx: XdpContext) -> u32 {
    hash(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
}

#[inline(always)]
fn hash(ctx: &XdpContext) -> Option<()> {
    let run = run()?;
    let packet = next_packet(ctx, run)?;
    let facts = parsed(&packet)?;
    let now = TABLES.now();
    count();
    let key = V4::key(facts);
    let times = Times::new(now, TIMEOUT).0;
    match HASH.get_ptr_mut(key) {
        Some(value) => {
            let seen = value.cast::<u64>();
            // SAFETY: a map value of two words; volatile, because other CPUs write.
            unsafe {
                if seen.read_volatile() != times {
                    seen.write_volatile(times);
                }
            }
            Some(())
        }
        None => {
            run.misses = run.misses.wrapping_add(1);
            HASH.insert(key, [times, 0], 0).ok()
        }
    }
}

/// A whole program, or `lvx_pass` for the cost of getting there. Those that it
/// calls take frames in pieces, so it must, too.
#[xdp(frags)]
pub fn bench_behind(ctx: XdpContext) -> u32 {
    if let Some(run) = run()
        && let Some(packet) = next_packet(&ctx, run)
    {
        // SAFETY: the kernel checks the index; nothing lies on the stack.
        unsafe { PROGRAMS.tail_call(&XdpContext::new(packet.context()), run.program as u32) };
    }
    xdp_action::XDP_ABORTED
}

/// Unreachable in a program that loads: the verifier refuses it.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
