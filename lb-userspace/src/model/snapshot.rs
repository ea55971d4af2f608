use std::net::IpAddr;

use lb_common::layout::Stats;
use serde::{Deserialize, Serialize};

use super::{Dest, ServiceId, ServiceSpec};

/// The five counters of a service or server, less what `-Z` took off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes from servers.
    pub out_bytes: u64,
}

impl From<Stats> for Counters {
    fn from(stats: Stats) -> Self {
        let Stats {
            conns,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        } = stats;
        Self {
            conns,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        }
    }
}

impl From<Counters> for Stats {
    fn from(counters: Counters) -> Self {
        let Counters {
            conns,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        } = counters;
        Self {
            conns,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        }
    }
}

/// The five rates, by the kernel's estimator; bytes a second, not bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Connections a second.
    pub conns: u64,
    /// Packets a second from clients.
    pub in_packets: u64,
    /// Packets a second from servers.
    pub out_packets: u64,
    /// Bytes a second from clients.
    pub in_bytes: u64,
    /// Bytes a second from servers.
    pub out_bytes: u64,
}

/// A server at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestSnapshot {
    /// Its configuration.
    pub dest: Dest,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Counters.
    pub counters: Counters,
    /// Rates.
    pub rates: Rates,
}

/// A service at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    /// Its key.
    pub id: ServiceId,
    /// Its parameters.
    pub spec: ServiceSpec,
    /// Counters: its servers', with those of removed servers.
    pub counters: Counters,
    /// Rates.
    pub rates: Rates,
    /// Its servers in the order of scheduling: the newest first.
    pub dests: Vec<DestSnapshot>,
}

/// Answer to a list request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Size of the connection table, as the heading prints it.
    pub size: u32,
    /// Services; the order is the caller's to choose.
    pub services: Vec<ServiceSnapshot>,
}

/// A tracked connection as `-L -c` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// IP protocol number; 0 for a template of a mark.
    pub protocol: u8,
    /// Whole seconds until it expires.
    pub expires: u32,
    /// `ESTABLISHED`, `UDP`, …
    pub state: String,
    /// CIP.
    pub client: (IpAddr, u16),
    /// VIP.
    pub service: (IpAddr, u16),
    /// RIP.
    pub dest: (IpAddr, u16),
    /// Of a template of a persistence engine: the engine's name, and what it goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pe: Option<(String, String)>,
}
