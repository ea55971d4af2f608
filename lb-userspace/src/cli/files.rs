//! Verbs that print files for other programs: `proc`, `completions`, `man`.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, Command, ValueEnum, builder::PossibleValuesParser};
use clap_complete::Shell;

use super::{terminal::show, unexpected};
use crate::{
    daemon::client::Client,
    model::{ProcFile, Request, Response},
};

/// The manual page of the configuration file.
const LVX_TOML: &str = include_str!("../../../docs/lvx.toml.5");

/// Arguments of `lvx proc`.
#[derive(ClapArgs)]
pub(super) struct ProcArgs {
    /// Which file
    #[arg(value_name = "FILE", value_parser = PossibleValuesParser::new(ProcFile::ALL.map(ProcFile::name)))]
    file: String,
}

pub(super) fn proc(args: &ProcArgs) -> Result<()> {
    let mut files = ProcFile::ALL.into_iter();
    let file = files.find(|file| file.name() == args.file);
    let file = file.context("no such file")?;
    match Client::default().request(&Request::Proc(file))? {
        Response::Text(text) => {
            show(&text);
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// Arguments of `lvx completions`.
#[derive(ClapArgs)]
pub(super) struct CompletionArgs {
    /// Put what is printed where it reads completions from
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionArgs, command: &mut Command) -> Result<()> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, command, "lvx", &mut out);
    show(&String::from_utf8(out)?);
    Ok(())
}

/// Arguments of `lvx man`.
#[derive(ClapArgs)]
pub(super) struct ManArgs {
    /// Which page: lvx(8) or lvx.toml(5)
    #[arg(value_enum, default_value_t = Page::Lvx)]
    page: Page,
}

#[derive(Clone, Copy, ValueEnum)]
enum Page {
    Lvx,
    #[value(name = "lvx.toml")]
    LvxToml,
}

pub(super) fn man(args: &ManArgs, command: &Command) -> Result<()> {
    match args.page {
        Page::Lvx => show(&page(command)?),
        Page::LvxToml => show(LVX_TOML),
    }
    Ok(())
}

/// lvx(8): what clap knows, with the help of each verb.
fn page(command: &Command) -> Result<String> {
    let man = clap_mangen::Man::new(command.clone()).section("8");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    writeln!(out, ".SH COMMANDS")?;
    let mut command = command.clone();
    command.build();
    for verb in command.get_subcommands_mut() {
        writeln!(out, ".SS lvx {}", verb.get_name())?;
        writeln!(out, ".nf")?;
        let help = verb.render_long_help().to_string();
        for line in help.trim_end().lines() {
            writeln!(out, "{}", literal(line))?;
        }
        writeln!(out, ".fi")?;
    }
    writeln!(out, ".SH EXIT STATUS")?;
    let statuses = "0 when it went well, 1 of diff when there is a difference and of drain when connections are left, 2 of what \
         could not be done. As ipvsadm, those of ipvsadm.";
    writeln!(out, "{statuses}")?;
    writeln!(out, ".SH SEE ALSO")?;
    writeln!(out, "lvx.toml(5), ipvsadm(8)")?;
    Ok(String::from_utf8(out)?)
}

/// A line that troff prints as it is.
fn literal(line: &str) -> String {
    let line: String = line
        .chars()
        .map(|letter| match letter {
            '\\' => "\\e".into(),
            '-' => "\\-".into(),
            letter if letter.is_ascii() => letter.to_string(),
            letter => format!("\\[u{:04X}]", u32::from(letter)),
        })
        .collect();
    if line.starts_with(['.', '\'']) {
        format!("\\&{line}")
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_page_has_every_verb() {
        let text = page(&Cli::command()).unwrap();
        assert!(text.contains(".TH lvx 8"), "{text}");
        for verb in Cli::command().get_subcommands() {
            assert!(
                text.contains(&format!(".SS lvx {}\n", verb.get_name())),
                "{text}"
            );
        }
        assert_eq!(literal(".x -y \\z…"), "\\&.x \\-y \\ez\\[u2026]");
    }

    /// A screen has 24 lines.
    #[test]
    fn help_fits_a_screen() {
        let mut command = Cli::command();
        command.build();
        for verb in command.get_subcommands_mut() {
            let lines = verb
                .clone()
                .term_width(100)
                .render_help()
                .to_string()
                .lines()
                .count();
            // `run` has the sizes of everything.
            let most = if verb.get_name() == "run" { 32 } else { 24 };
            assert!(lines <= most, "lvx {}: {lines} lines", verb.get_name());
        }
    }

    #[test]
    fn every_shell_is_served() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lvx", &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("drain") && text.contains("apply"), "{shell}");
        }
    }
}
