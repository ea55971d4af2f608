//! `bpf-linker`, built once and kept in the user's cache.

use anyhow::Result;
use ebpf_build::{LLVM_MAJOR, environment, linker};

use crate::shell::{self, run_quietly, stage};

/// Builds `bpf-linker` from the package registry.
pub(super) fn install() -> Result<()> {
    let root = linker::cache_root().unwrap_or_else(|| linker::target_root(&shell::target_dir()));
    println!(
        "building bpf-linker {} into {}, about a minute",
        linker::VERSION,
        root.display()
    );
    let mut command = shell::cargo();
    environment::clean(&mut command)
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM_MAJOR}"))
        .args([
            "install",
            "bpf-linker",
            "--version",
            linker::VERSION,
            "--locked",
        ])
        // --force: what is there may be broken, as by an upgrade of LLVM.
        .args(["--force", "--no-default-features"])
        .args(["--features", &format!("llvm-{LLVM_MAJOR}")])
        .arg("--root")
        .arg(&root);
    stage("cargo install bpf-linker", || run_quietly(&mut command))
}
