//! Splits a command line the way libpopt does: options anywhere, short ones
//! bundled, arguments attached or apart, `--` ends the options.

use super::grammar::{Argument, Entry};

/// Why popt gives up. The text follows the word at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No such option.
    Unknown,
    /// The option's argument is missing.
    MissingArgument,
    /// `--name=value` of an option that takes none.
    UnwantedArgument,
}

impl Stop {
    /// popt's words for it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unknown => "unknown option",
            Self::MissingArgument => "missing argument",
            Self::UnwantedArgument => "option does not take an argument",
        }
    }
}

/// A command line being read from left to right.
#[derive(Debug)]
pub(super) struct Words<'a> {
    words: &'a [String],
    next: usize,
    /// What is left of a bundle of short options.
    bundle: &'a str,
    /// `--` was seen.
    ended: bool,
    /// Words that are no options, in their order.
    pub(super) leftovers: Vec<&'a str>,
}

impl<'a> Words<'a> {
    /// The words after the program's name.
    pub(super) fn new(words: &'a [String]) -> Self {
        Self {
            words,
            next: 0,
            bundle: "",
            ended: false,
            leftovers: Vec::new(),
        }
    }

    /// The word read last, for messages.
    pub(super) fn last(&self) -> &'a str {
        self.next
            .checked_sub(1)
            .and_then(|at| self.words.get(at))
            .map_or("", String::as_str)
    }

    fn word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    /// The next option and its argument; `None` at the end.
    pub(super) fn next_option(&mut self) -> Result<Option<(Entry, Option<&'a str>)>, Stop> {
        if self.bundle.is_empty() {
            loop {
                let Some(word) = self.word() else {
                    return Ok(None);
                };
                if self.ended || word == "-" || !word.starts_with('-') {
                    self.leftovers.push(word);
                } else if word == "--" {
                    self.ended = true;
                } else if let Some(long) = word.strip_prefix("--") {
                    return self.long(long).map(Some);
                } else {
                    self.bundle = &word[1..];
                    break;
                }
            }
        }
        self.short().map(Some)
    }

    fn long(&mut self, text: &'a str) -> Result<(Entry, Option<&'a str>), Stop> {
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let entry = Entry::of_long(name).ok_or(Stop::Unknown)?;
        match (entry.argument(), attached) {
            (Argument::None, Some(_)) => Err(Stop::UnwantedArgument),
            (Argument::None, None) => Ok((entry, None)),
            (_, Some(value)) => Ok((entry, Some(value))),
            (_, None) => self.separate(entry),
        }
    }

    fn short(&mut self) -> Result<(Entry, Option<&'a str>), Stop> {
        let mut letters = self.bundle.chars();
        let letter = letters.next().ok_or(Stop::Unknown)?;
        let rest = letters.as_str();
        let entry = Entry::of_short(letter).ok_or(Stop::Unknown)?;
        if entry.argument() == Argument::None {
            if rest.starts_with('=') {
                return Err(Stop::UnwantedArgument);
            }
            self.bundle = rest;
            return Ok((entry, None));
        }
        self.bundle = "";
        if rest.is_empty() {
            self.separate(entry)
        } else {
            Ok((entry, Some(rest.strip_prefix('=').unwrap_or(rest))))
        }
    }

    /// The argument in the next word.
    fn separate(&mut self, entry: Entry) -> Result<(Entry, Option<&'a str>), Stop> {
        let optional = matches!(entry.argument(), Argument::Optional(_));
        match self.words.get(self.next) {
            Some(word) if optional && word.starts_with('-') => Ok((entry, None)),
            Some(_) => Ok((entry, self.word())),
            None if optional => Ok((entry, None)),
            None => Err(Stop::MissingArgument),
        }
    }
}
