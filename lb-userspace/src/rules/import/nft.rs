//! `nft -j list ruleset`.

use serde_json::Value;

use super::{Imported, ipset::prefixes, ipset::sorted};
use crate::model::{Addresses, Family, Match, Ports, Prefix, PrefixSet, Rule, Target};

fn objects(text: &str) -> Result<Vec<Value>, String> {
    let root: Value =
        serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    match &root["nftables"] {
        Value::Array(objects) => Ok(objects.clone()),
        _ => Err("this is not the output of 'nft -j list ruleset'".into()),
    }
}

fn word<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

/// Takes the rules that set the mark in chains of the prerouting hook, by the
/// chains' priority.
pub(super) fn marks(text: &str) -> Result<Imported, String> {
    let objects = objects(text)?;
    let place = |object: &Value, name: &str| {
        [
            word(object, "family"),
            word(object, "table"),
            word(object, name),
        ]
        .map(str::to_owned)
    };
    let mut chains: Vec<(i64, [String; 3])> = objects
        .iter()
        .map(|object| &object["chain"])
        .filter(|chain| word(chain, "hook") == "prerouting" && word(chain, "type") == "filter")
        .map(|chain| (chain["prio"].as_i64().unwrap_or(0), place(chain, "name")))
        .collect();
    chains.sort_by_key(|(priority, _)| *priority);
    let mut result = Imported::default();
    let rules = |of: &[String; 3]| {
        let of = of.clone();
        objects
            .iter()
            .map(|object| &object["rule"])
            .filter(move |rule| rule.is_object() && place(rule, "chain") == of)
    };
    for (_, chain) in &chains {
        for rule in rules(chain) {
            let families: &[Family] = match chain[0].as_str() {
                "ip" => &[Family::V4],
                "ip6" => &[Family::V6],
                "inet" => &[Family::V4, Family::V6],
                _ => continue,
            };
            let label = format!("{} handle {}", chain.join(" "), rule["handle"]);
            match read(rule, families) {
                Ok(rules) => result.rules.extend(rules),
                Err(why) => result.left.push(format!("{label}: {why}")),
            }
        }
    }
    Ok(result)
}

/// The rules that one of nft's stands for; none when it has nothing to do with
/// marks.
fn read(rule: &Value, families: &[Family]) -> Result<Vec<Rule>, String> {
    let statements = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
    let sets_mark = statements.iter().any(|one| is_mark(&one["mangle"]["key"]));
    let ends = [
        "accept", "drop", "return", "jump", "goto", "reject", "queue",
    ];
    if let Some(end) = ends
        .iter()
        .find(|name| statements.iter().any(|one| one.get(**name).is_some()))
    {
        if statements.len() == 1 && *end == "accept" || !sets_mark && *end == "reject" {
            return Ok(Vec::new());
        }
        return Err(format!(
            "`{end}' has some packets pass the rules behind it, or meet others, which mark rules here cannot say"
        ));
    }
    if !sets_mark {
        return Ok(Vec::new());
    }
    let mut draft = Draft {
        families: families.to_vec(),
        rule: Rule::of(Family::V4, Target::Drop),
    };
    let mut marked = false;
    for statement in statements {
        let Some((name, body)) = statement.as_object().and_then(|one| one.iter().next()) else {
            continue;
        };
        match name.as_str() {
            "counter" | "comment" | "log" => {}
            "match" if marked => return Err("a condition behind the mark".into()),
            "match" => draft.condition(body)?,
            "mangle" if is_mark(&body["key"]) && !marked => {
                draft.rule.target = mark(&body["value"])?;
                marked = true;
            }
            other => return Err(format!("`{other}' is not known here")),
        }
    }
    draft.rule.comment = rule["comment"].as_str().map(str::to_owned);
    Ok(draft.rules())
}

fn is_mark(key: &Value) -> bool {
    word(&key["meta"], "key") == "mark"
}

/// `5`, or the mark with bits taken off, set or inverted: `{"|": [{"&": [mark,
/// 4294967040]}, 3]}`.
fn mark(value: &Value) -> Result<Target, String> {
    // What becomes of the mark, as bits that stay and bits that are inverted.
    fn effect(value: &Value) -> Option<(u32, u32)> {
        if is_mark(value) {
            return Some((u32::MAX, 0));
        }
        if let Some(number) = value.as_u64() {
            return Some((0, u32::try_from(number).ok()?));
        }
        let (operator, operands) = value.as_object()?.iter().next()?;
        let operands = operands.as_array()?;
        let (first, rest) = operands.split_first()?;
        let mut result = effect(first)?;
        for operand in rest {
            let bits = u32::try_from(operand.as_u64()?).ok()?;
            let (keep, flip) = result;
            result = match operator.as_str() {
                "&" => (keep & bits, flip & bits),
                "|" => (keep & !bits, (flip & !bits) | bits),
                "^" => (keep, flip ^ bits),
                _ => return None,
            };
        }
        Some(result)
    }
    effect(value)
        .map(|(keep, flip)| Target::Mark { flip, clear: !keep })
        .ok_or_else(|| "the value of the mark is not known here".into())
}

/// A rule on its way.
struct Draft {
    families: Vec<Family>,
    rule: Rule,
}

/// The items of a right-hand side.
fn items(right: &Value) -> Vec<&Value> {
    match &right["set"] {
        Value::Array(items) => items.iter().collect(),
        _ => vec![right],
    }
}

impl Draft {
    fn only(&mut self, family: Family) -> Result<(), String> {
        self.families.retain(|known| *known == family);
        if self.families.is_empty() {
            return Err("no packet is of both families".into());
        }
        Ok(())
    }

    fn condition(&mut self, body: &Value) -> Result<(), String> {
        let unknown = || Err("a condition is not known here".to_owned());
        let not = match word(body, "op") {
            "==" | "in" | "" => false,
            "!=" => true,
            _ => return unknown(),
        };
        let (left, right) = (&body["left"], &body["right"]);
        let payload = &left["payload"];
        let (protocol, field) = (word(payload, "protocol"), word(payload, "field"));
        match (protocol, field) {
            ("ip" | "ip6", "saddr" | "daddr") => {
                let family = if protocol == "ip" {
                    Family::V4
                } else {
                    Family::V6
                };
                self.only(family)?;
                let end = if field == "saddr" {
                    &mut self.rule.src
                } else {
                    &mut self.rule.dst
                };
                let what = addresses(right)?;
                if end.replace(Match { not, what }).is_some() {
                    return Err("two conditions for one address".into());
                }
            }
            ("ip" | "ip6", "protocol" | "nexthdr") => {
                let family = if protocol == "ip" {
                    Family::V4
                } else {
                    Family::V6
                };
                self.only(family)?;
                self.protocol(not, right)?;
            }
            ("tcp" | "udp" | "sctp" | "th", "sport" | "dport") => {
                if protocol != "th" {
                    self.protocol(false, &Value::from(protocol))?;
                }
                if self.rule.protocol.is_none() {
                    return Err("ports without a protocol".into());
                }
                let ranges = ports(right)?;
                let list = ranges.len() > 1;
                let what = Ports { ranges, list };
                let end = if field == "sport" {
                    &mut self.rule.sports
                } else {
                    &mut self.rule.dports
                };
                if end.replace(Match { not, what }).is_some() {
                    return Err("two conditions for one port".into());
                }
            }
            ("", "") => match word(&left["meta"], "key") {
                "l4proto" => self.protocol(not, right)?,
                "nfproto" if !not => self.only(match right.as_str() {
                    Some("ipv4") => Family::V4,
                    Some("ipv6") => Family::V6,
                    _ => return unknown(),
                })?,
                "iifname" | "iif" => {
                    let Some(name) = right.as_str() else {
                        return unknown();
                    };
                    let what = match name.strip_suffix('*') {
                        Some(start) => format!("{start}+"),
                        None => name.to_owned(),
                    };
                    self.rule.iface = Some(Match { not, what });
                }
                _ => return unknown(),
            },
            _ => return unknown(),
        }
        Ok(())
    }

    fn protocol(&mut self, not: bool, right: &Value) -> Result<(), String> {
        let what = match (right.as_str(), right.as_u64()) {
            (Some("tcp"), _) | (_, Some(6)) => 6,
            (Some("udp"), _) | (_, Some(17)) => 17,
            (Some("sctp"), _) | (_, Some(132)) => 132,
            _ => return Err("services are of tcp, udp and sctp".into()),
        };
        let new = Match { not, what };
        match &self.rule.protocol {
            Some(known) if *known != new => Err("two protocols".into()),
            _ => {
                self.rule.protocol = Some(new);
                Ok(())
            }
        }
    }

    fn rules(self) -> Vec<Rule> {
        let Self { families, rule } = self;
        let each = families.into_iter();
        each.map(|family| Rule {
            family,
            ..rule.clone()
        })
        .collect()
    }
}

fn prefix(value: &Value) -> Option<Prefix> {
    if let Some(text) = value.as_str() {
        return text.parse().ok();
    }
    let prefix = &value["prefix"];
    let len = u8::try_from(prefix["len"].as_u64()?).ok()?;
    Prefix::new(word(prefix, "addr").parse().ok()?, len)
}

/// One prefix: sets of them have names here.
fn addresses(right: &Value) -> Result<Addresses, String> {
    if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
        return Ok(Addresses::Set(name.to_owned()));
    }
    match items(right).as_slice() {
        [one] => prefix(one)
            .map(Addresses::Prefix)
            .ok_or_else(|| "an address is not known here".into()),
        _ => Err(
            "several addresses in one rule: make a set of them ('lvx filter set'), or a rule each"
                .into(),
        ),
    }
}

fn ports(right: &Value) -> Result<Vec<(u16, u16)>, String> {
    let one = |value: &Value| -> Option<(u16, u16)> {
        let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
        if let Some(port) = port(value) {
            return Some((port, port));
        }
        let range = value["range"].as_array()?;
        match range.as_slice() {
            [first, last] => Some((port(first)?, port(last)?)),
            _ => None,
        }
    };
    let ranges: Option<Vec<_>> = items(right).into_iter().map(one).collect();
    ranges
        .filter(|ranges| !ranges.is_empty())
        .ok_or_else(|| "a port is not known here".into())
}

/// Takes named sets of addresses.
pub(super) fn sets(text: &str) -> Result<(Vec<PrefixSet>, Vec<String>), String> {
    let mut sets = Vec::new();
    let mut left = Vec::new();
    for object in objects(text)? {
        let set = &object["set"];
        if !set.is_object() {
            continue;
        }
        let name = word(set, "name").to_owned();
        let protocol = match word(set, "type") {
            "ipv4_addr" => Family::V4,
            "ipv6_addr" => Family::V6,
            _ => {
                left.push(format!("set {name}: not a set of addresses"));
                continue;
            }
        };
        let mut members = Vec::new();
        for element in set["elem"].as_array().into_iter().flatten() {
            let value = match &element["elem"] {
                Value::Object(inner) => inner.get("val").unwrap_or(&Value::Null),
                _ => element,
            };
            let range = value["range"].as_array().map(Vec::as_slice);
            match (prefix(value), range) {
                (Some(prefix), _) => members.push(prefix),
                (None, Some([first, last])) => match (prefix(first), prefix(last)) {
                    (Some(first), Some(last)) => members.extend(prefixes(first, last)),
                    _ => left.push(format!("set {name}: {value}: not a range of addresses")),
                },
                _ => left.push(format!("set {name}: {value}: not an address")),
            }
        }
        sets.push(sorted(PrefixSet {
            name,
            family: protocol,
            members,
        }));
    }
    Ok((sets, left))
}
