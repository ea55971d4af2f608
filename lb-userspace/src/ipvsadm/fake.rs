//! What the tests use instead of a daemon and of the system's names.

use std::net::{IpAddr, Ipv4Addr};

use super::names::Names;
use super::run::Control;
use crate::model::{
    Connection, Counters, Dest, DestId, DestSnapshot, DestSpec, Listing, Method, Protocol, Rates,
    Refusal, Request, Response, ServiceId, ServiceSnapshot, ServiceSpec, Settings, Tunnel,
};

/// The names of the laboratory in which the golden transcripts were recorded.
pub(super) struct FakeNames;

const HOSTS: &[(&str, [u8; 4])] = &[
    ("www.example.com", [10, 0, 0, 9]),
    (
        "averyveryverylonghostname.sub.example.com",
        [192, 168, 10, 2],
    ),
    ("localhost", [127, 0, 0, 1]),
    (
        "a-very-long-name.of-a-service.which-goes.on-and-on-and-on.and-even-further.example.com",
        [192, 168, 10, 8],
    ),
];
const SERVICES: &[(&str, u16, Protocol)] = &[
    ("http", 80, Protocol::Tcp),
    ("https", 443, Protocol::Tcp),
    ("http-alt", 8080, Protocol::Tcp),
    ("tproxy", 8081, Protocol::Tcp),
    ("domain", 53, Protocol::Tcp),
    ("domain", 53, Protocol::Udp),
    ("tftp", 69, Protocol::Udp),
];

impl Names for FakeNames {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        let matches = |host: &str| host == name || (host == "www.example.com" && name == "www");
        HOSTS
            .iter()
            .find(|(host, _)| matches(host))
            .map(|(_, addr)| (*addr).into())
    }

    fn host_of(&self, addr: IpAddr) -> Option<String> {
        HOSTS
            .iter()
            .find(|(_, known)| IpAddr::from(*known) == addr)
            .map(|(host, _)| (*host).to_owned())
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        SERVICES
            .iter()
            .find(|s| s.0 == name && s.2 == protocol)
            .map(|s| s.1)
    }

    fn port_of(&self, port: u16, protocol: Protocol) -> Option<String> {
        SERVICES
            .iter()
            .find(|s| s.1 == port && s.2 == protocol)
            .map(|s| s.0.to_owned())
    }
}

/// A TCP service with rr and nothing else.
pub(super) fn service(addr: &str, port: u16) -> ServiceSnapshot {
    let addr = addr.parse().unwrap();
    let id = ServiceId::Address {
        protocol: Protocol::Tcp,
        addr,
        port,
    };
    let netmask = if addr.is_ipv4() { u32::MAX } else { 128 };
    let spec = ServiceSpec {
        scheduler: "rr".to_owned(),
        sched_flags: 0,
        ops: false,
        persistent: None,
        netmask,
        pe: None,
        toa: false,
    };
    snapshot(id, spec)
}

fn snapshot(id: ServiceId, spec: ServiceSpec) -> ServiceSnapshot {
    ServiceSnapshot {
        id,
        spec,
        counters: Counters::default(),
        rates: Rates::default(),
        dests: Vec::new(),
    }
}

/// A server with direct routing and weight 1.
pub(super) fn dest(addr: &str, port: u16) -> DestSnapshot {
    let id = DestId {
        addr: addr.parse().unwrap(),
        port,
    };
    let spec = DestSpec {
        method: Method::Route,
        weight: 1,
        u_threshold: 0,
        l_threshold: 0,
        tunnel: Tunnel::Ipip,
    };
    server(Dest { id, spec })
}

fn server(dest: Dest) -> DestSnapshot {
    let (counters, rates) = (Counters::default(), Rates::default());
    DestSnapshot {
        dest,
        active: 0,
        inactive: 0,
        persistent: 0,
        counters,
        rates,
    }
}

/// The configuration with the kernel's rules, in memory.
#[derive(Default)]
pub(super) struct FakeControl {
    /// Newest last.
    pub(super) services: Vec<ServiceSnapshot>,
    pub(super) connections: Vec<Connection>,
    /// Every request, as it came.
    pub(super) requests: Vec<Request>,
    pub(super) settings: Settings,
    /// Answers nothing, as without a daemon.
    pub(super) dead: bool,
}

impl FakeControl {
    fn find(&mut self, id: ServiceId) -> Result<&mut ServiceSnapshot, Refusal> {
        self.services
            .iter_mut()
            .find(|service| service.id == id)
            .ok_or(Refusal::NoSuchService)
    }

    fn change(&mut self, request: Request) -> Result<Response, Refusal> {
        match request {
            Request::AddService(id, _) if self.find(id).is_ok() => {
                return Err(Refusal::ServiceExists);
            }
            Request::AddService(id, spec) => {
                known_scheduler(&spec)?;
                self.services.push(snapshot(id, spec));
            }
            Request::EditService(id, spec) => {
                let service = self.find(id)?;
                known_scheduler(&spec)?;
                service.spec = spec;
            }
            Request::DeleteService(id) => {
                self.find(id)?;
                self.services.retain(|service| service.id != id);
            }
            Request::Clear => self.services.clear(),
            Request::AddDest(id, dest) => {
                let service = self.find(id)?;
                unicast(dest.id.addr)?;
                if service.dests.iter().any(|known| known.dest.id == dest.id) {
                    return Err(Refusal::DestExists);
                }
                service.dests.insert(0, server(dest));
            }
            Request::EditDest(id, dest) => {
                let service = self.find(id)?;
                let known = service
                    .dests
                    .iter_mut()
                    .find(|known| known.dest.id == dest.id);
                known.ok_or(Refusal::NoSuchDest)?.dest = dest;
            }
            Request::DeleteDest(id, dest) => {
                let service = self.find(id)?;
                let at = service
                    .dests
                    .iter()
                    .position(|known| known.dest.id == dest)
                    .ok_or(Refusal::NoSuchDest)?;
                service.dests.remove(at);
            }
            Request::Zero(Some(id)) => self.find(id)?.counters = Counters::default(),
            Request::Zero(None) => self
                .services
                .iter_mut()
                .for_each(|service| service.counters = Counters::default()),
            Request::List(Some(id)) => {
                let services = vec![self.find(id)?.clone()];
                return Ok(Response::Listing(Listing {
                    size: 4096,
                    services,
                }));
            }
            Request::List(None) => {
                return Ok(Response::Listing(Listing {
                    size: 4096,
                    services: self.services.clone(),
                }));
            }
            Request::Connections => return Ok(Response::Connections(self.connections.clone())),
            Request::Batch(requests) => return Ok(Response::Batch(self.each(requests, false))),
            Request::Strict(requests) => {
                let before = self.services.clone();
                let answers = self.each(requests, true);
                if matches!(answers.last(), Some(Response::Refused(_))) {
                    self.services = before;
                }
                return Ok(Response::Batch(answers));
            }
            Request::SetTimeouts(timeouts) => self.settings.set_timeouts(timeouts)?,
            Request::SetSysctl(name, value) => self.settings.set(&name, value)?,
            Request::Settings => return Ok(Response::Settings(self.settings.clone())),
            Request::AddLocal(..)
            | Request::DeleteLocal(..)
            | Request::Locals
            | Request::Rules(_)
            | Request::ListRules(_)
            | Request::ListSets
            | Request::Apply(_)
            | Request::Drain(..)
            | Request::Undrain(..)
            | Request::SetCheck(..)
            | Request::Report(_)
            | Request::Health
            | Request::RetireTemplates(..)
            | Request::Flows(_)
            | Request::Kill(_)
            | Request::Overview
            | Request::Config
            | Request::Proc(_)
            | Request::Maps
            | Request::Status
            | Request::Capture(_)
            | Request::EndCapture(_)
            | Request::Down { .. } => return Err(Refusal::Invalid),
        }
        Ok(Response::Ok)
    }
}

impl FakeControl {
    fn each(&mut self, requests: Vec<Request>, strict: bool) -> Vec<Response> {
        let mut answers = Vec::new();
        for request in requests {
            let changes = request.is_change() || matches!(request, Request::Zero(_));
            let answer = self.change(request).unwrap_or_else(Response::Refused);
            let end = match &answer {
                Response::Refused(Refusal::Unsupported(_)) => true,
                Response::Refused(_) => strict || !changes,
                _ => false,
            };
            answers.push(answer);
            if end {
                break;
            }
        }
        answers
    }
}

fn known_scheduler(spec: &ServiceSpec) -> Result<(), Refusal> {
    if lb_common::layout::SchedulerKind::from_name(&spec.scheduler).is_some() {
        Ok(())
    } else {
        Err(Refusal::NoScheduler)
    }
}

fn unicast(addr: IpAddr) -> Result<(), Refusal> {
    let broadcast = addr == IpAddr::from(Ipv4Addr::BROADCAST);
    let link_local = matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if link_local || addr.is_unspecified() || addr.is_multicast() || broadcast {
        Err(Refusal::Invalid)
    } else {
        Ok(())
    }
}

impl Control for FakeControl {
    fn request(&mut self, request: Request) -> anyhow::Result<Response> {
        anyhow::ensure!(
            !self.dead,
            "lvx: no daemon runs in this network namespace; start one: lvx run --interface eth0"
        );
        self.requests.push(request.clone());
        Ok(self.change(request).unwrap_or_else(Response::Refused))
    }
}
