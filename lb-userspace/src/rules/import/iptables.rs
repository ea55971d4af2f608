//! `iptables-save` and `ip6tables-save`.

use std::collections::HashMap;

use super::Imported;
use crate::{
    model::{Chain, Family},
    rules::parse,
};

/// Most rules that are looked at: chains may lead to each other.
const MOST: usize = 1_000_000;

/// Options of `-j MARK` before and after iptables 1.4 have the same names; these
/// targets change the mark too.
const OTHER_MARKERS: [&str; 2] = ["CONNMARK", "TPROXY"];

/// A rule of the file: its line's number, and its words behind the chain's name.
struct Line {
    number: usize,
    words: Vec<String>,
}

/// Takes the MARK rules that packets meet in PREROUTING of the mangle table, and
/// those of the chains that it leads to for all packets.
pub(super) fn marks(text: &str, ip6: bool) -> Result<Imported, String> {
    let mut chains: HashMap<String, Vec<Line>> = HashMap::new();
    let mut table = "";
    let mut tables = 0;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('*') {
            table = name;
            tables += 1;
            continue;
        }
        if table != "mangle" || line.starts_with(['#', ':']) || line.is_empty() {
            continue;
        }
        // With -c, counters come first: `[12:345] -A …`.
        let line = match line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
        {
            Some((_, rest)) => rest,
            None => line,
        };
        let Some(rest) = line.strip_prefix("-A ") else {
            continue;
        };
        let mut words = split(rest).map_err(|error| format!("line {number}: {error}"))?;
        if words.is_empty() {
            return Err(format!("line {number}: -A without a chain"));
        }
        let name = words.remove(0);
        chains.entry(name).or_default().push(Line { number, words });
    }
    if tables == 0 {
        return Err(
            "this is neither iptables-save's nor 'nft -j list ruleset's output: no table in it"
                .into(),
        );
    }
    // Addresses tell the family of the whole file.
    let is_v6 = |line: &Line| {
        let pairs = line.words.windows(2);
        pairs
            .filter(|pair| matches!(pair[0].as_str(), "-s" | "-d"))
            .any(|pair| pair[1].contains(':'))
    };
    let family = if ip6 || chains.values().flatten().any(is_v6) {
        Family::V6
    } else {
        Family::V4
    };
    let mut walk = Walk {
        chains: &chains,
        family,
        result: Imported::default(),
        seen: 0,
    };
    walk.chain("PREROUTING", &mut Vec::new());
    Ok(walk.result)
}

struct Walk<'a> {
    chains: &'a HashMap<String, Vec<Line>>,
    family: Family,
    result: Imported,
    seen: usize,
}

/// How a chain ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The rules after it follow.
    Return,
    /// No rule follows.
    Over,
}

impl<'a> Walk<'a> {
    fn leave(&mut self, line: &Line, why: &str) {
        let text = line.words.join(" ");
        let number = line.number;
        self.result
            .left
            .push(format!("line {number}: {text}: {why}"));
    }

    fn chain(&mut self, name: &'a str, path: &mut Vec<&'a str>) -> End {
        path.push(name);
        let mut end = End::Return;
        for line in self.chains.get(name).into_iter().flatten() {
            self.seen += 1;
            if self.seen > MOST {
                self.leave(line, "too many rules");
                return End::Over;
            }
            if let Some(over) = self.line(line, path) {
                end = over;
                break;
            }
        }
        path.pop();
        end
    }

    /// One rule; how the chain ends with it, if it does.
    fn line(&mut self, line: &'a Line, path: &mut Vec<&'a str>) -> Option<End> {
        let jump = line
            .words
            .iter()
            .position(|word| word == "-j" || word == "-g");
        let goto = jump.is_some_and(|at| line.words[at] == "-g");
        let target = jump.and_then(|at| line.words.get(at + 1));
        let target = target.map(String::as_str)?;
        let always = only_a_comment(&line.words, jump?);
        match target {
            "MARK" => match parse::rule(Chain::Mark, self.family, &line.words) {
                Ok(rules) => self.result.rules.extend(rules),
                Err(why) => self.leave(line, &why),
            },
            "ACCEPT" | "DROP" | "RETURN" | "QUEUE" | "NFQUEUE" if always => {
                return Some(if target == "RETURN" { End::Return } else { End::Over });
            }
            "ACCEPT" | "DROP" | "RETURN" | "QUEUE" | "NFQUEUE" => self.leave(
                line,
                "for some packets the rules behind it do not count, which mark rules here cannot say",
            ),
            other if self.chains.contains_key(other) => {
                let leads = self.leads_to_marks(other, &mut Vec::new());
                if !leads {
                    return None;
                }
                let (name, _) = self.chains.get_key_value(other)?;
                if path.contains(&name.as_str()) {
                    self.leave(line, "the chains lead in a circle");
                } else if !always {
                    self.leave(line, "only some packets go to that chain, which sets marks");
                } else {
                    let end = self.chain(name, path);
                    if goto || end == End::Over {
                        return Some(end);
                    }
                }
            }
            other if OTHER_MARKERS.contains(&other) => {
                self.leave(line, "changes the mark in a way that is not known here");
            }
            // It does not touch the mark.
            _ => {}
        }
        None
    }

    fn leads_to_marks(&self, name: &'a str, path: &mut Vec<&'a str>) -> bool {
        if path.contains(&name) {
            return false;
        }
        path.push(name);
        self.chains.get(name).into_iter().flatten().any(|line| {
            let jump = line
                .words
                .iter()
                .position(|word| word == "-j" || word == "-g");
            let target = jump.and_then(|at| line.words.get(at + 1));
            target.is_some_and(|target| {
                target == "MARK"
                    || OTHER_MARKERS.contains(&target.as_str())
                    || self.leads_to_marks(target, path)
            })
        })
    }
}

/// Whether a rule has no condition.
fn only_a_comment(words: &[String], jump: usize) -> bool {
    let mut rest = words[..jump].iter();
    while let Some(word) = rest.next() {
        match (word.as_str(), rest.next().map(String::as_str)) {
            ("-m", Some("comment")) | ("--comment", Some(_)) => {}
            _ => return false,
        }
    }
    true
}

/// The words of a line: blanks part them, quotes hold them together.
pub(crate) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err("a quotation mark without its end".into());
    }
    words.extend(word);
    Ok(words)
}
