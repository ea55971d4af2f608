//! Configurations as files, and what lies between two of them.
//!
//! | module | holds |
//! | --- | --- |
//! | `changes` | the requests that lead from one configuration to another |
//! | `check` | the checks of `lvx.toml`: reads and writes them |
//! | `difference` | the same as lines for people |
//! | `ldirectord` | reads ldirectord.cf |
//! | `owner` | which services a file may touch |
//! | `toml` | `lvx.toml`: reads it, with places for errors |
//! | `saved` | reads the commands that `ipvsadm -S` wrote |
//! | `text` | writes `lvx.toml` |
//! | `place` | line and column, and errors that have them |

mod changes;
mod check;
mod difference;
mod ldirectord;
mod owner;
mod place;
mod saved;
mod text;
mod toml;

pub use changes::changes;
use check::rooted;
pub use difference::{Line, difference};
pub use ldirectord::Ldirectord;
pub(crate) use ldirectord::read as read_ldirectord;
pub use owner::{belonging, part, scope};
pub use place::{Fault, Places};
pub use text::{family as family_name, text};
pub use toml::flag_names;

use crate::model::Config;

/// Reads a file: `lvx.toml`, or commands as `ipvsadm -S` writes them.
///
/// # Errors
/// What is wrong and where, in the order of the file.
pub fn read(text: &str) -> Result<(Config, Places), Vec<Fault>> {
    if saved::looks_like(text) {
        saved::read(text)
    } else {
        toml::read(text)
    }
}

#[cfg(test)]
mod tests;
