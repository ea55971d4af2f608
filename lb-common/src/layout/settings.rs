use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::{conn::Protocol, tables::Cell};

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

/// Where the time-outs of SCTP start, in 32 bits.
const SCTP: usize = offset_of!(Settings, sctp) / 4;

/// [`Settings`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct SettingsView<C>(pub C);

impl<C: Cell> SettingsView<C> {
    /// Time-out, in ticks, of a connection of `protocol` in `state`.
    #[inline(always)]
    pub fn timeout(self, protocol: Protocol, state: u8) -> u32 {
        match protocol {
            Protocol::Tcp => {
                let state = if state > 11 { 0 } else { state };
                self.half(state.into())
            }
            Protocol::Udp => self.0.load(6) as u32,
            Protocol::Sctp => self.half(usize::from(state & 15).wrapping_add(SCTP)),
        }
    }

    /// The `half`-th 32 bits of the record.
    #[inline(always)]
    fn half(self, half: usize) -> u32 {
        let shift = half as u32 & 1;
        (self.0.load(half / 2) >> (shift * 32)) as u32
    }
}
