//! Which `bpf-linker` links the eBPF crate, and where `setup` keeps its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{SETUP_HINT, environment};

/// The version that `setup` installs.
pub const VERSION: &str = "0.13.0";

/// What `bpf-linker --version` must begin with: its options and its bugs are
/// those of one minor version.
const WANTED: &str = "bpf-linker 0.13.";

/// The install root that `setup` gives to `cargo install`, outside of the
/// checkout so that a second clone finds it: `~/.cache/lvx/bpf-linker-0.13.0`.
pub fn cache_root() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("lvx").join(directory_name()))
}

/// The same below a target directory, for machines without a home.
pub fn target_root(target_dir: &Path) -> PathBuf {
    target_dir.join(directory_name())
}

fn directory_name() -> String {
    format!("bpf-linker-{VERSION}")
}

/// The program inside an install root.
pub fn program_in(root: &Path) -> PathBuf {
    root.join("bin/bpf-linker")
}

/// A `bpf-linker` that runs and is of the right version: the cache, then
/// below `target_dir`, then `PATH`. The error says what was found where.
pub fn find(target_dir: &Path) -> Result<PathBuf> {
    let installed = cache_root().into_iter().chain([target_root(target_dir)]);
    let in_path = env::var_os("PATH").unwrap_or_default();
    let candidates = installed
        .map(|root| program_in(&root))
        .chain(env::split_paths(&in_path).map(|directory| directory.join("bpf-linker")));

    let mut seen = Vec::new();
    for candidate in candidates.filter(|candidate| candidate.is_file()) {
        match version_of(&candidate) {
            Ok(version) if version.starts_with(WANTED) => return Ok(candidate),
            Ok(version) => seen.push(format!("{} is {version}", candidate.display())),
            Err(reason) => seen.push(format!("{} does not run: {reason}", candidate.display())),
        }
    }
    let seen = if seen.is_empty() {
        "none found".to_owned()
    } else {
        seen.join("; ")
    };
    bail!("no bpf-linker {VERSION}, which links the eBPF program ({seen})\n{SETUP_HINT}")
}

/// What the program says it is; the error is the reason it could not say.
fn version_of(program: &Path) -> Result<String, String> {
    let output = environment::clean(Command::new(program).arg("--version"))
        .output()
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn script(directory: &Path, body: &str) -> PathBuf {
        let path = directory.join("bpf-linker");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_linker_says_its_version_or_why_not() {
        let directory = tempfile::tempdir().unwrap();
        let good = script(directory.path(), "echo bpf-linker 0.13.0");
        assert_eq!(version_of(&good), Ok("bpf-linker 0.13.0".to_owned()));
        let bad = script(directory.path(), "echo libLLVM is gone >&2; exit 127");
        assert_eq!(version_of(&bad), Err("libLLVM is gone".to_owned()));
    }
}
