//! The checks. Each is one future that ends well, or with a reason.

mod command;
mod connect;
mod dns;
mod http;
mod lines;
mod mysql;
mod ping;
mod postgres;
mod udp;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use regex::bytes::Regex;

use super::pattern;
use crate::model::{Check, DestId, ServiceId};

pub(super) use connect::Tls;
pub(super) use ping::Pingers;

/// Bytes of an answer that are looked at.
const MOST: usize = 1 << 20;

/// What all checks share.
pub(super) struct Tools {
    pub(super) tls: Tls,
    pub(super) pingers: Pingers,
}

/// Why a check did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server is at fault.
    Server(String),
    /// This director is: nothing is known of the server.
    Here(String),
}

impl Trouble {
    /// What the kernel said while `what` was tried.
    fn of(error: &io::Error) -> Self {
        let text = plain(error);
        match error.raw_os_error() {
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRNOTAVAIL
                | libc::EADDRINUSE
                | libc::EPERM
                | libc::EACCES
                | libc::EINVAL,
            ) => Self::Here(text),
            _ => Self::Server(text),
        }
    }
}

/// An error of the system in its own words, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    // "Connection refused" in the middle of a line.
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

/// How far a check has come, for the text of its time-out.
#[derive(Default)]
struct Stage(AtomicU8);

impl Stage {
    const TLS: u8 = 1;
    const ANSWER: u8 = 2;

    fn reached(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }

    fn missing(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            Self::TLS => "no TLS handshake",
            Self::ANSWER => "no answer",
            _ => "no connection",
        }
    }
}

/// Whom to ask, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whom {
    pub(super) at: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) service: ServiceId,
    pub(super) dest: DestId,
}

/// A check ready to be made again and again.
pub(super) struct Probe {
    check: Check,
    expect: Option<Regex>,
}

impl Probe {
    /// # Errors
    /// When its pattern is none.
    pub(super) fn new(check: &Check) -> Result<Self, String> {
        let expect = match check {
            Check::Http(http) => http.expect.as_deref(),
            Check::Dns { expect, .. } | Check::Udp { expect, .. } => expect.as_deref(),
            Check::Text { expect, .. } => Some(expect.as_str()),
            _ => None,
        };
        Ok(Self {
            check: check.clone(),
            expect: expect.map(pattern).transpose()?,
        })
    }

    /// Makes it, within `limit`.
    pub(super) async fn run(
        &self,
        tools: &Tools,
        whom: Whom,
        limit: Duration,
    ) -> Result<(), Trouble> {
        let stage = Stage::default();
        let ask = self.ask(tools, whom, limit, &stage);
        if matches!(self.check, Check::Ping { .. }) {
            // Each of its tries has its own time.
            return ask.await;
        }
        match tokio::time::timeout(limit, ask).await {
            Ok(end) => end,
            Err(_) => Err(Trouble::Server(late(stage.missing(), limit))),
        }
    }

    async fn ask(
        &self,
        tools: &Tools,
        whom: Whom,
        limit: Duration,
        stage: &Stage,
    ) -> Result<(), Trouble> {
        let expect = self.expect.as_ref();
        match &self.check {
            // What is not asked is not here; a mixture is taken apart by the checker.
            Check::On | Check::Off | Check::Mixed { .. } => Ok(()),
            Check::Ping { tries } => tools.pingers.ping(whom, *tries, limit, stage).await,
            Check::Tcp => connect::tcp(whom).await.map(drop),
            Check::Tls => {
                let stream = connect::tcp(whom).await?;
                stage.reached(Stage::TLS);
                let name = connect::name_of(None, whom.at.ip())?;
                tools.tls.over(stream, name, false).await.map(drop)
            }
            Check::Udp { send, .. } => udp::ask(whom, send, expect, limit, stage).await,
            Check::Http(page) => http::ask(tools, whom, page, expect, stage).await,
            Check::Dns { name, tcp, .. } => dns::ask(whom, name, *tcp, expect, stage).await,
            Check::Smtp => lines::smtp(whom, stage).await,
            Check::Nntp => lines::nntp(whom, stage).await,
            Check::Text { send, .. } => lines::text(whom, send, expect, stage).await,
            Check::Mysql(sql) => mysql::ask(whom, sql, stage).await,
            Check::Postgres(sql) => postgres::ask(whom, sql, stage).await,
            Check::Command { program, perl } => command::run(whom, program, *perl, stage).await,
        }
    }
}

fn late(what: &str, limit: Duration) -> String {
    format!("{what} within {} s", limit.as_secs_f64())
}

/// Holds what came against what was expected.
fn compare(expect: Option<&Regex>, answer: &[u8]) -> Result<(), Trouble> {
    match expect {
        Some(expect) if !expect.is_match(answer) => Err(Trouble::Server(format!(
            "the answer does not match \"{expect}\": {}",
            beginning(answer)
        ))),
        _ => Ok(()),
    }
}

/// The beginning of an answer, in one line.
fn beginning(answer: &[u8]) -> String {
    const LETTERS: usize = 60;
    let text = String::from_utf8_lossy(answer);
    let text = text.trim();
    if text.is_empty() {
        return "it is empty".into();
    }
    let start: String = text.chars().take(LETTERS).collect();
    let dots = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{dots}")
}
