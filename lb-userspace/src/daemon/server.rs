//! The control socket: a request is a line of JSON, and so is its answer.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::stat::{Mode, umask},
    unistd::{Gid, geteuid},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};

use super::writer::Job;
use crate::model::{Refusal, Request, Response};

/// Longest request in bytes: a batch of some hundred thousand changes.
const LONGEST: u64 = 64 << 20;
/// The same of somebody who may only list.
const LONGEST_READ: u64 = 64 << 10;
/// Connections that those have at a time.
const READERS: usize = 64;

/// Opens the socket, for root and for `readers`, who may list. The caller holds
/// the lock, so that whatever is there belonged to a dead daemon.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(path: &Path, readers: Option<Gid>) -> Result<UnixListener> {
    let _ = fs::remove_file(path);
    let context = || format!("cannot open the control socket {}", path.display());
    // Nobody else may slip in before its group is set.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.with_context(context)?;
    if let Some(group) = readers {
        chown(path, None, Some(group.as_raw())).with_context(context)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).with_context(context)?;
    }
    Ok(listener)
}

/// Serves every connection until the writer is gone.
pub async fn serve(listener: UnixListener, jobs: mpsc::Sender<Job>) {
    let readers = Arc::new(Semaphore::new(READERS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let jobs = jobs.clone();
                let readers = readers.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, jobs, readers).await {
                        tracing::debug!("control connection: {error:#}");
                    }
                });
            }
            Err(error) => {
                tracing::error!("control socket: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// What a client may ask for, by who it is.
enum Access {
    Full,
    /// One of so many at a time.
    Read(
        #[expect(dead_code, reason = "it is given back when this is dropped")] OwnedSemaphorePermit,
    ),
}

impl Access {
    fn of(stream: &UnixStream, readers: Arc<Semaphore>) -> Result<Self> {
        let peer = stream
            .peer_cred()
            .context("the kernel does not tell who asks")?;
        if peer.uid() == 0 || peer.uid() == geteuid().as_raw() {
            return Ok(Self::Full);
        }
        let permit = readers.try_acquire_owned();
        permit.map(Self::Read).context("too many readers")
    }

    fn longest(&self) -> u64 {
        match self {
            Self::Full => LONGEST,
            Self::Read(_) => LONGEST_READ,
        }
    }

    fn allows(&self, request: &Request) -> bool {
        matches!(self, Self::Full) || request.only_reads()
    }
}

async fn converse(
    stream: UnixStream,
    jobs: mpsc::Sender<Job>,
    readers: Arc<Semaphore>,
) -> Result<()> {
    let access = Access::of(&stream, readers)?;
    let mut capture = None;
    let end = converse_until(stream, &access, &jobs, &mut capture).await;
    if let Some(program) = capture {
        // However its client went.
        ask(&jobs, Request::EndCapture(program)).await?;
    }
    end
}

async fn ask(jobs: &mpsc::Sender<Job>, request: Request) -> Result<Response> {
    let (answer, answered) = oneshot::channel();
    jobs.send(Job { request, answer })
        .await
        .context("the daemon is stopping")?;
    answered.await.context("the daemon is stopping")
}

/// Answers a client until it goes away; notes the program with which it captures.
async fn converse_until(
    stream: UnixStream,
    access: &Access,
    jobs: &mpsc::Sender<Job>,
    capture: &mut Option<u32>,
) -> Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reading).take(access.longest());
        limited.read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        // A client that died in the middle of a request has not asked for it.
        let whole = line.ends_with(b"\n");
        if !whole && (line.len() as u64) < access.longest() {
            bail!("a request without its end");
        }
        let response = match serde_json::from_slice::<Request>(&line) {
            _ if !whole => refuse("the request is too long"),
            Ok(request) if !access.allows(&request) => {
                refuse("permission denied: only root may change anything; this group may list")
            }
            Ok(request) => {
                let program = match request {
                    Request::Capture(program) => Some(program),
                    _ => None,
                };
                let answer = ask(jobs, request).await?;
                if program.is_some() && answer == Response::Ok {
                    *capture = program;
                }
                answer
            }
            Err(error) => refuse(&format!("not a request: {error}")),
        };
        let mut text = serde_json::to_vec(&response)?;
        text.push(b'\n');
        writing.write_all(&text).await?;
        if !whole {
            return Ok(());
        }
    }
}

fn refuse(why: &str) -> Response {
    Response::Refused(Refusal::Other(format!("lvx: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_in_a_line_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (sender, mut jobs) = mpsc::channel::<Job>(1);
        tokio::spawn(serve(listen(&path, None).unwrap(), sender));
        tokio::spawn(async move {
            while let Some(job) = jobs.recv().await {
                assert_eq!(job.request, Request::Clear);
                job.answer.send(Response::Ok).unwrap();
            }
        });
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        for (sent, expected) in [
            ("\"clear\"\n", "\"ok\"\n"),
            ("nonsense\n", "{\"refused\""),
            ("\"end-capture\"\n", "{\"refused\""),
            ("\0\n", "{\"refused\""),
            ("\"clear\"\n", "\"ok\"\n"),
        ] {
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_line(&mut answer).await.unwrap();
            assert!(answer.starts_with(expected), "{sent} {answer}");
        }
        // Not text; half a request; nobody is held up by who does not go on.
        let _idle = UnixStream::connect(&path).await.unwrap();
        let mut half = UnixStream::connect(&path).await.unwrap();
        half.write_all(b"\"clear\"").await.unwrap();
        half.shutdown().await.unwrap();
        let mut answer = Vec::new();
        half.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"", "it did not ask");
        stream.write_all(b"\xff\xfe\n\"clear\"\n").await.unwrap();
        for expected in ["{\"refused\"", "\"ok\""] {
            let mut answer = String::new();
            stream.read_line(&mut answer).await.unwrap();
            assert!(answer.starts_with(expected), "{answer}");
        }
    }
}
