use std::{
    fmt,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// What a command line answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Exit status; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Its standard output, when it went well and said nothing on standard error.
    ///
    /// # Panics
    /// Otherwise, showing everything.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.code == 0 && self.stderr.is_empty(),
            "expected success, got {self}"
        );
        self.stdout
    }

    /// The only line on standard error of a command that failed with `code` and
    /// printed nothing else.
    ///
    /// # Panics
    /// Otherwise, showing everything.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        let line = self.stderr.trim_end_matches('\n');
        assert!(
            self.code == code && self.stdout.is_empty() && !line.is_empty() && !line.contains('\n'),
            "expected exit status {code} and one line on standard error, got {self}"
        );
        line.to_owned()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "exit status {}\nstdout: {}\nstderr: {}",
            self.code, self.stdout, self.stderr
        )
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end, with an empty standard input.
///
/// # Errors
/// When it cannot be started, or does not end within thirty seconds; it is
/// killed then.
pub fn answer(mut command: Command) -> Result<Answer> {
    let shown = crate::lab::show(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let limit = Instant::now() + Duration::from_secs(30);
    // Both pipes are read while it runs: a large listing would fill one.
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let out = scope.spawn(move || drain(out.as_mut()));
        let err = scope.spawn(move || drain(err.as_mut()));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > limit {
                let _ = child.kill();
                let _ = child.wait();
                bail!("`{shown}` did not end within thirty seconds");
            }
            thread::sleep(Duration::from_millis(1));
        };
        Ok(Answer {
            code: status.code().unwrap_or(-1),
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
        })
    })
}

fn drain(pipe: Option<&mut impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before an error is what there is.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
