//! ldirectord.cf: its services are the file's, and follow it.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use notify::{RecursiveMode, Watcher as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};

use super::writer::Job;
use crate::{
    config::{Ldirectord, Places, read_ldirectord},
    ipvsadm::SystemNames,
    model::{Config, Request, Response},
};

/// Editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(200);

/// A file as it was read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    /// What it says.
    pub read: Ldirectord,
}

impl Source {
    /// Reads a file; what lvx does not act on is logged.
    ///
    /// # Errors
    /// Everything that is wrong with it, a line each: `FILE:LINE: …`.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        // A pattern may be in any encoding; the rest is ASCII.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let shown = path.display();
        let mut read = match read_ldirectord(&text, &owner(path), &SystemNames) {
            Ok(read) => read,
            Err(faults) => {
                let lines = faults.iter();
                let lines: Vec<String> = lines
                    .map(|fault| format!("{shown}:{}: {}", fault.line, fault.text))
                    .collect();
                bail!("{}", lines.join("\n"));
            }
        };
        for warning in &read.warnings {
            tracing::warn!("{shown}:{}: {}", warning.line, warning.text);
        }
        if let Some(declaration) = &mut read.config.declaration {
            declaration.file = shown.to_string();
        }
        Ok(Self {
            path: path.to_owned(),
            text,
            read,
        })
    }

    /// What is asked of the writer.
    pub fn request(&self) -> Request {
        Request::Apply(Box::new(self.read.config.clone()))
    }

    /// What it answers, as an error with the place in the file.
    ///
    /// # Errors
    /// When it was refused.
    pub fn answered(&self, answer: &Response) -> Result<()> {
        match answer {
            Response::Ok => Ok(()),
            Response::NotApplied(change, refusal) => {
                let (line, _) = self.read.places.of(change);
                let text = refusal.to_string();
                let text = text.strip_prefix("lvx: ").unwrap_or(&text);
                bail!("{}:{line}: {text}", self.path.display())
            }
            Response::Refused(refusal) => bail!("{}: {refusal}", self.path.display()),
            _ => bail!("{}: an unexpected answer", self.path.display()),
        }
    }

    fn services(&self) -> usize {
        self.read.config.services.as_ref().map_or(0, Vec::len)
    }
}

/// Whom the services of a file belong to: its name, as names of files may be.
pub fn owner(path: &Path) -> String {
    let name = path.file_name().unwrap_or(OsStr::new("ldirectord.cf"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = name.to_string_lossy();
    name.chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

/// What a file of that kind says, for the verbs that only look.
///
/// # Errors
/// As [`Source::read`].
pub fn look(path: &Path) -> Result<(Config, Places, Vec<String>)> {
    let source = Source::read(path)?;
    let Ldirectord {
        config,
        places,
        warnings,
        ..
    } = source.read;
    let warnings = warnings
        .iter()
        .map(|warning| format!("{}:{}: {}", path.display(), warning.line, warning.text));
    Ok((config, places, warnings.collect()))
}

/// Applies the file again when it changes, if it says so, and at SIGHUP.
///
/// # Errors
/// When its directory cannot be watched.
pub async fn follow(mut source: Source, jobs: mpsc::Sender<Job>) -> Result<()> {
    let (events, mut changed) = mpsc::channel(1);
    let name = source.path.file_name().map(OsStr::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |event: &notify::Event| {
            let mut paths = event.paths.iter();
            !event.kind.is_access() && paths.any(|path| path.file_name() == name.as_deref())
        };
        // One event that waits stands for all.
        if event.as_ref().map_or(true, ours) {
            let _ = events.try_send(());
        }
    })
    .context("cannot watch files")?;
    // The directory: an editor puts a new file in the place of the old one.
    let directory = source.path.parent().unwrap_or(Path::new("/"));
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .with_context(|| format!("cannot watch {}", directory.display()))?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let asked = tokio::select! {
            event = changed.recv() => match event {
                Some(()) => false,
                None => return Ok(()),
            },
            _ = hangup.recv() => true,
        };
        sleep(SETTLE).await;
        while changed.try_recv().is_ok() {}
        if !asked && !source.read.autoreload {
            continue;
        }
        let path = source.path.clone();
        let same = fs::read(&path)
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes) == source.text.as_str());
        if same && !asked {
            continue;
        }
        // Names may have to be looked up.
        let new = match spawn_blocking(move || Source::read(&path)).await? {
            Ok(new) => new,
            Err(error) => {
                for line in format!("{error:#}").lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("{}: the old configuration stays", source.path.display());
                continue;
            }
        };
        let (answer, answered) = oneshot::channel();
        let request = new.request();
        if jobs.send(Job { request, answer }).await.is_err() {
            return Ok(());
        }
        let Ok(answer) = answered.await else {
            return Ok(());
        };
        match new.answered(&answer) {
            Ok(()) => {
                tracing::info!(
                    "{}: read again, {} services",
                    new.path.display(),
                    new.services()
                );
                source = new;
            }
            Err(error) => tracing::error!("{error:#}; the old configuration stays"),
        }
    }
}
