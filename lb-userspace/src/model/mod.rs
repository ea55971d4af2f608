//! Services and servers as people configure them, and what can be asked of the
//! daemon about them. Everything here is plain data that also travels over the
//! control socket and stands in the saved configuration.

mod config;
mod flow;
mod health;
mod local;
mod overview;
mod report;
mod request;
mod rule;
mod service;
mod settings;
mod snapshot;

pub use config::{Config, Declaration, Declared, ServiceConfig};
pub use flow::{End, Flow, FlowFilter};
pub use health::{
    Check, Condition, Http, LastCheck, OnFailure, Own, ServerHealth, ServiceCheck, ServiceHealth,
    Sql, Timing, Transition, Verdict,
};
pub use local::{LocalRange, Pool};
pub use overview::{DestState, Overview, Ownership, Removed, Since, Way};
pub use report::{MapUsage, ProcFile};
pub use request::{Refusal, Request, Response};
pub use rule::{
    Addresses, Chain, ListedRule, Match, Ports, Prefix, PrefixSet, Rule, RuleChange, Target, number,
};
pub use service::{
    Dest, DestId, DestSpec, Family, Method, Protocol, ServiceId, ServiceSpec, Tunnel,
    TunnelChecksum,
};
pub use settings::{Effect, MAX_TIMEOUT, PREFIX, SYSCTLS, Settings, Sysctl, Timeouts, sysctl};
pub use snapshot::{Connection, Counters, DestSnapshot, Listing, Rates, ServiceSnapshot};
