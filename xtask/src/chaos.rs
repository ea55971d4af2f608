//! `cargo xtask chaos`.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Result, bail};

use crate::{
    build,
    shell::{is_root, release_program, show},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 5)]
    minutes: u64,
    /// After how many kills at the latest
    #[arg(long, value_name = "N")]
    kills: Option<u32>,
    /// Of the random choices: the same seed makes the same ones [default: random]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Requests a second meanwhile
    #[arg(long, value_name = "N", default_value_t = 500)]
    rate: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("chaos makes network namespaces and loads eBPF programs; run it as root");
    }
    build::release()?;
    let mut command = Command::new(release_program("lvx-lab"));
    command.args(["chaos", "--minutes", &options.minutes.to_string()]);
    command.args(["--rate", &options.rate.to_string()]);
    if let Some(kills) = options.kills {
        command.args(["--kills", &kills.to_string()]);
    }
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    // In our place: Ctrl-C and its exit status are then the lab's own.
    let error = command.exec();
    bail!("cannot run: {}: {error}", show(&command))
}
