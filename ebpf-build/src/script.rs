//! What the build scripts of the crates that embed an object have in common.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{Builder, target_dir_of, toolchain};

/// What the objects are made of, below the workspace root.
const SOURCES: [&str; 6] = [
    "Cargo.toml",
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/Cargo.lock",
    "lb-ebpf/src",
];

/// For the build script of a crate right below the workspace root: builds
/// `binary` of the eBPF crate with these features, leaves it in `OUT_DIR` as `<binary>.o`, and has
/// cargo run the script again when something that it is made of changes.
/// Returns the object's bytes.
///
/// # Errors
/// When a tool is missing (the text says what to run) or the build fails.
pub fn embed(binary: &str, features: &[&str]) -> Result<Vec<u8>> {
    let crate_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("not under cargo")?);
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("not under cargo")?);
    let root = crate_dir
        .parent()
        .with_context(|| format!("{} is not in a workspace", crate_dir.display()))?;
    watch(root);

    let target_dir = target_dir_of(&out_dir).unwrap_or_else(|| out_dir.clone());
    let builder = Builder::find(root, &target_dir)?;
    // A linker or compiler that goes away or is replaced makes a new object.
    println!("cargo::rerun-if-changed={}", builder.linker.display());
    println!(
        "cargo::rerun-if-changed={}",
        builder.toolchain.program("rustc").display()
    );

    let object = builder.build(binary, features)?;
    let path = out_dir.join(binary).with_extension("o");
    fs::write(&path, &object).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(object)
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

/// Shows an error as cargo shows its own, line by line.
pub fn complain(error: &anyhow::Error) {
    for line in format!("{error:#}").lines() {
        println!("cargo::error={line}");
    }
}
