use serde::{Deserialize, Serialize};

use super::{
    Chain, Config, Connection, Dest, DestId, Flow, FlowFilter, ListedRule, Listing, LocalRange,
    MapUsage, Overview, Pool, PrefixSet, ProcFile, RuleChange, ServiceId, ServiceSpec, Settings,
    Timeouts,
};
use crate::daemon::Status;

/// What the command line asks of the daemon. Every change is done whole or
/// refused whole, and requests that arrive together become one transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// `-A`.
    AddService(ServiceId, ServiceSpec),
    /// `-E`: replaces every parameter.
    EditService(ServiceId, ServiceSpec),
    /// `-D`.
    DeleteService(ServiceId),
    /// `-C`.
    Clear,
    /// `-a`.
    AddDest(ServiceId, Dest),
    /// `-e`: replaces every parameter.
    EditDest(ServiceId, Dest),
    /// `-d`.
    DeleteDest(ServiceId, DestId),
    /// `lvx laddr add`: to the pool of a service, or of the director.
    AddLocal(Option<ServiceId>, Vec<LocalRange>),
    /// `lvx laddr del`; what ports they have does not matter.
    DeleteLocal(Option<ServiceId>, Vec<LocalRange>),
    /// `--set`; 0 leaves a time-out as it is.
    SetTimeouts(Timeouts),
    /// `lvx sysctl NAME=VALUE`.
    SetSysctl(String, i64),
    /// `lvx mark`, `lvx filter`: a change of rules or sets.
    Rules(RuleChange),
    /// `-Z`, of one service or of everything.
    Zero(Option<ServiceId>),
    /// What becomes one transaction, each done or refused for itself in order
    /// (`-R`), up to the first that is not supported or queries in vain. Queries
    /// see what stands before them. A batch holds no batches, and nothing about
    /// the daemon itself.
    Batch(Vec<Request>),
    /// The same, but one that is refused ends it and undoes all
    /// (`-R --strict`); the answers end with the refusal then.
    Strict(Vec<Request>),
    /// `lvx apply`: makes the configuration what this one says, all of it or
    /// nothing.
    Apply(Box<Config>),
    /// `lvx drain`: weight 0.
    Drain(ServiceId, DestId),
    /// `lvx drain --undo`: the weight that it had before.
    Undrain(ServiceId, DestId),
    /// Takes the persistence templates of a server out of the look-ups, so that
    /// its clients are scheduled anew.
    RetireTemplates(ServiceId, DestId),
    /// `lvx conns`.
    Flows(FlowFilter),
    /// `lvx conns --kill`: ends connections.
    Kill(FlowFilter),
    /// `lvx show`.
    Overview,
    /// `lvx save`, `lvx diff`: the whole configuration.
    Config,
    /// `lvx proc`.
    Proc(ProcFile),
    /// `lvx maps`.
    Maps,
    /// `-L`, `-S`: one service or all.
    List(Option<ServiceId>),
    /// `-L -c`.
    Connections,
    /// `lvx laddr list`.
    Locals,
    /// `-L --timeout`, `lvx sysctl`.
    Settings,
    /// `lvx mark -L`, `lvx filter -L` and `-S`: all rules of a chain.
    ListRules(Chain),
    /// `lvx filter set list`: all sets.
    ListSets,
    /// `lvx status`.
    Status,
    /// `lvx capture`: puts the loaded program of this id in the place of the
    /// ordinary one, until the client goes away.
    Capture(u32),
    /// What the daemon tells itself then.
    EndCapture(u32),
    /// `lvx down`: detach and remove the data plane.
    Down {
        /// Also with live connections.
        force: bool,
    },
}

impl Request {
    /// Which service or server this is about, as a line begins: `service tcp:…: `.
    pub fn subject(&self) -> String {
        match self {
            Self::AddService(id, _) | Self::EditService(id, _) | Self::DeleteService(id) => {
                format!("service {}: ", id.name())
            }
            Self::AddDest(id, dest) | Self::EditDest(id, dest) => {
                format!("server {} of {}: ", dest.id, id.name())
            }
            _ => String::new(),
        }
    }

    /// Whether this shows something and does nothing else, so that somebody who
    /// may only list may ask for it.
    pub fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::Flows(_)
                | Self::Overview
                | Self::Config
                | Self::Proc(_)
                | Self::Maps
                | Self::List(_)
                | Self::Connections
                | Self::Locals
                | Self::Settings
                | Self::ListRules(_)
                | Self::ListSets
                | Self::Status
        )
    }

    /// Whether this changes services or servers, and so needs a transaction.
    pub fn is_change(&self) -> bool {
        match self {
            Self::AddService(..)
            | Self::EditService(..)
            | Self::DeleteService(_)
            | Self::Clear
            | Self::AddDest(..)
            | Self::EditDest(..)
            | Self::DeleteDest(..)
            | Self::AddLocal(..)
            | Self::DeleteLocal(..)
            | Self::SetTimeouts(_)
            | Self::SetSysctl(..)
            | Self::Rules(_)
            | Self::Apply(_)
            | Self::Drain(..)
            | Self::Undrain(..)
            | Self::Batch(_)
            | Self::Strict(_) => true,
            Self::Zero(_)
            | Self::RetireTemplates(..)
            | Self::Flows(_)
            | Self::Kill(_)
            | Self::Overview
            | Self::Config
            | Self::Proc(_)
            | Self::Maps
            | Self::List(_)
            | Self::Connections
            | Self::Locals
            | Self::Settings
            | Self::ListRules(_)
            | Self::ListSets
            | Self::Status
            | Self::Capture(_)
            | Self::EndCapture(_)
            | Self::Down { .. } => false,
        }
    }
}

/// The daemon's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done.
    Ok,
    /// Not done, and nothing changed.
    Refused(Refusal),
    /// Answer to [`Request::Apply`]: this change was refused, and nothing done.
    NotApplied(Box<Request>, Refusal),
    /// Answer to [`Request::Kill`] and [`Request::RetireTemplates`]: how many.
    Ended(u64),
    /// Answer to [`Request::Flows`].
    Flows(Vec<Flow>),
    /// Answer to [`Request::Overview`].
    Overview(Box<Overview>),
    /// Answer to [`Request::Config`].
    Config(Box<Config>),
    /// Answer to [`Request::Proc`].
    Text(String),
    /// Answer to [`Request::Maps`].
    Maps(Vec<MapUsage>),
    /// Answer to [`Request::Batch`] and [`Request::Strict`]: one for each that was tried.
    Batch(Vec<Response>),
    /// Answer to [`Request::List`].
    Listing(Listing),
    /// Answer to [`Request::Connections`].
    Connections(Vec<Connection>),
    /// Answer to [`Request::Locals`]: every pool that is not empty.
    Locals(Vec<Pool>),
    /// Answer to [`Request::Settings`].
    Settings(Settings),
    /// Answer to [`Request::ListRules`]: IPv4's first.
    Rules(Vec<ListedRule>),
    /// Answer to [`Request::ListSets`].
    Sets(Vec<PrefixSet>),
    /// Answer to [`Request::Status`].
    Status(Box<Status>),
}

/// Why a request was refused: the kernel's errors where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// EEXIST of a service.
    #[error("Service already exists")]
    ServiceExists,
    /// ESRCH.
    #[error("No such service")]
    NoSuchService,
    /// EEXIST of a server.
    #[error("Destination already exists")]
    DestExists,
    /// ENOENT of a server.
    #[error("No such destination")]
    NoSuchDest,
    /// ENOENT of a scheduler or persistence engine.
    #[error("Scheduler or persistence engine not found")]
    NoScheduler,
    /// EINVAL: server address not unicast, and the like.
    #[error("Invalid operation.  Possibly wrong module version, address not unicast, ...")]
    Invalid,
    /// ERANGE: lower threshold above the upper one.
    #[error("Numerical result out of range")]
    Range,
    /// ENOMEM: a table is full; the text says which and how to enlarge it.
    #[error("{0}")]
    Full(String),
    /// Known to IPVS but not built into this lvx: exit status 2.
    #[error("lvx: not supported yet: {0}")]
    Unsupported(String),
    /// Anything else, as one line that says what to do.
    #[error("{0}")]
    Other(String),
}
