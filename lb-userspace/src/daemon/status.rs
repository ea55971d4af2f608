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

/// Which interfaces are attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachments {
    /// Devices that carry the program: name, mode (`native`, `generic`).
    pub devices: Vec<(String, String)>,
    /// Where that of an interface is, which was asked for by name and does not
    /// carry it by that name itself: a sentence each.
    pub places: Vec<String>,
}

/// The sweep of one family's flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Seconds since it last ran.
    pub age: f64,
    /// Build whose sweep runs.
    pub version: u64,
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
    /// Devices that carry the program: name, mode (`native`, `generic`).
    pub interfaces: Vec<(String, String)>,
    /// See [`Attachments::places`].
    pub places: Vec<String>,
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
    /// Sweep of the IPv4 table.
    pub sweep4: Sweep,
    /// Sweep of the IPv6 table.
    pub sweep6: Sweep,
    /// Servers without a resolved next hop, with the reason.
    pub unresolved: Vec<(String, String)>,
    /// Warnings about what bypasses netfilter, missing interfaces, …
    pub warnings: Vec<String>,
    /// Reason counters: name and packets.
    pub reasons: Vec<(String, u64)>,
    /// Transaction number of the current configuration.
    pub epoch: u64,
}
