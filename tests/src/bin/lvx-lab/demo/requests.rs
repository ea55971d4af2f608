use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, PipeReader, Read as _},
    net::Ipv4Addr,
    os::fd::AsFd as _,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use lvx_tests::lab::{Namespace, tool};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};

use crate::stop::Signals;

/// After so many failures in a row nobody answers, and each takes two seconds.
const GIVE_UP: usize = 10;

/// What the requests came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Answers by server.
    pub(super) answers: BTreeMap<String, u64>,
    /// Requests without an answer 200, with what curl says.
    pub(super) failures: Vec<String>,
    /// Failures since the last answer.
    in_a_row: usize,
}

impl Outcome {
    pub(super) fn requests(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.failures.len() as u64
    }

    /// Takes in the lines of one request: the page, then the `--write-out` line
    /// `@ STATUS CURL-ERROR…`. Returns whether the request is complete.
    fn line(&mut self, page: &mut String, line: &str) -> bool {
        let Some(result) = line.strip_prefix("@ ") else {
            page.push_str(line);
            return false;
        };
        let (status, error) = result.split_once(' ').unwrap_or((result, ""));
        let page = std::mem::take(page);
        if status == "200" && error.is_empty() {
            *self.answers.entry(page).or_default() += 1;
            self.in_a_row = 0;
        } else {
            self.in_a_row += 1;
            self.failures.push(format!(
                "request {}: status {status} {error}",
                self.requests() + 1
            ));
        }
        true
    }
}

/// Kills curl when the requests are given up.
struct Curl(Child);

impl Drop for Curl {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `count` requests by one curl, one after the other, each on a connection of its own.
pub(super) fn run(
    client: &Namespace,
    vip: Ipv4Addr,
    count: u64,
    signals: &Signals,
) -> Result<Outcome> {
    let words = [
        "--header",
        "Connection: close",
        "--connect-timeout",
        "2",
        "--max-time",
        "5",
    ];
    let url = format!("http://{vip}/[1-{count}]");
    println!(
        "  # curl {} '{url}'",
        words
            .join(" ")
            .replace("Connection: close", "'Connection: close'")
    );
    // One pipe for both: pages come by standard output, results by standard
    // error, which curl does not hold back.
    let (output, writer) = std::io::pipe()?;
    let mut command = client.command(tool("curl"));
    command
        .args(["--silent", "--no-buffer", "--noproxy", "*"])
        .args(["--write-out", "%{stderr}@ %{http_code} %{errormsg}\\n"])
        .args(words)
        .arg(&url)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let curl = Curl(
        command
            .spawn()
            .context("the client is curl: install the package curl")?,
    );
    // It holds the writing ends of the pipe.
    drop(command);

    let progress = Progress::new(count);
    let (mut outcome, mut page) = (Outcome::default(), String::new());
    let mut lines = Lines::new(output, signals);
    while let Some(line) = lines.next()? {
        if outcome.line(&mut page, &line) {
            progress.show(&outcome);
            if outcome.in_a_row >= GIVE_UP {
                break;
            }
        }
    }
    drop(curl);
    progress.end();
    // What was not asked is a failure too.
    for number in outcome.requests()..count {
        outcome.failures.push(format!(
            "request {}: not made, the ones before it failed",
            number + 1
        ));
    }
    Ok(outcome)
}

/// Lines of a pipe, waiting for which can be broken off by a signal.
struct Lines<'signals> {
    pipe: PipeReader,
    signals: &'signals Signals,
    bytes: Vec<u8>,
}

impl<'signals> Lines<'signals> {
    fn new(pipe: PipeReader, signals: &'signals Signals) -> Self {
        Self {
            pipe,
            signals,
            bytes: Vec::new(),
        }
    }

    /// The next line without its end; `None` when the writer is gone.
    fn next(&mut self) -> Result<Option<String>> {
        loop {
            self.signals.check()?;
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line = self.bytes.drain(..=end).take(end).collect::<Vec<_>>();
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            let mut wait = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut wait, 100u8) {
                Ok(0) | Err(Errno::EINTR) => continue,
                other => other.context("cannot wait for curl")?,
            };
            let mut part = [0; 4096];
            match self
                .pipe
                .read(&mut part)
                .context("cannot read what curl prints")?
            {
                0 => return Ok(None),
                read => self.bytes.extend_from_slice(&part[..read]),
            }
        }
    }
}

/// A bar on a terminal, else a line every tenth of the way.
struct Progress {
    bar: ProgressBar,
    count: u64,
    plain: bool,
}

impl Progress {
    fn new(count: u64) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(count)
        };
        let style =
            ProgressStyle::with_template("  {bar:40} {pos}/{len} requests, {per_sec}, {msg}")
                .expect("the template is right")
                .progress_chars("=> ");
        bar.set_style(style);
        if !plain {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar, count, plain }
    }

    fn show(&self, outcome: &Outcome) {
        let done = outcome.requests();
        if !self.plain {
            self.bar.set_position(done);
            self.bar
                .set_message(format!("{} failed", outcome.failures.len()));
        } else if done * 10 / self.count != (done - 1) * 10 / self.count {
            println!(
                "  {done}/{} requests, {} failed",
                self.count,
                outcome.failures.len()
            );
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_prints_is_counted() {
        let (mut outcome, mut page) = (Outcome::default(), String::new());
        let text =
            "rs1\n@ 200 \nrs2\n@ 200 \nrs1\n@ 200 \n@ 000 Connection refused\nsorry\n@ 502 \n";
        let complete = text
            .lines()
            .filter(|line| outcome.line(&mut page, line))
            .count();
        assert_eq!(complete, 5);
        assert_eq!(
            outcome.answers,
            BTreeMap::from([("rs1".to_owned(), 2), ("rs2".to_owned(), 1)])
        );
        assert_eq!(
            outcome.failures,
            [
                "request 4: status 000 Connection refused",
                "request 5: status 502 "
            ]
        );
    }

    #[test]
    fn a_page_cut_short_does_not_become_the_next_one() {
        let (mut outcome, mut page) = (Outcome::default(), String::new());
        for line in ["rs1", "@ 200 transfer closed", "rs2", "@ 200 "] {
            outcome.line(&mut page, line);
        }
        assert_eq!(outcome.answers, BTreeMap::from([("rs2".to_owned(), 1)]));
        assert_eq!(outcome.failures.len(), 1);
    }
}
