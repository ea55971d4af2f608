//! `cargo xtask demo`.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Result, bail};

use crate::{
    build,
    shell::{is_root, release_program, show},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave the lab standing and print how to enter it
    #[arg(long)]
    keep: bool,
    /// How many HTTP requests to make
    #[arg(long, value_name = "N")]
    requests: Option<u32>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("the demo makes network namespaces and loads eBPF programs; run it as root");
    }
    build::release()?;
    let mut command = Command::new(release_program("lvx-lab"));
    command.arg("demo");
    if options.keep {
        command.arg("--keep");
    }
    if let Some(requests) = options.requests {
        command.args(["--requests", &requests.to_string()]);
    }
    // In our place: Ctrl-C and its exit status are then the lab's own.
    let error = command.exec();
    bail!("cannot run: {}: {error}", show(&command))
}
