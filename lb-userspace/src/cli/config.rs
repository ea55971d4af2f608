//! `lvx config`: files, without a daemon.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, Subcommand};

use super::{apply, terminal::show};
use crate::{config, daemon::ldirectord, model::Config};

/// Exit status when a file is wrong.
const TROUBLE: u8 = 2;

/// Arguments of `lvx config`.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Say what is wrong with a file: lvx.toml, ldirectord.cf, or what 'ipvsadm -S' wrote
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print such a file as lvx.toml
    Convert {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn main(args: &Args) -> Result<ExitCode> {
    let file = match &args.verb {
        Verb::Check { file } | Verb::Convert { file } => file,
    };
    let Some(config) = read(file)? else {
        return Ok(ExitCode::from(TROUBLE));
    };
    match args.verb {
        Verb::Check { .. } => {
            let services = config.services.as_deref().unwrap_or_default();
            let servers: usize = services.iter().map(|service| service.dests.len()).sum();
            let checked = services.iter().filter(|service| service.check.is_some());
            show(&format!(
                "{}: good: {} services, {} of them checked, {servers} servers\n",
                file.display(),
                services.len(),
                checked.count()
            ));
        }
        Verb::Convert { .. } => show(&config::text(&config)),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Option<Config>> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    if !is_ldirectord(file, &String::from_utf8_lossy(&text)) {
        return Ok(apply::read(&file.to_string_lossy())?.map(|(config, _)| config));
    }
    match ldirectord::look(file) {
        Ok((config, _, warnings)) => {
            for warning in warnings {
                eprintln!("{warning}");
            }
            Ok(Some(config))
        }
        Err(error) => {
            eprintln!("{error:#}");
            Ok(None)
        }
    }
}

/// By its name, or by a line that only ldirectord.cf has.
fn is_ldirectord(file: &Path, text: &str) -> bool {
    let virtual_line = |line: &str| {
        let name = line.split('=').next().unwrap_or_default().trim_end();
        line.contains('=') && matches!(name, "virtual" | "virtual6")
    };
    file.extension().is_some_and(|it| it == "cf") || text.lines().any(virtual_line)
}
