use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::{conn::Tracking, tables::Cell};

/// Time-outs and knobs that packets read. Written by the daemon, word by word.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// TCP time-outs by state number, in ticks.
    pub tcp: [u32; 12],
    /// UDP time-out in ticks.
    pub udp: u32,
    /// Time-out of a protocol without states, in ticks.
    pub other: u32,
    /// Written every second while the daemon runs: a tick.
    pub heartbeat: u32,
    /// Zero.
    pub reserved: u32,
    /// SCTP time-outs by state number, in ticks; of 16, so that any four bits are
    /// inside.
    pub sctp: [u32; 16],
}

impl Settings {
    /// Where UDP's time-out is, in 32 bits.
    pub const UDP: u64 = offset_of!(Self, udp) as u64 / 4;
    /// Where the time-outs of SCTP start.
    pub const SCTP: u64 = offset_of!(Self, sctp) as u64 / 4;
}

/// [`Settings`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct SettingsView<C>(pub C);

impl<C: Cell> SettingsView<C> {
    /// Time-out, in ticks, of a connection in `state`; `first` is
    /// [`Facts::timeouts`](crate::facts::Facts::timeouts).
    #[inline(always)]
    pub fn timeout(self, tracking: Tracking, first: u64, state: u8) -> u32 {
        match tracking {
            Tracking::Flags => {
                let state = if state > 11 { 0 } else { state };
                self.half(state.into())
            }
            // Masked: inside the record whatever the facts say.
            Tracking::Columns => self.half((first as usize).wrapping_add(state.into()) & 31),
        }
    }

    /// The `half`-th 32 bits of the record.
    #[inline(always)]
    fn half(self, half: usize) -> u32 {
        let shift = half as u32 & 1;
        (self.0.load(half / 2) >> (shift * 32)) as u32
    }
}
