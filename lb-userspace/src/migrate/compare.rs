//! The kernel's side and lvx's, service by service and client by client.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use lb_common::layout::{ForwardMethod, SchedulerKind, ServiceEntry, ServiceFlags};
use serde::{Serialize, Serializer};

use super::{
    clients::Client,
    kernel::{Decider, Kernel},
    plane::{Listed, Plane, Trial, scheduler},
    rules::Rules,
};
use crate::{
    daemon::{sched_tables::servers, state::Service},
    model::{DestId, Family, ServiceId},
};

/// What became of the comparison.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Of each service of the saved table, in its order.
    pub services: Vec<ServiceReport>,
    /// Services that only lvx has.
    pub only_in_lvx: Vec<String>,
    /// Clients that were compared, added up over services.
    pub compared: u64,
    /// Those among them that the two send to different servers.
    pub different_clients: u64,
    /// Services that the two have differently.
    pub different_services: u64,
    /// Clients that could not be compared, because a port or a destination that
    /// counts was not said.
    pub not_compared: u64,
}

/// What became of a service.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ServiceReport {
    /// As it is said to ipvsadm.
    pub service: String,
    /// The kernel's scheduler.
    pub scheduler: String,
    /// On what a new connection's server depends.
    pub decided_by: &'static str,
    /// It is persistent: clients with a template keep their server, whatever the
    /// scheduler says.
    pub persistent: bool,
    /// What the two have differently.
    pub differences: Vec<Difference>,
    /// Its clients; none where state decides.
    pub clients: Vec<ClientReport>,
}

/// Something that the two have differently.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What.
    pub what: String,
    /// In the saved table.
    pub kernel: String,
    /// In lvx.
    pub lvx: String,
}

/// Where a client goes.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ClientReport {
    /// The client.
    #[serde(serialize_with = "shown")]
    pub client: Client,
    /// By a kernel with the saved table.
    #[serde(serialize_with = "shown")]
    pub kernel: Server,
    /// By lvx.
    #[serde(serialize_with = "shown")]
    pub lvx: Server,
    /// How they compare.
    pub verdict: Verdict,
}

fn shown<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A server, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server(pub Option<DestId>);

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(DestId { addr, port }) => SocketAddr::new(addr, port).fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// How two servers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// One and the same.
    Same,
    /// Not the same.
    Differs,
    /// Not the same because the kernel's has as many connections as it may in lvx.
    Full,
    /// The client's port counts, and was not said.
    NeedsPort,
    /// The packet's destination counts, which a mark does not tell.
    NeedsDestination,
}

impl Verdict {
    /// As it is shown.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::Full => "differs: full now",
            Self::NeedsPort => "needs a port",
            Self::NeedsDestination => "needs a destination",
        }
    }
}

impl Report {
    /// Whether nothing was found to be different.
    pub fn is_equal(&self) -> bool {
        self.different_clients == 0 && self.different_services == 0
    }
}

/// Compares a kernel with the table `rules`, which `trial` is made of, with `lvx`.
pub fn compare(rules: &Rules, trial: &Trial, lvx: Plane<'_>, clients: &[Client]) -> Report {
    let mut report = Report::default();
    let ours = trial.plane();
    for (id, service) in rules.state.services() {
        let Some(index) = ours.find(*id) else {
            continue;
        };
        let entry = ours.entry(index);
        let there = lvx.find(*id);
        let side = KernelSide::new(*id, service, &entry, ours.list(&entry));
        let one = side.report(lvx, there, clients);
        report.different_services += u64::from(!one.differences.is_empty());
        for client in &one.clients {
            let (compared, differs) = match client.verdict {
                Verdict::Same => (1, 0),
                Verdict::Differs | Verdict::Full => (1, 1),
                Verdict::NeedsPort | Verdict::NeedsDestination => (0, 0),
            };
            report.compared += compared;
            report.different_clients += differs;
            report.not_compared += 1 - compared;
        }
        report.services.push(one);
    }
    report.only_in_lvx = lvx
        .services()
        .filter(|id| rules.state.service(id).is_none())
        .map(|id| id.to_string())
        .collect();
    report.only_in_lvx.sort();
    report
}

/// A service of the saved table.
struct KernelSide<'a> {
    id: ServiceId,
    entry: &'a ServiceEntry,
    scheduler: SchedulerKind,
    decider: Decider,
    list: Vec<Listed>,
    kernel: Kernel,
}

/// Flags that make a difference to whom clients are given.
const FLAGS: u16 = ServiceFlags::PERSISTENT
    | ServiceFlags::ONE_PACKET
    | ServiceFlags::SIP
    | ServiceFlags::SCHED_1
    | ServiceFlags::SCHED_2
    | ServiceFlags::SCHED_3;

impl<'a> KernelSide<'a> {
    fn new(id: ServiceId, service: &Service, entry: &'a ServiceEntry, list: Vec<Listed>) -> Self {
        let scheduler = scheduler(entry);
        Self {
            id,
            entry,
            scheduler,
            decider: Decider::of(scheduler, entry.flags),
            list,
            kernel: Kernel::new(scheduler, entry.flags, servers(&id, service)),
        }
    }

    fn report(&self, lvx: Plane<'_>, there: Option<u32>, clients: &[Client]) -> ServiceReport {
        let other = there.map(|index| lvx.entry(index));
        let other_list = other.as_ref().map(|entry| lvx.list(entry));
        let differences = match (&other, &other_list) {
            (Some(other), Some(list)) => self.differences(other, list),
            _ => vec![Difference {
                what: "service".into(),
                kernel: "configured".into(),
                lvx: "missing".into(),
            }],
        };
        // A scheduler that goes by state cannot be asked what it would do.
        let comparable = other
            .as_ref()
            .is_some_and(|other| Decider::of(scheduler(other), other.flags) != Decider::State);
        let mut reports = Vec::new();
        if self.decider != Decider::State && (comparable || other.is_none()) {
            let of_family = |client: &&Client| Family::of(client.addr) == self.id.family();
            for client in clients.iter().filter(of_family) {
                let full = other_list.as_deref().unwrap_or_default();
                reports.push(self.client(lvx, there, full, *client));
            }
        }
        ServiceReport {
            service: self.id.to_string(),
            scheduler: named(self.scheduler),
            decided_by: match self.decider {
                Decider::Client { port: false } => "client",
                Decider::Client { port: true } => "client and port",
                Decider::Destination => "destination",
                Decider::Weights => "weights",
                Decider::State => "state",
            },
            persistent: self.entry.flags & ServiceFlags::PERSISTENT != 0,
            differences,
            clients: reports,
        }
    }

    fn client(
        &self,
        lvx: Plane<'_>,
        there: Option<u32>,
        list: &[Listed],
        client: Client,
    ) -> ClientReport {
        let report = |kernel, lvx, verdict| ClientReport {
            client,
            kernel: Server(kernel),
            lvx: Server(lvx),
            verdict,
        };
        let there_needs = |needs: fn(Decider) -> bool| {
            let other = there.map(|index| lvx.entry(index));
            needs(self.decider)
                || other.is_some_and(|other| needs(Decider::of(scheduler(&other), other.flags)))
        };
        if client.port.is_none() && there_needs(|decider| decider == Decider::Client { port: true })
        {
            return report(None, None, Verdict::NeedsPort);
        }
        let vip = match self.id {
            ServiceId::Address { addr, .. } => addr,
            ServiceId::Mark { .. } => {
                if there_needs(|decider| decider == Decider::Destination) {
                    return report(None, None, Verdict::NeedsDestination);
                }
                // Nobody looks at it.
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            }
        };
        let port = match self.decider {
            Decider::Client { port: true } => client.port.unwrap_or(0),
            _ => 0,
        };
        let chosen = self.kernel.choose(client.addr, port, vip);
        let kernel = chosen.and_then(|position| self.list.get(position));
        let kernel = kernel.map(|listed| listed.id);
        let ours = there.and_then(|index| lvx.choose(index, client, vip));
        let is_full = |listed: &Listed| Some(listed.id) == kernel && listed.is_full;
        let verdict = if kernel == ours && there.is_some() {
            Verdict::Same
        } else if list.iter().any(is_full) {
            Verdict::Full
        } else {
            Verdict::Differs
        };
        report(kernel, ours, verdict)
    }

    /// What decides, here and there.
    fn differences(&self, other: &ServiceEntry, other_list: &[Listed]) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut note = |what: &str, kernel: String, lvx: String| {
            if kernel != lvx {
                let what = what.to_owned();
                differences.push(Difference { what, kernel, lvx });
            }
        };
        let text = |entry: &ServiceEntry| {
            let flag = |bit, name| if entry.flags & bit != 0 { name } else { "" };
            format!(
                "{}{}{}{}",
                named(scheduler(entry)),
                flag(ServiceFlags::SCHED_1, " flag-1"),
                flag(ServiceFlags::SCHED_2, " flag-2"),
                flag(ServiceFlags::SCHED_3, " flag-3"),
            )
        };
        note("scheduler", text(self.entry), text(other));
        let differ = (self.entry.flags ^ other.flags) & FLAGS;
        let set = |entry: &ServiceEntry, bit| {
            let word = if entry.flags & bit != 0 { "yes" } else { "no" };
            word.to_owned()
        };
        for (what, bit) in [
            ("persistent", ServiceFlags::PERSISTENT),
            ("one-packet", ServiceFlags::ONE_PACKET),
            ("persistence engine sip", ServiceFlags::SIP),
        ] {
            if differ & bit != 0 {
                note(what, set(self.entry, bit), set(other, bit));
            }
        }
        if differ & ServiceFlags::PERSISTENT == 0 {
            let [timeout, first, second] = self.entry.persistence;
            let [other_timeout, other_first, other_second] = other.persistence;
            note(
                "persistence time-out",
                format!("{timeout} ticks"),
                format!("{other_timeout} ticks"),
            );
            note(
                "persistence mask",
                format!("{first:016x}{second:016x}"),
                format!("{other_first:016x}{other_second:016x}"),
            );
        }
        let longest = self.list.len().max(other_list.len());
        let unequal = (0..longest).find(|at| same(self.list.get(*at)) != same(other_list.get(*at)));
        if let Some(at) = unequal {
            let what = format!("server {} of the list, the newest first", at + 1);
            note(&what, server(self.list.get(at)), server(other_list.get(at)));
        }
        differences
    }
}

fn named(scheduler: SchedulerKind) -> String {
    match scheduler.name() {
        "" => "none".into(),
        name => name.into(),
    }
}

/// What must be equal of a server in a list.
fn same(listed: Option<&Listed>) -> Option<(DestId, u32, ForwardMethod)> {
    listed.map(|listed| (listed.id, listed.weight, listed.method))
}

fn server(listed: Option<&Listed>) -> String {
    let Some(listed) = listed else {
        return "none".into();
    };
    let method = match listed.method {
        ForwardMethod::Masq => "-m",
        ForwardMethod::Local => "local",
        ForwardMethod::Tunnel => "-i",
        ForwardMethod::Route => "-g",
        ForwardMethod::Fullnat => "--fullnat",
    };
    format!("{} {method} -w {}", Server(Some(listed.id)), listed.weight)
}

#[cfg(test)]
mod tests;
