use bytemuck::{Pod, Zeroable};

/// The five counters of IPVS. One per-CPU slot a server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Stats {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers that passed the director.
    pub out_packets: u64,
    /// Bytes from clients: layer-3 total length before rewriting.
    pub in_bytes: u64,
    /// Bytes from servers.
    pub out_bytes: u64,
}

/// What the daemon keeps of a server's or service's counters between two
/// estimator passes: written by the daemon only, pinned, so that it survives it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StatsPage {
    /// Raw counters at the last estimator pass.
    pub last: Stats,
    /// Moving averages of conns, in/out packets (scaled by 2^9) and in/out
    /// bytes (scaled by 2^4), as the kernel keeps them.
    pub average: [u64; 5],
    /// Raw counters at the last `-Z`: what is shown is raw − base.
    pub base: Stats,
    /// A service's totals of servers that no longer exist (wrapping).
    pub left: Stats,
    /// Zero.
    pub reserved: [u64; 4],
}
