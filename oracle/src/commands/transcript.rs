//! Transcripts: `$ ipvsadm WORDS`, then standard output as `O|…$` and standard
//! error as `E|…$` (`$` is the end of a line, so that blanks before it show),
//! then `rc=N`.
//!
//! Words with blanks are in single quotes. `<< A|B` after the words is standard
//! input, `|` between its lines, `\r` a carriage return. `@ clear` empties the
//! table and sets the time-outs back. Lines that start with `#` are notes.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

/// What a command answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status; -1 after a signal.
    pub code: i32,
}

/// A command and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The program's name and its arguments.
    pub words: Vec<String>,
    /// Standard input.
    pub input: String,
    /// What it answered, once it was played.
    pub answer: Option<Answer>,
}

/// A line or a command of a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A note or an empty line.
    Note(String),
    /// An empty table from here on.
    Clear,
    /// A command.
    Step(Step),
}

impl Item {
    /// A command to be played.
    #[must_use]
    pub fn command(words: &[&str]) -> Self {
        Self::Step(Step {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Step::default()
        })
    }
}

impl Step {
    /// Reads what stands after `$ `.
    ///
    /// # Errors
    /// When a quote is not closed, or there is no word.
    pub fn parse(line: &str) -> Result<Self> {
        let (line, input) = line.split_once(" << ").unwrap_or((line, ""));
        let mut words = Vec::new();
        let mut rest = line.trim_start_matches(' ');
        while !rest.is_empty() {
            let (word, after) = match rest.strip_prefix('\'') {
                Some(quoted) => quoted.split_once('\'').context("a quote is not closed")?,
                None => rest.split_once(' ').unwrap_or((rest, "")),
            };
            words.push(word.to_owned());
            rest = after.trim_start_matches(' ');
        }
        ensure!(!words.is_empty(), "a command without words");
        let mut input = input.replace('|', "\n").replace("\\r", "\r");
        if !input.is_empty() {
            input.push('\n');
        }
        Ok(Self {
            words,
            input,
            answer: None,
        })
    }

    /// As it stands after `$ `.
    #[must_use]
    pub fn line(&self) -> String {
        let quoted = |word: &String| {
            let plain = !word.is_empty() && !word.contains([' ', '\t', '\'']);
            if plain {
                word.clone()
            } else {
                format!("'{word}'")
            }
        };
        let mut line = self.words.iter().map(quoted).collect::<Vec<_>>().join(" ");
        if !self.input.is_empty() {
            let input = self.input.strip_suffix('\n').unwrap_or(&self.input);
            line += " << ";
            line += &input.replace('\n', "|").replace('\r', "\\r");
        }
        line
    }
}

impl Answer {
    /// Its lines in a transcript.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for (letter, text) in [('O', &self.stdout), ('E', &self.stderr)] {
            for line in text.split_inclusive('\n') {
                let _ = match line.strip_suffix('\n') {
                    Some(line) => writeln!(out, "{letter}|{line}$"),
                    None => writeln!(out, "{letter}|{line}"),
                };
            }
        }
        let _ = writeln!(out, "rc={}", self.code);
        out
    }
}

/// Reads a transcript; answers may be missing.
///
/// # Errors
/// When a line is none of a transcript; the text names it.
pub fn read(text: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if let Some(command) = line.strip_prefix("$ ") {
            let mut step = Step::parse(command).with_context(|| format!("line {}", number + 1))?;
            let mut answer = Answer::default();
            while let Some((_, line)) = lines.next_if(|(_, line)| is_output(line)) {
                let (stream, text) = line.split_at(2);
                let to = if stream == "O|" {
                    &mut answer.stdout
                } else {
                    &mut answer.stderr
                };
                match text.strip_suffix('$') {
                    Some(text) => {
                        to.push_str(text);
                        to.push('\n');
                    }
                    None => to.push_str(text),
                }
            }
            if let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("rc=")) {
                answer.code = line[3..].parse().context("not an exit status")?;
                step.answer = Some(answer);
            }
            items.push(Item::Step(step));
        } else if line == "@ clear" {
            items.push(Item::Clear);
        } else if line.is_empty() || line.starts_with('#') {
            items.push(Item::Note(line.to_owned()));
        } else {
            bail!("line {}: not a line of a transcript: {line}", number + 1);
        }
    }
    Ok(items)
}

fn is_output(line: &str) -> bool {
    line.starts_with("O|") || line.starts_with("E|")
}

/// The text of a transcript.
#[must_use]
pub fn write(items: &[Item]) -> String {
    let mut out = String::new();
    for item in items {
        let _ = match item {
            Item::Note(text) => writeln!(out, "{text}"),
            Item::Clear => writeln!(out, "@ clear"),
            Item::Step(step) => {
                let answer = step.answer.as_ref().map(Answer::lines);
                write!(out, "$ {}\n{}", step.line(), answer.unwrap_or_default())
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        let text = "# note\n@ clear\n$ ipvsadm -A -t '10.0.0.1: 6' -s ''\nE|no$\nrc=2\n\
                    $ ipvsadm -R << -C\\r|-L -n\nO|a  $\nO|b\nrc=0\n";
        let items = read(text).unwrap();
        assert_eq!(write(&items), text);
        let Item::Step(step) = &items[2] else {
            panic!()
        };
        assert_eq!(step.words, ["ipvsadm", "-A", "-t", "10.0.0.1: 6", "-s", ""]);
        let Item::Step(step) = &items[3] else {
            panic!()
        };
        assert_eq!(step.input, "-C\r\n-L -n\n");
        assert_eq!(step.answer.as_ref().unwrap().stdout, "a  \nb");
    }

    #[test]
    fn another_line_is_told() {
        let error = read("$ ipvsadm\nrc=0\nwhat\n").unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }
}
