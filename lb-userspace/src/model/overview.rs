use serde::{Deserialize, Serialize};

use super::{Dest, Listing, ServiceId};

/// Everything that `lvx show` shows, of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// Transaction number of the configuration.
    pub epoch: u64,
    /// Services and servers with their counters.
    pub listing: Listing,
    /// What packets see of the servers, in the order of the listing.
    pub states: Vec<Vec<DestState>>,
    /// Removed servers that connections or templates still refer to, or did a
    /// short while ago.
    pub removed: Vec<Removed>,
    /// Services that files declare; all others are manual.
    pub owners: Vec<Ownership>,
}

/// Whose a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The service.
    pub service: ServiceId,
    /// The name of the file that declares it.
    pub owner: String,
    /// Path of the file.
    pub file: String,
    /// Line in it.
    pub line: usize,
    /// What has become of it.
    pub since: Since,
}

/// What has become of a service since its file was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Since {
    /// It is as declared.
    Kept,
    /// It was changed by hand.
    Changed,
    /// It was removed by hand.
    Removed,
}

/// Where packets to a server go at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// To its next hop.
    Resolved,
    /// To this machine's own stack.
    Local,
    /// Nowhere: the next hop is not known, and they are dropped.
    Unresolved,
}

/// What packets see of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestState {
    /// Where its packets go.
    pub way: Way,
    /// It has as many connections as its upper threshold allows.
    pub overloaded: bool,
    /// Its service's address belongs to this director.
    pub claimed: bool,
}

/// A server that is no longer configured, but not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The service it was removed from.
    pub service: ServiceId,
    /// As it was configured last.
    pub dest: Dest,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
}
