//! Rust toolchains and their components.

use std::{env, path::Path, process::Command};

use anyhow::Result;
use ebpf_build::toolchain::{self, Toolchain};

use crate::shell::{find_program, run_quietly, stage};

/// Components of the host toolchain that `lint` needs, with their programs.
const COMPONENTS: [(&str, &str); 2] = [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")];

/// Those that the toolchain that runs us lacks.
pub(super) fn missing_components() -> Vec<&'static str> {
    // The cargo that runs us is in its toolchain's directory of programs.
    let cargo = env::var_os("CARGO").unwrap_or_default();
    let beside = Path::new(&cargo).parent().unwrap_or(Path::new(""));
    COMPONENTS
        .into_iter()
        .filter(|(_, program)| {
            !beside.join(program).is_file() && find_program(program).is_none_or(is_proxy)
        })
        .map(|(component, _)| component)
        .collect()
}

/// True for rustup's stand-in, which is there whether the component is or not.
fn is_proxy(program: impl AsRef<Path>) -> bool {
    program
        .as_ref()
        .parent()
        .is_some_and(|directory| directory.join("rustup").exists())
}

/// Installs components of the toolchain that runs us.
pub(super) fn add_components(components: &[&str]) -> Result<()> {
    if components.is_empty() {
        return Ok(());
    }
    add(components, &env::var("RUSTUP_TOOLCHAIN").ok())
}

/// Adds the library source to a rustup toolchain of the right LLVM: a nightly
/// first. False when there is none, or none whose source can be had.
pub(super) fn add_library_source() -> Result<bool> {
    if !toolchain::rustup_is_wanted()? || find_program("rustup").is_none() {
        return Ok(false);
    }
    let mut fitting: Vec<Toolchain> = toolchain::rustup_toolchains()
        .into_iter()
        .filter(Toolchain::llvm_fits)
        .collect();
    fitting.sort_by_key(Toolchain::needs_bootstrap);
    Ok(fitting.into_iter().any(|toolchain| {
        let added = add(&["rust-src"], &Some(toolchain.name));
        if let Err(error) = &added {
            println!("{error:#}");
        }
        added.is_ok()
    }))
}

/// Miri is worth a try where a nightly is installed, and no reason to fail.
pub(super) fn try_to_add_miri() {
    let nightly = toolchain::rustup_toolchains()
        .into_iter()
        .find(|t| !t.needs_bootstrap());
    if let Some(nightly) = nightly
        && !nightly.program("cargo-miri").is_file()
        && let Err(error) = add(&["miri", "rust-src"], &Some(nightly.name))
    {
        println!("no miri, so cargo xtask test will do without: {error:#}");
    }
}

fn add(components: &[&str], toolchain: &Option<String>) -> Result<()> {
    let mut command = Command::new("rustup");
    command.args(["component", "add"]).args(components);
    let mut title = format!("rustup component add {}", components.join(" "));
    if let Some(name) = toolchain {
        command.args(["--toolchain", name]);
        title = format!("{title} --toolchain {name}");
    }
    stage(&title, || run_quietly(&mut command))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_proxy_is_known_by_the_rustup_beside_it() {
        let directory = env::temp_dir().join(format!("lvx-proxy-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert!(!is_proxy(directory.join("cargo-fmt")));
        fs::write(directory.join("rustup"), "").unwrap();
        assert!(is_proxy(directory.join("cargo-fmt")));
        fs::remove_dir_all(&directory).unwrap();
    }
}
