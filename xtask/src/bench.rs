//! `cargo xtask bench`: what a packet costs, and what a stream gets, by
//! `lvx-lab bench`.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{
    build,
    shell::{self, is_root, release_program},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer rounds: less exact, below 20 seconds
    #[arg(long)]
    quick: bool,
    /// One TCP stream by each method instead of single packets
    #[arg(long)]
    streams: bool,
    /// A new connection by each scheduler instead of established ones
    #[arg(long, conflicts_with = "streams")]
    schedulers: bool,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE", conflicts_with_all = ["streams", "schedulers"])]
    json: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("bench loads eBPF programs; run it as root");
    }
    build::release()?;
    let mut command = Command::new(release_program("lvx-lab"));
    command.arg("bench");
    if options.streams {
        command.arg("streams");
    }
    if options.schedulers {
        command.arg("schedulers");
    }
    if options.quick {
        command.arg("--quick");
    }
    if let Some(path) = &options.json {
        command.arg("--json").arg(path);
    }
    shell::run(&mut command)
}
