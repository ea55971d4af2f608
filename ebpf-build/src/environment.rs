//! What a cargo started by another cargo must not inherit.
//!
//! A build script and `cargo xtask` both run inside a cargo, which sets
//! variables that choose *its* compiler, flags and wrappers (clippy's among
//! them). A nested cargo for another target or toolchain has to start clean.

use std::{env, process::Command};

/// Variables of the form `CARGO_*` that describe the machine and the user's
/// wishes rather than the outer build; the nested cargo keeps them.
const KEPT: &[&str] = &[
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// True for a variable that an outer cargo or rustup sets for its own build.
fn belongs_to_the_outer_build(name: &str) -> bool {
    if name.starts_with("CARGO_") {
        return !KEPT.iter().any(|kept| name.starts_with(kept));
    }
    matches!(
        name,
        "CARGO"
            | "RUSTC"
            | "RUSTDOC"
            | "RUSTFLAGS"
            | "RUSTDOCFLAGS"
            | "RUSTC_WRAPPER"
            | "RUSTC_WORKSPACE_WRAPPER"
            | "RUSTC_LINKER"
            | "RUSTC_BOOTSTRAP"
            | "RUSTUP_TOOLCHAIN"
            | "RUST_RECURSION_COUNT"
            | "CLIPPY_ARGS"
            | "CLIPPY_CONF_DIR"
            // rustup points it at the outer toolchain's libraries.
            | "LD_LIBRARY_PATH"
            | "MAKEFLAGS"
            | "MFLAGS"
            | "TARGET"
            | "HOST"
            | "OPT_LEVEL"
            | "PROFILE"
            | "DEBUG"
            | "NUM_JOBS"
            | "OUT_DIR"
    )
}

/// Removes the outer build's variables from what `command` will inherit.
/// Call it before setting variables of your own.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_the_outer_build) {
            command.env_remove(&name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::belongs_to_the_outer_build as outer;

    #[test]
    fn compilers_flags_and_wrappers_are_not_inherited() {
        for name in [
            "RUSTC",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_MANIFEST_DIR",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
        ] {
            assert!(outer(name), "{name}");
        }
    }

    #[test]
    fn what_describes_the_machine_stays() {
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_NET_OFFLINE",
        ] {
            assert!(!outer(name), "{name}");
        }
    }
}
