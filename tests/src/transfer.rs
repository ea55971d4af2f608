//! Large transfers by the real curl, compared by their SHA-256.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::{Lab, Namespace, run, tool};

/// A file that the lab's servers have as `/files/NAME`.
#[derive(Clone, Debug)]
pub struct Payload {
    name: String,
    bytes: u64,
    digest: String,
}

impl Payload {
    /// Writes `bytes` random bytes where all of the lab's servers find them.
    ///
    /// # Errors
    /// When there is no room.
    pub fn new(lab: &Lab, name: &str, bytes: u64) -> Result<Self> {
        let directory = lab.dir().join("files");
        fs::create_dir_all(&directory)?;
        let path = directory.join(name);
        let mut source = File::open("/dev/urandom")?.take(bytes);
        io::copy(&mut source, &mut File::create(&path)?)?;
        Ok(Self {
            name: name.to_owned(),
            bytes,
            digest: digest(&path)?,
        })
    }

    /// Downloads it from `http://HOST/files/NAME` and compares it; how long it
    /// took.
    ///
    /// # Errors
    /// When it does not arrive within `limit`, or is another.
    pub fn download(&self, from: &Namespace, host: &str, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        let mut curl = curl(from, limit);
        curl.arg(format!("http://{host}/files/{}", self.name));
        let mut curl = curl
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let body = curl.stdout.take().context("standard output was piped")?;
        let sum = Command::new(tool("sha256sum")).stdin(body).output();
        let output = curl.wait_with_output()?;
        let took = started.elapsed();
        if !output.status.success() {
            bail!(
                "the download of {} bytes from {host} failed after {took:.1?}: {}",
                self.bytes,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let digest = first_word(&sum?.stdout);
        ensure!(digest == self.digest, "{host} sent other bytes");
        Ok(took)
    }

    /// Uploads it to `http://HOST/files/…` and compares what the server has
    /// stored; how long the upload took.
    ///
    /// # Errors
    /// When it is not stored within `limit`, or is another.
    pub fn upload(
        &self,
        lab: &Lab,
        from: &Namespace,
        host: &str,
        limit: Duration,
    ) -> Result<Duration> {
        let directory = lab.dir().join("files");
        let stored = format!("{}-up", self.name);
        let started = Instant::now();
        let mut curl = curl(from, limit);
        curl.arg("--upload-file")
            .arg(directory.join(&self.name))
            // No waiting for "continue", which some servers never say.
            .args(["--header", "Expect:"])
            .arg(format!("http://{host}/files/{stored}"));
        run(&mut curl).with_context(|| format!("an upload of {} bytes to {host}", self.bytes))?;
        let took = started.elapsed();
        let path = directory.join(stored);
        let arrived = digest(&path)?;
        fs::remove_file(&path)?;
        ensure!(arrived == self.digest, "{host} stored other bytes");
        Ok(took)
    }
}

fn curl(from: &Namespace, limit: Duration) -> Command {
    let mut command = from.command(tool("curl"));
    let limit = limit.as_secs().to_string();
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    command.args(["--globoff", "--max-time", &limit]);
    command
}

fn digest(path: &Path) -> Result<String> {
    let output = run(Command::new(tool("sha256sum")).arg(path))?;
    Ok(first_word(&output.stdout))
}

fn first_word(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}
