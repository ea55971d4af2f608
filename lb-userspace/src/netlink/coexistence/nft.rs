//! Reads the output of `nft -j list ruleset`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ruleset::{Chain, Condition, Effect, Entry, Range, Rule, Table};

/// Hooks that packets for this machine pass, and those that replies through it
/// pass after that.
fn entry(hook: &str) -> Option<Entry> {
    match hook {
        "ingress" | "prerouting" | "input" => Some(Entry::Input),
        "forward" | "postrouting" => Some(Entry::Forward),
        _ => None,
    }
}

/// Elements of an anonymous set that a sentence shows.
const SHOWN: usize = 3;

/// The tables in `text`, but for those (by family and name) in `covered`. What
/// is not JSON has none.
pub(super) fn parse(text: &str, covered: &BTreeSet<(String, String)>) -> Vec<Table> {
    let Ok(Value::Object(root)) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let mut tables: BTreeMap<(String, String), Table> = BTreeMap::new();
    for object in root
        .get("nftables")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let (chain, rule) = (&object["chain"], &object["rule"]);
        let item = if chain.is_object() { chain } else { rule };
        let place = (word(item, "family"), word(item, "table"));
        let v6 = match place.0.as_str() {
            "inet" | "netdev" => None,
            "ip" => Some(false),
            "ip6" => Some(true),
            _ => continue,
        };
        if covered.contains(&place) {
            continue;
        }
        let label = format!("{} {} ", place.0, place.1);
        let table = tables.entry(place).or_insert_with(|| Table {
            v6,
            ..Table::default()
        });
        if chain.is_object() {
            let name = word(chain, "name");
            let policy = word(chain, "policy");
            let chain = Chain {
                label: label + &name,
                policy: (policy == "drop").then_some(policy),
                entry: entry(&word(chain, "hook")),
                rules: Vec::new(),
            };
            table.chains.insert(name, chain);
        } else if let Some(chain) = table.chains.get_mut(&word(rule, "chain")) {
            chain
                .rules
                .push(read(rule["expr"].as_array().map_or(&[], Vec::as_slice)));
        }
    }
    tables.into_values().collect()
}

fn word(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

fn read(statements: &[Value]) -> Rule {
    let mut rule = Rule {
        conditions: Vec::new(),
        effect: Effect::None,
        from: String::new(),
    };
    for (name, body) in statements.iter().filter_map(Value::as_object).flatten() {
        let effect = match name.as_str() {
            "match" => {
                condition(&mut rule, body);
                continue;
            }
            "accept" | "return" | "continue" | "counter" | "limit" | "quota" | "last"
            | "ct count" | "comment" => continue,
            "xt" if body["type"] != "target" => continue,
            "jump" | "goto" => Effect::Jump(word(body, "target")),
            "xt" => Effect::Does(word(body, "name")),
            "mangle" => Effect::Does(format!("set {}", mangled(&body["key"]))),
            other => Effect::Does(other.to_owned()),
        };
        // The last statement decides: `log … drop` drops.
        rule.effect = effect;
    }
    rule
}

/// `{"meta": {"key": "mark"}}` is `mark`, `{"payload": {"field": "ttl"}}` is `ttl`.
fn mangled(key: &Value) -> String {
    let inner = key
        .as_object()
        .and_then(|object| object.values().next())
        .unwrap_or(&Value::Null);
    inner["key"]
        .as_str()
        .or(inner["field"].as_str())
        .unwrap_or("fields")
        .to_owned()
}

fn condition(rule: &mut Rule, body: &Value) {
    let (left, right) = (&body["left"], &body["right"]);
    let negated = body["op"] == "!=";
    let payload = &left["payload"];
    match (payload["protocol"].as_str(), payload["field"].as_str()) {
        (Some(family @ ("ip" | "ip6")), field) => {
            rule.conditions.push(Condition::Family {
                v6: family == "ip6",
            });
            match field {
                Some("daddr") => {
                    if let Some(ranges) = ranges(right) {
                        rule.conditions
                            .push(Condition::Destination { ranges, negated });
                    }
                }
                Some("saddr") => {
                    rule.from =
                        format!("{}from {}", if negated { "not " } else { "" }, show(right));
                    let source = ranges(right);
                    let source = source.map(|ranges| Condition::Source { ranges, negated });
                    rule.conditions.extend(source);
                }
                _ => {}
            }
        }
        (Some("icmp" | "icmpv6" | "igmp" | "esp" | "ah"), _) => {
            rule.conditions.push(Condition::Never)
        }
        _ => {}
    }
    let patterns = || {
        elements(right)
            .iter()
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect()
    };
    match left["meta"]["key"].as_str() {
        Some("iif" | "iifname") if !names_set(right) => {
            rule.conditions.push(Condition::Input {
                patterns: patterns(),
                negated,
            });
        }
        Some("l4proto") if !negated && !names_set(right) => {
            let list: Vec<String> = patterns();
            if !list
                .iter()
                .any(|protocol| ["tcp", "6", "udp", "17"].contains(&protocol.as_str()))
            {
                rule.conditions.push(Condition::Never);
            }
        }
        Some("nfproto") if !negated => match right.as_str() {
            Some("ipv4") => rule.conditions.push(Condition::Family { v6: false }),
            Some("ipv6") => rule.conditions.push(Condition::Family { v6: true }),
            _ => {}
        },
        _ => {}
    }
}

/// `"@bad"`: a set whose elements are elsewhere.
fn names_set(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with('@'))
}

/// The elements of an anonymous set, or the value itself.
fn elements(value: &Value) -> Vec<&Value> {
    match value["set"].as_array().or(value.as_array()) {
        Some(list) => list
            .iter()
            .map(|one| one.get("elem").map_or(one, |elem| &elem["val"]))
            .collect(),
        None => vec![value],
    }
}

/// The addresses of a value; `None` if any of them is not understood.
fn ranges(value: &Value) -> Option<Vec<Range>> {
    elements(value)
        .into_iter()
        .map(|one| Range::parse(&show(one)))
        .collect()
}

fn show(value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    if let (Some(address), Some(length)) = (
        value["prefix"]["addr"].as_str(),
        value["prefix"]["len"].as_u64(),
    ) {
        return format!("{address}/{length}");
    }
    if let [Value::String(first), Value::String(last)] =
        value["range"].as_array().map_or(&[][..], Vec::as_slice)
    {
        return format!("{first}-{last}");
    }
    match elements(value).as_slice() {
        [one] if *one == value => value.to_string(),
        list => {
            let mut shown: Vec<String> = list.iter().take(SHOWN).map(|one| show(one)).collect();
            if list.len() > SHOWN {
                shown.push(format!("… ({})", list.len()));
            }
            shown.join(", ")
        }
    }
}
