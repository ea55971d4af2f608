//! Reads one command line into its values. Every value is checked as it is
//! met, and some mean something else depending on what came before; the
//! manual's order of errors depends on both.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::address::{endpoint, ipv4, number};
use super::failure::Failure;
use super::grammar::{Class, CommandId, Entry, OptionId};
use super::names::Names;
use super::popt::Words;
use crate::model::{DestId, Family, Method, Protocol, ServiceId, Timeouts};

/// The longest time-out, 31 days in seconds.
const MAX_TIMEOUT: i64 = 31 * 24 * 60 * 60;
/// What a bare `-p` means, in seconds.
const DEFAULT_PERSISTENCE: u32 = 360;
/// Debian's ceiling; upstream stops at 65535.
const MAX_WEIGHT: i64 = i32::MAX as i64;
/// Bytes of a scheduler's name the kernel has room for.
const SCHEDULER_BYTES: usize = 15;

/// The kind of tunnel asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TunnelType {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// GRE.
    Gre,
}

/// The values of a command line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) command: CommandId,
    /// The options given, in their order.
    pub(super) options: Vec<OptionId>,
    pub(super) service: Option<ServiceId>,
    pub(super) scheduler: Option<String>,
    /// As written; what they mean depends on the scheduler.
    pub(super) sched_flags: String,
    pub(super) persistent: Option<u32>,
    pub(super) netmask: u32,
    pub(super) pe: Option<String>,
    pub(super) server: Option<DestId>,
    pub(super) method: Method,
    pub(super) weight: u32,
    pub(super) u_threshold: u32,
    pub(super) l_threshold: u32,
    pub(super) tunnel: TunnelType,
    pub(super) tunnel_port: u16,
    /// Of `--set`.
    pub(super) timeouts: Timeouts,
}

impl Line {
    /// A line with nothing but its command.
    fn new(command: CommandId) -> Self {
        Self {
            command,
            options: Vec::new(),
            service: None,
            scheduler: None,
            sched_flags: String::new(),
            persistent: None,
            netmask: u32::MAX,
            pe: None,
            server: None,
            method: Method::Route,
            weight: 1,
            u_threshold: 0,
            l_threshold: 0,
            tunnel: TunnelType::Ipip,
            tunnel_port: 0,
            timeouts: Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 0,
            },
        }
    }

    /// Reads the words after the program's name.
    pub(super) fn parse(argv0: &str, args: &[String], names: &dyn Names) -> Result<Self, Failure> {
        let mut words = Words::new(args);
        let Ok(Some((Entry::Command(command), argument))) = words.next_option() else {
            return Err(Failure::try_help(argv0));
        };
        let mut line = Self::new(command.id);
        match command.id {
            CommandId::Help | CommandId::Version => return Ok(line),
            CommandId::StartDaemon => {
                daemon_state(argument, "illegal start-daemon parameter specified")?
            }
            CommandId::StopDaemon => daemon_state(argument, "illegal start_daemon specified")?,
            _ => {}
        }
        loop {
            match words.next_option() {
                Ok(None) => break,
                Ok(Some((Entry::Command(_), _))) => {
                    return Err(Failure::usage(format!("invalid option `{}'", words.last())));
                }
                Ok(Some((Entry::Option(option), argument))) => {
                    if let Some(class) = option.class
                        && line.has(class)
                    {
                        return Err(Failure::usage(format!(
                            "multiple '{}' options specified",
                            class.name()
                        )));
                    }
                    line.options.push(option.id);
                    line.take(option.id, argument, names)?;
                }
                Err(stop) => {
                    return Err(Failure::option(format!(
                        "{}: {}",
                        words.last(),
                        stop.text()
                    )));
                }
            }
        }
        let mut leftovers = words.leftovers.iter();
        if command.id == CommandId::Set {
            if leftovers.len() < 3 {
                return Err(Failure::usage("--set option requires 3 timeout values"));
            }
            let mut next = || {
                let value = leftovers.next().map_or("", |word| word);
                timeout(value, 0..=MAX_TIMEOUT)
            };
            line.timeouts = Timeouts {
                tcp: next()?,
                tcp_fin: next()?,
                udp: next()?,
            };
        }
        match leftovers.next() {
            Some(word) => Err(Failure::usage(format!("unexpected argument {word}"))),
            None => Ok(line),
        }
    }

    /// Whether an option of a class was given.
    pub(super) fn has(&self, class: Class) -> bool {
        self.options
            .iter()
            .any(|option| option.spec().class == Some(class))
    }

    /// The family of the service named so far.
    pub(super) fn family(&self) -> Family {
        match self.service {
            Some(ServiceId::Address { addr, .. }) => Family::of(addr),
            Some(ServiceId::Mark { family, .. }) => family,
            None => Family::V4,
        }
    }

    fn take(
        &mut self,
        option: OptionId,
        argument: Option<&str>,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        let text = argument.unwrap_or_default();
        match option {
            OptionId::Tcp => self.address_service(Protocol::Tcp, text, names)?,
            OptionId::Udp => self.address_service(Protocol::Udp, text, names)?,
            OptionId::Sctp => self.address_service(Protocol::Sctp, text, names)?,
            OptionId::Mark => {
                let mark = mark(text);
                let mark = mark.ok_or_else(|| {
                    Failure::usage(format!("invalid fwmark value `{text}' specified"))
                })?;
                self.service = Some(ServiceId::Mark {
                    mark,
                    family: Family::V4,
                });
            }
            OptionId::Ipv6 => match &mut self.service {
                Some(ServiceId::Mark { family, .. }) => {
                    *family = Family::V6;
                    self.netmask = 128;
                }
                // The original's text ends in a line feed of its own.
                _ => return Err(Failure::usage("-6 used before -f\n")),
            },
            OptionId::Scheduler => {
                self.scheduler = Some(cut(text, SCHEDULER_BYTES)).filter(|name| !name.is_empty())
            }
            OptionId::SchedFlags => text.clone_into(&mut self.sched_flags),
            OptionId::Persistent => {
                self.persistent = Some(match argument {
                    Some(text) => timeout(text, 1..=MAX_TIMEOUT)?,
                    None => DEFAULT_PERSISTENCE,
                });
            }
            OptionId::Netmask => self.netmask = self.mask(text, names)?,
            OptionId::Pe => self.pe = Some(cut(text, 16)).filter(|name| !name.is_empty()),
            OptionId::RealServer => {
                let found = endpoint(text, self.protocol(), names);
                let (addr, port) = found.ok_or_else(|| {
                    Failure::usage("illegal real server address[:port] specified")
                })?;
                // The service's port as known by now: -t further right comes too late.
                self.server = Some(DestId {
                    addr,
                    port: port.unwrap_or_else(|| self.service_port()),
                });
            }
            OptionId::Gatewaying => self.method = Method::Route,
            OptionId::Ipip => self.method = Method::Tunnel,
            OptionId::Masquerading => self.method = Method::Masq,
            OptionId::Fullnat => self.method = Method::Fullnat,
            OptionId::Weight => {
                self.weight = in_range(text, 0..=MAX_WEIGHT, "illegal weight specified")?
            }
            OptionId::UThreshold => {
                self.u_threshold =
                    in_range(text, 0..=i32::MAX.into(), "illegal u_threshold specified")?;
            }
            OptionId::LThreshold => {
                self.l_threshold =
                    in_range(text, 0..=i32::MAX.into(), "illegal l_threshold specified")?;
            }
            OptionId::TunType => {
                self.tunnel = match text {
                    "ipip" => TunnelType::Ipip,
                    "gue" => TunnelType::Gue,
                    "gre" => TunnelType::Gre,
                    _ => return Err(Failure::usage("illegal tunnel type specified")),
                };
            }
            OptionId::TunPort => {
                self.tunnel_port =
                    in_range(text, 1..=u16::MAX.into(), "illegal tunnel port specified")?;
            }
            OptionId::SyncId => check(text, 0..=255, "illegal syncid specified")?,
            OptionId::SyncMaxlen => check(text, 1..=65507, "illegal sync-maxlen specified")?,
            OptionId::McastGroup => mcast_group(text)?,
            OptionId::McastPort => check(text, 1..=65535, "illegal mcast-port specified")?,
            OptionId::McastTtl => check(text, 1..=255, "illegal mcast-ttl specified")?,
            OptionId::Ops
            | OptionId::Toa
            | OptionId::TunNocsum
            | OptionId::TunCsum
            | OptionId::TunRemcsum
            | OptionId::Numeric
            | OptionId::Connection
            | OptionId::Stats
            | OptionId::Rate
            | OptionId::Exact
            | OptionId::Thresholds
            | OptionId::PersistentConn
            | OptionId::TunInfo
            | OptionId::Timeout
            | OptionId::Daemon
            | OptionId::NoSort
            | OptionId::Sort
            | OptionId::Strict
            | OptionId::McastInterface => {}
        }
        Ok(())
    }

    fn address_service(
        &mut self,
        protocol: Protocol,
        text: &str,
        names: &dyn Names,
    ) -> Result<(), Failure> {
        let found = endpoint(text, Some(protocol), names);
        let (addr, port) = found
            .ok_or_else(|| Failure::usage("illegal virtual server address[:port] specified"))?;
        if addr.is_ipv6() {
            self.netmask = 128;
        }
        self.service = Some(ServiceId::Address {
            protocol,
            addr,
            port: port.unwrap_or(0),
        });
        Ok(())
    }

    /// The protocol whose service names count; a mark's are TCP's.
    fn protocol(&self) -> Option<Protocol> {
        self.service.map(|service| match service {
            ServiceId::Address { protocol, .. } => protocol,
            ServiceId::Mark { .. } => Protocol::Tcp,
        })
    }

    fn service_port(&self) -> u16 {
        match self.service {
            Some(ServiceId::Address { port, .. }) => port,
            _ => 0,
        }
    }

    fn mask(&self, text: &str, names: &dyn Names) -> Result<u32, Failure> {
        match self.family() {
            Family::V6 => in_range(text, 1..=128, "illegal ipv6 netmask specified"),
            Family::V4 => {
                let mask = ipv4(text, names);
                mask.map(u32::from).ok_or_else(|| {
                    Failure::usage("illegal virtual server persistent mask specified")
                })
            }
        }
    }
}

/// A firewall mark: decimal; hexadecimal as iptables prints it; or negative, as
/// listings have marks from 2^31 on.
fn mark(text: &str) -> Option<u32> {
    let mark = match text.strip_prefix("0x") {
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        // The option that somebody has put before the mark.
        None if text == "-6" => None,
        None => number(text, i32::MIN.into()..=u32::MAX.into()).map(|mark| {
            // Negative ones wrap, which is what is meant.
            mark as u32
        }),
    };
    mark.filter(|mark| *mark != 0)
}

/// The longest beginning of at most so many bytes.
fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

fn in_range<T: TryFrom<i64>>(
    text: &str,
    range: RangeInclusive<i64>,
    message: &str,
) -> Result<T, Failure> {
    number(text, range)
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| Failure::usage(message))
}

fn check(text: &str, range: RangeInclusive<i64>, message: &str) -> Result<(), Failure> {
    in_range::<i64>(text, range, message).map(|_| ())
}

fn timeout(text: &str, range: RangeInclusive<i64>) -> Result<u32, Failure> {
    in_range(
        text,
        range,
        &format!("invalid timeout value `{text}' specified"),
    )
}

fn daemon_state(argument: Option<&str>, message: &str) -> Result<(), Failure> {
    match argument {
        Some("master" | "backup") => Ok(()),
        _ => Err(Failure::usage(message)),
    }
}

fn mcast_group(text: &str) -> Result<(), Failure> {
    let version = if text.contains(':') { 6 } else { 4 };
    match text.parse::<IpAddr>() {
        Ok(group) if group.is_multicast() => Ok(()),
        _ => Err(Failure::usage(format!(
            "invalid IPv{version} mcast-group `{text}'"
        ))),
    }
}
