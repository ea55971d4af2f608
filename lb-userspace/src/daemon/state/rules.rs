//! Mark and filter rules, and sets, as they are configured.

use std::{collections::BTreeSet, sync::Arc};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{RawStats, Slots, State};
use crate::{
    dataplane::FILTER_RULES,
    model::{
        Chain, Family, ListedRule, Prefix, PrefixSet, Refusal, Rule, RuleChange, ServiceId, Target,
    },
    rules::{Compiled, Destinations, IfaceNames, compile},
};

/// Bytes of a set's name, as in ipset.
const NAME_BYTES: usize = 31;

/// A configured rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ruled {
    rule: Rule,
    /// Of its counters; a mark rule has none.
    #[serde(default)]
    slot: u32,
    /// What the slot had counted before.
    #[serde(default)]
    base: [u64; 2],
}

/// Everything about rules.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    config: Config,
    slots: Slots,
    room: u32,
    ifaces: IfaceNames,
    compiled: Arc<Compiled>,
    /// Connections must be held against the filter.
    purge: bool,
    /// The saved text; empty when it must be written anew.
    text: String,
}

/// What is saved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Config {
    /// Mark rules of IPv4 and IPv6, then filter rules.
    chains: [[Vec<Ruled>; 2]; 2],
    sets: IndexMap<String, PrefixSet>,
    /// Destinations of rules that are gone, while marked connections remain.
    kept: [Destinations; 2],
}

fn six(family: Family) -> usize {
    usize::from(family == Family::V6)
}

impl Config {
    fn chain(&self, chain: Chain, family: Family) -> &[Ruled] {
        &self.chains[chain.kind() as usize][six(family)]
    }

    fn chain_mut(&mut self, chain: Chain, family: Family) -> &mut Vec<Ruled> {
        &mut self.chains[chain.kind() as usize][six(family)]
    }

    fn slots(&self) -> Vec<u32> {
        let filter = self.chains[Chain::Filter.kind() as usize].iter().flatten();
        filter.map(|ruled| ruled.slot).collect()
    }
}

impl Rules {
    pub(super) fn new(room: u32) -> Self {
        Self {
            config: Config::default(),
            slots: Slots::new(FILTER_RULES, []),
            room,
            ifaces: IfaceNames::new(),
            compiled: Arc::default(),
            purge: false,
            text: String::new(),
        }
    }

    /// As it was saved.
    pub(super) fn restore(text: &serde_json::value::RawValue, room: u32) -> anyhow::Result<Self> {
        let config: Config = serde_json::from_str(text.get())?;
        let mut rules = Self::new(room);
        rules.slots = Slots::new(FILTER_RULES, config.slots());
        rules.config = config;
        rules
            .compile()
            .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        // A daemon may have died before it had done so.
        rules.purge = true;
        Ok(rules)
    }

    /// What was saved: mark rules, filter rules and sets.
    pub(super) fn sections(
        text: &serde_json::value::RawValue,
    ) -> anyhow::Result<(Vec<Rule>, Vec<Rule>, Vec<PrefixSet>)> {
        let config: Config = serde_json::from_str(text.get())?;
        let rules = |chain: Chain| {
            let both = config.chains[chain.kind() as usize].iter().flatten();
            both.map(|ruled| ruled.rule.clone()).collect()
        };
        let sets = config.sets.values().cloned().collect();
        Ok((rules(Chain::Mark), rules(Chain::Filter), sets))
    }

    /// The text to be saved.
    pub(super) fn text(&self) -> String {
        if self.text.is_empty() {
            // Plain data: serialization cannot fail.
            serde_json::to_string(&self.config).expect("plain data serializes")
        } else {
            self.text.clone()
        }
    }

    fn compile(&mut self) -> Result<(), Refusal> {
        let config = &self.config;
        let source = |chain, family| {
            let chain = config.chain(chain, family).iter();
            chain.map(|ruled| (&ruled.rule, ruled.slot)).collect()
        };
        let compiled = compile(source, &config.sets, &self.ifaces, self.room)?;
        self.compiled = Arc::new(compiled);
        self.text = String::new();
        self.text = self.text();
        Ok(())
    }

    fn ruled(&mut self, chain: Chain, rule: &Rule, stats: &dyn RawStats) -> Result<Ruled, Refusal> {
        for name in rule.sets() {
            let set = self.config.sets.get(name).ok_or_else(|| no_set(name))?;
            if set.family != rule.family {
                return Err(refuse(format!("the set {name} is of the other family")));
            }
        }
        let fits = matches!(
            (chain, rule.target),
            (Chain::Mark, Target::Mark { .. }) | (Chain::Filter, Target::Drop | Target::Accept)
        );
        if !fits {
            return Err(refuse("a rule of the other chain".into()));
        }
        let slot = match chain {
            Chain::Mark => 0,
            Chain::Filter => self.slots.take().ok_or_else(|| {
                Refusal::Full(format!(
                    "lvx: the filter is full ({FILTER_RULES} rules): a set holds many addresses in one rule"
                ))
            })?,
        };
        let base = match chain {
            Chain::Mark => [0; 2],
            Chain::Filter => stats.rule(slot),
        };
        Ok(Ruled {
            rule: rule.clone(),
            slot,
            base,
        })
    }

    fn put(
        &mut self,
        chain: Chain,
        at: Option<usize>,
        rules: &[Rule],
        stats: &dyn RawStats,
    ) -> Result<(), Refusal> {
        let mut inserted = [0; 2];
        for rule in rules {
            let ruled = self.ruled(chain, rule, stats)?;
            let list = self.config.chain_mut(chain, rule.family);
            match at {
                None => list.push(ruled),
                Some(number) => {
                    let at = number.checked_sub(1).filter(|at| *at <= list.len());
                    let at = at.ok_or_else(|| no_number(number))? + inserted[six(rule.family)];
                    inserted[six(rule.family)] += 1;
                    list.insert(at, ruled);
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, chain: Chain, family: Family, at: usize) {
        let ruled = self.config.chain_mut(chain, family).remove(at);
        if chain == Chain::Filter {
            self.slots.give(ruled.slot);
        }
    }

    fn flush(&mut self, chain: Chain, family: Option<Family>) {
        for family in [Family::V4, Family::V6]
            .into_iter()
            .filter(|one| family.is_none_or(|family| family == *one))
        {
            while !self.config.chain(chain, family).is_empty() {
                let last = self.config.chain(chain, family).len() - 1;
                self.remove(chain, family, last);
            }
        }
    }

    fn set(&mut self, name: &str) -> Result<&mut PrefixSet, Refusal> {
        self.config.sets.get_mut(name).ok_or_else(|| no_set(name))
    }

    fn apply(&mut self, change: &RuleChange, stats: &dyn RawStats) -> Result<(), Refusal> {
        match change {
            RuleChange::Append(chain, rules) => self.put(*chain, None, rules, stats),
            RuleChange::Insert(chain, number, rules) => {
                self.put(*chain, Some(*number), rules, stats)
            }
            RuleChange::Delete(chain, rules) => {
                for rule in rules {
                    let list = self.config.chain(*chain, rule.family).iter();
                    let mut list = list.map(|ruled| &ruled.rule);
                    let at = list
                        .position(|known| known == rule)
                        .ok_or_else(|| refuse("there is no such rule".into()))?;
                    self.remove(*chain, rule.family, at);
                }
                Ok(())
            }
            RuleChange::DeleteNumber(chain, family, number) => {
                let len = self.config.chain(*chain, *family).len();
                let at = number.checked_sub(1).filter(|at| *at < len);
                let at = at.ok_or_else(|| no_number(*number))?;
                self.remove(*chain, *family, at);
                Ok(())
            }
            RuleChange::Flush(chain, family) => {
                self.flush(*chain, *family);
                Ok(())
            }
            RuleChange::Replace(chain, rules) => {
                self.flush(*chain, None);
                self.put(*chain, None, rules, stats)
            }
            RuleChange::CreateSet(name, family) => {
                if self.config.sets.contains_key(name) {
                    return Err(refuse(format!("the set {name} exists")));
                }
                self.fill(name, *family, &[])
            }
            RuleChange::FillSet(name, family, members) => self.fill(name, *family, members),
            RuleChange::AddToSet(name, members) => {
                let set = self.set(name)?;
                let all: Vec<Prefix> = set.members.iter().chain(members).copied().collect();
                let family = set.family;
                self.fill(name, family, &all)
            }
            RuleChange::RemoveFromSet(name, members) => {
                let set = self.set(name)?;
                for member in members {
                    let at = set.members.binary_search(member);
                    let at = at.map_err(|_| refuse(format!("{member} is not in {name}")))?;
                    set.members.remove(at);
                }
                Ok(())
            }
            RuleChange::DestroySet(name) => {
                self.set(name)?;
                let rules = self.config.chains.iter().flatten().flatten();
                if rules
                    .flat_map(|ruled| ruled.rule.sets())
                    .any(|used| used == name)
                {
                    return Err(refuse(format!("a rule asks for the set {name}")));
                }
                self.config.sets.shift_remove(name);
                Ok(())
            }
        }
    }

    fn fill(&mut self, name: &str, family: Family, members: &[Prefix]) -> Result<(), Refusal> {
        let bad = name.is_empty()
            || name.len() > NAME_BYTES
            || name.starts_with(['-', '!'])
            || name.contains(char::is_whitespace);
        if bad {
            return Err(refuse(format!("`{name}' is not a name for a set")));
        }
        if let Some(known) = self.config.sets.get(name)
            && known.family != family
        {
            return Err(refuse(format!("the set {name} is of the other family")));
        }
        if let Some(member) = members.iter().find(|member| member.family() != family) {
            return Err(refuse(format!(
                "{member} is of the other family than the set {name}"
            )));
        }
        let members: BTreeSet<Prefix> = members.iter().copied().collect();
        let set = PrefixSet {
            name: name.to_owned(),
            family,
            members: members.into_iter().collect(),
        };
        self.config.sets.insert(name.to_owned(), set);
        Ok(())
    }

    fn drops(&self) -> bool {
        let filter = self.config.chains[Chain::Filter.kind() as usize].iter();
        filter
            .flatten()
            .any(|ruled| ruled.rule.target == Target::Drop)
    }
}

impl State {
    pub(super) fn change_rules(
        &mut self,
        change: &RuleChange,
        stats: &dyn RawStats,
    ) -> Result<(), Refusal> {
        let mut rules = self.rules.clone();
        rules.apply(change, stats)?;
        // What rules no longer name may still have connections.
        for (kept, old) in rules
            .config
            .kept
            .iter_mut()
            .zip(&self.rules.compiled.destinations)
        {
            kept.add(old);
        }
        rules.compile()?;
        rules.purge |= rules.drops();
        self.rules = rules;
        self.dirty = true;
        Ok(())
    }

    /// Rules as packets are to read them.
    pub fn compiled_rules(&self) -> Arc<Compiled> {
        self.rules.compiled.clone()
    }

    /// Takes note of which frames come in by which interface; a rule may name one.
    pub fn see_ifaces(&mut self, ifaces: &IfaceNames) {
        if self.rules.ifaces == *ifaces {
            return;
        }
        self.rules.ifaces.clone_from(ifaces);
        if self.rules.compiled.asks_iface {
            // More interfaces may take more room.
            if let Err(refusal) = self.rules.compile() {
                tracing::error!("rules that name interfaces keep those they had: {refusal}");
            }
            self.dirty = true;
        }
    }

    /// Destinations that packets with a mark may have; none without mark
    /// services and what is left of them.
    pub fn marked(&self, family: Family) -> Destinations {
        let is_marked =
            |id: &ServiceId| matches!(id, ServiceId::Mark { .. }) && id.family() == family;
        let mut result = Destinations::default();
        if self.services.keys().any(is_marked) {
            result.add(&self.rules.compiled.destinations[six(family)]);
        }
        if self
            .trash
            .dests()
            .any(|trashed| is_marked(&trashed.service))
            || self.services.keys().any(is_marked)
        {
            result.add(&self.rules.config.kept[six(family)]);
            result.add(&self.rules.compiled.destinations[six(family)]);
        }
        result
    }

    /// Whether packets of a family without a connection have to be held against
    /// rules.
    pub fn has_rules(&self, family: Family) -> bool {
        let six = six(family);
        let marks = self.rules.compiled.marks[six]
            && self
                .services
                .keys()
                .any(|id| matches!(id, ServiceId::Mark { .. }) && id.family() == family);
        marks || self.rules.compiled.filters[six]
    }

    /// Forgets destinations that only rules named which are gone, when no
    /// connection of a mark is left.
    pub(super) fn forget_marked(&mut self, references: impl Fn(u32) -> u64) {
        for family in [Family::V4, Family::V6] {
            if self.rules.config.kept[six(family)] == Destinations::default() {
                continue;
            }
            let mine =
                |id: &ServiceId| matches!(id, ServiceId::Mark { .. }) && id.family() == family;
            let nodes = self.services.iter().filter(|(id, _)| mine(id));
            let nodes = nodes.flat_map(|(_, service)| service.dests.iter().map(|node| node.slot));
            let trash = self.trash.dests().filter(|one| mine(&one.service));
            let mut slots = nodes.chain(trash.map(|trashed| trashed.slot));
            if slots.all(|slot| references(slot) == 0) {
                self.rules.config.kept[six(family)] = Destinations::default();
                self.rules.text.clear();
                self.dirty = true;
            }
        }
    }

    /// Whether connections must be held against the filter; once.
    pub fn take_purge(&mut self) -> bool {
        std::mem::take(&mut self.rules.purge) && self.rules.drops()
    }

    /// The rules of a chain, IPv4's first.
    pub fn list_rules(&self, chain: Chain, stats: &dyn RawStats) -> Vec<ListedRule> {
        let families = [Family::V4, Family::V6].into_iter();
        let rules = families.flat_map(|family| self.rules.config.chain(chain, family));
        let listed = rules.map(|ruled| {
            let count = match chain {
                Chain::Mark => [0; 2],
                Chain::Filter => {
                    let [packets, bytes] = stats.rule(ruled.slot);
                    [
                        packets.wrapping_sub(ruled.base[0]),
                        bytes.wrapping_sub(ruled.base[1]),
                    ]
                }
            };
            ListedRule {
                rule: ruled.rule.clone(),
                count,
            }
        });
        listed.collect()
    }

    /// All sets.
    pub fn list_sets(&self) -> Vec<PrefixSet> {
        self.rules.config.sets.values().cloned().collect()
    }

    /// No packet counts any more for rules that were given up.
    pub(super) fn settle_rules(&mut self) {
        self.rules.slots.settle();
    }
}

fn refuse(text: String) -> Refusal {
    Refusal::Other(format!("lvx: {text}"))
}

fn no_set(name: &str) -> Refusal {
    refuse(format!(
        "there is no set {name}: 'lvx filter set create {name}' makes it"
    ))
}

fn no_number(number: usize) -> Refusal {
    refuse(format!("there is no rule {number}"))
}
