//! Variants of one service in one crowded file: so a boot compares dozens of
//! tries for hardly more than one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::Result;

use super::{cell::vip, cells_of, is_cell};

/// Compares texts, those of one service that share listings, waits and servers
/// in one file. `compare` is as [`super::shrink`] takes it.
///
/// # Errors
/// When comparing fails.
pub fn merged(
    texts: &[(String, String)],
    compare: impl FnOnce(&[(String, String)]) -> Result<Vec<String>>,
) -> Result<Vec<String>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, (_, text)) in texts.iter().enumerate() {
        groups.entry(shared(text)).or_default().push(place);
    }
    let mut files = Vec::new();
    for (number, members) in groups.values().enumerate() {
        files.push(match members[..] {
            [place] => texts[place].clone(),
            _ => {
                let members: Vec<_> = members
                    .iter()
                    .map(|place| texts[*place].1.as_str())
                    .collect();
                (format!("merged-{number}"), merge(&members))
            }
        });
    }
    let mut results = vec![String::new(); texts.len()];
    for (members, found) in groups.values().zip(compare(&files)?) {
        let cells = cells_of(&found);
        for (number, place) in members.iter().enumerate() {
            if members.len() == 1 || cells.contains(&format!("V{number}")) {
                results[*place].clone_from(&found);
            }
        }
    }
    Ok(results)
}

/// What merged texts have in common.
fn shared(text: &str) -> String {
    text.lines()
        .filter(|line| ["snapshot", "wait", "server", "sysctl"].contains(&word(line)))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// One file of variants with the same [`shared`] lines: variant N becomes the
/// service VN with a client of its own.
fn merge(texts: &[&str]) -> String {
    let mut head = String::from("about variants of one service\ncrowded\n");
    let mut servers = BTreeSet::new();
    let mut variants = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        // A string takes every write.
        let ipv6 = text
            .lines()
            .any(|line| line.starts_with("vip ") && line.contains("2001:"));
        let _ = writeln!(head, "vip V{number} {}", vip(number, ipv6));
        let mut runs = vec![Vec::new()];
        for line in text.lines() {
            match word(line) {
                "server" | "sysctl" => {
                    servers.insert(line);
                }
                // Shared lines are where all the variants meet again.
                "snapshot" | "wait" => runs.extend([vec![line.to_owned()], Vec::new()]),
                "tcp" | "udp" | "sctp" | "icmp" | "ipvsadm" | "mark" => {
                    if let Some(run) = runs.last_mut() {
                        run.push(renamed(line, number));
                    }
                }
                _ => {}
            }
        }
        variants.push(runs);
    }
    for server in servers {
        let _ = writeln!(head, "{server}");
    }
    let mut body = String::new();
    for place in 0..variants.first().map_or(0, Vec::len) {
        let parts: Vec<&[String]> = variants.iter().map(|runs| &runs[place][..]).collect();
        if place % 2 == 1 {
            let _ = writeln!(body, "{}", parts[0][0]);
        } else {
            in_step(&mut body, parts);
        }
    }
    head + &body
}

/// All commands that come first, then all packets until the next ones, and so on:
/// changing from one to the other takes a frame.
fn in_step(body: &mut String, mut parts: Vec<&[String]>) {
    let mut commands = true;
    while parts.iter().any(|part| !part.is_empty()) {
        for part in &mut parts {
            let length = part
                .iter()
                .take_while(|line| ["ipvsadm", "mark"].contains(&word(line)) == commands)
                .count();
            let (now, later) = part.split_at(length);
            for line in now {
                // A string takes every write.
                let _ = writeln!(body, "{line}");
            }
            *part = later;
        }
        commands = !commands;
    }
}

/// The line with the service and the client of a variant.
fn renamed(line: &str, number: usize) -> String {
    let mut before = "";
    line.split(' ')
        .map(
            |word| match (std::mem::replace(&mut before, word), word.split_once('/')) {
                // The mark of a cell is its number and one; other values are hexadecimal.
                _ if word.starts_with("0x") => word.to_owned(),
                ("-f" | "--set-mark" | "--or-mark" | "--xor-mark", _) => (number + 1).to_string(),
                ("--set-xmark", Some((_, mask))) => format!("{}/{mask}", number + 1),
                _ => renamed_word(word, number),
            },
        )
        .collect::<Vec<_>>()
        .join(" ")
}

fn renamed_word(word: &str, number: usize) -> String {
    match word.split_once(':') {
        Some((name, port)) if is_cell(name) => format!("V{number}:{port}"),
        Some((address, port)) if address.starts_with("1.2.3.") => {
            format!("1.2.3.{}:{port}", number + 1)
        }
        Some(_) if word.starts_with("[2001:db8:1::") => {
            let (_, port) = word.rsplit_once(':').unwrap_or_default();
            format!("[2001:db8:1::{}]:{port}", number + 1)
        }
        None if is_cell(word) => format!("V{number}"),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    const HEAD: &str = "about x\nserver A 10.8.0.1\nvip V7 10.9.9.8\n";

    #[test]
    fn variants_meet_at_listings_and_waits() {
        let text = |middle: &str| {
            format!(
                "{HEAD}ipvsadm -A -t V7:80 -s rr\ntcp 1.2.3.8:1000 > V7:80 S\n{middle}wait 5s\n\
                 tcp 1.2.3.8:1000 > V7:80 A\n"
            )
        };
        let with = text("ipvsadm -D -t V7:80\ntcp 1.2.3.8:1001 > V7:80 S\n");
        let merged = merge(&[&with, &text("")]);
        let scenario = Scenario::parse("x", "x", &merged).expect("it is right");
        let steps: Vec<_> = scenario
            .steps
            .iter()
            .map(|step| step.text.as_str())
            .collect();
        assert_eq!(
            steps,
            [
                "ipvsadm -A -t V0:80 -s rr",
                "ipvsadm -A -t V1:80 -s rr",
                "tcp 1.2.3.1:1000 > V0:80 S",
                "tcp 1.2.3.2:1000 > V1:80 S",
                "ipvsadm -D -t V0:80",
                "tcp 1.2.3.1:1001 > V0:80 S",
                "wait 5s",
                "tcp 1.2.3.1:1000 > V0:80 A",
                "tcp 1.2.3.2:1000 > V1:80 A",
            ]
        );
    }

    #[test]
    fn a_difference_goes_to_its_variant() {
        let text = |port: u16, more: &str| {
            let text = format!("{HEAD}udp 1.2.3.8:{port} > V7:53\n{more}");
            (format!("try-{port}"), text)
        };
        let texts = [text(1, ""), text(2, "wait 1s\n"), text(3, "")];
        let found = merged(&texts, |files| {
            assert_eq!(files.len(), 2);
            Ok(files
                .iter()
                .map(|(name, _)| {
                    let merged = name.starts_with("merged");
                    let found = "merged-0:5: udp 1.2.3.2:3 > V1:53\n  - x\n";
                    if merged { found } else { "" }.to_owned()
                })
                .collect())
        })
        .expect("it compares");
        let differ: Vec<_> = found.iter().map(|found| !found.is_empty()).collect();
        assert_eq!(differ, [false, false, true]);
    }
}
