//! `cargo xtask lint`: formatting and clippy, warnings refused.

use anyhow::{Result, bail};
use ebpf_build::Builder;

use crate::{
    setup,
    shell::{self, cargo, root, stage, target_dir},
};

const EBPF_MANIFEST: &str = "lb-ebpf/Cargo.toml";

/// A name and what it runs.
type Check = (&'static str, fn() -> Result<()>);

pub(crate) fn run() -> Result<()> {
    setup::ensure()?;
    check()
}

/// The checks alone, on a machine that is set up.
pub(crate) fn check() -> Result<()> {
    let checks: [Check; 4] = [
        ("fmt", || {
            shell::run(cargo().args(["fmt", "--all", "--check"]))
        }),
        ("fmt of lb-ebpf", || {
            shell::run(cargo().args(["fmt", "--check", "--manifest-path", EBPF_MANIFEST]))
        }),
        ("clippy", || {
            let mut command = cargo();
            command.args(["clippy", "--locked", "--workspace", "--all-targets"]);
            shell::run(command.args(["--", "-D", "warnings"]))
        }),
        ("clippy of lb-ebpf", clippy_of_ebpf),
    ];
    // All of them, so that one run shows everything there is to mend.
    let mut failed = Vec::new();
    for (name, run) in checks {
        if let Err(error) = stage(name, run) {
            println!("{error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    Ok(())
}

fn clippy_of_ebpf() -> Result<()> {
    let builder = Builder::find(&root(), &target_dir())?;
    if !builder.clippy()? {
        println!(
            "not run: clippy of lb-ebpf, because its toolchain, {} ({}), has no clippy",
            builder.toolchain.name, builder.toolchain.release
        );
    }
    Ok(())
}
