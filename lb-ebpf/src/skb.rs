//! A packet of the stack on its way out.

use core::{arch::asm, mem::size_of};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use bytemuck::{AnyBitPattern, NoUninit};
use lb_common::{checksum, packet::Packet};

use crate::{
    maps,
    packet::{NO_SUM, lvx_crc_change, sum_of},
};

/// The packet of a program's context. Headers are read where they lie; they are
/// written by a helper, which makes a copy of them where others share them (a
/// TCP segment that may be sent again).
pub struct SkbPacket {
    ctx: *mut __sk_buff,
}

impl SkbPacket {
    /// The packet of `ctx`.
    #[inline(always)]
    pub fn new(ctx: *mut __sk_buff) -> Self {
        Self { ctx }
    }

    /// The context, for a stage.
    #[inline(always)]
    pub fn context(&self) -> *mut __sk_buff {
        self.ctx
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: ctx is the program's context.
        unsafe { (*self.ctx).len }
    }

    /// The address of `size` bytes at `offset`, if the packet's first part has
    /// them: the headers of what the stack sends are there.
    #[inline(always)]
    fn at(&self, offset: u32, size: usize) -> Option<usize> {
        // SAFETY: ctx is the program's context.
        let (data, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        let mut offset = offset as usize;
        if !core::intrinsics::is_val_statically_known(offset) {
            // SAFETY: one instruction on a register; as for frames.
            unsafe { asm!("{offset} &= 255", offset = inout(reg) offset, options(nostack)) };
        }
        let start = data.wrapping_add(offset);
        (start.wrapping_add(size) <= end).then_some(start)
    }

    /// Changes the checksum at `offset` by `sum`; `flags` as the helper has them.
    #[inline(always)]
    fn change(&mut self, offset: u32, sum: u64, flags: u32) -> Option<()> {
        let sum = checksum::fold(sum).into();
        // SAFETY: the helper checks the context and the offset. A size of 0 (the
        // low bits of the flags) makes `to` a difference.
        let refused = unsafe { bpf_l4_csum_replace(self.ctx, offset, 0, sum, u64::from(flags)) };
        (refused == 0).then_some(())
    }
}

impl Packet for SkbPacket {
    #[inline(always)]
    fn reaches(&self, length: u32) -> bool {
        length <= self.length()
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn read<V: AnyBitPattern>(&self, offset: u32) -> Option<V> {
        let start = self.at(offset, size_of::<V>())?;
        // SAFETY: inside the packet, and any bytes are a V.
        Some(unsafe { (start as *const V).read_unaligned() })
    }

    #[inline(always)]
    fn write<V: NoUninit>(&mut self, offset: u32, value: V) -> Option<()> {
        let size = size_of::<V>() as u32;
        // SAFETY: the helper checks the context and the offset; the value is ours.
        let refused =
            unsafe { bpf_skb_store_bytes(self.ctx, offset, (&raw const value).cast(), size, 0) };
        (refused == 0).then_some(())
    }

    #[inline(always)]
    fn offset(&self, offset: u32) -> u32 {
        let mut offset = u64::from(offset);
        // SAFETY: one instruction on a register.
        unsafe { asm!("{offset} &= 255", offset = inout(reg) offset, options(nostack)) };
        offset as u32
    }

    #[inline(always)]
    fn adjust_checksum(
        &mut self,
        offset: u32,
        pseudo: u64,
        rest: u64,
        zero_is_none: bool,
    ) -> Option<()> {
        let flags = if zero_is_none {
            BPF_F_MARK_MANGLED_0
        } else {
            0
        };
        self.change(offset, pseudo, flags | BPF_F_PSEUDO_HDR)?;
        self.change(offset, rest, flags)
    }

    /// Nothing that leaves grows.
    #[inline(always)]
    fn grow_front(&mut self, _: i32) -> Option<()> {
        None
    }

    #[inline(always)]
    fn cut(&mut self, _: u32) -> Option<()> {
        None
    }

    #[inline(always)]
    fn sum(&self, offset: u32, length: u32) -> Option<u64> {
        match lvx_out_sum(self.ctx, offset, length) {
            NO_SUM => None,
            sum => Some(sum),
        }
    }

    #[inline(always)]
    fn crc_change(&self, change: u32, length: u32) -> u32 {
        lvx_crc_change(change, length)
    }
}

/// [`Packet::sum`] as a global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lvx_out_sum(ctx: *mut __sk_buff, offset: u32, length: u32) -> u64 {
    sum_of(maps::OUT, offset, length, |at, to, size| {
        // SAFETY: the record has so many bytes; the helper checks the rest.
        unsafe { bpf_skb_load_bytes(ctx.cast_const().cast(), at, to.cast(), size) == 0 }
    })
}
