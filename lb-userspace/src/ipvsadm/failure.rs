//! Command lines that end in an error: the texts and exit statuses.

use super::grammar::{Class, CommandId};

/// Exit status of an error in the command line itself.
pub(super) const USAGE: u8 = 2;
/// Exit status of a refused change, and of what popt finds.
pub(super) const REFUSED: u8 = 255;

/// A command line that ends here: one line for standard error and the exit
/// status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) status: u8,
    /// Whether it ends a restore.
    pub(super) ends: bool,
}

impl Failure {
    /// An error in the command line.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            status: USAGE,
            ends: true,
        }
    }

    /// What popt finds wrong with an option. A restore goes on with the next line.
    pub(super) fn option(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            status: REFUSED,
            ends: false,
        }
    }

    /// Where to find help.
    pub(super) fn try_help(argv0: &str) -> Self {
        Self {
            text: format!("Try `{argv0} -h' or '{argv0} --help' for more information."),
            status: REFUSED,
            ends: true,
        }
    }

    /// An option is missing.
    pub(super) fn missing(class: Class, command: CommandId) -> Self {
        let (option, command) = (class.name(), command.spec().name);
        Self::usage(format!(
            "You need to supply the '{option}' option for the '{command}' command"
        ))
    }

    /// An option does not belong to the command.
    pub(super) fn illegal(class: Class, command: CommandId) -> Self {
        let (option, command) = (class.name(), command.spec().name);
        Self::usage(format!(
            "Illegal '{option}' option with the '{command}' command"
        ))
    }

    /// Two options exclude each other.
    pub(super) fn conflict(later: Class, earlier: Class, command: CommandId) -> Self {
        let (later, earlier, command) = (later.name(), earlier.name(), command.spec().name);
        Self::usage(format!(
            "The option '{later}' conflicts with the '{earlier}' option in the '{command}' command"
        ))
    }
}
