//! The `ipvsadm` command line: arguments to requests, answers to text, byte
//! for byte as ipvsadm 1.31 of Debian 12 has it.
//!
//! A line passes through these in turn:
//!
//! | module | does |
//! | --- | --- |
//! | `grammar` | the tables of commands, options and which go together |
//! | `popt` | splits the words into options and arguments |
//! | `line`, `address`, `names` | reads and checks each value |
//! | `command` | the rules between options; builds the request |
//! | `supported` | refuses what lvx does not do yet |
//! | `run`, `restore` | asks, prints, exit status |
//! | `list`, `connections`, `save`, `text`, `numbers`, `sort` | answers to text |
//!
//! Where the original accepts a line, output and exit status are its own. What is
//! different turns an error into a success, and has a row in `docs/deviations.md`:
//! hexadecimal and negative marks, `#` lines in `-R`, help and version without
//! privileges.

mod address;
mod command;
mod connections;
mod failure;
mod grammar;
mod line;
mod list;
mod names;
mod numbers;
mod popt;
mod restore;
mod run;
mod save;
mod sort;
mod supported;
mod text;
mod usage;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub(crate) use names::{Names, SystemNames};
pub(crate) use restore::change;
pub use run::{Control, Io, run, run_restore, run_save};
