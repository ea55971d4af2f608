//! The difference of two configurations, as lines for people.

use std::collections::HashMap;

use similar::{ChangeTag, TextDiff};

use super::{
    changes,
    text::{check_line, server, text},
};
use crate::{
    model::{
        Chain, Config, Dest, DestId, LocalRange, Request, Rule, RuleChange, ServiceCheck,
        ServiceConfig, ServiceId, ServiceSpec, sysctl,
    },
    rules,
};

/// A line of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `+`, `-` or `~` (changed).
    pub sign: char,
    /// What.
    pub text: String,
    /// The server, where connections may depend on it: its service, itself, and
    /// whether it goes or gets weight 0.
    pub server: Option<(ServiceId, DestId, bool)>,
}

impl Line {
    fn new(sign: char, text: String) -> Self {
        Self {
            sign,
            text,
            server: None,
        }
    }
}

/// What leads from one configuration to the other; empty when nothing does.
pub fn difference(from: &Config, to: &Config) -> Vec<Line> {
    let services = from.services.as_deref().unwrap_or_default();
    let old = Old(services
        .iter()
        .map(|service| (service.id, service))
        .collect());
    let changes = changes(from, to);
    changes
        .iter()
        .flat_map(|change| lines(change, &old, from))
        .collect()
}

struct Old<'a>(HashMap<ServiceId, &'a ServiceConfig>);

impl Old<'_> {
    fn dest(&self, id: &ServiceId, dest: DestId) -> Option<&Dest> {
        let service = self.0.get(id)?;
        service.dests.iter().find(|known| known.id == dest)
    }
}

fn lines(change: &Request, old: &Old<'_>, from: &Config) -> Vec<Line> {
    let gone = |id: ServiceId, dest: &Dest| Line {
        server: Some((id, dest.id, true)),
        ..Line::new('-', format!("server {} of {}", dest.id, id.name()))
    };
    match change {
        Request::AddService(id, spec) => {
            let text = format!("service {}: {}", id.name(), parameters(*id, spec));
            vec![Line::new('+', text)]
        }
        Request::EditService(id, spec) => {
            let before = old.0.get(id).map(|old| parameters(*id, &old.spec));
            let change = was(&before.unwrap_or_default(), &parameters(*id, spec));
            vec![Line::new('~', format!("service {}: {change}", id.name()))]
        }
        Request::DeleteService(id) => {
            let dests = old.0.get(id).map_or(&[][..], |service| &service.dests);
            let service = Line::new('-', format!("service {}", id.name()));
            std::iter::once(service)
                .chain(dests.iter().map(|dest| gone(*id, dest)))
                .collect()
        }
        Request::AddDest(id, dest) => {
            let text = format!("server {} of {}: {}", dest.id, id.name(), values(dest));
            vec![Line::new('+', text)]
        }
        Request::EditDest(id, dest) => {
            let before = old.dest(id, dest.id);
            let change = was(&before.map(values).unwrap_or_default(), &values(dest));
            let quiesced = dest.spec.weight == 0;
            let quiesced = quiesced && before.is_none_or(|before| before.spec.weight != 0);
            vec![Line {
                server: quiesced.then_some((*id, dest.id, false)),
                ..Line::new(
                    '~',
                    format!("server {} of {}: {change}", dest.id, id.name()),
                )
            }]
        }
        Request::DeleteDest(id, dest) => old
            .dest(id, *dest)
            .map(|dest| gone(*id, dest))
            .into_iter()
            .collect(),
        Request::SetCheck(id, check) => {
            let name = |check: Option<&ServiceCheck>| check.map_or("none".into(), check_line);
            let before = old.0.get(id).and_then(|old| old.check.as_deref());
            let (before, after) = (name(before), name(check.as_deref()));
            let change = was(&before, &after);
            let text = format!("check of {}: {change}", id.name());
            vec![Line::new('~', text)]
        }
        Request::AddLocal(owner, ranges) => locals('+', *owner, ranges),
        Request::DeleteLocal(owner, ranges) => locals('-', *owner, ranges),
        Request::SetTimeouts(new) => {
            let old = from.timeouts.unwrap_or_default();
            [
                ("tcp", old.tcp, new.tcp),
                ("tcp-fin", old.tcp_fin, new.tcp_fin),
                ("udp", old.udp, new.udp),
            ]
            .into_iter()
            .filter(|(_, old, new)| old != new)
            .map(|(name, old, new)| Line::new('~', format!("time-out {name}: {old} -> {new}")))
            .collect()
        }
        Request::SetSysctl(name, value) => {
            let old = from.sysctls.as_ref().and_then(|all| all.get(name));
            let default = || sysctl(name).map_or("", |sysctl| sysctl.default).to_owned();
            let old = old.map_or_else(default, i64::to_string);
            vec![Line::new('~', format!("sysctl {name}: {old} -> {value}"))]
        }
        Request::Rules(change) => rule_lines(change, from),
        _ => Vec::new(),
    }
}

fn was(before: &str, after: &str) -> String {
    let changed = before.split(", ").zip(after.split(", "));
    if before.split(", ").count() == after.split(", ").count() {
        let only: Vec<String> = changed
            .filter(|(before, after)| before != after)
            .map(|(before, after)| format!("{before} -> {after}"))
            .collect();
        return only.join(", ");
    }
    format!("{before} -> {after}")
}

/// The keys of a service as `lvx.toml` has them, with commas.
fn parameters(id: ServiceId, spec: &ServiceSpec) -> String {
    let service = ServiceConfig {
        id,
        spec: spec.clone(),
        dests: Vec::new(),
        check: None,
    };
    let all = text(&Config {
        services: Some(vec![service]),
        ..Config::default()
    });
    let keys = all.lines().filter(|line| {
        !["[[", "tcp ", "udp ", "sctp ", "mark ", "family "]
            .iter()
            .any(|start| line.starts_with(start))
    });
    keys.collect::<Vec<_>>().join(", ").replace(" = ", " ")
}

fn values(dest: &Dest) -> String {
    let all = server(dest);
    let values = all.split_once(", ").map_or("", |(_, rest)| rest);
    values.replace(" = ", " ").replace('"', "")
}

fn locals(sign: char, owner: Option<ServiceId>, ranges: &[LocalRange]) -> Vec<Line> {
    let whose = owner.map_or("the director".into(), ServiceId::name);
    let text = |range: &LocalRange| match range.ports {
        Some((first, last)) => format!("local {range} ports {first}-{last} of {whose}"),
        None => format!("local {range} of {whose}"),
    };
    ranges
        .iter()
        .map(|range| Line::new(sign, text(range)))
        .collect()
}

fn rule_lines(change: &RuleChange, from: &Config) -> Vec<Line> {
    let set = |name: &String| {
        let sets = from.sets.as_deref().unwrap_or_default();
        sets.iter().find(|set| set.name == *name)
    };
    match change {
        RuleChange::Replace(chain, new) => {
            let old = match chain {
                Chain::Mark => &from.marks,
                Chain::Filter => &from.filters,
            };
            let words =
                |rules: &[Rule]| -> Vec<String> { rules.iter().map(rules::words).collect() };
            let (old, new) = (words(old.as_deref().unwrap_or_default()), words(new));
            let (old, new): (Vec<&str>, Vec<&str>) = (
                old.iter().map(String::as_str).collect(),
                new.iter().map(String::as_str).collect(),
            );
            let diff = TextDiff::from_slices(&old, &new);
            let changes = diff.iter_all_changes().filter_map(|change| {
                let sign = match change.tag() {
                    ChangeTag::Equal => return None,
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                };
                Some(Line::new(
                    sign,
                    format!("{} {}", chain.name(), change.value()),
                ))
            });
            changes.collect()
        }
        RuleChange::FillSet(name, family, members) => {
            let old = set(name).filter(|set| set.family == *family);
            let Some(old) = old else {
                let text = format!("set {name}: {} members", members.len());
                return vec![Line::new('+', text)];
            };
            let come = members
                .iter()
                .filter(|member| !old.members.contains(member));
            let gone = old
                .members
                .iter()
                .filter(|member| !members.contains(member));
            gone.map(|member| Line::new('-', format!("{member} in set {name}")))
                .chain(come.map(|member| Line::new('+', format!("{member} in set {name}"))))
                .collect()
        }
        RuleChange::DestroySet(name) => vec![Line::new('-', format!("set {name}"))],
        // What is flushed is made again, and shown then.
        _ => Vec::new(),
    }
}
