//! What the capturing program does more than the other: it copies the packets
//! that `lvx capture` asked for, as they came and as they leave.

use core::arch::asm;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::{
        bpf_get_smp_processor_id, bpf_ktime_get_ns,
        generated::{bpf_ringbuf_output, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    },
};
use lb_common::{
    capture::{Filter, Head, SNAP},
    reason::Reason,
};

use crate::{maps, packet::XdpPacket};

// The masks below.
const _: () = assert!(SNAP == 2048);

/// A frame on its way to user space.
#[repr(C)]
pub struct Frame {
    head: Head,
    bytes: [u8; SNAP as usize],
}

/// The packet at hand.
#[repr(C)]
pub struct Record {
    /// As it came.
    before: Frame,
    /// As it leaves.
    after: Frame,
    /// Frames that found no room in the ring.
    pub lost: u64,
    /// Frames so far.
    count: u64,
    /// [`Reason`] of the packet at hand.
    reason: u64,
}

/// Notes why the packet at hand ended.
#[inline(always)]
pub fn note(reason: u32) {
    if let Some(record) = maps::CAPTURE.get_ptr_mut(0) {
        // SAFETY: this CPU's record, and no packet interrupts another here.
        unsafe { (*record).reason = reason.into() };
    }
}

fn filter() -> Filter {
    // SAFETY: a static; volatile, because the loader has replaced the values that
    // the compiler sees.
    unsafe { (&raw const maps::CAPTURE_FILTER).read_volatile() }
}

/// Keeps the packet as it came; whether it is one of those that are asked for.
#[inline(always)]
pub fn before(ctx: *mut xdp_md) -> bool {
    lvx_capture_before(ctx) == 1
}

/// Hands on what was kept and what became of it.
#[inline(always)]
pub fn after(ctx: *mut xdp_md, action: u32, egress: u32) {
    lvx_capture_after(ctx, action, egress);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lvx_capture_before(ctx: *mut xdp_md) -> u32 {
    let packet = XdpPacket::new(ctx);
    let filter = filter();
    let Some(record) = maps::CAPTURE.get_ptr_mut(0) else {
        return 0;
    };
    if !filter.takes(&packet) {
        return 0;
    }
    // SAFETY: this CPU's record; the context is the program's.
    let record = unsafe { &mut *record };
    record.count = record.count.wrapping_add(1);
    record.reason = 0;
    // SAFETY: the helpers take nothing.
    let (time, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    record.before.head.time = time;
    record.before.head.number = u64::from(cpu) << 48 | record.count;
    // SAFETY: the context is the program's.
    record.before.head.ingress = unsafe { (*ctx).ingress_ifindex };
    record.before.head.after = 0;
    copy(ctx, &mut record.before, filter.snap)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lvx_capture_after(ctx: *mut xdp_md, action: u32, egress: u32) -> u32 {
    let filter = filter();
    let Some(record) = maps::CAPTURE.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: as above.
    let record = unsafe { &mut *record };
    let reason = record.reason as u32;
    if !filter.takes_end(reason) {
        return 0;
    }
    record.before.head.reason = reason;
    record.before.head.egress = egress;
    let mut lost = send(&record.before);
    // What is dropped, or left to the stack as it came, does not leave otherwise.
    let is_changed = action == xdp_action::XDP_TX
        || action == xdp_action::XDP_REDIRECT
        || reason == Reason::PassedLocalServer as u32;
    if is_changed {
        record.after.head = record.before.head;
        record.after.head.after = 1;
        if copy(ctx, &mut record.after, filter.snap) == 1 {
            lost = lost.wrapping_add(send(&record.after));
        }
    }
    record.lost = record.lost.wrapping_add(lost);
    1
}

/// Copies the frame, as much as is asked for; 1 when that was possible.
#[inline(always)]
fn copy(ctx: *mut xdp_md, frame: &mut Frame, snap: u32) -> u32 {
    // SAFETY: the context is the program's.
    let length = unsafe { bpf_xdp_get_buff_len(ctx) } as u32;
    let wanted = if length < snap { length } else { snap };
    let mut kept = u64::from(wanted.wrapping_sub(1));
    // SAFETY: one instruction on a register, which tells the verifier.
    unsafe { asm!("{kept} &= 2047", kept = inout(reg) kept, options(nostack)) };
    let kept = (kept as u32).wrapping_add(1);
    frame.head.length = length;
    frame.head.kept = kept;
    let to = (&raw mut frame.bytes).cast();
    // SAFETY: there is room for SNAP bytes, and `kept` is at most that.
    u32::from(unsafe { bpf_xdp_load_bytes(ctx, 0, to, kept) } == 0)
}

/// Hands a frame on; 1 when it found no room.
#[inline(always)]
fn send(frame: &Frame) -> u64 {
    let mut kept = u64::from(frame.head.kept).wrapping_sub(1);
    // SAFETY: as in `copy`; the verifier does not know what the record holds.
    unsafe { asm!("{kept} &= 2047", kept = inout(reg) kept, options(nostack)) };
    let size = kept.wrapping_add(1).wrapping_add(size_of::<Head>() as u64);
    // SAFETY: the frame has so many bytes, behind one another.
    let refused = unsafe {
        bpf_ringbuf_output(
            (&raw const maps::CAPTURES).cast_mut().cast(),
            (&raw const *frame).cast_mut().cast(),
            size,
            0,
        )
    };
    u64::from(refused != 0)
}
