//! The programs of `lvx-lab bench`. A repeated test run does not put the packet
//! back, so `bench` makes it the next flow's and calls what is measured.
//!
//! | program | does |
//! | --- | --- |
//! | `bench` | makes the packet and calls one of the next, `lvx_pass` or `lvx` |
//! | `bench_tx` | F0: returns `XDP_TX` |
//! | `bench_floor` | F1: the least a stateful balancer must do, with lvx's flow table |
//! | `bench_hash` | F2: the same with a `BPF_MAP_TYPE_HASH` |
//! | `bench_line` | F1 with a load of a word of the flow's home cell for a look-up: memory alone |
//! | `bench_pass` | lets the kernel forward |
//! | `bench_redirect` | sends it out of another interface, and nothing else |
//! | `bench_arrive` | counts IPv4 at the far end, and drops it |
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
#[allow(dead_code, reason = "what is measured reads otherwise")]
mod packet;
mod tables;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::{bpf_redirect, bpf_xdp_adjust_head, generated::bpf_xdp_get_buff_len},
    macros::{map, xdp},
    maps::{HashMap, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use lb_common::{
    checksum::fold,
    conn::Counted,
    family::{Family, V4},
    flow::{self, FlowCell, Inserted, NewFlow, StateWord},
    layout::ForwardMethod,
    tables::Tables,
    time::seconds,
    wire::{ETHERTYPE_IPV4, IPPROTO_TCP, IPPROTO_UDP},
};

use crate::{
    bench_run::{FRAME_WORDS, Run, layout},
    tables::BpfTables,
};

const TABLES: BpfTables<{ maps::IN }> = BpfTables;

#[map]
static RUN: PerCpuArray<Run> = PerCpuArray::with_max_entries(1, 0);
#[map]
static PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// The flow table that lvx does not have: key to server.
#[map]
static HASH: HashMap<[u64; 2], u64> = HashMap::with_max_entries(1, 0);
#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(9, 0);
/// Packets that reached the far end.
#[map]
static ARRIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// No flow ends while the benchmark runs.
const TIMEOUT: u32 = seconds(3600);

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

/// The first `size` bytes of the frame.
#[inline(always)]
fn bytes(ctx: *mut xdp_md, size: usize) -> Option<usize> {
    // SAFETY: the program's context.
    let (data, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    (data.wrapping_add(size) <= end).then_some(data)
}

/// Makes the packet the next flow's, as if it had just come in, whatever the
/// program before did to it.
#[inline(always)]
fn next_packet(ctx: *mut xdp_md, run: &mut Run) -> Option<()> {
    let number = run.next;
    run.next = number.wrapping_add(1);
    let number = if run.scrambled != 0 {
        scramble(number)
    } else {
        number
    };
    let flow = run.first.wrapping_add(number & run.mask);
    if run.length != 0 {
        // SAFETY: the helpers check the context and the room; nothing points into the
        // frame.
        unsafe {
            let more = bpf_xdp_get_buff_len(ctx).wrapping_sub(run.length);
            if bpf_xdp_adjust_head(ctx, more as i32) != 0 {
                return None;
            }
        }
    }
    let data = bytes(ctx, FRAME_WORDS.wrapping_mul(8))?;
    let mut word = 0;
    while word < FRAME_WORDS {
        let at = data.wrapping_add(word.wrapping_mul(8)) as *mut u64;
        // SAFETY: inside the frame, as was just checked.
        unsafe { at.write_unaligned(*run.frame.get(word)?) };
        word = word.wrapping_add(1);
    }
    // 10.0.0.0/8, the last word of an IPv6 address; and a port that takes part.
    let address = 0x0a | (flow as u32) << 8;
    let port = (1024_u16.wrapping_add(flow as u16 & 0x7fff)).to_be();
    let (address_at, port_at, sum_at) = match run.layout {
        layout::FROM4 => (26, 34, 24),
        layout::TO4 => (30, 36, 24),
        layout::FROM6 => (34, 54, 0),
        layout::TO6 => (50, 56, 0),
        _ => return None,
    };
    write(data, address_at, address);
    write(data, port_at, port);
    if sum_at != 0 {
        let sum = !fold(run.sum.wrapping_add(address.into()));
        write(data, sum_at, sum);
    }
    if run.datagram_sum != 0 {
        let sum = !fold(
            run.datagram_sum
                .wrapping_add(address.into())
                .wrapping_add(port.into()),
        );
        write(data, 40, sum);
    }
    Some(())
}

/// Writes within the first [`FRAME_WORDS`].
#[inline(always)]
fn write<V>(data: usize, at: usize, value: V) {
    // SAFETY: the callers have checked the frame, and name places within it.
    unsafe { (data.wrapping_add(at) as *mut V).write_unaligned(value) };
}

#[inline(always)]
fn read<V: Copy>(data: usize, at: usize) -> V {
    // SAFETY: as for write; any bytes are a V.
    unsafe { (data.wrapping_add(at) as *const V).read_unaligned() }
}

/// Makes the packet and calls what is measured. `lvx` takes frames in pieces, so
/// all of these must.
#[xdp(frags)]
pub fn bench(ctx: XdpContext) -> u32 {
    if let Some(run) = run()
        && next_packet(ctx.ctx, run).is_some()
    {
        // SAFETY: the kernel checks the index; nothing lies on the stack.
        unsafe { PROGRAMS.tail_call(&ctx, run.program as u32) };
    }
    xdp_action::XDP_ABORTED
}

/// F0.
#[xdp(frags)]
pub fn bench_tx(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// The flow of a TCP segment or UDP datagram over IPv4 without options.
#[inline(always)]
fn key(data: usize) -> Option<[u64; 2]> {
    let protocol: u8 = read(data, 23);
    let is_ours = read::<u16>(data, 12) == ETHERTYPE_IPV4
        && read::<u8>(data, 14) == 0x45
        && (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP)
        // Not a later fragment.
        && read::<u16>(data, 20) & 0xff1f == 0;
    let ports = u64::from(read::<u32>(data, 34)) | u64::from(protocol) << 32;
    is_ours.then_some([read(data, 26), ports])
}

/// Counts, and sends the packet to the server.
#[inline(always)]
fn forward(data: usize) -> u32 {
    if let Some(packets) = PACKETS.get_ptr_mut(0) {
        // SAFETY: this CPU's, and no packet interrupts another here.
        unsafe { *packets = (*packets).wrapping_add(1) };
    }
    // 02:00:00:00:00:07 from 02:00:00:00:00:01.
    write(data, 0, 0x0002_0700_0000_0002_u64);
    write(data, 8, 0x0100_0000_u32);
    xdp_action::XDP_TX
}

/// F1.
#[xdp(frags)]
pub fn bench_floor(ctx: XdpContext) -> u32 {
    floor(ctx.ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn floor(ctx: *mut xdp_md) -> Option<u32> {
    let data = bytes(ctx, 42)?;
    let key = key(data)?;
    if flow::find::<V4, _>(TABLES, &key).is_none() {
        bench_insert(&key);
    }
    Some(forward(data))
}

/// Out of the way of the look-up, as in lvx. A flow that finds no place is a miss
/// again.
#[inline(never)]
fn bench_insert(key: &[u64; 2]) -> bool {
    let Some(run) = run() else {
        return false;
    };
    run.misses = run.misses.wrapping_add(1);
    let flow = NewFlow {
        tells_client: false,
        slot: 0,
        method: ForwardMethod::Route,
        state: 1,
        counted: Counted::No,
        timeout: TIMEOUT,
        template: 0,
    };
    let now = TABLES.now();
    let inserted = flow::insert::<V4, _>(TABLES, key, now, &flow.prepare(now));
    matches!(inserted, Inserted::New(_))
}

/// F2.
#[xdp(frags)]
pub fn bench_hash(ctx: XdpContext) -> u32 {
    hash_floor(ctx.ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn hash_floor(ctx: *mut xdp_md) -> Option<u32> {
    let data = bytes(ctx, 42)?;
    let key = key(data)?;
    if HASH.get_ptr(key).is_none() {
        let run = run()?;
        run.misses = run.misses.wrapping_add(1);
        HASH.insert(key, 0, 0).ok()?;
    }
    Some(forward(data))
}

/// What every table of that size pays at least: one cache line of it.
#[xdp(frags)]
pub fn bench_line(ctx: XdpContext) -> u32 {
    line(ctx.ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn line(ctx: *mut xdp_md) -> Option<u32> {
    let data = bytes(ctx, 42)?;
    let key = key(data)?;
    let home = flow::home::<V4, _>(TABLES, &key);
    // Compared, so that it is loaded: no state word is all ones.
    let cell = FlowCell(TABLES.cell(V4::FLOW, home)?);
    (cell.state() != StateWord(u64::MAX)).then(|| forward(data))
}

/// To the kernel.
#[xdp(frags)]
pub fn bench_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// What forwarding costs without a balancer.
#[xdp(frags)]
pub fn bench_redirect(_ctx: XdpContext) -> u32 {
    match run() {
        // SAFETY: the helper takes any interface index.
        Some(run) => unsafe { bpf_redirect(run.egress as u32, 0) as u32 },
        None => xdp_action::XDP_ABORTED,
    }
}

/// The far end. What is not IPv4 is passed: someone must answer ARP.
#[xdp(frags)]
pub fn bench_arrive(ctx: XdpContext) -> u32 {
    match bytes(ctx.ctx, 42) {
        Some(data) if read::<u16>(data, 12) == ETHERTYPE_IPV4 => {}
        _ => return xdp_action::XDP_PASS,
    }
    if let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: this CPU's, and no packet interrupts another here.
        unsafe { *arrived = (*arrived).wrapping_add(1) };
    }
    xdp_action::XDP_DROP
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
