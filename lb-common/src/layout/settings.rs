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
}

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
                let word = self.0.load(state as usize / 2);
                (word >> (u32::from(state & 1) * 32)) as u32
            }
            Protocol::Udp => self.0.load(6) as u32,
        }
    }
}
