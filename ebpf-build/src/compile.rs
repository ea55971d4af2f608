//! The cargo command that builds the eBPF crate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    linker, object_check,
    toolchain::{self, Toolchain},
};

/// The eBPF target: little-endian.
const TARGET: &str = "bpfel-unknown-none";

/// The crate's directory below the workspace root.
const CRATE: &str = "lb-ebpf";

/// Everything needed to build or check the eBPF crate on this machine.
#[derive(Debug, Clone)]
pub struct Builder {
    /// The workspace root, above `lb-ebpf`.
    pub root: PathBuf,
    /// Where cargo puts the eBPF crate's files, not shared with host builds.
    pub target_dir: PathBuf,
    /// The compiler.
    pub toolchain: Toolchain,
    /// The `bpf-linker` program.
    pub linker: PathBuf,
}

impl Builder {
    /// Finds compiler and linker. `target_dir` is the workspace's target
    /// directory; the eBPF crate builds in `ebpf` below it, shared by all
    /// profiles of the host build. The error names what is missing and what
    /// to run.
    pub fn find(root: &Path, target_dir: &Path) -> Result<Self> {
        Ok(Self {
            root: root.to_owned(),
            target_dir: target_dir.join("ebpf"),
            toolchain: toolchain::find()?,
            linker: linker::find(target_dir)?,
        })
    }

    /// Builds one of the crate's binaries with some of its cargo features,
    /// checks the object and returns its bytes. Always optimised: the verifier
    /// would not take anything else.
    ///
    /// Several cargos may do this at once in one target directory (another
    /// profile, another worktree), so compiling and reading are one step
    /// under a lock.
    pub fn build(&self, binary: &str, features: &[&str]) -> Result<Vec<u8>> {
        fs::create_dir_all(&self.target_dir)
            .with_context(|| format!("cannot create {}", self.target_dir.display()))?;
        let lock_path = self.target_dir.join(".lvx-lock");
        let lock = fs::File::create(&lock_path)
            .with_context(|| format!("cannot create {}", lock_path.display()))?;
        lock.lock()
            .with_context(|| format!("cannot lock {}", lock_path.display()))?;

        let mut command = self.cargo("cargo", "build");
        command.args(["--release", "--bin", binary]);
        if !features.is_empty() {
            command.arg("--features").arg(features.join(","));
        }
        run(&mut command)?;

        let object = self.target_dir.join(TARGET).join("release").join(binary);
        let bytes =
            fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
        object_check::check(&bytes).with_context(|| format!("in {}", object.display()))?;
        Ok(bytes)
    }

    /// Runs clippy on the crate with its own toolchain, warnings refused.
    /// False when that toolchain has no clippy, so nothing was checked.
    pub fn clippy(&self) -> Result<bool> {
        if !["cargo-clippy", "clippy-driver"]
            .iter()
            .all(|p| self.toolchain.program(p).is_file())
        {
            return Ok(false);
        }
        let mut command = self.cargo("cargo-clippy", "clippy");
        command.args(["--release", "--", "-D", "warnings"]);
        run(&mut command)?;
        Ok(true)
    }

    /// `program verb` with the target, the flags and the directories.
    fn cargo(&self, program: &str, verb: &str) -> Command {
        let manifest = self.root.join(CRATE);
        let mut command = self.toolchain.command(program);
        command
            .current_dir(&manifest)
            .arg(verb)
            .args(["-Z", "build-std=core", "--target", TARGET])
            .arg("--target-dir")
            .arg(&self.target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags().join("\x1f"));
        if manifest.join("Cargo.lock").is_file() {
            command.arg("--locked");
        }
        command
    }

    fn rustflags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("-Clinker={}", self.linker.display()),
            // Types and line numbers for the verifier's log and for BTF.
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            // bpf-linker's way with memcpy has every memset call a function, of five
            // instructions a byte: stores instead.
            "-Clink-arg=--llvm-args=--max-store-memset=128".to_owned(),
            // v3 has the 32-bit instructions, and compare-and-swap.
            "-Ctarget-cpu=v3".to_owned(),
            // Packet fields are seldom aligned; x86-64 and arm64 do not mind.
            "-Ctarget-feature=+allows-misaligned-mem-access".to_owned(),
        ];
        // The object is shipped inside of lvx: no names of this machine's
        // directories in it.
        flags.push(remap(&self.root, "lvx"));
        flags.push(remap(
            &self.toolchain.sysroot.join("lib/rustlib/src/rust"),
            "rust",
        ));
        if let Some(home) = cargo_home() {
            flags.push(remap(&home.join("registry/src"), "registry"));
        }
        flags
    }
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}=/{to}", from.display())
}

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// Runs a command; its output goes to stderr, where both a build script's
/// and a terminal's reader look. The error names the command as typed in the
/// crate's directory.
fn run(command: &mut Command) -> Result<()> {
    let words: Vec<_> = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let shown = words.join(" ");
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run, in {CRATE}: {shown}"))?;
    if !status.success() {
        bail!("failed ({status}), in {CRATE}: {shown}");
    }
    Ok(())
}

/// The workspace's target directory, of which `inside` is a descendant (a
/// build script's `OUT_DIR`, or a program that cargo built): cargo marks it
/// with `CACHEDIR.TAG`. `None` when no ancestor is marked.
pub fn target_dir_of(inside: &Path) -> Option<PathBuf> {
    inside
        .ancestors()
        .find(|path| path.join("CACHEDIR.TAG").is_file())
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(root: &Path) -> Builder {
        Builder {
            root: root.to_owned(),
            target_dir: root.join("target/ebpf"),
            toolchain: Toolchain {
                name: "some".to_owned(),
                sysroot: root.join("toolchain"),
                release: "1.96.0".to_owned(),
                llvm_major: crate::LLVM_MAJOR,
                has_source: true,
            },
            linker: root.join("bpf-linker"),
        }
    }

    fn arguments(command: &Command) -> Vec<String> {
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_lock_file_is_obeyed_once_it_exists() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(CRATE)).unwrap();
        let builder = builder(root.path());
        assert!(!arguments(&builder.cargo("cargo", "build")).contains(&"--locked".to_owned()));
        fs::write(root.path().join(CRATE).join("Cargo.lock"), "").unwrap();
        assert!(arguments(&builder.cargo("cargo", "build")).contains(&"--locked".to_owned()));
    }

    #[test]
    fn flags_name_linker_btf_and_no_local_path() {
        let flags = builder(Path::new("/somewhere")).rustflags();
        assert!(flags.contains(&"-Clinker=/somewhere/bpf-linker".to_owned()));
        assert!(flags.contains(&"-Clink-arg=--btf".to_owned()));
        assert!(flags.contains(&"--remap-path-prefix=/somewhere=/lvx".to_owned()));
    }

    #[test]
    fn a_toolchain_without_clippy_is_said_so() {
        let root = tempfile::tempdir().unwrap();
        assert!(!builder(root.path()).clippy().unwrap());
    }

    #[test]
    fn the_target_directory_is_the_marked_ancestor() {
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("target/debug/build/x/out");
        fs::create_dir_all(&inside).unwrap();
        assert_eq!(target_dir_of(&inside), None);
        fs::write(root.path().join("target/CACHEDIR.TAG"), "").unwrap();
        assert_eq!(target_dir_of(&inside), Some(root.path().join("target")));
    }
}
