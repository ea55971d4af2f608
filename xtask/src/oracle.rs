//! `cargo xtask oracle` and `cargo xtask vm`: the kernel's IPVS in a virtual
//! machine, beside lvx.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    setup,
    shell::{self, is_root, release_program, stage},
};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// As for lvx-oracle; --help shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs `lvx-oracle VERB …` and exits as it does.
pub(crate) fn run(verb: &str, options: &Options) -> Result<()> {
    if !is_root() {
        bail!("the oracle makes network namespaces and loads eBPF programs; run it as root");
    }
    setup::ensure()?;
    build()?;
    let status = program(verb).args(&options.arguments).status()?;
    // It has said what is wrong.
    std::process::exit(status.code().unwrap_or(2));
}

/// Boots the machine once for these scenarios; a difference is an error.
pub(crate) fn check(scenarios: &[&str]) -> Result<()> {
    build()?;
    shell::run(program("compare").args(scenarios))
}

/// Boots the machine once to try lvx among Linux's own devices: what has one of
/// these words in its name.
pub(crate) fn devices(only: &[&str]) -> Result<()> {
    build()?;
    shell::run(program("devices").args(only))
}

/// `lvx-oracle vm`, built: to boot the machine with a script and programs.
pub(crate) fn vm() -> Result<Command> {
    build()?;
    Ok(program("vm"))
}

fn build() -> Result<()> {
    stage("build", || {
        shell::run(shell::cargo().args([
            "build",
            "--release",
            "--locked",
            "-p",
            "lb-userspace",
            "-p",
            "lvx-oracle",
        ]))
    })
}

/// `lvx-oracle VERB` of the release build.
fn program(verb: &str) -> Command {
    let mut command = Command::new(release_program("lvx-oracle"));
    command.current_dir(shell::root()).arg(verb);
    command
}
