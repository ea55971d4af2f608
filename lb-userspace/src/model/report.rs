use serde::{Deserialize, Serialize};

/// A file of `/proc/net` that the kernel's IPVS has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcFile {
    /// `ip_vs`: services and servers.
    IpVs,
    /// `ip_vs_conn`: connections.
    IpVsConn,
    /// `ip_vs_stats`: counters and rates of the whole director.
    IpVsStats,
    /// `ip_vs_stats_percpu`: the same by CPU.
    IpVsStatsPercpu,
}

impl ProcFile {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::IpVs,
        Self::IpVsConn,
        Self::IpVsStats,
        Self::IpVsStatsPercpu,
    ];

    /// Name of the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::IpVs => "ip_vs",
            Self::IpVsConn => "ip_vs_conn",
            Self::IpVsStats => "ip_vs_stats",
            Self::IpVsStatsPercpu => "ip_vs_stats_percpu",
        }
    }
}

/// A map of the data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUsage {
    /// Its name, as it is pinned.
    pub name: String,
    /// What it holds.
    pub holds: String,
    /// Entries in use, where that is a meaningful number.
    pub used: Option<u64>,
    /// Entries that there is room for.
    pub capacity: u64,
    /// Bytes of memory, by the kernel's account.
    pub bytes: u64,
}
