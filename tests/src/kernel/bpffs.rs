//! A bpffs of the test's own.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A mounted bpffs; taken away by `Drop` with everything pinned in it.
pub struct Bpffs {
    directory: TempDir,
}

impl Bpffs {
    /// Mounts one.
    ///
    /// # Errors
    /// Without root.
    pub fn new() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "this test loads programs into the kernel: run it as root"
        );
        let directory = tempfile::Builder::new().prefix("lvx-bpffs-").tempdir()?;
        mount(
            Some("bpf"),
            directory.path(),
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .context("cannot mount a bpffs")?;
        Ok(Self { directory })
    }

    /// Where a data plane may be pinned.
    pub fn pins(&self) -> PathBuf {
        self.directory.path().join("plane")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Nothing better can be done about a failure here; the directory stays.
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}
