//! Reads `lvx.toml`. What the syntax and the types of values allow is serde's
//! to check; what goes together is checked here, with a place for each fault.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
};

use lb_common::layout::SchedulerKind;
use serde::Deserialize;
use toml::Spanned;

use super::{
    changes::family_order,
    check::{FileCheck, rooted},
    place::{Fault, Lines, Places},
};
use crate::{
    model::{
        Chain, Check, Config, Declaration, Dest, DestId, DestSpec, Effect, Family, LocalRange,
        MAX_TIMEOUT, Method, Own, Pool, Prefix, PrefixSet, Protocol, Rule, ServiceCheck,
        ServiceConfig, ServiceId, ServiceSpec, Settings, Timeouts, Tunnel, TunnelChecksum, sysctl,
    },
    rules,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<Spanned<String>>,
    timeouts: Option<Spanned<FileTimeouts>>,
    sysctl: Option<BTreeMap<Spanned<String>, i64>>,
    rules: Option<FileRules>,
    set: Option<Vec<FileSet>>,
    local: Option<Vec<FileLocal>>,
    service: Option<Vec<Spanned<FileService>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileTimeouts {
    tcp: Option<Spanned<u32>>,
    tcp_fin: Option<Spanned<u32>>,
    udp: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRules {
    mark: Option<Spanned<Vec<Spanned<String>>>>,
    filter: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSet {
    name: Spanned<String>,
    family: FileFamily,
    members: Vec<Spanned<String>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileFamily {
    #[default]
    Ipv4,
    Ipv6,
}

impl From<FileFamily> for Family {
    fn from(family: FileFamily) -> Self {
        match family {
            FileFamily::Ipv4 => Self::V4,
            FileFamily::Ipv6 => Self::V6,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLocal {
    address: Spanned<String>,
    ports: Option<Spanned<String>>,
    service: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileService {
    tcp: Option<Spanned<String>>,
    udp: Option<Spanned<String>>,
    sctp: Option<Spanned<String>>,
    mark: Option<Spanned<u32>>,
    family: Option<FileFamily>,
    scheduler: Option<Spanned<String>>,
    #[serde(default)]
    flags: Vec<Spanned<String>>,
    persistent: Option<Spanned<u32>>,
    netmask: Option<Spanned<FileMask>>,
    one_packet: Option<Spanned<bool>>,
    toa: Option<Spanned<bool>>,
    pe: Option<String>,
    check: Option<Spanned<FileCheck>>,
    sorry: Option<Spanned<FileServer>>,
    #[serde(default)]
    server: Vec<Spanned<FileServer>>,
}

/// An IPv4 mask or a length.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a mask (\"255.255.255.0\") or a length in bits")]
enum FileMask {
    Length(u32),
    Mask(String),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileMethod {
    Dr,
    Nat,
    Tunnel,
    Fullnat,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileTunnel {
    Ipip,
    Gue,
    Gre,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileChecksum {
    None,
    Full,
    Remote,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileServer {
    address: Spanned<String>,
    method: Option<FileMethod>,
    weight: Option<Spanned<u32>>,
    upper: Option<Spanned<u32>>,
    lower: Option<Spanned<u32>>,
    tunnel: Option<Spanned<FileTunnel>>,
    tunnel_port: Option<Spanned<u16>>,
    tunnel_checksum: Option<Spanned<FileChecksum>>,
    check_request: Option<Spanned<String>>,
    check_expect: Option<Spanned<String>>,
    check_port: Option<Spanned<u16>>,
}

/// Reads a file.
///
/// # Errors
/// What is wrong and where.
pub(super) fn read(text: &str) -> Result<(Config, Places), Vec<Fault>> {
    let lines = Lines::of(text);
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        vec![lines.fault(at, error.message())]
    })?;
    let mut reader = Reader {
        lines,
        faults: Vec::new(),
        places: Places::default(),
    };
    let config = reader.file(file);
    let Reader {
        mut faults, places, ..
    } = reader;
    if faults.is_empty() {
        return Ok((config, places));
    }
    faults.sort_by_key(|fault| (fault.line, fault.column));
    Err(faults)
}

struct Reader<'a> {
    lines: Lines<'a>,
    faults: Vec<Fault>,
    places: Places,
}

type Span = Range<usize>;

impl Reader<'_> {
    fn fault(&mut self, span: &Span, what: impl Into<String>) {
        let fault = self.lines.fault(span.start, what);
        self.faults.push(fault);
    }

    fn place(&self, span: &Span) -> (usize, usize) {
        self.lines.place(span.start)
    }

    fn file(&mut self, file: File) -> Config {
        let (marks, filters) = match file.rules {
            Some(rules) => (rules.mark, rules.filter),
            None => (None, None),
        };
        let name = file.name;
        let mut config = Config {
            timeouts: file.timeouts.map(|timeouts| self.timeouts(timeouts)),
            sysctls: file.sysctl.map(|sysctls| self.sysctls(sysctls)),
            sets: file.set.map(|sets| self.sets(sets)),
            marks: marks.map(|rules| self.rules(Chain::Mark, rules)),
            filters: filters.map(|rules| self.rules(Chain::Filter, rules)),
            pools: file.local.map(|locals| self.pools(locals)),
            services: file.service.map(|services| self.services(services)),
            ..Config::default()
        };
        config.declaration = name.map(|name| self.declaration(&name, &config));
        config
    }

    /// A file with a name declares its services, and nothing else: the rest of
    /// the director has no owner.
    fn declaration(&mut self, name: &Spanned<String>, config: &Config) -> Declaration {
        let span = name.span();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.get_ref().is_empty() || !name.get_ref().chars().all(plain) {
            self.fault(
                &span,
                "a name has letters, digits, dots, dashes and underscores",
            );
        } else if name.get_ref() == "manual" {
            self.fault(&span, "manual is what belongs to no file");
        }
        let only_services = Config {
            services: config.services.clone(),
            ..Config::default()
        };
        if *config != only_services {
            self.fault(
                &span,
                "a file with a name holds services alone: the other sections belong into one without",
            );
        } else if config.services.is_none() {
            self.fault(
                &span,
                "a file with a name declares services ('service = []' removes those it had)",
            );
        }
        let lines = self.places.services.iter();
        Declaration {
            name: name.get_ref().clone(),
            file: String::new(),
            lines: lines.map(|(id, (line, _))| (*id, *line)).collect(),
        }
    }

    fn timeouts(&mut self, timeouts: Spanned<FileTimeouts>) -> Timeouts {
        self.places.timeouts = Some(self.place(&timeouts.span()));
        let FileTimeouts { tcp, tcp_fin, udp } = timeouts.into_inner();
        let default = Timeouts::default();
        let mut seconds = |value: Option<Spanned<u32>>, default| match value {
            Some(value) => {
                if !(1..=MAX_TIMEOUT).contains(value.get_ref()) {
                    let text = format!("a time-out is from 1 to {MAX_TIMEOUT} seconds");
                    self.fault(&value.span(), text);
                }
                value.into_inner()
            }
            None => default,
        };
        Timeouts {
            tcp: seconds(tcp, default.tcp),
            tcp_fin: seconds(tcp_fin, default.tcp_fin),
            udp: seconds(udp, default.udp),
        }
    }

    fn sysctls(&mut self, sysctls: BTreeMap<Spanned<String>, i64>) -> BTreeMap<String, i64> {
        let mut settings = Settings::default();
        for (name, value) in sysctls {
            let place = self.place(&name.span());
            match sysctl(name.get_ref()) {
                None => self.fault(
                    &name.span(),
                    format!("no setting {}: 'lvx sysctl' lists them", name.get_ref()),
                ),
                Some(known) => {
                    self.places.sysctls.insert(known.name.into(), place);
                    let is_default = value.to_string() == known.default;
                    if is_default && known.effect != Effect::Kernels {
                        continue;
                    }
                    if let Err(refusal) = settings.set(known.name, value) {
                        let text = refusal.to_string();
                        let text = text.strip_prefix("lvx: ").unwrap_or(&text).to_owned();
                        self.fault(&name.span(), text);
                    }
                }
            }
        }
        settings.sysctls
    }

    fn sets(&mut self, sets: Vec<FileSet>) -> Vec<PrefixSet> {
        let mut all: Vec<PrefixSet> = Vec::new();
        for set in sets {
            let (span, name) = (set.name.span(), set.name.into_inner());
            let place = self.place(&span);
            if all.iter().any(|known| known.name == name) {
                self.fault(&span, format!("the set {name} is here twice"));
            }
            self.places.sets.insert(name.clone(), place);
            let family = Family::from(set.family);
            let mut members = Vec::new();
            for member in set.members {
                match member.get_ref().parse::<Prefix>() {
                    Ok(prefix) if prefix.family() == family => members.push(prefix),
                    Ok(prefix) => self.fault(
                        &member.span(),
                        format!("{prefix} is of the other family than the set {name}"),
                    ),
                    Err(text) => self.fault(&member.span(), text),
                }
            }
            members.sort_unstable();
            members.dedup();
            all.push(PrefixSet {
                name,
                family,
                members,
            });
        }
        all
    }

    fn rules(&mut self, chain: Chain, rules: Spanned<Vec<Spanned<String>>>) -> Vec<Rule> {
        let place = self.place(&rules.span());
        self.places.chains.insert(chain, place);
        let mut all = Vec::new();
        for rule in rules.into_inner() {
            match rule_of(chain, rule.get_ref()) {
                Ok(rules) => all.extend(rules),
                Err(text) => self.fault(&rule.span(), text),
            }
        }
        all.sort_by_key(|rule| family_order(rule.family));
        all
    }

    fn pools(&mut self, locals: Vec<FileLocal>) -> Vec<Pool> {
        let mut all: Vec<Pool> = Vec::new();
        for local in locals {
            let span = local.address.span();
            let mut range: LocalRange = match local.address.get_ref().parse() {
                Ok(range) => range,
                Err(text) => {
                    self.fault(&span, text);
                    continue;
                }
            };
            if let Some(ports) = local.ports {
                let parsed = ports.get_ref().split_once('-');
                let parsed = parsed
                    .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
                range.ports = parsed.filter(|(first, last)| 0 < *first && first <= last);
                if range.ports.is_none() {
                    self.fault(
                        &ports.span(),
                        "two ports with a dash between them, the smaller one first: \"1024-65535\"",
                    );
                }
            }
            let mut owner = None;
            if let Some(service) = local.service {
                match service.get_ref().parse::<ServiceId>() {
                    Ok(id) if id.family() == range.family() => owner = Some(id),
                    Ok(_) => self.fault(&span, format!("{range} is not of the service's family")),
                    Err(text) => self.fault(&service.span(), text),
                }
            }
            let place = self.place(&span);
            self.places.pools.entry(owner).or_insert(place);
            let known = all.iter_mut().find(|pool| pool.service == owner);
            match known {
                Some(pool) => {
                    if let Some(old) = pool.ranges.iter().find(|old| old.overlaps(range)) {
                        let text = format!("{old} is in this pool already");
                        self.fault(&span, text);
                    }
                    pool.ranges.push(range);
                }
                None => all.push(Pool {
                    service: owner,
                    ranges: vec![range],
                }),
            }
        }
        all
    }

    fn services(&mut self, services: Vec<Spanned<FileService>>) -> Vec<ServiceConfig> {
        let mut seen: HashMap<ServiceId, usize> = HashMap::new();
        let mut all = Vec::new();
        for service in services {
            let span = service.span();
            let service = service.into_inner();
            let Some((id, at)) = self.service_id(&service, &span) else {
                continue;
            };
            let place = self.place(&at);
            if let Some(line) = seen.insert(id, place.0) {
                self.fault(&at, format!("{} is in line {line} already", id.name()));
                continue;
            }
            self.places.services.insert(id, place);
            let spec = self.spec(id, &at, &service);
            let mut check = self.check(id, service.check, service.sorry.as_ref());
            let dests = self.servers(id, service.server, check.as_mut());
            let check = check.map(Box::new);
            all.push(ServiceConfig {
                id,
                spec,
                dests,
                check,
            });
        }
        all
    }

    fn service_id(&mut self, service: &FileService, span: &Span) -> Option<(ServiceId, Span)> {
        let addresses = [
            (Protocol::Tcp, &service.tcp),
            (Protocol::Udp, &service.udp),
            (Protocol::Sctp, &service.sctp),
        ];
        let mut names = Vec::new();
        for (protocol, at) in addresses {
            if let Some(at) = at {
                names.push((self.address(protocol, at), at.span()));
            }
        }
        if let Some(mark) = &service.mark {
            if *mark.get_ref() == 0 {
                self.fault(&mark.span(), "a mark is not 0");
            }
            let family = service.family.unwrap_or_default().into();
            let mark_id = ServiceId::Mark {
                mark: *mark.get_ref(),
                family,
            };
            names.push((Some(mark_id), mark.span()));
        } else if service.family.is_some() {
            self.fault(span, "family goes with mark: an address tells its own");
        }
        if names.len() > 1 {
            let second = names[1].1.clone();
            self.fault(&second, "a service has one of tcp, udp, sctp and mark");
            return None;
        }
        let Some((id, at)) = names.pop() else {
            self.fault(span, "this service has none of tcp, udp, sctp and mark");
            return None;
        };
        Some((id?, at))
    }

    fn address(&mut self, protocol: Protocol, at: &Spanned<String>) -> Option<ServiceId> {
        match at.get_ref().parse::<SocketAddr>() {
            Ok(address) => Some(ServiceId::Address {
                protocol,
                addr: address.ip(),
                port: address.port(),
            }),
            Err(_) => {
                let text = format!(
                    "`{}' is not ADDRESS:PORT (IPv6: [ADDRESS]:PORT; port 0 is any)",
                    at.get_ref()
                );
                self.fault(&at.span(), text);
                None
            }
        }
    }

    fn spec(&mut self, id: ServiceId, at: &Span, service: &FileService) -> ServiceSpec {
        let scheduler = match &service.scheduler {
            Some(name) => {
                if SchedulerKind::from_name(name.get_ref()).is_none() {
                    let text = format!("no scheduler {}", name.get_ref());
                    self.fault(&name.span(), text);
                }
                name.get_ref().clone()
            }
            None => "wlc".into(),
        };
        let mut sched_flags = 0;
        for flag in &service.flags {
            match flag_bit(&scheduler, flag.get_ref()) {
                Some(bit) => sched_flags |= bit,
                None => self.fault(
                    &flag.span(),
                    format!("{scheduler} has no flag {}", flag.get_ref()),
                ),
            }
        }
        let persistent = service.persistent.as_ref().map(|seconds| {
            if !(1..=MAX_TIMEOUT).contains(seconds.get_ref()) {
                let text = format!("persistence is from 1 to {MAX_TIMEOUT} seconds");
                self.fault(&seconds.span(), text);
            }
            *seconds.get_ref()
        });
        let on = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| *flag.get_ref());
        if let ServiceId::Address { protocol, port, .. } = id {
            if port == 0 && persistent.is_none() {
                self.fault(at, "a service of any port (0) needs persistent = SECONDS");
            }
            if let Some(flag) = service.toa.as_ref().filter(|flag| *flag.get_ref())
                && protocol != Protocol::Tcp
            {
                self.fault(
                    &flag.span(),
                    "the client's address can be told to TCP servers only",
                );
            }
            if let Some(flag) = service.one_packet.as_ref().filter(|flag| *flag.get_ref())
                && protocol != Protocol::Udp
            {
                self.fault(&flag.span(), "one-packet scheduling is for UDP only");
            }
        }
        ServiceSpec {
            scheduler,
            sched_flags,
            ops: on(&service.one_packet),
            persistent,
            netmask: self.netmask(id.family(), service.netmask.as_ref()),
            pe: service.pe.clone(),
            toa: on(&service.toa),
        }
    }

    fn netmask(&mut self, family: Family, mask: Option<&Spanned<FileMask>>) -> u32 {
        let default = match family {
            Family::V4 => u32::MAX,
            Family::V6 => 128,
        };
        let Some(mask) = mask else { return default };
        match (family, mask.get_ref()) {
            (Family::V4, FileMask::Length(length @ 1..=32)) => u32::MAX << (32 - length),
            (Family::V4, FileMask::Mask(text)) if text.parse::<Ipv4Addr>().is_ok() => {
                text.parse::<Ipv4Addr>().map_or(default, u32::from)
            }
            (Family::V6, FileMask::Length(length @ 1..=128)) => *length,
            (Family::V4, _) => {
                let text = "a mask like \"255.255.255.0\", or a length from 1 to 32";
                self.fault(&mask.span(), text);
                default
            }
            (Family::V6, _) => {
                self.fault(&mask.span(), "a length from 1 to 128");
                default
            }
        }
    }

    fn check(
        &mut self,
        id: ServiceId,
        check: Option<Spanned<FileCheck>>,
        sorry: Option<&Spanned<FileServer>>,
    ) -> Option<ServiceCheck> {
        let Some(check) = check else {
            if let Some(sorry) = sorry {
                let text = "a sorry server goes with a check, which tells when it is needed";
                self.fault(&sorry.span(), text);
            }
            return None;
        };
        let mut check = match check.into_inner().read() {
            Ok(check) => check,
            Err(faults) => {
                for (span, text) in faults {
                    self.fault(&span, text);
                }
                return None;
            }
        };
        if let Some(sorry) = sorry {
            let sorry = sorry.get_ref();
            let own = [&sorry.check_request, &sorry.check_expect];
            let key = own.into_iter().flatten().next().map(Spanned::span);
            if let Some(span) = key.or(sorry.check_port.as_ref().map(Spanned::span)) {
                self.fault(&span, "a sorry server is not checked");
            }
            check.sorry = self.server(id, sorry);
        }
        Some(check)
    }

    /// What is asked of this server instead.
    fn own(&mut self, dest: DestId, server: &FileServer, check: Option<&mut ServiceCheck>) {
        let text = |value: &Option<Spanned<String>>| value.as_ref().map(|it| it.get_ref().clone());
        let (request, expect) = (&server.check_request, &server.check_expect);
        let port = server.check_port.as_ref();
        let first = request.as_ref().or(expect.as_ref()).map(Spanned::span);
        let Some(first) = first.or(port.map(Spanned::span)) else {
            return;
        };
        let Some(check) = check else {
            self.fault(&first, "this service has no check");
            return;
        };
        if let Some(port) = port
            && *port.get_ref() == 0
        {
            self.fault(&port.span(), "a port is not 0");
        }
        if let Some(expect) = expect
            && let Err(why) = crate::health::pattern(expect.get_ref())
        {
            self.fault(&expect.span(), why);
        }
        let mut own = Own {
            request: text(request),
            expect: text(expect),
            port: port.map(|port| *port.get_ref()),
        };
        if let (Check::Http(_), Some(path)) = (&check.check, &mut own.request) {
            *path = rooted(std::mem::take(path));
        }
        let set = |value: &Option<String>| value.as_ref().map(|_| "\0".to_owned());
        let other = Own {
            request: set(&own.request),
            expect: set(&own.expect),
            port: None,
        };
        if own.port.is_none() && check.check.with(&other) == check.check {
            self.fault(&first, "this changes nothing in the service's check");
        }
        check.servers.push((dest, own));
    }

    fn servers(
        &mut self,
        id: ServiceId,
        servers: Vec<Spanned<FileServer>>,
        mut check: Option<&mut ServiceCheck>,
    ) -> Vec<Dest> {
        let mut all: Vec<Dest> = Vec::new();
        let mut seen: HashMap<DestId, usize> = HashMap::new();
        for server in servers {
            let server = server.into_inner();
            let at = server.address.span();
            let Some(dest) = self.server(id, &server) else {
                continue;
            };
            let place = self.place(&at);
            if let Some(line) = seen.insert(dest.id, place.0) {
                self.fault(&at, format!("server {} is in line {line} already", dest.id));
                continue;
            }
            self.places.dests.insert((id, dest.id), place);
            self.own(dest.id, &server, check.as_deref_mut());
            all.push(dest);
        }
        all
    }

    fn server(&mut self, id: ServiceId, server: &FileServer) -> Option<Dest> {
        let method = match server.method.unwrap_or(FileMethod::Dr) {
            FileMethod::Dr => Method::Route,
            FileMethod::Nat => Method::Masq,
            FileMethod::Tunnel => Method::Tunnel,
            FileMethod::Fullnat => Method::Fullnat,
        };
        let at = server.address.span();
        let text = server.address.get_ref();
        let own = match id {
            ServiceId::Address { port, .. } => port,
            ServiceId::Mark { .. } => 0,
        };
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let parsed = match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
            (Ok(at), _) => Some((at.ip(), at.port())),
            (_, Ok(addr)) => Some((addr, own)),
            _ => None,
        };
        let Some((addr, port)) = parsed else {
            self.fault(&at, format!("`{text}' is neither ADDRESS nor ADDRESS:PORT"));
            return None;
        };
        if Family::of(addr) != id.family() && method != Method::Tunnel {
            self.fault(&at, "only a tunnel leads to a server of the other family");
        }
        if matches!(id, ServiceId::Address { .. }) && !method.translates() && port != own {
            let text = format!(
                "{} does not translate ports: the server's is the service's, {own}",
                method.name()
            );
            self.fault(&at, text);
        }
        let number = |value: &Option<Spanned<u32>>, default| {
            value.as_ref().map_or(default, |value| *value.get_ref())
        };
        for value in [&server.weight, &server.upper, &server.lower]
            .into_iter()
            .flatten()
        {
            if *value.get_ref() > i32::MAX as u32 {
                self.fault(&value.span(), format!("at most {}", i32::MAX));
            }
        }
        let (upper, lower) = (number(&server.upper, 0), number(&server.lower, 0));
        if let Some(value) = &server.lower
            && lower > upper
        {
            self.fault(
                &value.span(),
                format!("the lower threshold is above the upper, {upper}"),
            );
        }
        Some(Dest {
            id: DestId { addr, port },
            spec: DestSpec {
                method,
                weight: number(&server.weight, 1),
                u_threshold: upper,
                l_threshold: lower,
                tunnel: self.tunnel(method, &at, server),
            },
        })
    }

    fn tunnel(&mut self, method: Method, at: &Span, server: &FileServer) -> Tunnel {
        let FileServer {
            tunnel,
            tunnel_port: port,
            tunnel_checksum: checksum,
            ..
        } = server;
        if method != Method::Tunnel {
            let tunnel = tunnel.as_ref().map(Spanned::span);
            let port = port.as_ref().map(Spanned::span);
            let checksum = checksum.as_ref().map(Spanned::span);
            if let Some(span) = tunnel.or(port).or(checksum) {
                self.fault(&span, "this goes with method = \"tunnel\"");
            }
            return Tunnel::Ipip;
        }
        let kind = tunnel
            .as_ref()
            .map_or(FileTunnel::Ipip, |tunnel| *tunnel.get_ref());
        let sum = match checksum.as_ref().map(|checksum| *checksum.get_ref()) {
            None | Some(FileChecksum::None) => TunnelChecksum::None,
            Some(FileChecksum::Full) => TunnelChecksum::Full,
            Some(FileChecksum::Remote) => TunnelChecksum::Remote,
        };
        if let Some(port) = port
            && !matches!(kind, FileTunnel::Gue)
        {
            self.fault(&port.span(), "tunnel-port goes with tunnel = \"gue\"");
        }
        if let Some(checksum) = checksum {
            let fits = match kind {
                FileTunnel::Ipip => sum == TunnelChecksum::None,
                FileTunnel::Gre => sum != TunnelChecksum::Remote,
                FileTunnel::Gue => true,
            };
            if !fits {
                self.fault(&checksum.span(), "this kind of tunnel has no such checksum");
            }
        }
        match kind {
            FileTunnel::Ipip => Tunnel::Ipip,
            FileTunnel::Gre => Tunnel::Gre { checksum: sum },
            FileTunnel::Gue => {
                let number = port.as_ref().map_or(0, |port| *port.get_ref());
                if number == 0 {
                    let span = port.as_ref().map_or(at.clone(), Spanned::span);
                    self.fault(&span, "tunnel = \"gue\" needs tunnel-port = PORT");
                }
                Tunnel::Gue {
                    port: number,
                    checksum: sum,
                }
            }
        }
    }
}

/// The rules that a line means, with `-A` or without.
fn rule_of(chain: Chain, text: &str) -> Result<Vec<Rule>, String> {
    let mut words = rules::split(text)?;
    if words.first().is_none_or(|word| word != "-A") {
        words.insert(0, "-A".into());
    }
    match rules::command(chain, &words)? {
        rules::Command::Append(rules) => Ok(rules),
        _ => Err("a rule, as `lvx mark -A' takes it".into()),
    }
}

const FLAGS: [u32; 3] = [0x08, 0x10, 0x20];

fn names_of(scheduler: &str) -> [&'static str; 3] {
    match scheduler {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    }
}

pub(super) fn flag_bit(scheduler: &str, name: &str) -> Option<u32> {
    let names = names_of(scheduler).into_iter().zip(FLAGS);
    let plain = ["flag-1", "flag-2", "flag-3"].into_iter().zip(FLAGS);
    let mut all = names.chain(plain);
    all.find(|(known, _)| *known == name).map(|(_, bit)| bit)
}

/// The flags of a scheduler, as ipvsadm names them.
pub fn flag_names(spec: &ServiceSpec) -> Vec<&'static str> {
    let names = names_of(&spec.scheduler).into_iter().zip(FLAGS);
    let set = names.filter(|(_, bit)| spec.sched_flags & bit != 0);
    set.map(|(name, _)| name).collect()
}
