//! Into which namespaces the process goes before it does anything else. All of
//! this must happen while there is one thread.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

/// Enters the mount namespace of PID 1. A BPF file system that is mounted under
/// `ip netns exec` lives in that command's private mount namespace and would
/// disappear with it, pins, links and all.
///
/// # Errors
/// When the kernel refuses to enter it.
pub fn enter_first_mount_namespace() -> Result<()> {
    let Some(namespace) = first_mount_namespace() else {
        return Ok(());
    };
    let (own, first) = (fs::metadata("/proc/self/ns/mnt")?, namespace.metadata()?);
    if (own.dev(), own.ino()) != (first.dev(), first.ino()) {
        setns(namespace, CloneFlags::CLONE_NEWNS).context(
            "cannot enter the first mount namespace, where the BPF file system must be mounted: \
             run as root with all capabilities",
        )?;
    }
    Ok(())
}

/// PID 1's mount namespace. Where PID 1 has more privileges than root here and
/// does not let itself be looked at: that of the most distant ancestor who does.
fn first_mount_namespace() -> Option<File> {
    let open = |pid: u32| File::open(format!("/proc/{pid}/ns/mnt")).ok();
    let mut ancestors = vec![std::process::id()];
    while let Some(parent) = ancestors
        .last()
        .and_then(|pid| parent(*pid))
        .filter(|pid| *pid > 1)
    {
        ancestors.push(parent);
    }
    open(1).or_else(|| ancestors.into_iter().rev().find_map(open))
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold blanks and parentheses.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Enters the network namespace that `ip netns` calls `name`.
///
/// # Errors
/// When there is none, or the kernel refuses.
pub fn enter_network_namespace(name: &str) -> Result<()> {
    if name.is_empty() || name.contains('/') {
        bail!("'{name}' is not the name of a network namespace");
    }
    let path = Path::new("/run/netns").join(name);
    let namespace = File::open(&path).with_context(|| {
        format!("there is no network namespace '{name}': 'ip netns list' shows those there are")
    })?;
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the network namespace '{name}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read() {
        assert_eq!(
            parent(std::process::id()),
            Some(std::os::unix::process::parent_id())
        );
        assert_eq!(parent(u32::MAX), None);
    }

    #[test]
    fn names_are_not_paths() {
        for name in ["", "../x", "a/b"] {
            assert!(
                enter_network_namespace(name)
                    .unwrap_err()
                    .to_string()
                    .contains("not the name")
            );
        }
        let error = enter_network_namespace("lvx-no-such-namespace").unwrap_err();
        assert!(error.to_string().contains("ip netns list"), "{error}");
    }
}
