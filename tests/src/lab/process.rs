use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Lab, show};

/// How long a process may take over SIGTERM before it gets SIGKILL.
const PATIENCE: Duration = Duration::from_secs(3);

/// A process of the lab, ended when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    log: PathBuf,
    lab: Lab,
}

impl Background {
    pub(super) fn start(lab: &Lab, title: &str, mut command: Command) -> Result<Self> {
        let log = lab.dir().join(format!("{title}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // Ctrl-C in a terminal goes to the lab alone, which ends its processes in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run `{}`", show(&command)))?;
        let process = Self {
            child,
            log,
            lab: lab.clone(),
        };
        let started = start_time(process.pid()).unwrap_or_default();
        lab.write_down("processes", &format!("{} {started} {title}", process.pid()))?;
        Ok(process)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has printed so far, both streams.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, then SIGKILL after three seconds. Returns how it ended, `None`
    /// when it had to be killed.
    pub fn terminate(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        let _ = kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM);
        let status = self.wait(PATIENCE);
        if status.is_none() {
            self.kill();
        }
        status
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.lab.is_kept() {
            self.terminate();
        }
    }
}

/// When a living process started, in clock ticks since boot: with it a process
/// id is not mistaken for a later process of the same number.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold blanks; the state is the field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
