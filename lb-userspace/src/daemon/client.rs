//! The command line's side of the control socket.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, Result, bail};

use super::{
    files::Files,
    namespaces::enter_first_mount_namespace,
    offline::{Offline, START},
};
use crate::model::{Request, Response};

/// Asks the daemon of this network namespace, or its data plane when it is dead.
#[derive(Default)]
pub struct Client {
    link: Option<Link>,
}

enum Link {
    Daemon(BufReader<UnixStream>),
    Offline(Box<Offline>),
}

impl Client {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// One line that says what to do: without a daemon nothing can be changed,
    /// and without a data plane nothing can be read.
    pub fn request(&mut self, request: &Request) -> Result<Response> {
        if self.link.is_none() {
            self.link = Some(connect(Files::here().context("lvx")?)?);
        }
        match &mut self.link {
            Some(Link::Daemon(stream)) => ask(stream, request),
            Some(Link::Offline(offline)) => offline.request(request),
            None => bail!("lvx: not connected"),
        }
    }

    /// Has the loaded program `program` capture, and gives the connection back: the
    /// capture ends with it.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub fn capture(mut self, program: u32) -> Result<UnixStream> {
        let response = self.request(&Request::Capture(program))?;
        let Some(Link::Daemon(stream)) = self.link else {
            bail!(
                "lvx: the daemon does not run, which puts the capturing program in place: start 'lvx run'"
            );
        };
        match response {
            Response::Ok => Ok(stream.into_inner()),
            Response::Refused(refusal) => bail!("{refusal}"),
            _ => bail!("lvx: the daemon is of another version: restart it"),
        }
    }

    /// Whether a daemon answers.
    pub fn is_live(&self) -> bool {
        matches!(self.link, Some(Link::Daemon(_)))
    }
}

/// The data plane of this network namespace itself, for what is too much to be
/// asked of the daemon.
///
/// # Errors
/// Without root, or when there is none.
pub fn data_plane() -> Result<Offline> {
    if !nix::unistd::geteuid().is_root() {
        bail!("lvx: permission denied: only root may read the data plane itself");
    }
    Offline::open(Files::here().context("lvx")?)
}

fn connect(files: Files) -> Result<Link> {
    if !nix::unistd::geteuid().is_root() {
        // The daemon knows who may list.
        return reach(&files)?.context(
            "lvx: permission denied: the daemon is not running, and only root may read what it left",
        );
    }
    if let Some(daemon) = reach(&files)? {
        return Ok(daemon);
    }
    // Where the pins are, and the socket too if this mount namespace has a /run of its own.
    // Not before: names are looked up in the /etc of the caller (`ip netns exec` gives it one).
    if enter_first_mount_namespace().is_ok()
        && let Some(daemon) = reach(&files)?
    {
        return Ok(daemon);
    }
    Ok(Link::Offline(Box::new(Offline::open(files)?)))
}

/// The daemon, if it is there.
fn reach(files: &Files) -> Result<Option<Link>> {
    match UnixStream::connect(files.socket()) {
        Ok(stream) => Ok(Some(Link::Daemon(BufReader::new(stream)))),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
            "lvx: permission denied: only root may talk to the daemon, and the group of 'lvx run --group' may list"
        ),
        Err(error) => Err(error).context("lvx: cannot reach the daemon"),
    }
}

fn ask(stream: &mut BufReader<UnixStream>, request: &Request) -> Result<Response> {
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    let mut answer = String::new();
    let asked = stream
        .get_mut()
        .write_all(&text)
        .and_then(|()| stream.read_line(&mut answer));
    // However the daemon dies, what is there of its answer is not to be read.
    if asked.is_err() || !answer.ends_with('\n') {
        bail!(gone(request));
    }
    serde_json::from_str(&answer).context("lvx: the daemon is of another version: restart it")
}

/// What to do when the daemon died before its answer was there.
fn gone(request: &Request) -> String {
    let what = match request {
        Request::Batch(_) | Request::Strict(_) | Request::Apply(_) => {
            "either everything was changed or nothing"
        }
        request if request.is_change() => "either the change was made or nothing",
        _ => return format!("lvx: the daemon went away before it answered: {START}"),
    };
    format!("lvx: the daemon went away before it answered; {what}, as 'lvx show' tells: {START}")
}
