//! The records that the data plane and the daemon share through BPF maps.
//!
//! Every record is a whole number of 64-bit words. The daemon writes it as a
//! plain struct through a memory mapping; the engine reads it word by word
//! through a [`Cell`](crate::tables::Cell), so that the same code runs on BPF
//! map values and on host memory. A struct and its view stand in one file and a
//! test compares them. Fields that hold packet data (addresses, ports) are in
//! network byte order, exactly as loaded from the wire; everything else is in
//! the byte order of the machine, which is little-endian (x86-64).
//!
//! Configuration tables ([`Table::Service`](crate::tables::Table), list, filter)
//! exist in two halves. The root word says which half is current.

mod dest;
mod filter;
mod iface;
mod list;
mod next_hop;
mod root;
mod service;
mod settings;
mod stats;
mod sweep;

pub use dest::{DestEntry, DestFlags, DestLoad, DestView, DestWord, TunnelChecksum, TunnelKind};
pub use filter::{FILTER_BITS, FILTER_WORDS, filter_bit, reply_bit};
pub use iface::{IFACE_MACS, IFACE_WINDOW, IfaceEntry, IfaceKey, IfaceView};
pub use list::{ListEntry, ListView, NO_OLD_POSITION};
pub use next_hop::{MAX_L2, NextHop, NextHopView};
pub use root::Root;
pub use service::{
    SERVICE_WINDOW, SchedulerKind, ServiceEntry, ServiceFlags, ServiceKey, ServiceState,
    ServiceView,
};
pub use settings::{Settings, SettingsView};
pub use stats::{Stats, StatsPage};
pub use sweep::SweepStatus;

/// Changes whenever a record or a map changes shape; part of the pin path, so
/// that a new program never reads an old layout (aya 0.14 reuses pinned maps
/// without comparing them).
pub const LAYOUT_VERSION: u32 = 2;

/// How a packet reaches its server. The numbers are the kernel's
/// (genetlink `FWD_METHOD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ForwardMethod {
    /// NAT (`-m`).
    Masq = 0,
    /// Delivered to the director's own stack.
    Local = 1,
    /// Tunnelling (`-i`).
    Tunnel = 2,
    /// Direct routing (`-g`).
    Route = 3,
}

impl ForwardMethod {
    /// The method of a stored number; the low two bits count.
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Masq,
            1 => Self::Local,
            2 => Self::Tunnel,
            _ => Self::Route,
        }
    }
}
