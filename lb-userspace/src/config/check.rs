//! The `check` of a service in `lvx.toml`: read, and written.

use std::{fmt::Write as _, net::IpAddr, ops::Range};

use serde::Deserialize;
use toml::Spanned;

use super::text::quoted;
use crate::model::{Check, Http, OnFailure, Own, ServiceCheck, Sql, Timing};

/// Longest interval and time-out in seconds: a day.
const LONGEST: f64 = 86_400.0;

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FileCheck {
    #[serde(rename = "type")]
    kind: Spanned<Kind>,
    interval: Option<Spanned<Seconds>>,
    timeout: Option<Spanned<Seconds>>,
    failures: Option<Spanned<u32>>,
    successes: Option<Spanned<u32>>,
    on_failure: Option<OnFailure>,
    port: Option<Spanned<u16>>,
    source: Option<Spanned<IpAddr>>,
    request: Option<Spanned<String>>,
    expect: Option<Spanned<String>>,
    status: Option<Spanned<Status>>,
    host: Option<Spanned<String>>,
    method: Option<Spanned<String>>,
    verify: Option<Spanned<bool>>,
    proxy: Option<Spanned<bool>>,
    tcp: Option<Spanned<bool>>,
    tries: Option<Spanned<u32>>,
    login: Option<Spanned<String>>,
    password: Option<Spanned<String>>,
    database: Option<Spanned<String>>,
    command: Option<Spanned<String>>,
    perl: Option<Spanned<bool>>,
    connections: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    On,
    Off,
    Ping,
    Tcp,
    Tls,
    Udp,
    Http,
    Https,
    Dns,
    Smtp,
    Nntp,
    Text,
    Mysql,
    Postgresql,
    Command,
}

/// Seconds, whole or not.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number of seconds")]
enum Seconds {
    Whole(u32),
    Part(f64),
}

/// One or more codes and ranges of them.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a status (200), a range (\"200-299\") or a list of those"
)]
enum Status {
    One(Codes),
    Many(Vec<Codes>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Codes {
    Code(u16),
    Range(String),
}

type Span = Range<usize>;
type Faults = Vec<(Span, String)>;

impl FileCheck {
    /// What it means.
    ///
    /// # Errors
    /// What is wrong, where.
    pub(super) fn read(self) -> Result<ServiceCheck, Faults> {
        let mut faults = Faults::new();
        self.misplaced(&mut faults);
        let timing = self.timing(&mut faults);
        let check = self.check(&mut faults);
        if let Some(port) = &self.port
            && *port.get_ref() == 0
        {
            faults.push((port.span(), "a port is not 0".into()));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(ServiceCheck {
            check,
            timing,
            port: self.port.map(Spanned::into_inner),
            source: self.source.map(Spanned::into_inner),
            on_failure: self.on_failure.unwrap_or(OnFailure::Remove),
            sorry: None,
            servers: Vec::new(),
        })
    }

    /// Keys that the type has no use for.
    fn misplaced(&self, faults: &mut Faults) {
        use Kind::{Command, Dns, Http, Https, Mysql, Off, On, Ping, Postgresql, Text, Udp};
        let kind = *self.kind.get_ref();
        let mut only = |span: Option<Span>, name: &str, kinds: &[Kind]| {
            if let Some(span) = span
                && !kinds.contains(&kind)
            {
                faults.push((span, format!("{name} does not go with this type of check")));
            }
        };
        let web = [Http, Https];
        let sql = [Mysql, Postgresql];
        let asks = [Http, Https, Dns, Udp, Text, Mysql, Postgresql];
        let reads = [Http, Https, Dns, Udp, Text];
        only(span(&self.request), "request", &asks);
        only(span(&self.expect), "expect", &reads);
        only(span(&self.status), "status", &web);
        only(span(&self.host), "host", &web);
        only(span(&self.method), "method", &web);
        only(span(&self.proxy), "proxy", &web);
        only(span(&self.verify), "verify", &[Https]);
        only(span(&self.tcp), "tcp", &[Dns]);
        only(span(&self.tries), "tries", &[Ping]);
        only(span(&self.login), "login", &sql);
        only(span(&self.password), "password", &sql);
        only(span(&self.database), "database", &sql);
        only(span(&self.command), "command", &[Command]);
        only(span(&self.perl), "perl", &[Command]);
        if matches!(kind, On | Off | Ping | Command) {
            for (key, name) in [
                (span(&self.port), "port"),
                (span(&self.connections), "connections"),
            ] {
                only(key, name, &[]);
            }
        }
    }

    fn timing(&self, faults: &mut Faults) -> Timing {
        let default = Timing::default();
        let mut millis = |value: &Option<Spanned<Seconds>>, default| {
            let Some(value) = value else { return default };
            let seconds = match value.get_ref() {
                Seconds::Whole(seconds) => f64::from(*seconds),
                Seconds::Part(seconds) => *seconds,
            };
            if !(0.05..=LONGEST).contains(&seconds) {
                let text = format!("from 0.05 to {LONGEST} seconds");
                faults.push((value.span(), text));
                return default;
            }
            (seconds * 1000.0).round() as u32
        };
        let interval = millis(&self.interval, default.interval);
        let timeout = millis(&self.timeout, default.timeout);
        let mut count = |value: &Option<Spanned<u32>>, default| {
            let Some(value) = value else { return default };
            if !(1..=1000).contains(value.get_ref()) {
                faults.push((value.span(), "from 1 to 1000".into()));
            }
            *value.get_ref()
        };
        Timing {
            interval,
            timeout,
            failures: count(&self.failures, default.failures),
            successes: count(&self.successes, default.successes),
        }
    }

    fn check(&self, faults: &mut Faults) -> Check {
        let text = |value: &Option<Spanned<String>>| value.as_ref().map(|it| it.get_ref().clone());
        let on = |value: &Option<Spanned<bool>>| value.as_ref().is_some_and(|it| *it.get_ref());
        if let Some(expect) = &self.expect
            && let Err(why) = crate::health::pattern(expect.get_ref())
        {
            faults.push((expect.span(), why));
        }
        let sql = || Sql {
            login: text(&self.login).unwrap_or_default(),
            password: text(&self.password).unwrap_or_default(),
            database: text(&self.database).unwrap_or_default(),
            query: text(&self.request).unwrap_or_default(),
        };
        let at = self.kind.span();
        let mut needs = |value: &Option<Spanned<String>>, name: &str| {
            if value.is_none() {
                faults.push((at.clone(), format!("this type of check needs {name}")));
            }
            text(value).unwrap_or_default()
        };
        let check = match *self.kind.get_ref() {
            Kind::On => Check::On,
            Kind::Off => Check::Off,
            Kind::Ping => Check::Ping {
                tries: self.tries.as_ref().map_or(1, |tries| *tries.get_ref()),
            },
            Kind::Tcp => Check::Tcp,
            Kind::Tls => Check::Tls,
            Kind::Udp => Check::Udp {
                send: text(&self.request).unwrap_or_default(),
                expect: text(&self.expect),
            },
            Kind::Dns => Check::Dns {
                name: needs(&self.request, "request = \"NAME\""),
                tcp: on(&self.tcp),
                expect: text(&self.expect),
            },
            Kind::Smtp => Check::Smtp,
            Kind::Nntp => Check::Nntp,
            Kind::Text => Check::Text {
                send: text(&self.request).unwrap_or_default(),
                expect: needs(&self.expect, "expect = \"REGEX\""),
            },
            Kind::Mysql => Check::Mysql(sql()),
            Kind::Postgresql => Check::Postgres(sql()),
            Kind::Command => Check::Command {
                program: needs(&self.command, "command = \"/PATH\""),
                perl: on(&self.perl),
            },
            kind @ (Kind::Http | Kind::Https) => Check::Http(Http {
                tls: kind == Kind::Https,
                verify: on(&self.verify),
                proxy: on(&self.proxy),
                method: text(&self.method).unwrap_or_else(|| "GET".into()),
                path: rooted(text(&self.request).unwrap_or_default()),
                host: text(&self.host),
                status: self.status(faults),
                expect: text(&self.expect),
            }),
        };
        match &self.connections {
            None => check,
            Some(connections) => Check::Mixed {
                connections: *connections.get_ref(),
                other: Box::new(check),
            },
        }
    }

    fn status(&self, faults: &mut Faults) -> Vec<(u16, u16)> {
        let Some(status) = &self.status else {
            return Http::default().status;
        };
        let codes = match status.get_ref() {
            Status::One(one) => std::slice::from_ref(one),
            Status::Many(many) => many,
        };
        let mut all = Vec::new();
        for codes in codes {
            let range = match codes {
                Codes::Code(code) => Some((*code, *code)),
                Codes::Range(text) => {
                    let (first, last) = text.split_once('-').unwrap_or((text, text));
                    first.trim().parse().ok().zip(last.trim().parse().ok())
                }
            };
            match range.filter(|(first, last)| (100..=*last).contains(first) && *last <= 999) {
                Some(range) => all.push(range),
                None => faults.push((
                    status.span(),
                    "a status is like 200, a range like \"200-299\"".into(),
                )),
            }
        }
        if all.is_empty() && faults.is_empty() {
            faults.push((status.span(), "no status is good".into()));
        }
        all
    }
}

fn span<T>(value: &Option<Spanned<T>>) -> Option<Span> {
    value.as_ref().map(Spanned::span)
}

/// A path begins with a slash, unless the request is a whole address.
pub(crate) fn rooted(path: String) -> String {
    if path.starts_with('/') || path.contains("://") {
        path
    } else {
        format!("/{path}")
    }
}

/// The keys of a check as an inline table has them: what is the default is left out.
pub(super) fn keys(check: &ServiceCheck) -> String {
    let mut out = String::new();
    let (inner, connections) = match &check.check {
        Check::Mixed { connections, other } => (&**other, Some(*connections)),
        check => (check, None),
    };
    // Writing to a string does not fail, here and below.
    let _ = write!(out, "type = \"{}\"", inner.name());
    let timing = &check.timing;
    let seconds = |millis: u32| f64::from(millis) / 1000.0;
    let _ = write!(
        out,
        ", interval = {}, timeout = {}, failures = {}",
        seconds(timing.interval),
        seconds(timing.timeout),
        timing.failures
    );
    if timing.successes != 1 {
        let _ = write!(out, ", successes = {}", timing.successes);
    }
    let on_failure = match check.on_failure {
        OnFailure::Remove => "remove",
        OnFailure::Quiesce => "quiesce",
    };
    let _ = write!(out, ", on-failure = \"{on_failure}\"");
    if let Some(port) = check.port {
        let _ = write!(out, ", port = {port}");
    }
    if let Some(source) = check.source {
        let _ = write!(out, ", source = \"{source}\"");
    }
    own_keys(inner, &mut out);
    if let Some(connections) = connections {
        let _ = write!(out, ", connections = {connections}");
    }
    out
}

fn own_keys(check: &Check, out: &mut String) {
    let mut text = |name: &str, value: &str, default: &str| {
        if value != default {
            let _ = write!(out, ", {name} = {}", quoted(value));
        }
    };
    let expected = |expect: &Option<String>| {
        let given = expect.as_ref();
        given.map_or(String::new(), |it| format!(", expect = {}", quoted(it)))
    };
    match check {
        Check::On | Check::Off | Check::Tcp | Check::Tls | Check::Smtp | Check::Nntp => {}
        Check::Mixed { other, .. } => own_keys(other, out),
        Check::Ping { tries } => {
            if *tries != 1 {
                let _ = write!(out, ", tries = {tries}");
            }
        }
        Check::Udp { send, expect } => {
            text("request", send, "");
            out.push_str(&expected(expect));
        }
        Check::Dns { name, tcp, expect } => {
            let _ = write!(out, ", request = {}", quoted(name));
            if *tcp {
                out.push_str(", tcp = true");
            }
            out.push_str(&expected(expect));
        }
        Check::Text { send, expect } => {
            text("request", send, "");
            let _ = write!(out, ", expect = {}", quoted(expect));
        }
        Check::Mysql(sql) | Check::Postgres(sql) => {
            text("login", &sql.login, "");
            text("password", &sql.password, "");
            text("database", &sql.database, "");
            text("request", &sql.query, "");
        }
        Check::Command { program, perl } => {
            let _ = write!(out, ", command = {}", quoted(program));
            if *perl {
                out.push_str(", perl = true");
            }
        }
        Check::Http(http) => {
            text("request", &http.path, "/");
            text("method", &http.method, "GET");
            if let Some(host) = &http.host {
                let _ = write!(out, ", host = {}", quoted(host));
            }
            if http.status != Http::default().status {
                let codes = http.status.iter();
                let codes: Vec<String> = codes
                    .map(|(first, last)| format!("\"{first}-{last}\""))
                    .collect();
                let _ = write!(out, ", status = [{}]", codes.join(", "));
            }
            out.push_str(&expected(&http.expect));
            for (name, on) in [("verify", http.verify), ("proxy", http.proxy)] {
                if on {
                    let _ = write!(out, ", {name} = true");
                }
            }
        }
    }
}

/// The keys of a server about its check.
pub(super) fn server_keys(own: &Own) -> String {
    let mut out = String::new();
    for (name, value) in [
        ("check-request", &own.request),
        ("check-expect", &own.expect),
    ] {
        if let Some(value) = value {
            let _ = write!(out, ", {name} = {}", quoted(value));
        }
    }
    if let Some(port) = own.port {
        let _ = write!(out, ", check-port = {port}");
    }
    out
}
