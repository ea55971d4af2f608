//! From rules to rule memory.
//!
//! Addresses become labels: each prefix, set, or opposite of one, that a rule
//! names is a label, and the addresses between two ends of such have a list of
//! labels. A rule then stands under one source label, one destination label
//! and a port key. What packets meet is the ordered walk, exactly: see
//! `lb_common`'s `engine::classify`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use indexmap::IndexMap;
use lb_common::layout::{
    FilterVerdict, LabelList, POINT_WORDS, RuleEffect, RuleEntry, RuleHeader, port_key, rule_hash,
};

use crate::model::{
    Addresses, Chain, Family, Match, Ports, Prefix, PrefixSet, Refusal, Rule, Target,
};

/// Host bits up to which a prefix's addresses each get their bit in the VIP
/// filter.
const LISTED_BITS: u32 = 10;
/// Most addresses that get a bit each.
const LISTED: usize = 1 << 13;

/// What `-i` may name: by interface name, the keys of the frames that come in
/// by it.
pub type IfaceNames = BTreeMap<String, BTreeSet<u64>>;

/// Where packets with a mark may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Destinations {
    /// To these addresses.
    pub prefixes: BTreeSet<Prefix>,
    /// To any other too.
    pub any: bool,
}

impl Destinations {
    /// Takes in another's.
    pub fn add(&mut self, other: &Self) {
        self.any |= other.any;
        self.prefixes.extend(&other.prefixes);
        self.limit();
    }

    fn limit(&mut self) {
        let bits = || self.prefixes.iter().map(|prefix| prefix.host_bits());
        self.any |= bits().any(|bits| bits > LISTED_BITS)
            || bits().map(|bits| 1 << bits).sum::<usize>() > LISTED;
        if self.any {
            self.prefixes.clear();
        }
    }

    /// Each address, where there are not too many.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.prefixes.iter().flat_map(|prefix| {
            let (first, last) = prefix.span();
            let v4 = prefix.addr().is_ipv4();
            (first..=last).map(move |number| {
                if v4 {
                    IpAddr::from((number as u32).to_be_bytes())
                } else {
                    IpAddr::from(number.to_be_bytes())
                }
            })
        })
    }

    fn of_rule(rule: &Rule, sets: &IndexMap<String, PrefixSet>) -> Self {
        let prefixes: BTreeSet<Prefix> = match &rule.dst {
            Some(Match {
                not: false,
                what: Addresses::Prefix(prefix),
            }) => [*prefix].into(),
            Some(Match {
                not: false,
                what: Addresses::Set(name),
            }) => sets
                .get(name)
                .map(|set| set.members.iter().copied().collect())
                .unwrap_or_default(),
            _ => {
                return Self {
                    any: true,
                    ..Self::default()
                };
            }
        };
        let mut result = Self {
            prefixes,
            any: false,
        };
        result.limit();
        result
    }
}

/// Rules as packets read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// One half of rule memory, as far as it is used.
    pub words: Vec<u64>,
    /// Whether there are mark rules, for IPv4 and IPv6.
    pub marks: [bool; 2],
    /// Whether there are filter rules.
    pub filters: [bool; 2],
    /// Where marked packets may go to.
    pub destinations: [Destinations; 2],
    /// A rule asks for an interface.
    pub asks_iface: bool,
}

/// The rules of one chain and family, each with the slot of its counters.
pub type Source<'a> = Vec<(&'a Rule, u32)>;

/// Compiles the chains that `rules` gives into at most `room` words.
///
/// # Errors
/// When they do not fit.
pub fn compile<'a>(
    rules: impl Fn(Chain, Family) -> Source<'a>,
    sets: &IndexMap<String, PrefixSet>,
    ifaces: &IfaceNames,
    room: u32,
) -> Result<Compiled, Refusal> {
    let mut result = Compiled {
        words: vec![0; RuleHeader::ALL as usize],
        ..Compiled::default()
    };
    for chain in Chain::ALL {
        for (six, family) in [Family::V4, Family::V6].into_iter().enumerate() {
            let rules = rules(chain, family);
            match chain {
                Chain::Mark => result.marks[six] = !rules.is_empty(),
                Chain::Filter => result.filters[six] = !rules.is_empty(),
            }
            if rules.is_empty() {
                continue;
            }
            result.asks_iface |= rules.iter().any(|(rule, _)| rule.iface.is_some());
            if chain == Chain::Mark {
                for (rule, _) in &rules {
                    result.destinations[six].add(&Destinations::of_rule(rule, sets));
                }
            }
            let header = classifier(&mut result.words, chain, &rules, sets, ifaces, six == 1)?;
            let at = RuleHeader::position(chain.kind(), six == 1) as usize;
            result.words[at..at + RuleHeader::WORDS as usize]
                .copy_from_slice(bytemuck::cast_slice(&[header]));
        }
    }
    if result.words.len() > room as usize {
        return Err(Refusal::Full(format!(
            "lvx: the memory for rules is full ({} of {room} words): \
             'lvx down', then 'lvx run' with a greater --rules",
            result.words.len()
        )));
    }
    if result.words.len() == RuleHeader::ALL as usize {
        result.words.clear();
    }
    Ok(result)
}

fn classifier(
    words: &mut Vec<u64>,
    chain: Chain,
    rules: &Source<'_>,
    sets: &IndexMap<String, PrefixSet>,
    ifaces: &IfaceNames,
    six: bool,
) -> Result<RuleHeader, Refusal> {
    let mut lists = Lists::default();
    let mut sources = Labels::default();
    let mut destinations = Labels::default();
    let count = rules.len() as u32;
    let mut entries: Vec<(u32, RuleEntry)> = Vec::new();
    for ((rule, slot), position) in rules.iter().zip(0..) {
        let (order, effect) = match rule.target {
            Target::Mark { flip, clear } => (position + 1, RuleEffect { keep: !clear, flip }),
            Target::Drop => (count - position, FilterVerdict::new(*slot, true).effect()),
            Target::Accept => (count - position, FilterVerdict::new(*slot, false).effect()),
        };
        debug_assert_eq!(
            matches!(rule.target, Target::Mark { .. }),
            chain == Chain::Mark
        );
        let base = RuleEntry {
            src: sources.label(&rule.src),
            dst: destinations.label(&rule.dst),
            order,
            effect: effect.word(),
            ..RuleEntry::default()
        };
        for entry in shapes(rule, base, ifaces) {
            let labels = u64::from(entry.src) | u64::from(entry.dst) << 32;
            entries.push((rule_hash(labels, entry.port_key), entry));
        }
    }
    let src_points = sources.points(sets, six, words, &mut lists)?;
    let dst_points = destinations.points(sets, six, words, &mut lists)?;
    let slots = (entries.len() as u32 * 2).next_power_of_two();
    let mask = slots - 1;
    let directory = words.len() as u32;
    // Runs by slot, each with the greatest order first.
    entries.sort_unstable_by_key(|(hash, entry)| (hash & mask, u32::MAX - entry.order));
    words.resize(words.len() + slots as usize, 0);
    let mut at = words.len() as u32;
    for run in entries.chunk_by(|a, b| a.0 & mask == b.0 & mask) {
        let len = run.len() as u32 * RuleEntry::WORDS;
        words[(directory + (run[0].0 & mask)) as usize] = u64::from(at) | u64::from(len) << 32;
        at += len;
        for (_, entry) in run {
            words.extend_from_slice(bytemuck::cast_slice(&[*entry]));
        }
    }
    Ok(RuleHeader {
        src_start: src_points.0,
        src_count: src_points.1,
        dst_start: dst_points.0,
        dst_count: dst_points.1,
        directory,
        mask,
        reserved: [0; 5],
    })
}

/// The entries that a rule takes: one for each range of ports and interface.
fn shapes(rule: &Rule, base: RuleEntry, ifaces: &IfaceNames) -> Vec<RuleEntry> {
    const ALL: [(u16, u16); 1] = [(0, u16::MAX)];
    let ranges = |ports: &Option<Match<Ports>>| match ports {
        Some(ports) => Ports::ranges(ports),
        None => ALL.to_vec(),
    };
    let (protocol, not_protocol) = match &rule.protocol {
        Some(protocol) => (protocol.what, protocol.not),
        None => (0, false),
    };
    let by_ports: Vec<(Vec<_>, Vec<_>)> = match &rule.ports {
        // Either end.
        Some(ports) if !ports.not => {
            let ranges = Ports::ranges(ports);
            vec![(ALL.to_vec(), ranges.clone()), (ranges, ALL.to_vec())]
        }
        // Neither.
        Some(ports) => vec![(Ports::ranges(ports), Ports::ranges(ports))],
        None => vec![(ranges(&rule.sports), ranges(&rule.dports))],
    };
    let by_iface: Vec<Option<u64>> = match &rule.iface {
        None => vec![None],
        Some(iface) => {
            let named = keys(ifaces, &iface.what);
            let all: BTreeSet<u64> = ifaces.values().flatten().copied().collect();
            let keys = if iface.not { &all - &named } else { named };
            keys.into_iter().map(Some).collect()
        }
    };
    let mut entries = Vec::new();
    for (sports, dports) in by_ports {
        for (sport_low, sport_high) in &sports {
            for (dport_low, dport_high) in &dports {
                let exact = dport_low == dport_high && protocol != 0 && !not_protocol;
                for iface in &by_iface {
                    entries.push(RuleEntry {
                        port_key: if exact {
                            port_key(protocol, *dport_low)
                        } else {
                            0
                        },
                        sport_low: *sport_low,
                        sport_high: *sport_high,
                        dport_low: *dport_low,
                        dport_high: *dport_high,
                        protocol,
                        not_protocol: not_protocol.into(),
                        has_iface: iface.is_some().into(),
                        iface: iface.unwrap_or(0),
                        ..base
                    });
                }
            }
        }
    }
    entries
}

/// The frames of an interface, or of all whose names begin with what stands
/// before `+`.
fn keys(ifaces: &IfaceNames, name: &str) -> BTreeSet<u64> {
    match name.strip_suffix('+') {
        Some(start) => ifaces
            .iter()
            .filter(|(name, _)| name.starts_with(start))
            .flat_map(|(_, keys)| keys)
            .copied()
            .collect(),
        None => ifaces.get(name).cloned().unwrap_or_default(),
    }
}

/// Lists of labels that are in memory already.
#[derive(Default)]
struct Lists(HashMap<Vec<u64>, LabelList>);

impl Lists {
    fn put(&mut self, words: &mut Vec<u64>, labels: &BTreeSet<u32>) -> Result<LabelList, Refusal> {
        let labels: Vec<u64> = labels.iter().map(|label| u64::from(*label)).collect();
        if let Some(list) = self.0.get(&labels) {
            return Ok(*list);
        }
        let (start, len) = (words.len(), labels.len());
        if len > LabelList::MOST as usize || start >= LabelList::REACH as usize {
            return Err(Refusal::Full(format!(
                "lvx: too many rules: an address would be in {len} prefixes and sets of rules \
                 (at most {}), or the rules do not fit any memory",
                LabelList::MOST
            )));
        }
        let list = LabelList::new(start as u32, len as u32);
        words.extend(&labels);
        self.0.insert(labels, list);
        Ok(list)
    }
}

/// The labels of the addresses of one end.
#[derive(Default)]
struct Labels(BTreeMap<Option<Match<Addresses>>, u32>);

impl Labels {
    fn label(&mut self, end: &Option<Match<Addresses>>) -> u32 {
        if let Some(label) = self.0.get(end) {
            return *label;
        }
        let label = self.0.len() as u32 + 1;
        self.0.insert(end.clone(), label);
        label
    }

    /// Writes the points; answers where they are and how many.
    fn points(
        &self,
        sets: &IndexMap<String, PrefixSet>,
        six: bool,
        words: &mut Vec<u64>,
        lists: &mut Lists,
    ) -> Result<(u32, u32), Refusal> {
        let last = if six { u128::MAX } else { u32::MAX.into() };
        // Where a label begins and ends to hold.
        let mut turns: BTreeMap<u128, Vec<(u32, bool)>> = BTreeMap::from([(0, Vec::new())]);
        for (end, label) in &self.0 {
            for (first, until) in spans(end, sets, last) {
                turns.entry(first).or_default().push((*label, true));
                if until < last {
                    turns.entry(until + 1).or_default().push((*label, false));
                }
            }
        }
        let mut labels = BTreeSet::new();
        let mut points: Vec<(u128, LabelList)> = Vec::new();
        for (address, turned) in turns {
            for (label, begins) in turned {
                if begins {
                    labels.insert(label);
                } else {
                    labels.remove(&label);
                }
            }
            let list = lists.put(words, &labels)?;
            if points.last().is_none_or(|(_, before)| *before != list) {
                points.push((address, list));
            }
        }
        let start = words.len() as u32;
        for (address, list) in &points {
            if six {
                words.extend([(address >> 64) as u64, *address as u64, list.0.into()]);
            } else {
                words.push((*address as u64) << 32 | u64::from(list.0));
            }
        }
        debug_assert_eq!(
            words.len() as u32 - start,
            points.len() as u32 * POINT_WORDS[usize::from(six)]
        );
        Ok((start, points.len() as u32))
    }
}

/// The addresses of a condition, as spans that neither touch nor overlap.
fn spans(
    end: &Option<Match<Addresses>>,
    sets: &IndexMap<String, PrefixSet>,
    last: u128,
) -> Vec<(u128, u128)> {
    let Some(end) = end else {
        return vec![(0, last)];
    };
    let mut spans: Vec<(u128, u128)> = match &end.what {
        Addresses::Prefix(prefix) => vec![prefix.span()],
        Addresses::Set(name) => sets
            .get(name)
            .map(|set| set.members.iter().map(|member| member.span()).collect())
            .unwrap_or_default(),
    };
    spans.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (first, until) in spans {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(until),
            _ => joined.push((first, until)),
        }
    }
    if !end.not {
        return joined;
    }
    let mut rest = Vec::new();
    let mut next = Some(0);
    for (first, until) in joined {
        if let Some(next) = next.filter(|next| *next < first) {
            rest.push((next, first - 1));
        }
        next = (until < last).then(|| until + 1);
    }
    rest.extend(next.map(|next| (next, last)));
    rest
}

#[cfg(test)]
mod tests;
