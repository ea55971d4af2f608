//! Namespaces, the processes in them, the links between them, and the
//! topologies that the tests and the demo use.
//!
//! A [`Lab`] owns a directory `/run/lvx-lab/NAME` in which it writes down every
//! namespace and process it makes, so that [`clean`] can remove a lab that was
//! kept or whose maker was killed.

pub mod clean;
mod link;
mod namespace;
mod offload;
mod one_arm;
mod process;
mod routed;
mod server;
mod two_arm;

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result, bail, ensure};

pub use lb_userspace::netlink::{features, set_features};
pub use link::{Node, Segment, mac_of};
pub use namespace::{Door, Namespace};
pub use offload::Offload;
pub use one_arm::{OneArm, Options};
pub use process::Background;
pub use routed::{Answers, Routed};
pub use server::{Server, nginx};
pub use two_arm::TwoArm;

/// Where labs are written down.
pub const ROOT: &str = "/run/lvx-lab";

/// One lab: a unique name, a directory, and whether it outlives this process.
#[derive(Clone, Debug)]
pub struct Lab(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    dir: PathBuf,
    keep: AtomicBool,
}

impl Lab {
    /// A new lab called `lvx-PID-N`.
    ///
    /// # Errors
    /// Without root, or when the directory cannot be made.
    pub fn new() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root: run this again as root (sudo)"
        );
        let name = format!(
            "lvx-{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let dir = Path::new(ROOT).join(&name);
        // What is there was left by a process of the same number.
        if dir.exists() {
            clean::remove(&name)?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(Arc::new(Inner {
            name,
            dir,
            keep: AtomicBool::new(false),
        })))
    }

    /// `lvx-PID-N`; the names of its namespaces begin with it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Directory for logs, configuration files and the like; goes with the lab.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Leaves namespaces, processes and the directory standing when they are
    /// dropped. [`clean::remove`] takes them away.
    pub fn keep(&self) {
        self.0.keep.store(true, Ordering::Relaxed);
    }

    /// Whether [`Lab::keep`] was called.
    pub fn is_kept(&self) -> bool {
        self.0.keep.load(Ordering::Relaxed)
    }

    /// Makes a namespace `lvx-PID-N-ROLE` with its loopback up and without IPv6.
    ///
    /// # Errors
    /// When `ip netns add` fails.
    pub fn namespace(&self, role: &str) -> Result<Namespace> {
        Namespace::create(self, role)
    }

    /// Adds a line to one of the lab's lists, `namespaces` or `processes`.
    fn write_down(&self, list: &str, line: &str) -> Result<()> {
        let path = self.0.dir.join(list);
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{line}").with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::Relaxed) {
            // The directory is all that is left here; nobody is told of a failure.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or its status is not 0; the text holds the
/// command and its standard error.
pub fn run(command: &mut Command) -> Result<Output> {
    let shown = show(command);
    let output = command.output().with_context(|| {
        format!(
            "cannot run `{shown}`; is the package installed that has `{}`?",
            command.get_program().display()
        )
    })?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed, {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A system tool by name, also where `PATH` lacks the `sbin` directories, as
/// that of a login without `-` does.
pub fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}
