//! `lvx migrate check`: would a client be sent where the kernel sends it?
//!
//! | module | holds |
//! | --- | --- |
//! | [`rules`] | a saved rule file, and the order in which the kernel has the servers |
//! | [`clients`] | the clients that are asked about |
//! | [`kernel`] | where a kernel with those rules sends them |
//! | [`plane`] | where lvx does: the engine over its tables, as they are or would be |
//! | [`compare`] | both, side by side |
//!
//! No kernel is asked. The kernel's side is computed from the file, by a plain
//! rendering of its tables that has nothing but the hash functions in common with
//! lvx's schedulers; it is held against what the oracle has recorded of the kernel
//! (`oracle/tests/clients.rs`). lvx's side is the engine's own code over the
//! director's own tables.

pub mod clients;
pub mod compare;
pub mod kernel;
pub mod plane;
pub mod rules;

/// A line of a file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {text}")]
pub struct BadLine {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

/// Reads a file line by line, comments and empty lines left out.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
