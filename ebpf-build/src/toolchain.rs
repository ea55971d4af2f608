//! Which compiler builds the eBPF crate.
//!
//! In this order: an installed rustup toolchain, then Debian's `rustc-web`.
//! Either must be of [`LLVM_MAJOR`] and have the library source, because
//! `core` is compiled for the target too. A toolchain is asked for its LLVM
//! version, never trusted by name: a nightly moves on.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{LLVM_MAJOR, SETUP_HINT, environment};

/// Restricts the search: `rustup` or `debian`. Unset: both, in that order.
pub const TOOLCHAIN_VARIABLE: &str = "LVX_EBPF_TOOLCHAIN";

/// Debian's packages of a compiler with LLVM 22 and its library source.
pub const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A Rust toolchain on this machine, complete or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// How people call it: rustup's name of it, or `debian`.
    pub name: String,
    /// The directory that holds `bin/` and `lib/rustlib/`.
    pub sysroot: PathBuf,
    /// The compiler's version, such as `1.96.0`.
    pub release: String,
    /// Major version of the LLVM the compiler was built with.
    pub llvm_major: u32,
    /// True when the library source is installed.
    pub has_source: bool,
}

/// Where toolchains may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Rustup,
    Debian,
}

impl Toolchain {
    /// Asks the compiler under `sysroot` what it is; `None` when there is none.
    fn probe(name: &str, sysroot: &Path) -> Option<Self> {
        let rustc = sysroot.join("bin/rustc");
        let output = environment::clean(Command::new(&rustc).arg("-vV"))
            .output()
            .ok()?;
        let (release, llvm_major) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self {
            name: name.to_owned(),
            sysroot: sysroot.to_owned(),
            release,
            llvm_major,
            has_source: sysroot
                .join("lib/rustlib/src/rust/library/core/Cargo.toml")
                .is_file(),
        })
    }

    /// The path of one of the toolchain's programs, whether it exists or not.
    pub fn program(&self, name: &str) -> PathBuf {
        self.sysroot.join("bin").join(name)
    }

    /// True when the compiler's LLVM is the one `bpf-linker` reads.
    pub fn llvm_fits(&self) -> bool {
        self.llvm_major == LLVM_MAJOR
    }

    /// True when the eBPF crate can be built with it.
    pub fn is_complete(&self) -> bool {
        self.llvm_fits() && self.has_source && self.program("cargo").is_file()
    }

    /// True when the compiler takes unstable options only if it is told that
    /// it builds itself, which stable releases and Debian's do.
    pub fn needs_bootstrap(&self) -> bool {
        !self.release.contains("nightly")
    }

    /// A command that runs one of the toolchain's programs (`cargo`,
    /// `cargo-clippy`) with this toolchain's compiler and nothing of the
    /// cargo we run under.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        environment::clean(&mut command)
            .env("CARGO", self.program("cargo"))
            .env("RUSTC", self.program("rustc"))
            // Empty: no wrapper, also when the user's configuration names one.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "");
        if self.needs_bootstrap() {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// Reads `rustc -vV`: the release and the LLVM major version.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let release = field("release: ")?.trim().to_owned();
    let llvm = field("LLVM version: ")?;
    Some((release, llvm.split('.').next()?.trim().parse().ok()?))
}

/// All rustup toolchains, the one we were started with first, then by name.
pub fn rustup_toolchains() -> Vec<Toolchain> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")));
    let Some(Ok(entries)) = home.map(|home| fs::read_dir(home.join("toolchains"))) else {
        return Vec::new();
    };
    let active = env::var("RUSTUP_TOOLCHAIN").unwrap_or_default();
    let mut names: Vec<(String, PathBuf)> = entries
        .flatten()
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    names.sort_by_key(|(name, _)| (*name != active, name.clone()));
    names
        .iter()
        .filter_map(|(name, sysroot)| Toolchain::probe(name, sysroot))
        .collect()
}

/// The compiler of Debian's packages, when one is installed.
pub fn debian_toolchain() -> Option<Toolchain> {
    Toolchain::probe("debian", Path::new("/usr"))
}

fn wanted_origins() -> Result<Vec<Origin>> {
    match env::var(TOOLCHAIN_VARIABLE).as_deref() {
        Err(_) | Ok("") => Ok(vec![Origin::Rustup, Origin::Debian]),
        Ok("rustup") => Ok(vec![Origin::Rustup]),
        Ok("debian") => Ok(vec![Origin::Debian]),
        Ok(other) => {
            bail!("{TOOLCHAIN_VARIABLE} is \"{other}\"; it can be \"rustup\" or \"debian\"")
        }
    }
}

/// True when [`TOOLCHAIN_VARIABLE`] lets the search look at rustup.
pub fn rustup_is_wanted() -> Result<bool> {
    Ok(wanted_origins()?.contains(&Origin::Rustup))
}

/// True when [`TOOLCHAIN_VARIABLE`] lets the search look at Debian's packages.
pub fn debian_is_wanted() -> Result<bool> {
    Ok(wanted_origins()?.contains(&Origin::Debian))
}

/// The toolchain that builds the eBPF crate. The error says what was found,
/// what each candidate lacks and what to run.
pub fn find() -> Result<Toolchain> {
    let mut seen = Vec::new();
    for origin in wanted_origins()? {
        let candidates = match origin {
            Origin::Rustup => rustup_toolchains(),
            Origin::Debian => debian_toolchain().into_iter().collect(),
        };
        for candidate in candidates {
            if candidate.is_complete() {
                return Ok(candidate);
            }
            seen.push(describe_lack(&candidate));
        }
    }
    let seen = if seen.is_empty() {
        "none".to_owned()
    } else {
        seen.join("; ")
    };
    bail!(
        "no Rust toolchain with LLVM {LLVM_MAJOR} and rust-src, which the eBPF program needs \
         (found: {seen})\n{SETUP_HINT}"
    )
}

fn describe_lack(toolchain: &Toolchain) -> String {
    let Toolchain {
        name,
        release,
        llvm_major,
        ..
    } = toolchain;
    let lack = if !toolchain.llvm_fits() {
        format!("has LLVM {llvm_major}")
    } else if !toolchain.has_source {
        "lacks rust-src".to_owned()
    } else {
        "lacks cargo".to_owned()
    };
    format!("{name} ({release}) {lack}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
                          release: 1.95.0\nLLVM version: 22.1.2\n";

    fn toolchain(release: &str, llvm_major: u32, has_source: bool) -> Toolchain {
        Toolchain {
            name: "some".to_owned(),
            sysroot: PathBuf::from("/nonexistent"),
            release: release.to_owned(),
            llvm_major,
            has_source,
        }
    }

    #[test]
    fn version_text_is_read() {
        assert_eq!(parse_version(STABLE), Some(("1.95.0".to_owned(), 22)));
        assert_eq!(parse_version("error: toolchain is not installed"), None);
        // Another code generator reports no LLVM version.
        assert_eq!(parse_version("release: 1.95.0\n"), None);
    }

    #[test]
    fn only_nightlies_take_unstable_options_unasked() {
        assert!(toolchain("1.95.0", 22, true).needs_bootstrap());
        assert!(toolchain("1.96.0-beta.1", 22, true).needs_bootstrap());
        assert!(!toolchain("1.97.0-nightly", 22, true).needs_bootstrap());
    }

    #[test]
    fn a_lack_is_named() {
        assert_eq!(
            describe_lack(&toolchain("1.99.0", 23, true)),
            "some (1.99.0) has LLVM 23"
        );
        assert_eq!(
            describe_lack(&toolchain("1.95.0", 22, false)),
            "some (1.95.0) lacks rust-src"
        );
        assert_eq!(
            describe_lack(&toolchain("1.95.0", 22, true)),
            "some (1.95.0) lacks cargo"
        );
    }

    #[test]
    fn a_command_names_its_own_compiler() {
        let command = toolchain("1.95.0", 22, true).command("cargo");
        let value = |name: &str| {
            command
                .get_envs()
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value.map(|v| v.to_string_lossy().into_owned()))
        };
        assert_eq!(command.get_program(), "/nonexistent/bin/cargo");
        assert_eq!(value("RUSTC").as_deref(), Some("/nonexistent/bin/rustc"));
        assert_eq!(value("RUSTC_BOOTSTRAP").as_deref(), Some("1"));
        assert_eq!(value("RUSTC_WORKSPACE_WRAPPER").as_deref(), Some(""));
    }
}
