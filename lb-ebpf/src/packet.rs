//! A frame in the driver's buffer.

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_adjust_head};
use bytemuck::{AnyBitPattern, NoUninit};
use lb_common::packet::Packet;

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
        let start = data.wrapping_add((offset & 0xff) as usize);
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
}
