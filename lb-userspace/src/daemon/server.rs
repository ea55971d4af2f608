//! The control socket: a request is a line of JSON, and so is its answer.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::writer::Job;
use crate::model::{Refusal, Request, Response};

/// Longest request in bytes: a batch of some hundred thousand changes.
const LONGEST: u64 = 64 << 20;

/// Opens the socket, for root alone. The caller holds the lock, so that
/// whatever is there belonged to a dead daemon.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let _ = fs::remove_file(path);
    let context = || format!("cannot open the control socket {}", path.display());
    let listener = UnixListener::bind(path).with_context(context)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(context)?;
    Ok(listener)
}

/// Serves every connection until the writer is gone.
pub async fn serve(listener: UnixListener, jobs: mpsc::Sender<Job>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let jobs = jobs.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, jobs).await {
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

async fn converse(stream: UnixStream, jobs: mpsc::Sender<Job>) -> Result<()> {
    let mut capture = None;
    let end = converse_until(stream, &jobs, &mut capture).await;
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
    jobs: &mpsc::Sender<Job>,
    capture: &mut Option<u32>,
) -> Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let mut line = String::new();
    loop {
        line.clear();
        (&mut reading).take(LONGEST).read_line(&mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let response = match serde_json::from_str::<Request>(&line) {
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
            Err(error) => Response::Refused(Refusal::Other(format!("lvx: not a request: {error}"))),
        };
        let mut text = serde_json::to_vec(&response)?;
        text.push(b'\n');
        writing.write_all(&text).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_in_a_line_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (sender, mut jobs) = mpsc::channel::<Job>(1);
        tokio::spawn(serve(listen(&path).unwrap(), sender));
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
            ("\"clear\"\n", "\"ok\"\n"),
        ] {
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_line(&mut answer).await.unwrap();
            assert!(answer.starts_with(expected), "{sent} {answer}");
        }
    }
}
