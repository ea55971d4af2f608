//! Debian packages in a cache of our own: nothing is installed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use lvx_tests::lab::run;

/// A kernel that Debian 12 offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// 6.12, of backports.
    #[value(name = "6.12")]
    V6_12,
    /// 6.1, Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
}

impl Kernel {
    /// The package that always depends on the newest one.
    fn meta_package(self) -> &'static str {
        match self {
            Self::V6_12 => "linux-image-6.12-cloud-amd64",
            Self::V6_1 => "linux-image-cloud-amd64",
        }
    }

    /// Its package, unpacked in the cache.
    ///
    /// # Errors
    /// When apt does not know it, or it cannot be fetched.
    pub fn fetch(self) -> Result<Unpacked> {
        let meta = self.meta_package();
        let depends = run(Command::new("apt-cache").args(["depends", meta]))
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        let package = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
            .find(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            .map(|rest| format!("linux-image-{rest}"))
            .with_context(|| {
                format!("apt knows no package {meta}: run `apt-get update`, then this again")
            })?;
        fetch_one(&package)
    }
}

/// A package's files.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// Where its root is.
    pub root: PathBuf,
}

impl Unpacked {
    /// The compressed kernel of a kernel package.
    ///
    /// # Errors
    /// When it holds none.
    pub fn vmlinuz(&self) -> Result<PathBuf> {
        only(&self.root.join("boot"), "vmlinuz-")
    }

    /// The release of a kernel package, as `uname -r` shows it.
    ///
    /// # Errors
    /// When it holds no modules.
    pub fn release(&self) -> Result<String> {
        let path = only(&self.root.join("lib/modules"), "")?;
        let name = path.file_name().unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    }
}

/// The only entry of a directory whose name begins so.
fn only(dir: &Path, prefix: &str) -> Result<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| {
            format!(
                "nothing called {prefix}* in {}: remove the directory above it, to fetch it anew",
                dir.display()
            )
        })
}

/// Packages, unpacked in the cache.
///
/// # Errors
/// When apt does not know one, or it cannot be fetched.
pub fn fetch(names: &[&str]) -> Result<Vec<Unpacked>> {
    names.iter().map(|name| fetch_one(name)).collect()
}

fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("neither HOME nor XDG_CACHE_HOME is set: no place for a cache")?;
    Ok(base.join("lvx/vm"))
}

fn fetch_one(name: &str) -> Result<Unpacked> {
    let version = candidate(name)?;
    let cache = cache()?;
    let root = cache.join(format!("{name}_{}", version.replace(':', "%3a")));
    if root.is_dir() {
        return Ok(Unpacked { root });
    }
    eprintln!("fetching {name} {version}");
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Two runs may fetch at the same time: each in a directory of its own, and
    // the first to rename wins.
    let work = tempfile::tempdir_in(&cache)?;
    run(Command::new("apt-get")
        .current_dir(work.path())
        .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
        .arg(format!("{name}={version}")))
    .with_context(|| {
        format!(
            "cannot fetch the package {name}, which the virtual machine needs: with the network \
             there, run `apt-get update`, then this again. It is kept in {}",
            cache.display()
        )
    })?;
    let archive = only(work.path(), name)?;
    let unpacked = work.path().join("root");
    run(Command::new("dpkg-deb")
        .arg("-x")
        .args([&archive, &unpacked]))?;
    if let Err(error) = fs::rename(&unpacked, &root)
        && !root.is_dir()
    {
        bail!("cannot make {}: {error}", root.display());
    }
    Ok(Unpacked { root })
}

/// The version that apt would install.
fn candidate(name: &str) -> Result<String> {
    let output = run(Command::new("apt-cache")
        .env("LC_ALL", "C")
        .args(["policy", name]))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
        .with_context(|| {
            format!("apt knows no package {name}: run `apt-get update`, then this again")
        })
}
