//! What differs between two transcripts of the same commands, and which of it
//! is a row of `docs/deviations.md`.

use std::{collections::BTreeMap, fmt::Write as _};

use super::transcript::{Answer, Item, Step};

/// Two answers to one command that no row explains.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Its place in the transcript.
    pub at: usize,
    /// The command.
    pub step: Step,
    /// What the real ipvsadm answered.
    pub real: Answer,
    /// What lvx answered.
    pub lvx: Answer,
}

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Compared {
    /// Commands that were looked at.
    pub commands: usize,
    /// Commands after one with another table on purpose, which say nothing.
    pub skipped: usize,
    /// How often each row was used.
    pub rows: BTreeMap<&'static str, usize>,
    /// The rest.
    pub differences: Vec<Difference>,
}

/// How the real ipvsadm's help begins, after the line with the version.
pub const HELP: &str = "\nUsage:\n";

/// Compares command by command. After a difference, or a row that leaves
/// another table behind, the rest until the next `@ clear` is skipped.
#[must_use]
pub fn compare(real: &[Item], lvx: &[Item]) -> Compared {
    let mut compared = Compared::default();
    let mut skip = false;
    for (at, items) in real.iter().zip(lvx).enumerate() {
        let (Item::Step(real), Item::Step(lvx)) = items else {
            skip &= *items.0 != Item::Clear;
            continue;
        };
        if skip {
            compared.skipped += 1;
            continue;
        }
        compared.commands += 1;
        let answers = (
            real.answer.clone().unwrap_or_default(),
            lvx.answer.clone().unwrap_or_default(),
        );
        if answers.0 == answers.1 {
            continue;
        }
        match row(real, &answers.0, &answers.1) {
            Some((id, other_table)) => {
                *compared.rows.entry(id).or_default() += 1;
                skip = other_table;
            }
            None => {
                compared.differences.push(Difference {
                    at,
                    step: real.clone(),
                    real: answers.0,
                    lvx: answers.1,
                });
                skip = true;
            }
        }
    }
    compared
}

/// The row that explains a difference, and whether the tables differ after it.
fn row(step: &Step, real: &Answer, lvx: &Answer) -> Option<(&'static str, bool)> {
    let words = &step.words;
    let said = |text: &str| real.stderr.contains(text);
    let last = lvx.stderr.lines().last().unwrap_or_default();
    if lvx.code == 2
        && last.starts_with("lvx: not supported yet: ")
        // What the real tool refuses by its grammar, lvx must refuse with the same words.
        && (real.code != 2 || !step.input.is_empty())
    {
        return Some(("D-unsupported", real.code == 0 || !step.input.is_empty()));
    }
    // A success, or an error of what comes after the mark.
    let mark = |sign: &str| real.code == 2 && said(&format!("invalid fwmark value `{sign}"));
    if mark("0x") && !lvx.stderr.contains("invalid fwmark value") {
        return Some(("D-mark-hex", true));
    }
    if mark("-") && !lvx.stderr.contains("invalid fwmark value") {
        return Some(("D-mark-sign", true));
    }
    // `-b ,`, attached or not, here or in a line of a restore.
    let commas = |word: &str| {
        let flags = word.trim_end_matches(',');
        flags.len() < word.len() && (flags.is_empty() || flags.starts_with('-'))
    };
    let mut all = (words.iter().map(String::as_str)).chain(step.input.split_whitespace());
    if real.code == -1 && all.any(commas) {
        return Some(("D-crash", true));
    }
    let comment = |line: &str| line.trim_start_matches([' ', '\t']).starts_with('#');
    if step.input.lines().any(comment) && said("Try `ipvsadm -h'") {
        return Some(("D-comments", true));
    }
    let same_but_stdout = real.code == lvx.code && real.stderr == lvx.stderr;
    if same_but_stdout && without_size(&real.stdout) == without_size(&lvx.stdout) {
        return Some(("D-size", false));
    }
    if same_but_stdout
        && let Some((real, _)) = real.stdout.split_once(HELP)
        && let Some((lvx, _)) = lvx.stdout.split_once("\n\nUsage: ")
        && without_size(real) == without_size(lvx)
    {
        return Some(("D-help-text", false));
    }
    if same_but_stdout
        && words.iter().any(|word| word == "--nosort")
        && sorted(&without_size(&real.stdout)) == sorted(&without_size(&lvx.stdout))
    {
        return Some(("D-nosort", false));
    }
    None
}

/// Without the size of the table of connections in the heading.
fn without_size(text: &str) -> String {
    match text.split_once("(size=") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{before}(size={}", without_size(rest))
        }
        None => text.to_owned(),
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

impl Difference {
    /// For people: the command, and the lines that only one of both has.
    #[must_use]
    pub fn show(&self) -> String {
        let mut out = format!("$ {}\n", self.step.line());
        let (real, lvx) = (self.real.lines(), self.lvx.lines());
        for line in real.lines() {
            let mark = if lvx.lines().any(|other| other == line) {
                ' '
            } else {
                '-'
            };
            let _ = writeln!(out, "  {mark} {line}");
        }
        for line in lvx.lines() {
            if !real.lines().any(|other| other == line) {
                let _ = writeln!(out, "  + {line}");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::transcript::read;

    fn differences(real: &str, lvx: &str) -> (usize, Vec<&'static str>) {
        let compared = compare(&read(real).unwrap(), &read(lvx).unwrap());
        (
            compared.differences.len(),
            compared.rows.into_keys().collect(),
        )
    }

    #[test]
    fn an_error_may_become_a_success_only_where_a_row_says_so() {
        let real = "$ ipvsadm -A -f 0x10\nE|invalid fwmark value `0x10' specified$\nrc=2\n";
        let lvx = "$ ipvsadm -A -f 0x10\nrc=0\n";
        assert_eq!(differences(real, lvx), (0, vec!["D-mark-hex"]));
        assert_eq!(differences(lvx, real), (1, vec![]));
        let other = real.replace("0x10", "x");
        assert_eq!(differences(&other, lvx), (1, vec![]));
    }

    #[test]
    fn what_is_not_supported_must_be_right_in_grammar() {
        let lvx = "$ ipvsadm --start-daemon x\nE|lvx: not supported yet: --start-daemon$\nrc=2\n";
        let real = |answer: &str| format!("$ ipvsadm --start-daemon x\n{answer}");
        assert_eq!(differences(&real("rc=0\n"), lvx).1, ["D-unsupported"]);
        let refused = real("E|illegal start-daemon parameter specified$\nrc=2\n");
        assert_eq!(differences(&refused, lvx), (1, vec![]));
    }

    #[test]
    fn the_real_one_crashes_by_flags_without_a_name() {
        for line in [
            "ipvsadm -A -t 10.0.0.1:80 -b ,",
            "ipvsadm -R << -C|-A -t 10.0.0.1:80 -b ,",
        ] {
            let answer = |code: i32| format!("$ {line}\nrc={code}\n");
            assert_eq!(differences(&answer(-1), &answer(0)), (0, vec!["D-crash"]));
            assert_eq!(differences(&answer(0), &answer(-1)), (1, vec![]));
        }
        let other = "$ ipvsadm -A -t 10.0.0.1:80\nrc=";
        let (real, lvx) = (format!("{other}-1\n"), format!("{other}0\n"));
        assert_eq!(differences(&real, &lvx), (1, vec![]));
    }

    #[test]
    fn after_a_difference_the_rest_of_the_sequence_says_nothing() {
        let real = "$ ipvsadm -C\nrc=0\n$ ipvsadm -Sn\nO|x$\nrc=0\n@ clear\n$ ipvsadm -Sn\nrc=0\n";
        let lvx = "$ ipvsadm -C\nrc=1\n$ ipvsadm -Sn\nrc=0\n@ clear\n$ ipvsadm -Sn\nrc=1\n";
        let compared = compare(&read(real).unwrap(), &read(lvx).unwrap());
        assert_eq!((compared.differences.len(), compared.skipped), (2, 1));
    }
}
