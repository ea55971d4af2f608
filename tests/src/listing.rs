//! What `ipvsadm` printed, as values; and a large table as it prints it.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

/// A saved table of so many services with `servers` each, in the order in which `-S`
/// writes it. Services share servers, of which there are as many as services.
pub fn saved_table(services: u32, servers: u32) -> String {
    let mut text = String::new();
    for service in 0..services {
        let vip = format!("10.1.{}.{}:80", service / 200, 1 + service % 200);
        let _ = writeln!(text, "-A -t {vip} -s wlc");
        let mut numbers: Vec<u32> = (0..servers)
            .map(|server| (service + server * 7) % services)
            .collect();
        numbers.sort_unstable();
        for server in numbers {
            let address = format!("192.168.{}.{}", 1 + server / 200, 1 + server % 200);
            let _ = writeln!(text, "-a -t {vip} -r {address}:80 -g -w {}", 1 + server % 9);
        }
    }
    text
}

/// A line of `-Lnc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `TCP`, `UDP`.
    pub protocol: String,
    /// Seconds until it expires.
    pub expires: u32,
    /// `ESTABLISHED`, …
    pub state: String,
    /// `ADDRESS:PORT` of the client.
    pub source: String,
    /// `ADDRESS:PORT` of the service.
    pub service: String,
    /// `ADDRESS:PORT` of the server.
    pub dest: String,
}

/// Reads the output of `-Lnc`.
///
/// # Errors
/// When a line is not as the kernel's tool prints it.
pub fn connections(text: &str) -> Result<Vec<Connection>> {
    let mut lines = text.lines();
    anyhow::ensure!(
        lines.next() == Some("IPVS connection entries"),
        "wrong first line in: {text}"
    );
    let titles = "pro expire state       source             virtual            destination";
    anyhow::ensure!(lines.next() == Some(titles), "wrong titles in: {text}");
    lines
        .map(|line| connection(line).with_context(|| format!("not a connection: {line:?}")))
        .collect()
}

fn connection(line: &str) -> Option<Connection> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [protocol, expires, state, source, service, dest] = words[..] else {
        return None;
    };
    let (minutes, seconds) = expires.split_once(':')?;
    Some(Connection {
        protocol: protocol.to_owned(),
        expires: minutes.parse::<u32>().ok()? * 60 + seconds.parse::<u32>().ok()?,
        state: state.to_owned(),
        source: source.to_owned(),
        service: service.to_owned(),
        dest: dest.to_owned(),
    })
}

/// The numbers of a service's or server's line, from `-Ln` (weight, active,
/// inactive) or `-Ln --stats` (connections, packets and bytes in and out):
/// the trailing numbers of the line that names `ADDRESS:PORT`, which is
/// searched from the start of the text.
///
/// # Errors
/// When no line names it.
pub fn numbers(text: &str, name: &str) -> Result<Vec<u64>> {
    let line = text
        .lines()
        .find(|line| line.split_whitespace().any(|word| word == name))
        .with_context(|| format!("{name} is not listed in:\n{text}"))?;
    let mut numbers: Vec<u64> = line
        .split_whitespace()
        .rev()
        .map_while(|word| word.parse().ok())
        .collect();
    numbers.reverse();
    Ok(numbers)
}
