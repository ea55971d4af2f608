//! What lvx left of network namespaces that are no more: their pins keep maps,
//! and so memory, until somebody removes them.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use super::{files::Files, offline};
use crate::{dataplane::any_attached, netns};

/// Cookies of dead namespaces of which something is left.
///
/// # Errors
/// When the living ones cannot be told: nothing is then called dead.
pub fn namespaces() -> Result<Vec<u64>> {
    let own =
        netns::cookie().context("the kernel does not tell this network namespace's cookie")?;
    let mut left = Files::all_namespaces();
    left.retain(|cookie| *cookie != own && Files::of(*cookie).daemon().is_none());
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let alive = alive()?;
    Ok(left
        .difference(&alive)
        .copied()
        .filter(|cookie| is_idle(&Files::of(*cookie)))
        .collect())
}

/// Whether nothing of it is on an interface. A process that may not be looked
/// at (more privileged than root here) can be the only one in its namespace;
/// while packets are balanced there it must not be taken for dead.
fn is_idle(files: &Files) -> bool {
    let attached = |pins: &PathBuf| any_attached(pins).unwrap_or(true);
    !attached(&files.decap_pins()) && files.all_pins().is_ok_and(|all| !all.iter().any(attached))
}

/// Removes what is left of dead namespaces; returns their cookies.
///
/// # Errors
/// When a pin cannot be removed.
pub fn remove() -> Result<Vec<u64>> {
    let mut removed = Vec::new();
    for cookie in namespaces()? {
        let files = Files::of(cookie);
        // Who holds the lock lives.
        let Ok(_lock) = files.lock() else { continue };
        crate::dataplane::remove(&files.decap_pins())?;
        // What it says has gone with the namespace.
        let _ = fs::remove_file(files.rs_setup());
        offline::down(&files, true)?;
        removed.push(cookie);
    }
    Ok(removed)
}

/// Cookies of all network namespaces that can be found: those of threads, and
/// those kept by a mount (`ip netns`) or by a descriptor alone. Those of
/// processes that may not be looked at are missing.
fn alive() -> Result<BTreeSet<u64>> {
    let mut found = Found::default();
    for process in numbered("/proc".as_ref()) {
        for task in numbered(&process.join("task")) {
            found.see(&task.join("ns/net"));
        }
        for descriptor in numbered(&process.join("fd")) {
            if fs::read_link(&descriptor).is_ok_and(|to| to.to_string_lossy().starts_with("net:["))
            {
                found.see(&descriptor);
            }
        }
        found.see_mounts(&process);
    }
    cookies(found.namespaces)
}

#[derive(Default)]
struct Found {
    namespaces: Vec<File>,
    /// Device and inode of namespaces, and of mount namespaces.
    seen: BTreeSet<(u64, u64)>,
}

impl Found {
    /// A file that stands for a network namespace.
    fn see(&mut self, path: &Path) {
        // Whoever ended meanwhile keeps nothing alive.
        if self.is_new(path).unwrap_or(false) {
            self.namespaces.extend(File::open(path));
        }
    }

    fn is_new(&mut self, path: &Path) -> std::io::Result<bool> {
        let found = fs::metadata(path)?;
        Ok(self.seen.insert((found.dev(), found.ino())))
    }

    /// Namespaces that are mounted where this process sees them.
    fn see_mounts(&mut self, process: &Path) {
        if !self.is_new(&process.join("ns/mnt")).unwrap_or(false) {
            return;
        }
        let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        for place in mounts.lines().filter_map(namespace_mount) {
            let place = place.trim_start_matches('/');
            self.see(&process.join("root").join(place));
        }
    }
}

/// Where a line of mountinfo says that a network namespace is mounted.
fn namespace_mount(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (root, place) = (words.nth(3)?, words.next()?);
    // Blanks and the like are written in octal.
    root.starts_with("net:[")
        .then(|| place.replace("\\040", " ").replace("\\011", "\t"))
}

/// The entries of a directory that are named by a number.
fn numbered(directory: &Path) -> Vec<PathBuf> {
    let is_number = |name: &OsStr| {
        name.to_str()
            .is_some_and(|name| name.parse::<u32>().is_ok())
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| is_number(&entry.file_name()))
        .map(|entry| entry.path())
        .collect()
}

/// The namespaces' cookies, asked from a thread that enters one after the other.
fn cookies(namespaces: Vec<File>) -> Result<BTreeSet<u64>> {
    let visit = move || {
        let cookies = namespaces.into_iter().map(|namespace| {
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .context("cannot enter a network namespace to see whose it is")?;
            Ok(netns::cookie()?)
        });
        cookies.collect()
    };
    std::thread::spawn(visit)
        .join()
        .unwrap_or_else(|_| Err(anyhow!("the search for living namespaces failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_namespaces_are_read() {
        let line = "84 28 0:4 net:[4026532289] /run/netns/a\\040b rw shared:1 - nsfs nsfs rw";
        assert_eq!(namespace_mount(line).as_deref(), Some("/run/netns/a b"));
        let other = "28 1 0:25 / /run rw,nosuid - tmpfs tmpfs rw";
        assert_eq!(namespace_mount(other), None);
        assert_eq!(namespace_mount(""), None);
    }

    #[test]
    fn the_own_namespace_is_alive() {
        let alive = alive().expect("this test enters namespaces: run it as root");
        assert!(alive.contains(&netns::cookie().unwrap()));
    }

    /// Kept by a descriptor alone, without a process in it and without a name.
    #[test]
    fn a_namespace_behind_a_descriptor_is_alive() {
        let make = || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)
                .expect("this test makes a namespace: run it as root");
            let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
            (netns::cookie().unwrap(), File::open(own).unwrap())
        };
        let (cookie, kept) = std::thread::spawn(make).join().unwrap();
        assert!(alive().unwrap().contains(&cookie));
        drop(kept);
        assert!(!alive().unwrap().contains(&cookie));
    }
}
