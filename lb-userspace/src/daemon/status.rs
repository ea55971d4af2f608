use serde::{Deserialize, Serialize};

/// A flow table's size and fill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTable {
    /// Connections promised.
    pub connections: u64,
    /// Cells.
    pub cells: u64,
    /// Cells in use; a connection made with NAT takes two.
    pub used: u64,
    /// Memory in bytes.
    pub bytes: u64,
}

/// What `lvx status` shows; can be read with and without a daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Process id of the daemon, `None` when it is dead.
    pub daemon: Option<u32>,
    /// Seconds since the daemon's last heartbeat; `None` while it lives.
    pub frozen_for: Option<u64>,
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Interfaces: name, mode (`native`, `generic`).
    pub interfaces: Vec<(String, String)>,
    /// Configured services and servers.
    pub services: usize,
    /// Configured servers.
    pub dests: usize,
    /// Flow table of IPv4.
    pub flow4: FlowTable,
    /// Flow table of IPv6.
    pub flow6: FlowTable,
    /// Services scheduled by mh.
    #[serde(default)]
    pub mh_services: u32,
    /// Those that there is room for.
    #[serde(default)]
    pub mh_room: u32,
    /// Memory of their tables in bytes.
    #[serde(default)]
    pub mh_bytes: u64,
    /// Seconds since the sweep last ran.
    pub sweep_age: f64,
    /// Build whose sweep runs.
    pub sweep_version: u64,
    /// Servers without a resolved next hop, with the reason.
    pub unresolved: Vec<(String, String)>,
    /// Warnings about what bypasses netfilter, missing interfaces, …
    pub warnings: Vec<String>,
    /// Reason counters: name and packets.
    pub reasons: Vec<(String, u64)>,
    /// Transaction number of the current configuration.
    pub epoch: u64,
}
