//! Health checks: what is asked of servers, by whom, and what came of it.
//!
//! | module | holds |
//! | --- | --- |
//! | `plan` | who is to be checked, how, and from which address |
//! | `checker` | the thread that checks: a task a server, no check delays another |
//! | `probe` | the checks themselves |
//! | `board` | the last check of every server |
//!
//! What servers are (up, down, since when) is the daemon's state, saved with the
//! configuration; this module tells it when that has changed.

mod board;
mod checker;
mod plan;
mod probe;

pub use board::Board;
pub use checker::{Checker, start};
pub use plan::{Plan, Target, source};

use regex::bytes::{Regex, RegexBuilder};

/// Memory that a compiled pattern may take, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// A pattern that answers are held against.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn pattern(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(PATTERN_SIZE).build();
    built.map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        let last = last.strip_prefix("error: ").unwrap_or(last);
        format!("not a regular expression that lvx takes: {last}")
    })
}
