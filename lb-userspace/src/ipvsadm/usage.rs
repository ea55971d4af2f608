//! The version line and the help, written from the grammar's tables.

use std::fmt::Write as _;

use super::grammar::{Argument, Block, COMMANDS, CommandSpec, OPTIONS, OptionSpec};
use super::supported;

/// What scripts look for: they match `^ipvsadm v`.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";

/// Widest line of the option lists.
const COLUMNS: usize = 118;
/// Where the second option of a line starts.
const HALF: usize = 61;

/// What `lvx` calls itself here. Under the name `ipvsadm` the text has only what
/// any ipvsadm would understand.
const LVX: &str = "lvx ipvsadm";

/// The whole help text.
pub(super) fn text(argv0: &str) -> String {
    let mut out =
        format!("{VERSION}\n\nUsage: {argv0} COMMAND [virtual-service] [options]\n\nCommands:\n");
    for command in COMMANDS {
        let _ = writeln!(
            out,
            "  {:<38}{}{}",
            command_names(command),
            command.help,
            later(supported::command(command.id))
        );
    }
    out.push_str("virtual-service:\n");
    block(&mut out, Block::VirtualService);
    out.push_str("Options:\n");
    block(&mut out, Block::Options);
    out.push_str("Daemon Options:\n");
    block(&mut out, Block::Daemon);
    if argv0 == LVX {
        out.push_str("Options that only lvx has:\n");
        block(&mut out, Block::Extension);
    }
    out.push_str("(*) not supported by this version of lvx yet\n");
    out
}

fn later(built: bool) -> &'static str {
    if built { "" } else { " (*)" }
}

fn argument(argument: Argument) -> String {
    match argument {
        Argument::None => String::new(),
        Argument::Required(name) | Argument::Optional(name) => format!(" {name}"),
    }
}

fn command_names(command: &CommandSpec) -> String {
    let shorts: Vec<String> = command
        .short
        .iter()
        .map(|letter| format!("-{letter}, "))
        .collect();
    format!(
        "{}--{}{}",
        shorts.concat(),
        command.long,
        argument(command.argument)
    )
}

fn option_text(option: &OptionSpec) -> String {
    let short = option
        .short
        .map(|letter| format!("-{letter}, "))
        .unwrap_or_default();
    let names = format!("{short}--{}{}", option.long, argument(option.argument));
    format!("{names:<29} {}", option.help)
}

/// The options of a block, two a line where both fit.
fn block(out: &mut String, block: Block) {
    let mut pending: Option<String> = None;
    for text in OPTIONS
        .iter()
        .filter(|option| option.block == block)
        .map(option_text)
    {
        let _ = match pending.take() {
            Some(first) if first.len() < HALF && HALF + text.len() < COLUMNS => {
                writeln!(out, "  {first:<HALF$}{text}")
            }
            Some(first) => {
                pending = Some(text);
                writeln!(out, "  {first}")
            }
            None => {
                pending = Some(text);
                continue;
            }
        };
    }
    if let Some(last) = pending {
        let _ = writeln!(out, "  {last}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_a_screen_and_names_everything() {
        let text = text("ipvsadm");
        assert!(text.starts_with(&format!("{VERSION}\n\n")));
        assert!(
            text.lines().count() <= 60,
            "{} lines\n{text}",
            text.lines().count()
        );
        let options = OPTIONS.iter().filter(|o| o.block != Block::Extension);
        for long in COMMANDS
            .iter()
            .map(|c| c.long)
            .chain(options.map(|o| o.long))
        {
            assert!(text.contains(&format!("--{long}")), "{long}");
        }
        for title in [
            "Usage:",
            "Commands:",
            "virtual-service:",
            "Options:",
            "Daemon Options:",
        ] {
            assert!(text.contains(&format!("\n{title}")), "{title}");
        }
        assert!(!text.lines().any(|line| line.ends_with(' ')));
    }

    #[test]
    fn what_only_lvx_has_is_shown_by_lvx_only() {
        for name in ["ipvsadm", "/usr/sbin/ipvsadm"] {
            assert!(!text(name).contains("fullnat"), "{name}");
            assert!(!text(name).contains("--toa"), "{name}");
        }
        let text = text(LVX);
        for option in ["--fullnat  ", "--toa  "] {
            assert!(text.contains(&format!("\n  {option}")), "{text}");
        }
    }
}
