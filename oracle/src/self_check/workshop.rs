//! A copy of the workspace in which lvx is built with a defect.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs::{self, File},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use lvx_tests::lab::run;

use super::defects::Defect;

/// The copy and its target directory, which are kept for the next time.
#[derive(Debug)]
pub struct Workshop {
    directory: PathBuf,
    /// Held as long as this is open.
    _lock: File,
}

impl Workshop {
    /// Copies the sources of the checkout `root` into `directory`, or brings an
    /// old copy there up to date.
    ///
    /// # Errors
    /// When another self-check works there, git does not tell the sources, or
    /// they cannot be copied.
    pub fn open(root: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let lock = File::create(directory.join("lock"))?;
        lock.try_lock().with_context(|| {
            format!(
                "{} is in use: another self-check of this checkout runs; wait for its end",
                directory.display()
            )
        })?;
        let files = sources(root)?;
        let copy = directory.join("src");
        for file in &files {
            let (from, to) = (root.join(file), copy.join(file));
            let content =
                fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            write(&to, &content)?;
        }
        remove_others(&copy, &copy, &files)?;
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// Builds lvx, with a defect or as it is, and gives back where the program is.
    ///
    /// # Errors
    /// When the defect does not fit or does not build.
    pub fn build(&self, defect: Option<&Defect>) -> Result<PathBuf> {
        let Some(defect) = defect else {
            return self.compile("unmodified");
        };
        let path = self.directory.join("src").join(&defect.file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        write(&path, defect.plant(&text)?.as_bytes())?;
        let built = self.compile(&defect.name);
        write(&path, text.as_bytes())?;
        built
    }

    fn compile(&self, name: &str) -> Result<PathBuf> {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What an outer cargo tells of another package makes build scripts run again.
        for (variable, _) in env::vars_os() {
            let outer = [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_BIN_",
                "CARGO_CRATE_",
            ];
            if outer
                .iter()
                .any(|start| variable.as_bytes().starts_with(start.as_bytes()))
            {
                command.env_remove(variable);
            }
        }
        let target = self.directory.join("target");
        run(command
            .current_dir(self.directory.join("src"))
            .args(["build", "--release", "--locked", "--quiet"])
            .args(["-p", "lb-userspace", "--bin", "lvx"])
            // Many small builds, each run for seconds.
            .args(["--config", "profile.release.incremental=true"])
            .args(["--config", "profile.release.opt-level=1"])
            .arg("--target-dir")
            .arg(&target))?;
        // The next build overwrites it while this one is still played.
        let kept = self.directory.join("bin").join(name).join("lvx");
        fs::create_dir_all(kept.parent().unwrap_or(&kept))?;
        fs::copy(target.join("release/lvx"), &kept)
            .with_context(|| format!("cannot make {}", kept.display()))?;
        Ok(kept)
    }
}

/// The files that git has or would add, below `root`.
fn sources(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = run(Command::new("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
    .context("git tells which files are lvx's sources: run this in a checkout")?;
    Ok(output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(OsStr::from_bytes(name)))
        // One that was deleted and is not committed yet is listed too.
        .filter(|file| root.join(file).is_file())
        .collect())
}

/// Writes a file, unless it is so: cargo builds what is new.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| fs::write(path, content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes what an older copy had.
fn remove_others(copy: &Path, directory: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(copy, &path, files)?;
        } else if !path
            .strip_prefix(copy)
            .is_ok_and(|file| files.contains(file))
        {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(root: &Path, words: &[&str]) {
        run(Command::new("git").current_dir(root).args(words)).expect("git works");
    }

    #[test]
    fn a_copy_has_the_sources_and_nothing_else() {
        let (root, copy) = (
            tempfile::tempdir().expect("a directory"),
            tempfile::tempdir().expect("a directory"),
        );
        let put = |name: &str, text: &str| {
            write(&root.path().join(name), text.as_bytes()).expect("it can be written");
        };
        let copied = |name: &str| fs::read_to_string(copy.path().join("src").join(name)).ok();
        git(root.path(), &["init", "--quiet"]);
        put(".gitignore", "target\n");
        put("a/x.rs", "one");
        put("y.rs", "two");
        put("target/z", "built");
        git(root.path(), &["add", "a/x.rs"]);
        let open = Workshop::open(root.path(), copy.path()).expect("it is made");
        let error = Workshop::open(root.path(), copy.path()).expect_err("it is open");
        assert!(
            format!("{error:#}").contains("another self-check"),
            "{error:#}"
        );
        drop(open);
        assert_eq!(copied("a/x.rs").as_deref(), Some("one"));
        assert_eq!(copied("y.rs").as_deref(), Some("two"), "not committed yet");
        assert_eq!(copied("target/z"), None);

        let time = |name: &str| {
            let path = copy.path().join("src").join(name);
            fs::metadata(path).and_then(|data| data.modified()).ok()
        };
        let before = time("y.rs");
        put("a/x.rs", "three");
        git(root.path(), &["add", "a/x.rs"]);
        fs::remove_file(root.path().join("a/x.rs")).expect("it is there");
        put("b.rs", "four");
        Workshop::open(root.path(), copy.path()).expect("it is made");
        assert_eq!(copied("a/x.rs"), None, "deleted");
        assert_eq!(copied("b.rs").as_deref(), Some("four"));
        assert_eq!(time("y.rs"), before, "cargo must not build it again");
    }
}
