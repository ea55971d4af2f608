//! Firewall rules, whatever tool they come from.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    fn may_match(&self, vip: IpAddr, inputs: &Inputs) -> bool {
        match self {
            Self::Destination { ranges, negated } => {
                ranges.iter().any(|range| range.contains(vip)) != *negated
            }
            Self::Input {
                patterns,
                negated: false,
            } => patterns.iter().any(|pattern| inputs.any(pattern)),
            Self::Input {
                patterns,
                negated: true,
            } => !patterns.iter().any(|pattern| inputs.all(pattern)),
            Self::Family { v6 } => vip.is_ipv6() == *v6,
            Self::Never => false,
        }
    }
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
    /// Packets enter here on their way to this machine.
    pub(super) entry: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Only this family's packets come here.
    pub(super) v6: Option<bool>,
    pub(super) chains: BTreeMap<String, Chain>,
}

impl Table {
    /// One sentence for every rule and policy that would apply to a VIP.
    pub(super) fn warnings(&self, vips: &[IpAddr], inputs: &Inputs) -> Vec<String> {
        let mut lines = Vec::new();
        for vip in vips
            .iter()
            .filter(|vip| self.v6.is_none_or(|v6| v6 == vip.is_ipv6()))
        {
            let mut seen = BTreeSet::new();
            for (name, chain) in self.chains.iter().filter(|(_, chain)| chain.entry) {
                self.walk(name, *vip, inputs, &mut seen, &mut lines);
                if let Some(policy) = &chain.policy {
                    lines.push(format!(
                        "{} policy {policy} does not apply to VIP {vip}",
                        chain.label
                    ));
                }
            }
        }
        lines
    }

    fn walk<'a>(
        &'a self,
        name: &'a str,
        vip: IpAddr,
        inputs: &Inputs,
        seen: &mut BTreeSet<&'a str>,
        lines: &mut Vec<String>,
    ) {
        let Some(chain) = self.chains.get(name) else {
            return;
        };
        if !seen.insert(name) {
            return;
        }
        for (i, rule) in chain.rules.iter().enumerate() {
            if !rule
                .conditions
                .iter()
                .all(|condition| condition.may_match(vip, inputs))
            {
                continue;
            }
            match &rule.effect {
                Effect::None => {}
                Effect::Jump(to) => self.walk(to, vip, inputs, seen, lines),
                Effect::Does(what) => {
                    let space = if rule.from.is_empty() { "" } else { " " };
                    lines.push(format!(
                        "{} rule {} ({what}{space}{}) does not apply to VIP {vip}",
                        chain.label,
                        i + 1,
                        rule.from
                    ));
                }
            }
        }
    }
}
