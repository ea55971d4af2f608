//! `lvx drain`: lets the connections of a server end.

use std::{
    io::{self, IsTerminal as _},
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    str::FromStr,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args as ClapArgs;

use super::{terminal::show, unexpected};
use crate::{
    daemon::client::Client,
    model::{DestId, DestSnapshot, Request, Response, ServiceId, ServiceSnapshot},
};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// After which an empty server is looked at again: a packet that was on its way
/// may have made a connection by the old weight.
const SETTLE: Duration = Duration::from_millis(50);
/// Exit status when time is over.
const NOT_EMPTY: u8 = 1;

/// Arguments of `lvx drain`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// tcp:10.0.0.1:80, udp:…, sctp:…, mark:7, mark6:7
    #[arg(value_name = "SERVICE")]
    service: ServiceId,
    /// ADDRESS:PORT; the port may be left out where it is the only one
    #[arg(value_name = "SERVER")]
    server: Server,
    /// Seconds to wait, 0 for not at all [default: until it is empty]
    #[arg(long, value_name = "SECONDS", conflicts_with = "undo")]
    timeout: Option<u64>,
    /// Give the server the weight back that it had
    #[arg(long)]
    undo: bool,
}

/// A server as it is typed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Server(IpAddr, Option<u16>);

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
            (Ok(at), _) => Ok(Self(at.ip(), Some(at.port()))),
            (_, Ok(addr)) => Ok(Self(addr, None)),
            _ => Err("neither ADDRESS:PORT nor ADDRESS".into()),
        }
    }
}

pub(super) fn main(args: &Args) -> Result<ExitCode> {
    let mut client = Client::default();
    let id = args.service;
    let server = which(&service(&mut client, id)?, args.server)?;
    let name = format!("{server} of {}", id.name());
    if args.undo {
        change(&mut client, &Request::Undrain(id, server))?;
        let weight = find(&service(&mut client, id)?, server)?.dest.spec.weight;
        show(&format!("{name}: weight {weight}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    change(&mut client, &Request::Drain(id, server))?;
    let started = Instant::now();
    let limit = args.timeout.map(Duration::from_secs);
    let mut progress = Progress::new(name);
    let mut moved = 0;
    let mut sure = false;
    loop {
        // One that a packet made by the old weight is met by a later look.
        match client.request(&Request::RetireTemplates(id, server))? {
            Response::Ended(count) => moved += count,
            other => return Err(unexpected(&other)),
        }
        let dest = find(&service(&mut client, id)?, server)?;
        if dest.dest.spec.weight != 0 {
            progress.end();
            bail!(
                "somebody gave {} weight {} meanwhile",
                progress.name,
                dest.dest.spec.weight
            );
        }
        let left = u64::from(dest.active) + u64::from(dest.inactive);
        progress.tell(&dest, moved);
        if left == 0 {
            if sure {
                progress.end();
                show(&format!("{}: empty\n", progress.name));
                return Ok(ExitCode::SUCCESS);
            }
            sure = true;
            sleep(SETTLE);
            continue;
        }
        sure = false;
        let rest = limit.map(|limit| limit.saturating_sub(started.elapsed()));
        if rest == Some(Duration::ZERO) {
            progress.end();
            show(&format!("{}: {left} connections left\n", progress.name));
            return Ok(ExitCode::from(NOT_EMPTY));
        }
        sleep(rest.map_or(PERIOD, |rest| rest.min(PERIOD)));
    }
}

fn change(client: &mut Client, request: &Request) -> Result<()> {
    match client.request(request)? {
        Response::Ok => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn service(client: &mut Client, id: ServiceId) -> Result<ServiceSnapshot> {
    match client.request(&Request::List(Some(id)))? {
        Response::Listing(mut listing) if listing.services.len() == 1 => {
            Ok(listing.services.remove(0))
        }
        Response::Refused(_) => bail!("no service {}: 'lvx show' lists them", id.name()),
        other => Err(unexpected(&other)),
    }
}

fn find(service: &ServiceSnapshot, id: DestId) -> Result<DestSnapshot> {
    let mut dests = service.dests.iter();
    match dests.find(|dest| dest.dest.id == id) {
        Some(dest) => Ok(dest.clone()),
        None => bail!("{id} is no longer a server of {}", service.id.name()),
    }
}

/// The server that was meant.
fn which(service: &ServiceSnapshot, server: Server) -> Result<DestId> {
    let dests = service.dests.iter().map(|dest| dest.dest.id);
    let fits =
        |dest: &DestId| dest.addr == server.0 && server.1.is_none_or(|port| port == dest.port);
    let found: Vec<DestId> = dests.filter(fits).collect();
    match found[..] {
        [one] => Ok(one),
        [] => bail!(
            "{} is no server of {}: 'lvx show {}' lists them",
            server.0,
            service.id.name(),
            service.id.name()
        ),
        _ => bail!("{} has servers with several ports: say which", server.0),
    }
}

/// What is seen while it takes its time.
struct Progress {
    name: String,
    terminal: bool,
    last: String,
}

impl Progress {
    fn new(name: String) -> Self {
        Self {
            name,
            terminal: io::stdout().is_terminal(),
            last: String::new(),
        }
    }

    /// On a terminal one line that changes, in a pipe a line for each change.
    fn tell(&mut self, dest: &DestSnapshot, moved: u64) {
        let line = line(&self.name, dest, moved);
        if line == self.last {
            return;
        }
        if self.terminal {
            show(&format!("\r{line}\x1b[K"));
        } else {
            show(&format!("{line}\n"));
        }
        self.last = line;
    }

    fn end(&self) {
        if self.terminal && !self.last.is_empty() {
            show("\n");
        }
    }
}

fn line(name: &str, dest: &DestSnapshot, moved: u64) -> String {
    let clients = match moved {
        0 => String::new(),
        1 => ", 1 persistent client sent elsewhere".into(),
        moved => format!(", {moved} persistent clients sent elsewhere"),
    };
    format!(
        "{name}: {} active, {} inactive{clients}",
        dest.active, dest.inactive
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_they_are_typed() {
        for (text, want) in [
            ("10.0.0.1", ("10.0.0.1", None)),
            ("10.0.0.1:80", ("10.0.0.1", Some(80))),
            ("fd00::1", ("fd00::1", None)),
            ("[fd00::1]", ("fd00::1", None)),
            ("[fd00::1]:80", ("fd00::1", Some(80))),
        ] {
            let want = Server(want.0.parse().unwrap(), want.1);
            assert_eq!(text.parse::<Server>(), Ok(want), "{text}");
        }
        assert!("x".parse::<Server>().is_err());
    }
}
