//! Mark and filter rules: their words, their text, and what packets read.

mod compile;
pub mod import;
mod parse;
mod text;

pub use compile::{Compiled, Destinations, IfaceNames, Source, compile};
pub use parse::{Command, command, rule};
pub use text::{list, save, words};

pub(crate) use import::split;
