//! Firewall rules, whatever tool they come from.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Interfaces (index and name) whose traffic lvx takes.
pub(super) struct Inputs(pub(super) Vec<(u32, String)>);

impl Inputs {
    /// `pattern` is a name, a beginning with `+` or `*` after it, or an index.
    fn any(&self, pattern: &str) -> bool {
        self.0
            .iter()
            .any(|(index, name)| match pattern.strip_suffix(['+', '*']) {
                Some(start) => name.starts_with(start),
                None => name == pattern || pattern.parse() == Ok(*index),
            })
    }

    fn all(&self, pattern: &str) -> bool {
        self.0
            .iter()
            .all(|one| Self(vec![one.clone()]).any(pattern))
    }
}

/// Addresses from the first to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range(pub(super) IpAddr, pub(super) IpAddr);

impl Range {
    /// `text` is an address, `address/bits`, `address/mask` or `first-last`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some((first, last)) = text.split_once('-') {
            return Some(Self(first.parse().ok()?, last.parse().ok()?));
        }
        let Some((address, length)) = text.split_once('/') else {
            let address = text.parse().ok()?;
            return Some(Self(address, address));
        };
        match address.parse().ok()? {
            IpAddr::V4(ip) => {
                let mask = match length.parse::<u32>() {
                    Ok(bits) => u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0),
                    Err(_) => length.parse::<Ipv4Addr>().ok()?.to_bits(),
                };
                let start = ip.to_bits() & mask;
                Some(Self(
                    Ipv4Addr::from_bits(start).into(),
                    Ipv4Addr::from_bits(start | !mask).into(),
                ))
            }
            IpAddr::V6(ip) => {
                let bits = length.parse::<u32>().ok()?;
                let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
                let start = ip.to_bits() & mask;
                Some(Self(
                    Ipv6Addr::from_bits(start).into(),
                    Ipv6Addr::from_bits(start | !mask).into(),
                ))
            }
        }
    }

    fn contains(self, ip: IpAddr) -> bool {
        self.0.is_ipv4() == ip.is_ipv4() && self.0 <= ip && ip <= self.1
    }
}

/// What a rule asks of a packet, as far as it is understood: what is not
/// understood is taken to match.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    Source {
        ranges: Vec<Range>,
        negated: bool,
    },
    Destination {
        ranges: Vec<Range>,
        negated: bool,
    },
    Input {
        patterns: Vec<String>,
        negated: bool,
    },
    /// IPv6 only, or IPv4 only.
    Family {
        v6: bool,
    },
    /// Matches nothing that lvx takes (ICMP, other protocols).
    Never,
}

impl Condition {
    fn may_match(&self, traffic: Traffic, inputs: &Inputs) -> bool {
        let holds = |ranges: &[Range], ip| ranges.iter().any(|range| range.contains(ip));
        match (self, traffic) {
            (Self::Source { ranges, negated }, Traffic::From(ip))
            | (Self::Destination { ranges, negated }, Traffic::To(ip)) => {
                holds(ranges, ip) != *negated
            }
            // Clients are anywhere.
            (Self::Source { .. } | Self::Destination { .. }, _) => true,
            (
                Self::Input {
                    patterns,
                    negated: false,
                },
                _,
            ) => patterns.iter().any(|pattern| inputs.any(pattern)),
            (
                Self::Input {
                    patterns,
                    negated: true,
                },
                _,
            ) => !patterns.iter().any(|pattern| inputs.all(pattern)),
            (Self::Family { v6 }, traffic) => traffic.address().is_ipv6() == *v6,
            (Self::Never, _) => false,
        }
    }
}

/// Packets that lvx takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// A client's, to a VIP.
    To(IpAddr),
    /// A reply of a server by NAT.
    From(IpAddr),
}

impl Traffic {
    fn address(self) -> IpAddr {
        match self {
            Self::To(ip) | Self::From(ip) => ip,
        }
    }
}

/// Where a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// On the way to this machine: requests to VIPs would come by.
    Input,
    /// On the way through it: replies of servers by NAT would come by.
    Forward,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that would be missed: it accepts, returns or counts.
    None,
    /// The rules of another chain follow.
    Jump(String),
    /// Anything else, as the tool calls it.
    Does(String),
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) effect: Effect,
    /// `from 203.0.113.0/24`, or empty.
    pub(super) from: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    /// How sentences call it.
    pub(super) label: String,
    pub(super) rules: Vec<Rule>,
    /// A policy other than accept.
    pub(super) policy: Option<String>,
    /// Which packets enter here, and not only by a jump.
    pub(super) entry: Option<Entry>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Only this family's packets come here.
    pub(super) v6: Option<bool>,
    pub(super) chains: BTreeMap<String, Chain>,
}

impl Table {
    /// One sentence for every rule and policy that would apply to packets to a
    /// VIP, and one for each that would apply to replies of any of `servers`.
    pub(super) fn warnings(
        &self,
        vips: &[IpAddr],
        servers: &[IpAddr],
        inputs: &Inputs,
    ) -> Vec<String> {
        let ours = |ip: &IpAddr| self.v6.is_none_or(|v6| v6 == ip.is_ipv6());
        let mut lines = Vec::new();
        for vip in vips.iter().copied().filter(ours) {
            let end = format!("does not apply to VIP {vip}");
            self.enter(Entry::Input, &[Traffic::To(vip)], inputs, &end, &mut lines);
        }
        let replies: Vec<_> = servers.iter().copied().filter(ours).collect();
        let replies: Vec<_> = replies.into_iter().map(Traffic::From).collect();
        let end = "does not apply to replies of servers by NAT";
        self.enter(Entry::Forward, &replies, inputs, end, &mut lines);
        lines
    }

    fn enter(
        &self,
        entry: Entry,
        traffic: &[Traffic],
        inputs: &Inputs,
        end: &str,
        lines: &mut Vec<String>,
    ) {
        if traffic.is_empty() {
            return;
        }
        let mut walk = Walk {
            table: self,
            inputs,
            end,
            seen: BTreeMap::new(),
            lines: Vec::new(),
        };
        let chains = self.chains.iter();
        for (name, chain) in chains.filter(|(_, chain)| chain.entry == Some(entry)) {
            walk.chain(name, traffic);
            if let Some(policy) = &chain.policy {
                walk.say(format!("{} policy {policy} {end}", chain.label));
            }
        }
        lines.extend(walk.lines);
    }
}

struct Walk<'a> {
    table: &'a Table,
    inputs: &'a Inputs,
    /// How a sentence ends.
    end: &'a str,
    /// What has been through a chain already.
    seen: BTreeMap<&'a str, Vec<Traffic>>,
    lines: Vec<String>,
}

impl<'a> Walk<'a> {
    fn say(&mut self, line: String) {
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    fn chain(&mut self, name: &'a str, traffic: &[Traffic]) {
        let Some(chain) = self.table.chains.get(name) else {
            return;
        };
        let seen = self.seen.entry(name).or_default();
        let new = |one: &&Traffic| !seen.contains(one);
        let traffic: Vec<_> = traffic.iter().filter(new).copied().collect();
        seen.extend_from_slice(&traffic);
        for (i, rule) in chain.rules.iter().enumerate() {
            let mut matching = traffic.clone();
            matching.retain(|one| {
                let conditions = &mut rule.conditions.iter();
                conditions.all(|condition| condition.may_match(*one, self.inputs))
            });
            if matching.is_empty() {
                continue;
            }
            match &rule.effect {
                Effect::None => {}
                Effect::Jump(to) => self.chain(to, &matching),
                Effect::Does(what) => {
                    let space = if rule.from.is_empty() { "" } else { " " };
                    self.say(format!(
                        "{} rule {} ({what}{space}{}) {}",
                        chain.label,
                        i + 1,
                        rule.from,
                        self.end
                    ));
                }
            }
        }
    }
}
