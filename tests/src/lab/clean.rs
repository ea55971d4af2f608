//! Removing labs that were kept, or whose maker was killed.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Door, ROOT, namespace, process::start_time, run};

/// Names of the labs that are written down, in order of name.
pub fn names() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(ROOT)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Ends the lab's processes, removes what lvx left in its namespaces, deletes
/// them and the lab's directory. What is already gone is passed over.
///
/// # Errors
/// When there is no such lab, or something of it cannot be removed.
pub fn remove(name: &str) -> Result<()> {
    let dir = Path::new(ROOT).join(name);
    if name.is_empty() || name.contains('/') || !dir.is_dir() {
        bail!("there is no lab `{name}`; there are: {}", names().join(" "));
    }
    let namespaces = read(&dir, "namespaces");
    for line in read(&dir, "processes") {
        end(&line);
    }
    for namespace in namespaces
        .iter()
        .filter(|name| Path::new("/run/netns").join(name).exists())
    {
        let door = Door::named(namespace)?;
        if namespace.ends_with("-director") {
            remove_data_plane(&door);
        }
        crate::director::forget(&door);
        namespace::delete(namespace)?;
    }
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))
}

fn read(dir: &Path, list: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join(list)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Ends the process of a line `PID START TITLE`, if it is still that one.
fn end(line: &str) {
    let mut words = line.split_whitespace();
    let (Some(Ok(pid)), Some(Ok(started))) = (
        words.next().map(str::parse::<u32>),
        words.next().map(str::parse::<u64>),
    ) else {
        return;
    };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let limit = Instant::now() + Duration::from_secs(2);
        while start_time(pid) == Some(started) {
            let _ = kill(Pid::from_raw(pid as i32), signal);
            if Instant::now() > limit {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// `lvx down --force` in a namespace; a lab may have been left before lvx ran.
fn remove_data_plane(door: &Door) {
    if let Ok(lvx) = crate::director::binary() {
        let _ = run(door.command(lvx).args(["down", "--force"]));
    }
}
