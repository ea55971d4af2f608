//! From the values of a command line to what is asked: the rules that hold
//! between options, in the order in which the original reports them.

use super::failure::Failure;
use super::grammar::{Class, CommandId, OptionId};
use super::line::{Line, TunnelType};
use super::supported;
use crate::model::{
    Dest, DestId, DestSpec, Family, Method, Protocol, Request, ServiceId, ServiceSpec, Tunnel,
    TunnelChecksum,
};

/// Scheduler flag bits of the kernel.
pub(super) const FLAG_1: u32 = 0x08;
/// The second bit.
pub(super) const FLAG_2: u32 = 0x10;
/// The third bit.
pub(super) const FLAG_3: u32 = 0x20;

/// The layout of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Plain,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunInfo,
}

/// How `-L` shows services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListOptions {
    pub(super) layout: Layout,
    pub(super) numeric: bool,
    pub(super) exact: bool,
    pub(super) sort: bool,
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    Help,
    Version,
    /// `-L`, of one service or all.
    List(Option<ServiceId>, ListOptions),
    /// `-L -c`.
    Connections {
        numeric: bool,
        persistent: bool,
    },
    /// `-L --timeout`.
    Timeouts,
    /// `-L --daemon`.
    Daemons,
    /// `-S`.
    Save {
        numeric: bool,
    },
    /// `-R`; strict: all of it or nothing.
    Restore {
        strict: bool,
    },
    /// Everything that changes something.
    Change(CommandId, Request),
}

impl Command {
    /// What to ask; `None` for what asks nobody.
    pub(super) fn request(&self) -> Option<Request> {
        match self {
            Self::Help | Self::Version | Self::Restore { .. } => None,
            Self::List(service, _) => Some(Request::List(*service)),
            Self::Connections { .. } => Some(Request::Connections),
            Self::Timeouts | Self::Daemons => Some(Request::Settings),
            Self::Save { .. } => Some(Request::List(None)),
            Self::Change(_, request) => Some(request.clone()),
        }
    }
}

impl Line {
    /// The scheduler, or the one that is meant when none is named.
    pub(super) fn scheduler_name(&self) -> &str {
        self.scheduler.as_deref().unwrap_or("wlc")
    }

    fn given(&self, option: OptionId) -> bool {
        self.options.contains(&option)
    }
}

/// Checks what is left to check and builds the command.
pub(super) fn build(mut line: Line) -> Result<Command, Failure> {
    let sched_flags = sched_flags(&line.sched_flags, line.scheduler.as_deref())?;
    matrix(&line)?;
    match line.command {
        CommandId::Add | CommandId::Edit => service_rules(&line)?,
        CommandId::AddServer | CommandId::EditServer => server_rules(&mut line)?,
        CommandId::List => list_rules(&line)?,
        _ => {}
    }
    supported::check(&line)?;
    let service = || {
        line.service
            .ok_or_else(|| Failure::missing(Class::Service, line.command))
    };
    let server = || {
        line.server
            .ok_or_else(|| Failure::missing(Class::RealServer, line.command))
    };
    let spec = || ServiceSpec {
        scheduler: line.scheduler_name().to_owned(),
        sched_flags,
        ops: line.given(OptionId::Ops),
        persistent: line.persistent,
        netmask: line.netmask,
        pe: line.pe.clone(),
        toa: line.given(OptionId::Toa),
    };
    let numeric = line.given(OptionId::Numeric);
    let request = match line.command {
        CommandId::Add => Request::AddService(service()?, spec()),
        CommandId::Edit => Request::EditService(service()?, spec()),
        CommandId::Delete => Request::DeleteService(service()?),
        CommandId::Flush => Request::Clear,
        CommandId::AddServer => Request::AddDest(service()?, dest(&line, server()?)),
        CommandId::EditServer => Request::EditDest(service()?, dest(&line, server()?)),
        CommandId::DeleteServer => Request::DeleteDest(service()?, server()?),
        CommandId::Zero => Request::Zero(line.service.filter(|service| !names_nothing(*service))),
        CommandId::List if line.given(OptionId::Connection) => {
            return Ok(Command::Connections {
                numeric,
                persistent: line.given(OptionId::PersistentConn),
            });
        }
        CommandId::List if line.given(OptionId::Timeout) => return Ok(Command::Timeouts),
        CommandId::List if line.given(OptionId::Daemon) => return Ok(Command::Daemons),
        CommandId::List => return Ok(Command::List(line.service, list_options(&line))),
        CommandId::Save => return Ok(Command::Save { numeric }),
        CommandId::Restore => {
            return Ok(Command::Restore {
                strict: line.given(OptionId::Strict),
            });
        }
        CommandId::Help => return Ok(Command::Help),
        CommandId::Version => return Ok(Command::Version),
        CommandId::Set => Request::SetTimeouts(line.timeouts),
        CommandId::StartDaemon | CommandId::StopDaemon => {
            return Err(supported::command_missing(line.command));
        }
    };
    Ok(Command::Change(line.command, request))
}

/// Address 0 and port 0: to the original no service at all.
fn names_nothing(service: ServiceId) -> bool {
    matches!(service, ServiceId::Address { addr, port: 0, .. } if addr.is_unspecified())
}

fn list_options(line: &Line) -> ListOptions {
    let layouts = [
        (OptionId::Stats, Layout::Stats),
        (OptionId::Rate, Layout::Rate),
        (OptionId::Thresholds, Layout::Thresholds),
        (OptionId::PersistentConn, Layout::PersistentConn),
        (OptionId::TunInfo, Layout::TunInfo),
    ];
    ListOptions {
        layout: layouts
            .iter()
            .find(|(option, _)| line.given(*option))
            .map_or(Layout::Plain, |(_, layout)| *layout),
        numeric: line.given(OptionId::Numeric),
        exact: line.given(OptionId::Exact),
        sort: !line.given(OptionId::NoSort),
    }
}

fn dest(line: &Line, id: DestId) -> Dest {
    let checksum = if line.given(OptionId::TunCsum) {
        TunnelChecksum::Full
    } else if line.given(OptionId::TunRemcsum) {
        TunnelChecksum::Remote
    } else {
        TunnelChecksum::None
    };
    let tunnel = match line.tunnel {
        TunnelType::Ipip => Tunnel::Ipip,
        TunnelType::Gue => Tunnel::Gue {
            port: line.tunnel_port,
            checksum,
        },
        TunnelType::Gre => Tunnel::Gre { checksum },
    };
    let (method, weight) = (line.method, line.weight);
    let (u_threshold, l_threshold) = (line.u_threshold, line.l_threshold);
    Dest {
        id,
        spec: DestSpec {
            method,
            weight,
            u_threshold,
            l_threshold,
            tunnel,
        },
    }
}

/// The bits of `-b`, which depend on the scheduler as named, not as defaulted.
fn sched_flags(text: &str, scheduler: Option<&str>) -> Result<u32, Failure> {
    let mut bits = 0;
    for flag in text.split(',').filter(|flag| !flag.is_empty()) {
        let (bit, only_for) = match flag {
            "flag-1" => (FLAG_1, None),
            "flag-2" => (FLAG_2, None),
            "flag-3" => (FLAG_3, None),
            "sh-fallback" => (FLAG_1, Some("sh")),
            "sh-port" => (FLAG_2, Some("sh")),
            "mh-fallback" => (FLAG_1, Some("mh")),
            "mh-port" => (FLAG_2, Some("mh")),
            _ => return Err(Failure::usage(format!("invalid scheduler flag `{flag}'"))),
        };
        if only_for.is_some() && only_for != scheduler {
            return Err(Failure::usage(format!(
                "incompatible scheduler flag `{flag}'"
            )));
        }
        bits |= bit;
    }
    Ok(bits)
}

/// Which options go with which command; the first problem counts.
fn matrix(line: &Line) -> Result<(), Failure> {
    let command = line.command.spec();
    let mut chosen = None;
    for class in Class::ALL {
        let given = line.has(*class);
        if command.needs.contains(class) {
            if !given {
                return Err(Failure::missing(*class, command.id));
            }
        } else if command.one_of.contains(class) {
            if given && let Some(earlier) = chosen.replace(*class) {
                return Err(Failure::conflict(*class, earlier, command.id));
            }
        } else if given && !command.may.contains(class) {
            return Err(Failure::illegal(*class, command.id));
        }
    }
    Ok(())
}

fn service_rules(line: &Line) -> Result<(), Failure> {
    let Some(ServiceId::Address { protocol, port, .. }) = line.service else {
        return Ok(());
    };
    if port == 0 && line.persistent.is_none() {
        return Err(Failure::usage(
            "Zero port specified for non-persistent service",
        ));
    }
    if line.given(OptionId::Toa) && protocol != Protocol::Tcp {
        return Err(Failure::usage(
            "The client's address can be told to TCP servers only",
        ));
    }
    if line.given(OptionId::Ops) && protocol != Protocol::Udp {
        return Err(Failure::usage(
            "One-Packet Scheduling is only for UDP virtual services",
        ));
    }
    Ok(())
}

fn server_rules(line: &mut Line) -> Result<(), Failure> {
    // Neither direct routing nor a tunnel can change the port.
    if let (Some(ServiceId::Address { port, .. }), Some(server)) = (line.service, &mut line.server)
        && !line.method.translates()
    {
        server.port = port;
    }
    let server_family = line.server.map(|server| Family::of(server.addr));
    if server_family != Some(line.family()) && line.method != Method::Tunnel {
        return Err(Failure::usage(
            "Different address family is allowed only for tunneling servers",
        ));
    }
    tunnel_rules(line)
}

/// A column of the tunnel matrix: what a kind of tunnel wants of an option.
#[derive(Clone, Copy)]
enum Rule {
    Needed,
    OneOf,
    Illegal,
}

fn tunnel_rules(line: &Line) -> Result<(), Failure> {
    use Rule::{Illegal, Needed, OneOf};
    let (name, [port, nocsum, csum, remcsum]) = match line.tunnel {
        TunnelType::Ipip => ("ipip", [Illegal; 4]),
        TunnelType::Gue => ("gue", [Needed, OneOf, OneOf, OneOf]),
        TunnelType::Gre => ("gre", [Illegal, OneOf, OneOf, Illegal]),
    };
    let rules = [
        (Class::TunPort, port),
        (Class::TunNocsum, nocsum),
        (Class::TunCsum, csum),
        (Class::TunRemcsum, remcsum),
    ];
    if line.method != Method::Tunnel {
        let any = line.has(Class::TunType) || rules.iter().any(|(class, _)| line.has(*class));
        return if any {
            Err(Failure::usage(
                "Tunnel options conflict with forward method",
            ))
        } else {
            Ok(())
        };
    }
    let mut chosen: Option<Class> = None;
    for (class, rule) in rules {
        let (given, option) = (line.has(class), class.name());
        let text = match rule {
            Needed if !given => {
                format!("You need to supply the '{option}' option for the '{name}' tunnel type")
            }
            Illegal if given => format!("Illegal '{option}' option with the '{name}' tunnel type"),
            OneOf if given => match chosen.replace(class) {
                Some(earlier) => format!(
                    "The option '{option}' conflicts with the '{}' option in the '{name}' tunnel type",
                    earlier.name()
                ),
                None => continue,
            },
            _ => continue,
        };
        return Err(Failure::usage(text));
    }
    Ok(())
}

fn list_rules(line: &Line) -> Result<(), Failure> {
    let any = |classes: &[Class]| classes.iter().any(|class| line.has(*class));
    let other = any(&[Class::Connection, Class::Timeout, Class::Daemon]);
    let columns = any(&[Class::Stats, Class::Rate, Class::Thresholds]);
    let persistent = any(&[Class::Timeout, Class::Daemon]) && line.has(Class::PersistentConn);
    if (other && columns) || persistent {
        return Err(Failure::usage("options conflicts in the list command"));
    }
    Ok(())
}
