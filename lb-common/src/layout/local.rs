use bytemuck::{Pod, Zeroable};

use crate::tables::Cell;

/// An address of this director that FULLNAT connections are made from. Never
/// changed while a server refers to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LocalAddress {
    /// In network byte order; IPv4 uses the first word.
    pub addr: [u32; 4],
    /// First source port that may be used, in host order.
    pub first_port: u16,
    /// Last one.
    pub last_port: u16,
    /// Zero.
    pub reserved0: u32,
    /// Zero.
    pub reserved1: u64,
}

/// A [`LocalAddress`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct LocalView<C>(pub C);

impl<C: Cell> LocalView<C> {
    /// [`LocalAddress::addr`], as two words.
    #[inline(always)]
    pub fn addr(self) -> [u64; 2] {
        [self.0.load(0), self.0.load(1)]
    }

    /// [`LocalAddress::first_port`].
    #[inline(always)]
    pub fn first_port(self) -> u32 {
        self.0.load(2) as u32 & 0xffff
    }

    /// [`LocalAddress::last_port`].
    #[inline(always)]
    pub fn last_port(self) -> u32 {
        self.0.load(2) as u32 >> 16
    }
}

/// A run of [`LocalAddress`] entries, in one word: the first one's index, and
/// how many there are in the high half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalPool(pub u64);

impl LocalPool {
    /// Puts a word together.
    pub const fn new(start: u32, len: u32) -> Self {
        Self(start as u64 | (len as u64) << 32)
    }

    /// Index of the first address.
    #[inline(always)]
    pub const fn start(self) -> u32 {
        self.0 as u32
    }

    /// Number of addresses.
    #[inline(always)]
    pub const fn len(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether there is no address.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}
