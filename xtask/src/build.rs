//! `cargo xtask build`.

use anyhow::Result;

use crate::{
    setup,
    shell::{self, stage},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Without optimisation of the host side
    #[arg(long)]
    debug: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    stage("build", || compile(!options.debug))?;
    let profile = if options.debug { "debug" } else { "release" };
    println!(
        "lvx is {}",
        shell::target_dir().join(profile).join("lvx").display()
    );
    Ok(())
}

/// Sets up, and builds what `demo` and `verify` run.
pub(crate) fn release() -> Result<()> {
    setup::ensure()?;
    stage("build", || compile(true))
}

/// Builds the programs, on a machine that is set up.
pub(crate) fn compile(release: bool) -> Result<()> {
    let mut command = shell::cargo();
    command.args(["build", "--locked", "-p", "lb-userspace", "-p", "lvx-tests"]);
    if release {
        command.arg("--release");
    }
    shell::run(&mut command)
}

/// Builds the tests and the programs that they run, as `cargo test --workspace`
/// would: for another choice of packages cargo builds some of them twice.
pub(crate) fn compile_tests() -> Result<()> {
    shell::run(shell::cargo().args(["build", "--locked", "--workspace", "--bins", "--tests"]))
}
