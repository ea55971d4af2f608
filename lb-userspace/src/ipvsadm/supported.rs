//! What is known to the grammar but not built yet. Building something means
//! deleting its line here.

use super::failure::Failure;
use super::grammar::{CommandId, OptionId};
use super::line::Line;
use crate::model::Refusal;

const COMMANDS: &[CommandId] = &[CommandId::StartDaemon, CommandId::StopDaemon];

/// The only persistence engine there is: any other name is one that nobody
/// knows.
const ENGINE: &str = "sip";

const OPTIONS: &[OptionId] = &[OptionId::Pe];

/// Whether an option is built, for the usage text.
pub(super) fn option(option: OptionId) -> bool {
    !OPTIONS.contains(&option)
}

/// Whether a command is built, for the usage text.
pub(super) fn command(command: CommandId) -> bool {
    !COMMANDS.contains(&command)
}

fn missing(what: String) -> Failure {
    Failure::usage(Refusal::Unsupported(what).to_string())
}

/// The answer to a command that is not built.
pub(super) fn command_missing(command: CommandId) -> Failure {
    missing(format!("--{}", command.spec().long))
}

/// Refuses a valid command line that asks for what is not built.
pub(super) fn check(line: &Line) -> Result<(), Failure> {
    let no = |what: String| Err(missing(what));
    if !command(line.command) {
        return Err(command_missing(line.command));
    }
    let engine = |given: OptionId| given != OptionId::Pe || line.pe.as_deref() == Some(ENGINE);
    let given = line.options.iter().copied();
    if let Some(given) = given
        .filter(|given| engine(*given))
        .find(|given| !option(*given))
    {
        let spec = given.spec();
        return no(match spec.short {
            Some(letter) => format!("-{letter} (--{})", spec.long),
            None => format!("--{}", spec.long),
        });
    }
    Ok(())
}
