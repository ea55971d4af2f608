use bytemuck::{Pod, Zeroable};

use super::ForwardMethod;
use crate::tables::Cell;

/// [`ListEntry::old_position`] of a server that was not in the list before.
pub const NO_OLD_POSITION: u32 = u32::MAX;

/// One server in a service's list. The newest server stands first, as in the
/// kernel; schedulers walk in this order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ListEntry {
    /// Slot in the dest tables.
    pub slot: u32,
    /// Weight; 0 is quiesced.
    pub weight: u32,
    /// Position in the list of the previous generation, or
    /// [`NO_OLD_POSITION`]: carries a scheduler's cursor over a change.
    pub old_position: u32,
    /// [`ForwardMethod`] of new connections; from bit 16 what the
    /// scheduler's compile step says of the server ([`ListEntry::with_hint`]).
    pub method: u32,
}

impl ListEntry {
    /// With the [`Compiled`](crate::sched::Compiled) hint.
    #[must_use]
    pub const fn with_hint(self, hint: u16) -> Self {
        Self {
            method: self.method & 0xffff | (hint as u32) << 16,
            ..self
        }
    }
}

/// A [`ListEntry`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct ListView<C>(pub C);

impl<C: Cell> ListView<C> {
    /// [`ListEntry::slot`].
    #[inline(always)]
    pub fn slot(self) -> u32 {
        self.0.load(0) as u32
    }

    /// [`ListEntry::weight`].
    #[inline(always)]
    pub fn weight(self) -> u32 {
        (self.0.load(0) >> 32) as u32
    }

    /// [`ListEntry::old_position`].
    #[inline(always)]
    pub fn old_position(self) -> u32 {
        self.0.load(1) as u32
    }

    /// What the scheduler's compile step says of the server.
    #[inline(always)]
    pub fn hint(self) -> u64 {
        self.0.load(1) >> 48
    }

    /// [`ListEntry::method`].
    #[inline(always)]
    pub fn method(self) -> ForwardMethod {
        ForwardMethod::from_bits((self.0.load(1) >> 32) as u8)
    }
}
