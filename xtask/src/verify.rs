//! `cargo xtask verify`: verified instructions and load time of each program
//! against `lb-ebpf/budget.toml`.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    build, oracle,
    shell::{self, is_root, release_program},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// In a virtual machine with Debian's 6.1 or 6.12 instead of on this kernel
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("verify loads eBPF programs; run it as root");
    }
    build::release()?;
    match &options.kernel {
        Some(kernel) => on(kernel),
        None => here(),
    }
}

/// On the running kernel, and on these.
pub(crate) fn everywhere(kernels: &[&str]) -> Result<()> {
    build::release()?;
    here()?;
    kernels.iter().try_for_each(|kernel| on(kernel))
}

/// On the running kernel.
fn here() -> Result<()> {
    shell::run(
        Command::new(release_program("lvx-lab"))
            .current_dir(shell::root())
            .arg("verify"),
    )
}

/// In a virtual machine with this kernel, whose emulated processor says nothing
/// about times.
fn on(kernel: &str) -> Result<()> {
    let script = shell::root().join("target/verify.sh");
    fs::write(&script, "lvx-lab verify --emulated 2>&1\n")
        .with_context(|| format!("cannot write {}", script.display()))?;
    shell::run(
        oracle::vm()?
            .args(["--kernel", kernel])
            .args([script, release_program("lvx-lab")]),
    )
}
