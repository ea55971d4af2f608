//! Rules as text.

use std::fmt::Write as _;

use crate::model::{Addresses, Chain, Family, ListedRule, Match, Ports, Rule, Target};

/// The rule as `-S` prints it and `-A` reads it.
pub fn words(rule: &Rule) -> String {
    let mut out = String::new();
    let mut family_is_told = false;
    for (end, letter, side) in [(&rule.src, 's', "src"), (&rule.dst, 'd', "dst")] {
        // Writing to a string does not fail.
        let _ = match end {
            Some(Match {
                not,
                what: Addresses::Prefix(prefix),
            }) => {
                family_is_told = true;
                write!(out, "{} -{letter} {prefix}", bang(*not))
            }
            Some(Match {
                not,
                what: Addresses::Set(name),
            }) => write!(
                out,
                " -m set{} --match-set {} {side}",
                bang(*not),
                named(name)
            ),
            None => Ok(()),
        };
    }
    if !family_is_told && rule.family == Family::V6 {
        out.insert_str(0, " -6");
    }
    if let Some(iface) = &rule.iface {
        let _ = write!(out, "{} -i {}", bang(iface.not), named(&iface.what));
    }
    let protocol = rule.protocol.as_ref().map(|protocol| {
        let name = protocol_name(protocol.what);
        let _ = write!(out, "{} -p {name}", bang(protocol.not));
        name
    });
    let all = [
        ("sport", &rule.sports),
        ("dport", &rule.dports),
        ("port", &rule.ports),
    ];
    for (option, ports) in all {
        let Some(ports) = ports else { continue };
        let module = if ports.what.list {
            "multiport"
        } else {
            protocol.unwrap_or("tcp")
        };
        let plural = if ports.what.list { "s" } else { "" };
        let _ = write!(
            out,
            " -m {module}{} --{option}{plural} {}",
            bang(ports.not),
            port_list(&ports.what)
        );
    }
    if let Some(comment) = &rule.comment {
        let _ = write!(out, " -m comment --comment {}", quoted(comment));
    }
    let _ = match rule.target {
        Target::Mark { flip, clear } => {
            write!(out, " -j MARK --set-xmark {flip:#x}/{clear:#x}")
        }
        Target::Drop => write!(out, " -j DROP"),
        Target::Accept => write!(out, " -j ACCEPT"),
    };
    out.remove(0);
    out
}

/// `-S`: the commands that make these rules.
pub fn save(rules: &[ListedRule]) -> String {
    let lines = rules.iter();
    lines
        .map(|listed| format!("-A {}\n", words(&listed.rule)))
        .collect()
}

/// `-L`: a table, with the counters where they are asked for.
pub fn list(chain: Chain, rules: &[ListedRule], verbose: bool) -> String {
    let mut out = String::new();
    for (family, name) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        let rules: Vec<_> = rules
            .iter()
            .filter(|listed| listed.rule.family == family)
            .collect();
        if rules.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = writeln!(out, "Chain {} ({name})", chain.name());
        let counters = verbose && chain == Chain::Filter;
        let titles = if counters { "    pkts    bytes " } else { "" };
        let _ = writeln!(
            out,
            "num  {titles}target  prot  {:<20} destination",
            "source"
        );
        for (listed, number) in rules.into_iter().zip(1..) {
            let rule = &listed.rule;
            let [packets, bytes] = listed.count;
            let counters = if counters {
                format!("{packets:>8} {bytes:>8} ")
            } else {
                String::new()
            };
            let target = match rule.target {
                Target::Mark { .. } => "MARK",
                Target::Drop => "DROP",
                Target::Accept => "ACCEPT",
            };
            let protocol = match &rule.protocol {
                Some(Match { not, what }) => {
                    format!("{}{}", if *not { "!" } else { "" }, protocol_name(*what))
                }
                None => "all".into(),
            };
            let line = format!(
                "{number:<4} {counters}{target:<7} {protocol:<5} {:<20} {:<20}{}",
                end(&rule.src, family),
                end(&rule.dst, family),
                rest(rule)
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    out
}

fn end(end: &Option<Match<Addresses>>, family: Family) -> String {
    match end {
        None if family == Family::V4 => "0.0.0.0/0".into(),
        None => "::/0".into(),
        Some(Match { not, what }) => {
            let what = match what {
                Addresses::Prefix(prefix) if prefix.host_bits() == 0 => prefix.addr().to_string(),
                Addresses::Prefix(prefix) => prefix.to_string(),
                Addresses::Set(name) => format!("set:{name}"),
            };
            format!("{}{what}", if *not { "!" } else { "" })
        }
    }
}

/// What has no column.
fn rest(rule: &Rule) -> String {
    let mut out = String::new();
    if let Some(iface) = &rule.iface {
        let _ = write!(
            out,
            " in {}{}",
            if iface.not { "!" } else { "" },
            iface.what
        );
    }
    let all = [
        ("spt", &rule.sports),
        ("dpt", &rule.dports),
        ("port", &rule.ports),
    ];
    for (name, ports) in all {
        if let Some(ports) = ports {
            let not = if ports.not { "!" } else { "" };
            let _ = write!(out, " {name}:{not}{}", port_list(&ports.what));
        }
    }
    if let Target::Mark { flip, clear } = rule.target {
        let _ = match clear {
            u32::MAX => write!(out, " MARK set {flip:#x}"),
            clear => write!(out, " MARK xset {flip:#x}/{clear:#x}"),
        };
    }
    if let Some(comment) = &rule.comment {
        let _ = write!(out, " /* {comment} */");
    }
    out
}

fn bang(not: bool) -> &'static str {
    if not { " !" } else { "" }
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        6 => "tcp",
        17 => "udp",
        _ => "sctp",
    }
}

fn port_list(ports: &Ports) -> String {
    let items = ports.ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}:{last}")
        }
    });
    items.collect::<Vec<_>>().join(",")
}

/// A name: as it is, but for what would make other words of it.
fn named(name: &str) -> String {
    let special = |c: char| c.is_whitespace() || matches!(c, '"' | '\\');
    if name.is_empty() || name.contains(special) {
        quoted(name)
    } else {
        name.to_owned()
    }
}

/// A word in quotes, as `iptables-save` writes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
