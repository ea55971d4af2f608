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
//! Configuration tables ([`Table::Service`](crate::tables::Table), list, filter,
//! rules)
//! exist in two halves. The root word says which half is current.

mod dest;
mod filter;
mod iface;
mod list;
mod local;
mod next_hop;
mod root;
mod rules;
mod service;
mod settings;
mod stats;
mod sweep;

pub use crate::sched::SchedulerKind;
pub use dest::{
    DestEntry, DestFlags, DestLoad, DestView, DestWord, PathMtu, Thresholds, TunnelChecksum,
    TunnelKind,
};
pub use filter::{FILTER_BITS, FILTER_WORDS, filter_bit, reply_bit};
pub use iface::{IFACE_MACS, IFACE_WINDOW, IfaceEntry, IfaceKey, IfaceView};
pub use list::{ListEntry, ListView, NO_OLD_POSITION};
pub use local::{LocalAddress, LocalPool, LocalView};
pub use next_hop::{MAX_L2, NextHop, NextHopView};
pub use root::Root;
pub use rules::{
    FilterVerdict, LabelList, POINT_WORDS, RuleEffect, RuleEntry, RuleHeader, RuleKind, port_key,
    rule_hash,
};
pub use service::{
    SERVICE_WINDOW, ServiceEntry, ServiceFlags, ServiceKey, ServiceState, ServiceView,
};
pub use settings::{Knobs, Settings, SettingsView};
pub use stats::{Stats, StatsPage};
pub use sweep::SweepStatus;

/// Changes whenever a record or a map changes shape; part of the pin path, so
/// that a new program never reads an old layout (aya 0.14 reuses pinned maps
/// without comparing them).
pub const LAYOUT_VERSION: u32 = 7;

/// How a packet reaches its server. The numbers up to 4 are the kernel's
/// (genetlink `FWD_METHOD`; 4 is its bypass).
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
    /// NAT of both ends: the server sees an address of this director.
    Fullnat = 5,
}

impl ForwardMethod {
    /// The method of a stored number; the low three bits count.
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Masq,
            1 => Self::Local,
            2 => Self::Tunnel,
            5 => Self::Fullnat,
            _ => Self::Route,
        }
    }

    /// Whether addresses are translated, so that replies come back through this
    /// director.
    #[inline(always)]
    pub const fn translates(self) -> bool {
        matches!(self, Self::Masq | Self::Fullnat)
    }
}
