//! Reads the output of `iptables-save`.

use super::ruleset::{Chain, Condition, Effect, Entry, Range, Rule, Table};

/// Chains that packets for this machine pass, and those that replies through it
/// pass after that, by table.
const ENTRIES: [(&str, &[&str], &[&str]); 4] = [
    ("raw", &["PREROUTING"], &[]),
    (
        "mangle",
        &["PREROUTING", "INPUT"],
        &["FORWARD", "POSTROUTING"],
    ),
    ("nat", &["PREROUTING"], &["POSTROUTING"]),
    ("filter", &["INPUT"], &["FORWARD"]),
];

fn entry(table: &str, chain: &str) -> Option<Entry> {
    let (_, input, forward) = ENTRIES.iter().find(|(name, ..)| *name == table)?;
    if input.contains(&chain) {
        Some(Entry::Input)
    } else {
        forward.contains(&chain).then_some(Entry::Forward)
    }
}

/// Whether the text comes from the tool that stores its rules in nf_tables.
pub(super) fn is_nft(text: &str) -> bool {
    text.lines()
        .next()
        .is_some_and(|line| line.contains("(nf_tables)"))
}

/// The tables in `text`, with their names.
pub(super) fn parse(text: &str, v6: bool) -> Vec<(String, Table)> {
    let mut tables: Vec<(String, Table)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            tables.push((
                name.trim().to_owned(),
                Table {
                    v6: Some(v6),
                    ..Table::default()
                },
            ));
        } else if let Some((name, table)) = tables.last_mut() {
            if let Some(declared) = line.strip_prefix(':') {
                declare(name, table, declared);
            } else {
                append(table, line);
            }
        }
    }
    // A target is a jump only if it is the name of a chain, which may be declared later.
    for (_, table) in &mut tables {
        let names: Vec<String> = table.chains.keys().cloned().collect();
        for rule in table.chains.values_mut().flat_map(|chain| &mut chain.rules) {
            if let Effect::Does(target) = &rule.effect
                && names.contains(target)
            {
                rule.effect = Effect::Jump(target.clone());
            }
        }
    }
    tables
}

/// `:INPUT DROP [0:0]`
fn declare(table_name: &str, table: &mut Table, line: &str) {
    let mut words = line.split_whitespace();
    let (Some(name), Some(policy)) = (words.next(), words.next()) else {
        return;
    };
    let chain = Chain {
        // `iptables -L` without a table means filter.
        label: if table_name == "filter" {
            name.to_owned()
        } else {
            format!("{table_name} {name}")
        },
        policy: (policy != "-" && policy != "ACCEPT").then(|| policy.to_owned()),
        entry: entry(table_name, name),
        rules: Vec::new(),
    };
    table.chains.insert(name.to_owned(), chain);
}

/// `-A INPUT -s 203.0.113.7/32 -j DROP`, with counters in brackets before it or not
fn append(table: &mut Table, line: &str) {
    let line = match line.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(_, rule)| rule),
        None => line,
    };
    let words = words(line);
    let mut words = words.iter().map(String::as_str);
    if words.next() != Some("-A") {
        return;
    }
    let Some(chain) = words.next().and_then(|name| table.chains.get_mut(name)) else {
        return;
    };
    let mut rule = Rule {
        conditions: Vec::new(),
        effect: Effect::None,
        from: String::new(),
    };
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        option(&mut rule, word, negated, &mut words);
        negated = false;
    }
    chain.rules.push(rule);
}

fn option<'a>(
    rule: &mut Rule,
    name: &str,
    negated: bool,
    values: &mut impl Iterator<Item = &'a str>,
) {
    let mut value = || values.next().unwrap_or_default();
    match name {
        "-d" | "--dst-range" => {
            if let Some(range) = Range::parse(value()) {
                rule.conditions.push(Condition::Destination {
                    ranges: vec![range],
                    negated,
                });
            }
        }
        "-s" | "--src-range" => {
            let source = value();
            rule.from = from(source, negated);
            rule.conditions
                .extend(Range::parse(source).map(|range| Condition::Source {
                    ranges: vec![range],
                    negated,
                }));
        }
        "--match-set" => {
            let (set, direction) = (value(), value());
            if direction.starts_with("src") {
                rule.from = from(&format!("@{set}"), negated);
            }
        }
        "-i" => {
            rule.conditions.push(Condition::Input {
                patterns: vec![value().to_owned()],
                negated,
            });
        }
        "-p" => {
            let taken = ["tcp", "6", "udp", "17", "all", "0"].contains(&value());
            if !taken && !negated {
                rule.conditions.push(Condition::Never);
            }
        }
        "-j" | "-g" => {
            rule.effect = match value() {
                "ACCEPT" | "RETURN" => Effect::None,
                target => Effect::Does(target.to_owned()),
            };
        }
        _ => {}
    }
}

fn from(source: &str, negated: bool) -> String {
    let host = source.strip_suffix(if source.contains(':') { "/128" } else { "/32" });
    format!(
        "{}from {}",
        if negated { "not " } else { "" },
        host.unwrap_or(source)
    )
}

/// Splits at spaces outside double quotes; a backslash quotes one character.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
