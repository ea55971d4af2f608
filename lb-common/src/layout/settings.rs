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
    /// [`Knobs`].
    pub knobs: u32,
    /// Of so many packets that would start a connection one is dropped
    /// (`drop_packet`); 0 is none.
    pub drop_rate: u32,
}

impl Settings {
    /// Where UDP's time-out is, in 32 bits.
    pub const UDP: u64 = offset_of!(Self, udp) as u64 / 4;
    /// Where the time-outs of SCTP start.
    pub const SCTP: u64 = offset_of!(Self, sctp) as u64 / 4;
}

/// The `net.ipv4.vs.*` settings that packets and the sweep read, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Knobs(pub u32);

impl Knobs {
    /// `conn_reuse_mode` is not 0: a SYN in TIME_WAIT or CLOSE starts anew.
    pub const REUSE: u32 = 1;
    /// `conn_reuse_mode` has its bit 1: in FIN_WAIT too, where replies are not seen.
    pub const REUSE_FIN_WAIT: u32 = 1 << 1;
    /// `expire_nodest_conn`: connections of removed servers are over at once.
    pub const EXPIRE_NODEST: u32 = 1 << 2;
    /// `expire_quiescent_template`: templates of servers with weight 0 are void.
    pub const EXPIRE_QUIESCENT: u32 = 1 << 3;
    /// `sloppy_tcp`: every TCP packet but a reset may start a connection.
    pub const SLOPPY_TCP: u32 = 1 << 4;
    /// `sloppy_sctp`.
    pub const SLOPPY_SCTP: u32 = 1 << 5;
    /// `secure_tcp` is in force: TCP's other state table.
    pub const SECURE_TCP: u32 = 1 << 6;

    /// Whether all of `knobs` are set.
    #[inline(always)]
    pub const fn has(self, knobs: u32) -> bool {
        self.0 & knobs == knobs
    }
}

/// [`Settings`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct SettingsView<C>(pub C);

impl<C: Cell> SettingsView<C> {
    /// [`Settings::knobs`].
    #[inline(always)]
    pub fn knobs(self) -> Knobs {
        Knobs(self.0.load(16) as u32)
    }

    /// [`Settings::drop_rate`].
    #[inline(always)]
    pub fn drop_rate(self) -> u32 {
        (self.0.load(16) >> 32) as u32
    }

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
