//! A difference made small: one service of those that differ, with as few lines
//! as comparing again and again finds out.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{cells_of, only};
use crate::scenario::Scenario;

/// Comparisons at most, for each kind of lines; each may be a boot.
const ROUNDS: usize = 10;
/// Services that are tried.
const CANDIDATES: usize = 8;
/// Texts that are compared at a time.
const TRIES: usize = 40;

/// What shrinking came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The scenario.
    pub text: String,
    /// Whether it is one service alone; otherwise it is the whole file, because
    /// no service differs without the others.
    pub alone: bool,
    /// How often texts were compared.
    pub rounds: usize,
}

/// Makes a generated file small that has these differences. `compare` gets names
/// and texts, and says what differs for each: an empty text when nothing does.
///
/// # Errors
/// When comparing fails.
pub fn shrink(
    text: &str,
    differences: &str,
    mut compare: impl FnMut(&[(String, String)]) -> Result<Vec<String>>,
) -> Result<Found> {
    let mut rounds = 0;
    let mut first_that_differs = |texts: Vec<String>| -> Result<Option<String>> {
        let named: Vec<_> = texts
            .into_iter()
            .enumerate()
            .map(|(number, text)| (format!("try-{number}"), text))
            .filter(|(name, text)| Scenario::parse(name, name, text).is_ok())
            .collect();
        if named.is_empty() {
            return Ok(None);
        }
        rounds += 1;
        let found = compare(&named)?;
        let differs = found.iter().position(|found| !found.is_empty());
        Ok(differs.map(|place| named[place].1.clone()))
    };
    let firsts = firsts(differences);
    // What comes after the first difference has no part in it.
    let candidates = |cut: bool| {
        firsts
            .iter()
            .map(|(line, cell)| alone(text, cell, if cut { *line } else { usize::MAX }))
            .collect()
    };
    let mut small = first_that_differs(candidates(true))?;
    if small.is_none() {
        small = first_that_differs(candidates(false))?;
    }
    let Some(mut small) = small else {
        return Ok(Found {
            text: text.to_owned(),
            alone: false,
            rounds,
        });
    };
    // Those that share the other lines are compared in one go, see `merged`.
    for words in [
        &["tcp", "udp", "sctp", "icmp", "ipvsadm"][..],
        &["snapshot", "wait"],
    ] {
        let mut part = usize::MAX;
        for _ in 0..ROUNDS {
            let (tries, next) = tries(&small, words, part);
            match first_that_differs(tries)? {
                Some(smaller) => small = smaller,
                None if next == 0 => break,
                None => part = next,
            }
        }
    }
    Ok(Found {
        text: without_unused(&small),
        alone: true,
        rounds,
    })
}

/// The services that differ, and the line of the first difference of each, those
/// with the earliest ones.
fn firsts(differences: &str) -> Vec<(usize, String)> {
    let mut firsts: BTreeMap<String, usize> = BTreeMap::new();
    let mut rest = differences;
    while !rest.is_empty() {
        // A step and what differs there, which is indented.
        let end = rest
            .match_indices('\n')
            .map(|(place, _)| place + 1)
            .find(|place| !rest[*place..].starts_with(' '))
            .unwrap_or(rest.len());
        let (step, others) = rest.split_at(end);
        let line = step.split(':').nth(1).and_then(|line| line.parse().ok());
        for cell in cells_of(step) {
            firsts.entry(cell).or_insert(line.unwrap_or(usize::MAX));
        }
        rest = others;
    }
    let mut firsts: Vec<_> = firsts
        .into_iter()
        .map(|(cell, line)| (line, cell))
        .collect();
    firsts.sort();
    firsts.truncate(CANDIDATES);
    firsts
}

/// One service up to a line, counted from 1. By itself it need not be in a hurry.
fn alone(text: &str, cell: &str, last: usize) -> String {
    let after = (last..text.lines().count()).collect();
    let text = only(text, &BTreeSet::from([cell.to_owned()]), &after);
    without_unused(&text.replacen("\ncrowded\n", "\n", 1))
}

/// Without the servers that nobody speaks of.
fn without_unused(text: &str) -> String {
    let named = |name: &str| {
        let mut words = text
            .lines()
            .filter(|line| line.starts_with("ipvsadm "))
            .flat_map(|line| line.split([' ', ':']));
        words.any(|word| word == name)
    };
    text.lines()
        .filter(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            ["server", name, _] => named(name),
            _ => true,
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Texts with some lines less that begin with one of the words, those with most
/// lines less first: a part of the lines at a time, in parts of at most `part`
/// lines and then smaller ones, and the parts to go on with when none of them
/// differs, 0 when that were all.
fn tries(text: &str, words: &[&str], part: usize) -> (Vec<String>, usize) {
    let lines: Vec<_> = text.lines().collect();
    let removable: Vec<usize> = (0..lines.len())
        .filter(|number| {
            let word = lines[*number].split(' ').next().unwrap_or_default();
            words.contains(&word)
        })
        .collect();
    if removable.is_empty() {
        return (Vec::new(), 0);
    }
    let mut size = part.min(removable.len().div_ceil(2)).max(1);
    let mut tries = Vec::new();
    loop {
        for without in removable.chunks(size) {
            let kept = lines
                .iter()
                .enumerate()
                .filter(|(number, _)| !without.contains(number));
            tries.push(kept.map(|(_, line)| format!("{line}\n")).collect());
        }
        if size == 1 {
            return (tries, 0);
        }
        size = size.div_ceil(2);
        if tries.len() + removable.len().div_ceil(size) > TRIES {
            return (tries, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        random::generate,
        scenario::{Action, Packet, Step, Transport},
    };

    /// Whether an FA follows an S of the same flow, with a change of one of
    /// its service's servers between them.
    fn planted(scenario: &Scenario) -> Option<&Step> {
        let flags = |packet: &Packet| match &packet.transport {
            Transport::Tcp(flags) => (flags.syn, flags.fin, flags.ack),
            _ => (false, false, false),
        };
        let packets = |from: usize, wanted: (bool, bool, bool)| {
            scenario.steps[from..]
                .iter()
                .enumerate()
                .filter_map(move |(index, step)| match &step.action {
                    Action::Packet(packet) if flags(packet) == wanted => {
                        Some((from + index, packet, step))
                    }
                    _ => None,
                })
        };
        packets(0, (true, false, false)).find_map(|(begin, syn, _)| {
            packets(begin, (false, true, true)).find_map(|(end, fin, step)| {
                let service = step.text.split(' ').nth(3)?;
                let edited = scenario.steps[begin..end].iter().any(|step| {
                    step.text.starts_with("ipvsadm -e ") && step.text.contains(service)
                });
                (edited && fin.from == syn.from).then_some(step)
            })
        })
    }

    fn compare(texts: &[(String, String)]) -> Result<Vec<String>> {
        texts
            .iter()
            .map(|(name, text)| {
                let scenario = Scenario::parse(name, name, text)?;
                let found = planted(&scenario);
                Ok(found.map_or_else(String::new, |step| {
                    format!("{name}:{}: {}\n  - x\n", step.line, step.text)
                }))
            })
            .collect()
    }

    #[test]
    fn a_planted_difference_ends_in_its_three_steps() {
        for seed in 1..6 {
            let text = generate(seed);
            let differences = compare(&[("random".to_owned(), text.clone())]).expect("it compares");
            assert!(!differences[0].is_empty(), "seed {seed} has no such flow");
            let mut texts = 0;
            let found = shrink(&text, &differences[0], |tries| {
                texts += tries.len();
                compare(tries)
            })
            .expect("it shrinks");
            assert!(found.alone);
            let small = Scenario::parse("small", "small", &found.text).expect("it is right");
            assert!(planted(&small).is_some());
            let kinds: Vec<_> = small.steps.iter().map(|step| &step.text[..3]).collect();
            assert_eq!(kinds, ["tcp", "ipv", "tcp"], "seed {seed}:\n{}", found.text);
            assert!(
                found.rounds <= 2 * ROUNDS && texts <= ROUNDS * TRIES,
                "{texts} texts"
            );
        }
    }

    #[test]
    fn a_service_is_cut_after_its_first_difference() {
        let listed = "x:7: snapshot -Ln\n    TCP  10.9.9.3:80\n  -   -> 10.8.0.1:80\n";
        let packet = "x:5: tcp 1.2.3.9:1 > V8:80 S\n  - x\n";
        let later = "x:9: tcp 1.2.3.9:1 > V8:80 A\n  - x\n";
        assert_eq!(
            firsts(&[listed, packet, later].concat()),
            [(5, "V8".to_owned()), (7, "V2".to_owned())]
        );
        let text = "about x\ncrowded\nserver A 10.8.0.1\nserver B 10.8.0.2\nvip V8 10.9.9.9\n\
                    vip V2 10.9.9.3\nipvsadm -a -t V8:80 -r B:80\nipvsadm -a -t V2:80 -r A:80\n\
                    tcp 1.2.3.9:1 > V8:80 A\nsnapshot -Ln\n";
        assert_eq!(
            alone(text, "V8", 9),
            "about x\nserver B 10.8.0.2\nvip V8 10.9.9.9\nipvsadm -a -t V8:80 -r B:80\n\
             tcp 1.2.3.9:1 > V8:80 A\n"
        );
    }

    #[test]
    fn services_that_differ_together_alone_stay_together() {
        let text = generate(1);
        let found = shrink(&text, "x:1: tcp 1.2.3.4:1 > V3:80 S\n  - x\n", |tries| {
            Ok(vec![String::new(); tries.len()])
        })
        .expect("it shrinks");
        assert_eq!((found.text, found.alone, found.rounds), (text, false, 1));
    }
}
