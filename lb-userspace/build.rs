//! Builds the eBPF crate and hands its object to the `lvx` binary.
//!
//! Leaves `lvx.o` in `OUT_DIR`, and in `LVX_BUILD_ID` a decimal number that
//! identifies the object's bytes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use ebpf_build::{Builder, build_id, target_dir_of, toolchain};

/// What the object is made of, below the workspace root.
const SOURCES: [&str; 6] = [
    "Cargo.toml",
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/Cargo.lock",
    "lb-ebpf/src",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // cargo shows these lines as errors of its own, one by one.
            for line in format!("{error:#}").lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let crate_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("not under cargo")?);
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("not under cargo")?);
    let root = crate_dir
        .parent()
        .context("lb-userspace is not in a workspace")?;
    watch(root);

    let target_dir = target_dir_of(&out_dir).unwrap_or_else(|| out_dir.clone());
    let builder = Builder::find(root, &target_dir)?;
    // A linker or compiler that goes away or is replaced makes a new object.
    println!("cargo::rerun-if-changed={}", builder.linker.display());
    println!(
        "cargo::rerun-if-changed={}",
        builder.toolchain.program("rustc").display()
    );

    // As cargo tells build scripts of features.
    let traced = env::var_os("CARGO_FEATURE_TRACE").is_some();
    let features: &[&str] = if traced { &["trace"] } else { &[] };
    let object = builder.build(features)?;
    let path = out_dir.join("lvx.o");
    fs::write(&path, &object).with_context(|| format!("cannot write {}", path.display()))?;
    println!("cargo::rustc-env=LVX_BUILD_ID={}", build_id(&object));
    Ok(())
}

fn watch(root: &Path) {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!(
        "cargo::rerun-if-env-changed={}",
        toolchain::TOOLCHAIN_VARIABLE
    );
}
