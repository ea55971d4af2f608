use serde::{Deserialize, Serialize};

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
    /// Connections promised, cells in the table, cells occupied, bytes taken.
    pub connections: u64,
    /// Cells in the flow table.
    pub cells: u64,
    /// Cells in use.
    pub used: u64,
    /// Memory of the flow table in bytes.
    pub bytes: u64,
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
