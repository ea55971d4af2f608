//! A frame in the driver's buffer.

use core::arch::asm;

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{
        bpf_csum_diff, bpf_xdp_adjust_head,
        generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    },
};
use bytemuck::{AnyBitPattern, NoUninit};
use lb_common::{crc, packet::Packet};

use crate::maps;

/// Bytes that are summed at once: the most that `bpf_csum_diff` takes.
pub const SUM_CHUNK: u32 = 512;
/// Chunks of the longest range that is summed.
const SUM_CHUNKS: u32 = 32;

/// The frame of a program's context. Every access reads the bounds anew.
pub struct XdpPacket {
    ctx: *mut xdp_md,
}

impl XdpPacket {
    /// The frame of `ctx`.
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        Self { ctx }
    }

    /// The context, for a stage.
    #[inline(always)]
    pub fn context(&self) -> *mut xdp_md {
        self.ctx
    }

    /// The address of `size` bytes at `offset`, if the frame has them.
    #[inline(always)]
    fn at(&self, offset: u32, size: usize) -> Option<usize> {
        // SAFETY: ctx is the program's context.
        let (data, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        let mut offset = offset as usize;
        if !core::intrinsics::is_val_statically_known(offset) {
            // SAFETY: one instruction on a register. It tells the verifier what
            // Packet::read promises; a mask in Rust would go where the compiler
            // knows better, and 6.1 forgets the bounds of what was spilled. Nor
            // may the compiler check a sum that it has already: the verifier would
            // not know that the check is of this address.
            unsafe { asm!("{offset} &= 255", offset = inout(reg) offset, options(nostack)) };
        }
        let start = data.wrapping_add(offset);
        (start.wrapping_add(size) <= end).then_some(start)
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn reaches(&self, length: u32) -> bool {
        // SAFETY: ctx is the program's context.
        let (data, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        let length = length & 0x1_ffff;
        // SAFETY: as above. The rest of a large frame lies behind the end.
        data.wrapping_add(length as usize) <= end
            || u64::from(length) <= unsafe { bpf_xdp_get_buff_len(self.ctx) }
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: ctx is the program's context.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn read<V: AnyBitPattern>(&self, offset: u32) -> Option<V> {
        let start = self.at(offset, size_of::<V>())?;
        // SAFETY: inside the frame, and any bytes are a V.
        Some(unsafe { (start as *const V).read_unaligned() })
    }

    #[inline(always)]
    fn write<V: NoUninit>(&mut self, offset: u32, value: V) -> Option<()> {
        let start = self.at(offset, size_of::<V>())?;
        // SAFETY: inside the frame, which is this program's alone.
        unsafe { (start as *mut V).write_unaligned(value) };
        Some(())
    }

    #[inline(always)]
    fn change<V: AnyBitPattern + NoUninit>(
        &mut self,
        offset: u32,
        change: impl FnOnce(V) -> V,
    ) -> Option<()> {
        let place = self.at(offset, size_of::<V>())? as *mut V;
        // SAFETY: as for read and write; nothing moves the frame in between.
        unsafe { place.write_unaligned(change(place.read_unaligned())) };
        Some(())
    }

    #[inline(always)]
    fn offset(&self, offset: u32) -> u32 {
        let mut offset = u64::from(offset);
        // SAFETY: one instruction on a register.
        unsafe { asm!("{offset} &= 255", offset = inout(reg) offset, options(nostack)) };
        offset as u32
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: i32) -> Option<()> {
        // SAFETY: the helper checks the room; nothing points into the frame.
        let refused = unsafe { bpf_xdp_adjust_head(self.ctx, bytes.wrapping_neg()) };
        (refused == 0).then_some(())
    }

    #[inline(always)]
    fn cut(&mut self, length: u32) -> Option<()> {
        // SAFETY: the helpers check the context and the lengths.
        unsafe {
            let now = bpf_xdp_get_buff_len(self.ctx) as i32;
            let delta = (length as i32).wrapping_sub(now);
            if delta > 0 {
                return None;
            }
            (bpf_xdp_adjust_tail(self.ctx, delta) == 0).then_some(())
        }
    }

    #[inline(always)]
    fn sum(&self, offset: u32, length: u32) -> Option<u64> {
        match lvx_sum(self.ctx, offset, length) {
            NO_SUM => None,
            sum => Some(sum),
        }
    }

    #[inline(always)]
    fn crc_change(&self, change: u32, length: u32) -> u32 {
        lvx_crc_change(change, length)
    }
}

/// [`crc::change`] as a global function: verified once, not for every caller.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lvx_crc_change(change: u32, length: u32) -> u32 {
    crc::change(change, length)
}

/// No sum of 32 bits.
pub const NO_SUM: u64 = u64::MAX;

/// [`Packet::sum`] as a global function: the verifier walks its loop once, not
/// for every caller.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lvx_sum(ctx: *mut xdp_md, offset: u32, length: u32) -> u64 {
    sum_of(maps::IN, offset, length, |at, to, size| {
        // SAFETY: the record has so many bytes; the helper checks the rest.
        unsafe { bpf_xdp_load_bytes(ctx, at, to.cast(), size) == 0 }
    })
}

/// Sums `length` bytes from `offset` on, which `load` copies into record
/// `record` of the buffer; [`NO_SUM`] when it cannot.
#[inline(always)]
pub fn sum_of(
    record: u32,
    offset: u32,
    length: u32,
    load: impl Fn(u32, *mut u8, u32) -> bool,
) -> u64 {
    let Some(buffer) = maps::BYTES.get_ptr_mut(record) else {
        return NO_SUM;
    };
    let buffer = buffer.cast::<u8>();
    let mut sum = 0_u32;
    let mut done = 0_u32;
    // Whole chunks first: a loop over them and the rest would have the verifier
    // follow the rest through every step.
    while done < SUM_CHUNKS.wrapping_mul(SUM_CHUNK) {
        if done.wrapping_add(SUM_CHUNK) > length {
            break;
        }
        if !load(offset.wrapping_add(done), buffer, SUM_CHUNK) {
            return NO_SUM;
        }
        // SAFETY: the record has SUM_CHUNK bytes.
        sum = unsafe {
            bpf_csum_diff(core::ptr::null_mut(), 0, buffer.cast(), SUM_CHUNK, sum) as u32
        };
        done = done.wrapping_add(SUM_CHUNK);
    }
    let mut size = u64::from(length.wrapping_sub(done));
    if size == 0 {
        return sum.into();
    }
    if size >= SUM_CHUNK.into() {
        return NO_SUM;
    }
    // SAFETY: moves a register to itself. The compiler may know that the size is
    // 1 to SUM_CHUNK and drop the mask, which tells the verifier.
    unsafe { asm!("{size} = {size}", size = inout(reg) size, options(nostack)) };
    let size = (size.wrapping_sub(1) & 0x1ff) as u32;
    let size = size.wrapping_add(1);
    // SAFETY: the record has SUM_CHUNK bytes and four more. Those from the last
    // whole word on are zeroed, so that the rest of the word is.
    unsafe {
        let last = buffer.add((size & 0x3fc) as usize).cast::<u32>();
        last.write_volatile(0);
    }
    if !load(offset.wrapping_add(done), buffer, size) {
        return NO_SUM;
    }
    let padded = size.wrapping_add(3) & 0x3fc;
    // SAFETY: as above.
    sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, buffer.cast(), padded, sum) as u32 };
    sum.into()
}
