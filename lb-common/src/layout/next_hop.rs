use bytemuck::{Pod, Zeroable};

use crate::tables::Cell;

/// Longest layer-2 header written: Ethernet and two tags.
pub const MAX_L2: usize = 22;

/// Where a server's packets go: immutable once published. A change publishes
/// another entry and then one [`DestWord`](super::DestWord), because a header
/// rewritten in place could be read half old, half new.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NextHop {
    /// Outgoing interface: the one XDP runs on, with tags in the header.
    pub ifindex: u32,
    /// Largest layer-3 length that fits.
    pub mtu: u16,
    /// Bytes of `header` in use: 14, 18 or 22.
    pub header_len: u16,
    /// The layer-2 header, ready to copy, EtherType included.
    pub header: [u8; 24],
    /// This director's address on the way there, in network byte order: the
    /// source of tunnel packets. Of the server's family; IPv4 uses the first word.
    pub source: [u32; 4],
    /// Zero.
    pub reserved: [u64; 2],
}

/// A [`NextHop`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct NextHopView<C>(pub C);

impl<C: Cell> NextHopView<C> {
    /// [`NextHop::ifindex`].
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        self.0.load(0) as u32
    }

    /// [`NextHop::mtu`].
    #[inline(always)]
    pub fn mtu(self) -> u32 {
        (self.0.load(0) >> 32) as u32 & 0xffff
    }

    /// [`NextHop::header_len`].
    #[inline(always)]
    pub fn header_len(self) -> u32 {
        (self.0.load(0) >> 48) as u32
    }

    /// Word `i` (0 or 1) of [`NextHop::source`], two 32-bit words each.
    #[inline(always)]
    pub fn source(self, i: usize) -> u64 {
        self.0.load(4 + i)
    }

    /// Word `i` (0 to 2) of [`NextHop::header`].
    #[inline(always)]
    pub fn header_word(self, i: usize) -> u64 {
        self.0.load(1 + i)
    }
}
