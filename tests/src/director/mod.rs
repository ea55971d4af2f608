//! `lvx` run in a namespace: start, `ipvsadm`, kill, restart.

mod answer;
mod start;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use lb_userspace::daemon::Status;

pub use answer::{Answer, answer};
pub use start::Start;

use crate::lab::{Background, Door, Namespace, run};

/// How long `lvx run` may take to be ready: a debug build verifies the program
/// on a busy machine.
const READY: Duration = Duration::from_secs(20);

/// Where the `lvx` binary is: `LVX_BIN`, else beside the running program.
///
/// # Errors
/// When there is none; the text says how to build it.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LVX_BIN") {
        let path = PathBuf::from(path);
        if path.is_file() {
            return Ok(path);
        }
        bail!("LVX_BIN names {}, which is not a file", path.display());
    }
    let here = std::env::current_exe().context("cannot tell where this program is")?;
    // Tests are in `deps`, a folder below the binaries.
    here.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("lvx"))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "there is no `lvx` near {}: run `cargo build` first",
                here.display()
            )
        })
}

/// Where lvx keeps what belongs to a namespace: files, and pins.
fn places(door: &Door) -> Result<[PathBuf; 2]> {
    let cookie = door.cookie()?.to_string();
    Ok(["/run/lvx", "/run/lvx/bpf"].map(|root| Path::new(root).join(&cookie)))
}

/// Files and pins of lvx in a namespace.
///
/// # Errors
/// When the kernel does not tell the namespace's cookie.
pub fn left_behind(ns: &Namespace) -> Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    let mut directories = places(&ns.door())?.to_vec();
    while let Some(directory) = directories.pop() {
        // A directory that is not there holds nothing.
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                left.push(path);
            }
        }
    }
    Ok(left)
}

/// Removes the lock file and the empty directories of a namespace that is about
/// to go. What holds anything else stays, to be seen.
pub(crate) fn forget(door: &Door) {
    let Ok([files, pins]) = places(door) else {
        return;
    };
    let _ = std::fs::remove_file(files.join("lock"));
    for directory in [files, pins] {
        let _ = std::fs::remove_dir(directory);
    }
}

/// Runs `lvx` with these words in a namespace, to its end.
///
/// # Errors
/// When there is no binary, or it does not end within thirty seconds.
pub fn lvx(ns: &Namespace, words: &[&str]) -> Result<Answer> {
    let mut command = ns.command(binary()?);
    command.args(words);
    answer(command)
}

/// A director: lvx in a namespace. Dropping it stops the daemon and removes the
/// data plane, unless the lab is kept.
#[derive(Debug)]
pub struct Director<'lab> {
    ns: &'lab Namespace,
    lvx: PathBuf,
    start: Start,
    daemon: Option<Background>,
}

impl<'lab> Director<'lab> {
    /// Starts `lvx run` on `eth0` and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; its log is in the text.
    pub fn start(ns: &'lab Namespace) -> Result<Self> {
        Self::start_with(ns, Start::default())
    }

    /// Starts `lvx run` as told and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; its log is in the text.
    pub fn start_with(ns: &'lab Namespace, start: Start) -> Result<Self> {
        let mut director = Self {
            ns,
            lvx: binary()?,
            start,
            daemon: None,
        };
        director.run()?;
        Ok(director)
    }

    fn run(&mut self) -> Result<()> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let title = format!("lvx-{}", RUNS.fetch_add(1, Ordering::Relaxed));
        let mut daemon = self
            .ns
            .spawn(&title, self.start.command(self.ns, &self.lvx))?;
        let limit = Instant::now() + READY;
        loop {
            // `ip netns exec` becomes the command, so the process ids agree.
            if self
                .status()
                .is_ok_and(|status| status.daemon == Some(daemon.pid()))
            {
                self.daemon = Some(daemon);
                return Ok(());
            }
            if let Some(status) = daemon.ended() {
                bail!("`lvx run` ended, {status}:\n{}", daemon.log());
            }
            if Instant::now() > limit {
                bail!(
                    "`lvx run` was not ready within {READY:?}:\n{}",
                    daemon.log()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its namespace.
    pub fn ns(&self) -> &'lab Namespace {
        self.ns
    }

    /// Process id of the daemon, if this director runs one.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Background::pid)
    }

    /// The words with which its daemon is started.
    pub fn arguments(&self) -> Vec<String> {
        self.start.arguments()
    }

    /// `lvx` with these words in its namespace, to be run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.ns.command(&self.lvx);
        command.args(words);
        command
    }

    /// Runs `lvx` with these words.
    ///
    /// # Panics
    /// When it cannot be run at all.
    pub fn lvx(&self, words: &[&str]) -> Answer {
        answer(self.command(words)).expect("lvx can be run")
    }

    /// Runs `lvx ipvsadm` with these words.
    ///
    /// # Panics
    /// When it cannot be run at all.
    pub fn ipvsadm(&self, words: &[&str]) -> Answer {
        let mut all = vec!["ipvsadm"];
        all.extend(words);
        self.lvx(&all)
    }

    /// Runs lines of `ipvsadm` grammar, one command a line, each of which must succeed.
    ///
    /// # Panics
    /// At the first that fails.
    #[track_caller]
    pub fn configure(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<_> = line.split_whitespace().collect();
            let answer = self.ipvsadm(&words);
            assert!(answer.code == 0, "`ipvsadm {line}`: {answer}");
        }
    }

    /// What `lvx status --json` says.
    ///
    /// # Errors
    /// Without a daemon and without pins.
    pub fn status(&self) -> Result<Status> {
        let output = run(self.ns.command(&self.lvx).args(["status", "--json"]))?;
        serde_json::from_slice(&output.stdout).context("`lvx status --json` printed something else")
    }

    /// Waits until every server has a way, so that a datagram that nobody
    /// repeats is not lost.
    ///
    /// # Errors
    /// When some have none within five seconds.
    pub fn wait_for_ways(&self) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(5);
        loop {
            let unresolved = self.status()?.unresolved;
            if unresolved.is_empty() {
                return Ok(());
            }
            if Instant::now() > limit {
                bail!("servers without a way: {unresolved:?}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        self.daemon
            .as_ref()
            .map(Background::log)
            .unwrap_or_default()
    }

    /// `kill -9` of the daemon; the data plane stays.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// SIGTERM; whether it ended by itself with status 0. The data plane stays.
    pub fn stop(&mut self) -> bool {
        let status = self.daemon.take().and_then(|mut daemon| daemon.terminate());
        status.is_some_and(|status| status.success())
    }

    /// A new `lvx run` after [`Director::kill`] or [`Director::stop`].
    ///
    /// # Errors
    /// As [`Director::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.run()
    }
}

impl Drop for Director<'_> {
    fn drop(&mut self) {
        if self.ns.lab().is_kept() {
            return;
        }
        if thread::panicking() {
            eprintln!("log of lvx in {}:\n{}", self.ns.name(), self.log());
        }
        self.stop();
        let mut command = self.ns.command(&self.lvx);
        command.args(["down", "--force"]);
        match answer(command) {
            Ok(Answer { code: 0, .. }) => {}
            Ok(answer) if !thread::panicking() => eprintln!("`lvx down --force`: {answer}"),
            Ok(_) => {}
            Err(error) => eprintln!("{error:#}"),
        }
    }
}
