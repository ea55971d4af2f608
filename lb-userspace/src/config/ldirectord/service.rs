//! A block of a virtual service.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::layout::SchedulerKind;

use super::{
    lines::Line,
    words::{self, Fallback},
};
use crate::{
    config::{
        place::{Fault, Places},
        rooted,
        toml::flag_bit,
    },
    ipvsadm::Names,
    model::{
        Check, Dest, DestId, DestSpec, Family, Http, MAX_TIMEOUT, Method, OnFailure, Own, Protocol,
        ServiceCheck, ServiceConfig, ServiceId, ServiceSpec, Sql, Timing, Tunnel,
    },
};

/// Servers that a range may stand for.
const LONGEST_RANGE: u32 = 1 << 16;

/// What stands outside of blocks.
#[derive(Debug)]
pub(super) struct Defaults {
    pub(super) checktimeout: Option<u32>,
    pub(super) negotiatetimeout: Option<u32>,
    pub(super) checkinterval: u32,
    pub(super) checkcount: u32,
    pub(super) failurecount: u32,
    pub(super) quiescent: bool,
    pub(super) fallback: Option<Fallback>,
    pub(super) fallback6: Option<Fallback>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            checktimeout: None,
            negotiatetimeout: None,
            checkinterval: 10,
            checkcount: 1,
            failurecount: 1,
            quiescent: false,
            fallback: None,
            fallback6: None,
        }
    }
}

/// What identifies it.
#[derive(Clone, Copy, Debug)]
enum Head {
    Address(IpAddr, u16),
    Mark(u32),
    /// It could not be read.
    Broken,
}

#[derive(Clone, Debug)]
struct Real {
    line: usize,
    addr: IpAddr,
    port: u16,
    method: Method,
    weight: u32,
    upper: u32,
    lower: u32,
    request: Option<String>,
    receive: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connect,
    Negotiate,
    Ping,
    External { perl: bool },
    On,
    Off,
    Mixed(u32),
}

/// A block as it is read.
#[derive(Debug)]
pub(super) struct Virtual {
    /// Of `virtual=`.
    pub(super) line: usize,
    v6: bool,
    head: Head,
    reals: Vec<Real>,
    kind: (usize, Kind),
    service: Option<(usize, String)>,
    command: Option<String>,
    port: Option<u16>,
    request: Option<(usize, String)>,
    receive: Option<(usize, String)>,
    method: String,
    host: Option<String>,
    login: Option<(usize, String)>,
    password: String,
    database: String,
    scheduler: (usize, String),
    flags: Option<(usize, String)>,
    persistent: Option<u32>,
    netmask: Option<(usize, String)>,
    protocol: Option<(usize, String)>,
    ops: bool,
    checktimeout: Option<u32>,
    negotiatetimeout: Option<u32>,
    checkcount: Option<u32>,
    checkinterval: Option<u32>,
    failurecount: Option<u32>,
    quiescent: Option<bool>,
    fallback: Option<Fallback>,
    unused: Vec<Fault>,
}

impl Virtual {
    /// From its first line.
    pub(super) fn new(
        line: &Line<'_>,
        value: &str,
        v6: bool,
        names: &dyn Names,
    ) -> Result<Self, String> {
        let value = value.trim();
        let head = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            let mark = value.parse().ok().filter(|mark| *mark != 0);
            Head::Mark(mark.ok_or_else(|| format!("{value} is no firewall mark"))?)
        } else {
            let (host, port) = words::split(value);
            let port = port.ok_or_else(|| format!("{value} is neither ADDRESS:PORT nor a mark"))?;
            let addr = words::host(host, v6, names)?;
            Head::Address(addr, words::port(port, names)?)
        };
        Ok(Self {
            head,
            ..Self::broken(line, v6)
        })
    }

    /// Whose first line is wrong, so that the others can be read.
    pub(super) fn broken(line: &Line<'_>, v6: bool) -> Self {
        Self {
            line: line.number,
            v6,
            head: Head::Broken,
            reals: Vec::new(),
            kind: (line.number, Kind::Negotiate),
            service: None,
            command: None,
            port: None,
            request: None,
            receive: None,
            method: "GET".into(),
            host: None,
            login: None,
            password: String::new(),
            database: String::new(),
            scheduler: (line.number, "wrr".into()),
            flags: None,
            persistent: None,
            netmask: None,
            protocol: None,
            ops: false,
            checktimeout: None,
            negotiatetimeout: None,
            checkcount: None,
            checkinterval: None,
            failurecount: None,
            quiescent: None,
            fallback: None,
            unused: Vec::new(),
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self.head, Head::Broken)
    }

    /// Takes a line of the block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn line(&mut self, line: &Line<'_>, names: &dyn Names) -> Result<(), String> {
        let Some((name, value)) = line.directive() else {
            return Err(format!("unknown directive: {}", line.text));
        };
        let at = line.number;
        let text = |value: &str| words::quoted(value).map(str::to_owned);
        match name {
            "real" | "real6" => {
                if (name == "real6") != self.v6 {
                    let (own, other) = if self.v6 {
                        ("real6", "virtual6")
                    } else {
                        ("real", "virtual")
                    };
                    return Err(format!("{other} takes {own}"));
                }
                self.real(at, value, names)?;
            }
            "fallback" | "fallback6" => {
                if (name == "fallback6") != self.v6 {
                    return Err(format!("{name} is of the other family than this service"));
                }
                self.fallback = Some(Fallback::read(value, self.v6, names)?);
            }
            "checktype" => self.kind = (at, kind(value)?),
            "service" => self.service = Some((at, value.trim().to_owned())),
            "checkcommand" => self.command = Some(words::unquoted(value).to_owned()),
            "checkport" => {
                let port = words::digits(value)?;
                let port = u16::try_from(port).ok().filter(|port| *port != 0);
                self.port = Some(port.ok_or("checkport is from 1 to 65535")?);
            }
            "request" => self.request = Some((at, text(value)?)),
            "receive" => self.receive = Some((at, pattern(&text(value)?)?)),
            "httpmethod" => match value.trim().to_ascii_uppercase().as_str() {
                method @ ("GET" | "HEAD") => method.clone_into(&mut self.method),
                other => return Err(format!("httpmethod is GET or HEAD, not {other}")),
            },
            "virtualhost" => self.host = Some(words::unquoted(value).to_owned()),
            "login" => self.login = Some((at, text(value)?)),
            "passwd" => self.password = text(value)?,
            "database" => self.database = text(value)?,
            "secret" | "load" => drop(text(value)?),
            "scheduler" => {
                let name = value.trim();
                if SchedulerKind::from_name(name).is_none() {
                    return Err(format!("no scheduler {name}"));
                }
                self.scheduler = (at, name.to_owned());
            }
            "schedflags" => self.flags = Some((at, value.trim().to_owned())),
            "persistent" => {
                let seconds = words::positive(value)?;
                if seconds > MAX_TIMEOUT {
                    return Err(format!("persistence is from 1 to {MAX_TIMEOUT} seconds"));
                }
                self.persistent = Some(seconds);
            }
            "netmask" => self.netmask = Some((at, value.trim().to_owned())),
            "protocol" => self.protocol = Some((at, value.trim().to_owned())),
            "ops" => self.ops = words::yes_no(value)?,
            "checktimeout" => self.checktimeout = Some(words::positive(value)?),
            "negotiatetimeout" => self.negotiatetimeout = Some(words::positive(value)?),
            "checkcount" => self.checkcount = Some(words::positive(value)?),
            "checkinterval" => self.checkinterval = Some(words::positive(value)?),
            "failurecount" => self.failurecount = Some(words::positive(value)?),
            "quiescent" => self.quiescent = Some(words::yes_no(value)?),
            "cleanstop" | "readdquiescent" => drop(words::yes_no(value)?),
            // They are text of mails alone.
            "servicename" | "comment" => {}
            "monitorfile" | "fallbackcommand" | "emailalert" | "emailalertfrom"
            | "emailalertfreq" | "emailalertstatus" | "smtp" => {
                self.unused
                    .push(line.fault(format!("{name}: not acted on by lvx")));
            }
            _ => return Err(format!("unknown directive: {name}")),
        }
        Ok(())
    }

    /// `HOST[->HOST2][:PORT] METHOD [WEIGHT] ["REQUEST", "RECEIVE"] [l:N] [u:N]`.
    fn real(&mut self, line: usize, value: &str, names: &dyn Names) -> Result<(), String> {
        let (at, rest) = value.split_once(' ').unwrap_or((value, ""));
        let (hosts, port) = words::split(at);
        let port = port.map_or(Ok(0), |port| words::port(port, names))?;
        let (first, last) = match hosts.split_once("->") {
            Some(_) if self.v6 => return Err("ranges are of IPv4 addresses".into()),
            Some((first, last)) => (first, Some(last)),
            None => (hosts, None),
        };
        let first = words::host(first.trim(), self.v6, names)?;
        let last = match last {
            Some(last) => words::host(last.trim(), false, names)?,
            None => first,
        };
        let (word, rest) = {
            let rest = rest.trim_start();
            rest.split_once(' ').unwrap_or((rest, ""))
        };
        let method = words::method(word).ok_or_else(|| {
            format!("a method must follow the server: gate, masq or ipip, not \"{word}\"")
        })?;
        let mut real = Real {
            line,
            addr: first,
            port,
            method,
            weight: 1,
            upper: 0,
            lower: 0,
            request: None,
            receive: None,
        };
        let rest = rest.trim();
        let (numbers, rest) = match rest.find('"') {
            Some(quote) => rest.split_at(quote),
            None => (rest, ""),
        };
        let mut left = numbers.to_owned();
        if !rest.is_empty() {
            let parts: Vec<&str> = rest.splitn(5, '"').collect();
            let [_, request, between, receive, after] = parts[..] else {
                return Err("\"REQUEST\", \"RECEIVE\" must both be there".into());
            };
            if between.trim() != "," {
                return Err("a comma must stand between \"REQUEST\" and \"RECEIVE\"".into());
            }
            real.request = Some(request.to_owned());
            real.receive = Some(pattern(receive)?);
            left = format!("{left} {after}");
        }
        for (word, place) in left.split_whitespace().zip(0..) {
            let number = |text: &str| -> Result<u32, String> {
                let number = text
                    .parse()
                    .ok()
                    .filter(|number| *number <= i32::MAX as u32);
                number.ok_or_else(|| format!("{word} is no number"))
            };
            if let Some(lower) = word.strip_prefix("l:") {
                real.lower = number(lower)?;
            } else if let Some(upper) = word.strip_prefix("u:") {
                real.upper = number(upper)?;
            } else if place == 0 {
                real.weight = number(word)?;
            } else {
                return Err(format!("{word} is too much"));
            }
        }
        if real.lower > real.upper {
            return Err("the lower threshold is above the upper".into());
        }
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                let count = last.checked_sub(first).map(|gap| gap + 1);
                let count = count.ok_or("the range ends before it begins")?;
                if count > LONGEST_RANGE {
                    return Err(format!("a range of {count} servers"));
                }
                for addr in first..=last {
                    let addr = Ipv4Addr::from_bits(addr).into();
                    self.reals.push(Real {
                        addr,
                        ..real.clone()
                    });
                }
            }
            _ => self.reals.push(real),
        }
        Ok(())
    }

    /// The service that it means.
    ///
    /// # Errors
    /// What does not go together, where.
    pub(super) fn service(
        self,
        defaults: &Defaults,
        places: &mut Places,
        warnings: &mut Vec<Fault>,
    ) -> Result<ServiceConfig, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |line: usize, text: String| {
            faults.push(Fault {
                line,
                column: 1,
                text,
            });
        };
        let id = match self.id() {
            Ok(id) => id,
            Err((line, why)) => {
                fault(line, why);
                return Err(faults);
            }
        };
        let spec = self.spec(id).unwrap_or_else(|(line, why)| {
            fault(line, why);
            bare(id)
        });
        let check = self.check(id, defaults).unwrap_or_else(|(line, why)| {
            fault(line, why);
            Check::Off
        });
        let own = match id {
            ServiceId::Address { port, .. } => port,
            ServiceId::Mark { .. } => 0,
        };
        // Direct routing and tunnels do not change the port, whatever is written.
        let table = |method: Method, port: u16| match id {
            ServiceId::Address { .. } if !method.translates() => own,
            _ => port,
        };
        let mut settings = ServiceCheck {
            timing: self.timing(defaults),
            port: self.port,
            source: None,
            on_failure: if self.quiescent.unwrap_or(defaults.quiescent) {
                OnFailure::Quiesce
            } else {
                OnFailure::Remove
            },
            sorry: self.sorry(defaults, &table, own),
            servers: Vec::new(),
            check,
        };
        let mut dests: Vec<Dest> = Vec::new();
        for real in &self.reals {
            let dest = Dest {
                id: DestId {
                    addr: real.addr,
                    port: table(real.method, real.port),
                },
                spec: DestSpec {
                    method: real.method,
                    weight: real.weight,
                    u_threshold: real.upper,
                    l_threshold: real.lower,
                    tunnel: Tunnel::Ipip,
                },
            };
            if dests.iter().any(|known| known.id == dest.id) {
                fault(real.line, format!("server {} is here twice", dest.id));
                continue;
            }
            places.dests.insert((id, dest.id), (real.line, 1));
            // A port of its own counts, then the usual one of what is asked.
            let asked = match real.port {
                0 => settings.check.usual_port(),
                port => port,
            };
            let own = Own {
                request: real
                    .request
                    .as_ref()
                    .map(|request| self.request_of(&settings.check, request)),
                expect: real.receive.clone().filter(|receive| !receive.is_empty()),
                port: (self.port.is_none() && asked != 0 && asked != dest.id.port).then_some(asked),
            };
            if own != Own::default() {
                settings.servers.push((dest.id, own));
            }
            dests.push(dest);
        }
        warnings.extend(self.unused);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(ServiceConfig {
            id,
            spec,
            dests,
            check: Some(Box::new(settings)),
        })
    }

    fn id(&self) -> Result<ServiceId, (usize, String)> {
        let protocol = self.protocol.as_ref();
        let (addr, port) = match self.head {
            Head::Broken => return Err((self.line, "broken".into())),
            Head::Mark(mark) => {
                if let Some((line, name)) = protocol
                    && name != "fwm"
                {
                    return Err((*line, format!("protocol of a mark is fwm, not {name}")));
                }
                let family = if self.v6 { Family::V6 } else { Family::V4 };
                return Ok(ServiceId::Mark { mark, family });
            }
            Head::Address(addr, port) => (addr, port),
        };
        let protocol = match protocol.map(|(line, name)| (line, name.as_str())) {
            None if port == 53 => Protocol::Udp,
            None | Some((_, "tcp")) => Protocol::Tcp,
            Some((_, "udp")) => Protocol::Udp,
            Some((line, name)) => {
                let why = format!("protocol of an address is tcp or udp, not {name}");
                return Err((*line, why));
            }
        };
        Ok(ServiceId::Address {
            protocol,
            addr,
            port,
        })
    }

    fn spec(&self, id: ServiceId) -> Result<ServiceSpec, (usize, String)> {
        let mut spec = bare(id);
        spec.scheduler.clone_from(&self.scheduler.1);
        if let Some((line, flags)) = &self.flags {
            for flag in flags.split(',') {
                let bit = flag_bit(&spec.scheduler, flag);
                let why = || (*line, format!("{} has no flag {flag}", spec.scheduler));
                spec.sched_flags |= bit.ok_or_else(why)?;
            }
        }
        spec.persistent = self.persistent;
        if let Some((line, mask)) = &self.netmask {
            let read = if self.v6 {
                mask.parse()
                    .ok()
                    .filter(|length| (1..=128).contains(length))
            } else {
                mask.parse().ok().map(Ipv4Addr::to_bits)
            };
            let why = || (*line, format!("{mask} is no netmask"));
            spec.netmask = read.ok_or_else(why)?;
        }
        let udp = matches!(
            id,
            ServiceId::Address {
                protocol: Protocol::Udp,
                ..
            }
        );
        spec.ops = self.ops && udp;
        if matches!(id, ServiceId::Address { port: 0, .. }) && spec.persistent.is_none() {
            let why = "a service of any port (0) needs persistent=SECONDS";
            return Err((self.line, why.into()));
        }
        Ok(spec)
    }

    fn timing(&self, defaults: &Defaults) -> Timing {
        let (own, all) = (
            (self.checktimeout, self.negotiatetimeout),
            (defaults.checktimeout, defaults.negotiatetimeout),
        );
        let check = own.0.or(own.1).or(all.0).or(all.1).unwrap_or(5);
        let negotiate = own.1.or(own.0).or(all.1).or(all.0).unwrap_or(30);
        let timeout = match self.kind.1 {
            Kind::Negotiate | Kind::Mixed(_) => negotiate,
            _ => check,
        };
        let interval = self.checkinterval.unwrap_or(defaults.checkinterval);
        Timing {
            interval: interval.saturating_mul(1000),
            timeout: timeout.saturating_mul(1000),
            failures: self.failurecount.unwrap_or(defaults.failurecount),
            successes: 1,
        }
    }

    fn sorry(
        &self,
        defaults: &Defaults,
        table: &dyn Fn(Method, u16) -> u16,
        own: u16,
    ) -> Option<Dest> {
        let all = if self.v6 {
            defaults.fallback6
        } else {
            defaults.fallback
        };
        let fallback = self.fallback.or(all)?;
        Some(Dest {
            id: DestId {
                addr: fallback.addr,
                port: table(fallback.method, fallback.port.unwrap_or(own)),
            },
            spec: DestSpec {
                method: fallback.method,
                weight: 1,
                u_threshold: 0,
                l_threshold: 0,
                tunnel: Tunnel::Ipip,
            },
        })
    }

    fn check(&self, id: ServiceId, defaults: &Defaults) -> Result<Check, (usize, String)> {
        let tries = self.checkcount.unwrap_or(defaults.checkcount);
        let command = |perl| Check::Command {
            program: self.command.clone().unwrap_or_else(|| "/bin/true".into()),
            perl,
        };
        let udp = matches!(
            id,
            ServiceId::Address {
                protocol: Protocol::Udp,
                ..
            }
        );
        Ok(match self.kind.1 {
            Kind::On => Check::On,
            Kind::Off => Check::Off,
            Kind::Ping => Check::Ping { tries },
            // As ldirectord: a connection by UDP says nothing.
            Kind::Connect if udp => Check::Ping { tries },
            Kind::Connect => Check::Tcp,
            Kind::External { perl } => command(perl),
            Kind::Negotiate => self.negotiation()?,
            Kind::Mixed(connections) => match self.negotiation()? {
                Check::On => Check::Tcp,
                other => Check::Mixed {
                    connections,
                    other: Box::new(other),
                },
            },
        })
    }

    fn negotiation(&self) -> Result<Check, (usize, String)> {
        let usual = match self.head {
            Head::Address(_, port) => usual_service(port),
            _ => "none",
        };
        let (line, service) = match &self.service {
            Some((line, service)) => (*line, service.as_str()),
            None => (self.line, usual),
        };
        let expect = self.receive.as_ref().map(|(_, text)| text.clone());
        let expect = expect.filter(|text| !text.is_empty());
        let request = self.request.as_ref().map_or("", |(_, text)| text.as_str());
        let sql = || Sql {
            login: self.login.as_ref().map_or(String::new(), |it| it.1.clone()),
            password: self.password.clone(),
            database: self.database.clone(),
            query: request.to_owned(),
        };
        let without_login = |check: Check| match &self.login {
            None => Ok(check),
            Some((line, _)) => {
                let why = format!("a login by {service} is not built: without it lvx connects");
                Err((*line, why))
            }
        };
        Ok(match service {
            "http" | "https" | "http_proxy" => Check::Http(Http {
                tls: service == "https",
                proxy: service == "http_proxy",
                method: self.method.clone(),
                path: rooted(request.to_owned()),
                host: self.host.clone(),
                expect,
                ..Http::default()
            }),
            "smtp" | "submission" => Check::Smtp,
            "nntp" => Check::Nntp,
            "pop" | "imap" => without_login(Check::Tcp)?,
            "pops" | "imaps" => without_login(Check::Tls)?,
            "simpletcp" => Check::Text {
                send: unescaped(request),
                expect: expect.unwrap_or_default(),
            },
            "dns" => {
                if request.is_empty() {
                    return Err((line, "service=dns needs request=\"NAME\"".into()));
                }
                let tcp = self
                    .protocol
                    .as_ref()
                    .is_some_and(|(_, name)| name == "tcp");
                Check::Dns {
                    name: request.trim_start_matches('/').to_owned(),
                    tcp,
                    expect,
                }
            }
            "mysql" => Check::Mysql(sql()),
            "pgsql" => Check::Postgres(sql()),
            "none" => Check::On,
            "ftp" | "ldap" | "ldaps" | "radius" | "sip" | "oracle" => {
                let why = format!(
                    "checks by {service} are not built: checktype=connect, ping or external does what it can"
                );
                return Err((line, why));
            }
            other => return Err((line, format!("unknown service: {other}"))),
        })
    }

    fn request_of(&self, check: &Check, request: &str) -> String {
        match check {
            Check::Http(_) => rooted(request.to_owned()),
            Check::Mixed { other, .. } => self.request_of(other, request),
            Check::Dns { .. } => request.trim_start_matches('/').to_owned(),
            Check::Text { .. } => unescaped(request),
            _ => request.to_owned(),
        }
    }
}

fn bare(id: ServiceId) -> ServiceSpec {
    ServiceSpec {
        scheduler: "wrr".into(),
        sched_flags: 0,
        ops: false,
        persistent: None,
        netmask: match id.family() {
            Family::V4 => u32::MAX,
            Family::V6 => 128,
        },
        pe: None,
        toa: false,
    }
}

fn kind(value: &str) -> Result<Kind, String> {
    Ok(match value.trim() {
        "connect" => Kind::Connect,
        "negotiate" => Kind::Negotiate,
        "ping" => Kind::Ping,
        "external" => Kind::External { perl: false },
        "external-perl" => Kind::External { perl: true },
        "on" => Kind::On,
        "off" => Kind::Off,
        other => {
            let number = other.parse().ok().filter(|number| *number > 0);
            Kind::Mixed(number.ok_or_else(|| {
                format!(
                    "checktype is connect, negotiate, ping, external, external-perl, on, off or a number, not {other}"
                )
            })?)
        }
    })
}

fn pattern(text: &str) -> Result<String, String> {
    crate::health::pattern(text).map(|_| text.to_owned())
}

/// `\n` for the end of a line.
fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n")
}

/// What listens on a port, as ldirectord knows them.
fn usual_service(port: u16) -> &'static str {
    match port {
        21 => "ftp",
        25 => "smtp",
        53 => "dns",
        80 => "http",
        110 => "pop",
        119 => "nntp",
        143 => "imap",
        389 => "ldap",
        443 => "https",
        587 => "submission",
        636 => "ldaps",
        993 => "imaps",
        995 => "pops",
        1521 => "oracle",
        1812 => "radius",
        3128 => "http_proxy",
        3306 => "mysql",
        5060 => "sip",
        5432 => "pgsql",
        _ => "none",
    }
}
