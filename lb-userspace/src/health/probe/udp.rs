//! Datagrams. Silence tells nothing of most servers; "nobody listens" does.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use regex::bytes::Regex;
use tokio::net::UdpSocket;

use super::{Stage, Trouble, Whom, compare, plain};

/// How long an unanswered datagram is waited for when nothing is expected: an
/// error of the host comes at once.
const SILENCE: Duration = Duration::from_secs(1);

/// A socket that speaks with this server alone, and so hears its host's errors.
pub(super) async fn connected(whom: Whom) -> Result<UdpSocket, Trouble> {
    let any = match whom.at {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let own = SocketAddr::new(whom.source.unwrap_or(any), 0);
    let socket = UdpSocket::bind(own).await;
    let socket = socket.map_err(|error| {
        Trouble::Here(format!("cannot send from {}: {}", own.ip(), plain(&error)))
    })?;
    let connected = socket.connect(whom.at).await;
    connected.map_err(|error| Trouble::of(&error))?;
    Ok(socket)
}

/// What an error of a connected socket means.
pub(super) fn said(error: &io::Error, at: SocketAddr) -> Trouble {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return Trouble::Server(format!("nobody listens on port {} (ICMP)", at.port()));
    }
    Trouble::of(error)
}

pub(super) async fn ask(
    whom: Whom,
    send: &str,
    expect: Option<&Regex>,
    limit: Duration,
    stage: &Stage,
) -> Result<(), Trouble> {
    stage.reached(Stage::ANSWER);
    let socket = connected(whom).await?;
    let sent = socket.send(send.as_bytes()).await;
    sent.map_err(|error| said(&error, whom.at))?;
    let mut buffer = vec![0; 1 << 16];
    let answer = socket.recv(&mut buffer);
    let length = if expect.is_some() {
        answer.await
    } else {
        match tokio::time::timeout(SILENCE.min(limit.mul_f64(0.8)), answer).await {
            Ok(length) => length,
            Err(_) => return Ok(()),
        }
    };
    let length = length.map_err(|error| said(&error, whom.at))?;
    compare(expect, &buffer[..length])
}
