//! What is known to the grammar but not built yet. Building something means
//! deleting its line here.

use super::failure::Failure;
use super::grammar::CommandId;
use super::line::Line;
use crate::model::Refusal;

const COMMANDS: &[CommandId] = &[CommandId::StartDaemon, CommandId::StopDaemon];

/// Whether a command is built, for the usage text.
pub(super) fn command(command: CommandId) -> bool {
    !COMMANDS.contains(&command)
}

/// The answer to a command that is not built.
pub(super) fn command_missing(command: CommandId) -> Failure {
    let what = format!("--{}", command.spec().long);
    Failure::usage(Refusal::Unsupported(what).to_string())
}

/// Refuses a valid command line that asks for what is not built.
pub(super) fn check(line: &Line) -> Result<(), Failure> {
    if command(line.command) {
        Ok(())
    } else {
        Err(command_missing(line.command))
    }
}
