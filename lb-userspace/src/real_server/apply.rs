//! Doing it, and taking it back: what was there before is written down in a
//! file, before it is changed.

use std::{fs, io, net::IpAddr, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Setup, Step, family};

/// How one change is taken back.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Undo {
    /// Path below `/proc/sys` and the value before.
    Sysctl(String, String),
    /// An address that was added to `lo`.
    Address(IpAddr),
    /// Default routes of the gateway's family before, as `ip route` shows them.
    Default {
        gateway: IpAddr,
        before: Vec<String>,
    },
}

/// Makes the changes that are not there already, and writes down in `record`
/// how to take them back. When one fails, those before it are taken back.
///
/// # Errors
/// When something was applied before, or a change fails.
pub fn apply(setup: &Setup, record: &Path) -> Result<()> {
    if record.exists() {
        bail!("something is set up here already: 'lvx rs-setup --undo' takes it back");
    }
    let mut done = Vec::new();
    for step in setup.steps() {
        let result = before(&step).and_then(|undo| {
            let Some(undo) = undo else { return Ok(()) };
            done.push(undo);
            write(record, &done)?;
            make(&step)
        });
        if let Err(error) = result {
            // The first error is the one to tell.
            let _ = take_back(&done);
            let _ = fs::remove_file(record);
            return Err(error);
        }
    }
    write(record, &done)
}

/// Takes back what `record` says, and removes it.
///
/// # Errors
/// When nothing was applied, or something cannot be taken back; the rest is.
pub fn undo(record: &Path) -> Result<()> {
    let text = match fs::read(record) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("nothing was set up here by 'lvx rs-setup --apply'")
        }
        text => text.with_context(|| format!("cannot read {}", record.display()))?,
    };
    let done: Vec<Undo> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged", record.display()))?;
    take_back(&done)?;
    fs::remove_file(record).with_context(|| format!("cannot remove {}", record.display()))
}

fn write(record: &Path, done: &[Undo]) -> Result<()> {
    fs::write(record, serde_json::to_vec(done)?)
        .with_context(|| format!("cannot write {}", record.display()))
}

/// What a step will change; `None` when it is as it is to be.
fn before(step: &Step) -> Result<Option<Undo>> {
    Ok(match step {
        Step::Sysctl(path, value) => {
            let file = Path::new("/proc/sys").join(path);
            let was =
                fs::read_to_string(&file).with_context(|| format!("there is no setting {path}"))?;
            let was = was.trim().to_owned();
            (was != *value).then(|| Undo::Sysctl(path.clone(), was))
        }
        Step::Address(addr) => {
            let words = [
                "-o",
                "address",
                "show",
                "dev",
                "lo",
                "to",
                &addr.to_string(),
            ];
            ip(&words)?
                .trim()
                .is_empty()
                .then_some(Undo::Address(*addr))
        }
        Step::Default { gateway, .. } => {
            let shown = ip(&[family(*gateway), "route", "show", "default"])?;
            let before = shown.lines().map(|line| line.trim().to_owned()).collect();
            Some(Undo::Default {
                gateway: *gateway,
                before,
            })
        }
    })
}

fn make(step: &Step) -> Result<()> {
    match step {
        Step::Sysctl(path, value) => set(path, value),
        Step::Address(_) | Step::Default { .. } => {
            let words = step.words();
            let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            ip(&words).map(drop)
        }
    }
}

/// The last change first; goes on when one fails.
fn take_back(done: &[Undo]) -> Result<()> {
    let mut first = Ok(());
    for undo in done.iter().rev() {
        let result = match undo {
            Undo::Sysctl(path, value) => set(path, value),
            Undo::Address(addr) => {
                let length = if addr.is_ipv4() { 32 } else { 128 };
                let addr = format!("{addr}/{length}");
                ip(&["address", "del", &addr, "dev", "lo"]).map(drop)
            }
            Undo::Default { gateway, before } => restore_default(*gateway, before),
        };
        first = first.and(result);
    }
    first
}

fn restore_default(gateway: IpAddr, before: &[String]) -> Result<()> {
    let family = family(gateway);
    let gateway = gateway.to_string();
    ip(&[family, "route", "del", "default", "via", &gateway])?;
    for route in before {
        // What `ip` shows besides, about the state of a link, it does not take.
        let words = route.split_whitespace().filter(|word| *word != "linkdown");
        let words: Vec<&str> = [family, "route", "add"].into_iter().chain(words).collect();
        ip(&words)?;
    }
    Ok(())
}

fn set(path: &str, value: &str) -> Result<()> {
    fs::write(Path::new("/proc/sys").join(path), value)
        .with_context(|| format!("cannot set {path} to {value}"))
}

/// Runs `ip`; what it printed.
fn ip(words: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(words)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .context("cannot run 'ip': install iproute2")?;
    if !output.status.success() {
        bail!(
            "'ip {}': {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
