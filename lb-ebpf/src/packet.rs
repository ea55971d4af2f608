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
use lb_common::packet::Packet;

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
        // The mask tells the verifier what Packet::read promises.
        let mut offset = (offset & 0xff) as usize;
        if !core::intrinsics::is_val_statically_known(offset) {
            // SAFETY: moves a register to itself. Otherwise the compiler may
            // check a sum that it has already, and the verifier would not know
            // that the check is of this address.
            unsafe { asm!("{offset} = {offset}", offset = inout(reg) offset, options(nostack)) };
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
        data.wrapping_add((length & 0x1_ffff) as usize) <= end
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
        let buffer = maps::BYTES.get_ptr_mut(0)?;
        let mut sum = 0_u32;
        let mut chunk = 0;
        while chunk < SUM_CHUNKS {
            let done = chunk.wrapping_mul(SUM_CHUNK);
            if done >= length {
                break;
            }
            let left = length.wrapping_sub(done);
            let size = if left < SUM_CHUNK { left } else { SUM_CHUNK };
            // SAFETY: the record has SUM_CHUNK bytes and four more, which stay
            // zero but for the rest of a longer load, overwritten here.
            unsafe {
                let bytes = buffer.cast::<u8>();
                let tail = bytes.add((size & 0x3fc) as usize).cast::<u32>();
                tail.write(0);
                if size & 0x3ff == 0
                    || bpf_xdp_load_bytes(
                        self.ctx,
                        offset.wrapping_add(done),
                        bytes.cast(),
                        size & 0x3ff,
                    ) != 0
                {
                    return None;
                }
                let padded = size.wrapping_add(3) & 0x3fc;
                sum = bpf_csum_diff(core::ptr::null_mut(), 0, bytes.cast(), padded, sum) as u32;
            }
            chunk += 1;
        }
        Some(sum.into())
    }
}
