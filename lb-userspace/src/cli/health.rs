//! `lvx health`: what checks have found.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use comfy_table::{Attribute, Cell, Color};

use super::{
    terminal::{Columns, show_or_watch},
    unexpected,
};
use crate::{
    daemon::client::Client,
    model::{Condition, OnFailure, Request, Response, ServerHealth, ServiceHealth, ServiceId},
};

/// Arguments of `lvx health`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Only this one, with the history of its servers: tcp:10.0.0.1:80, udp:…, mark:7
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceId>,
    /// As JSON; with --watch, a document a line
    #[arg(long)]
    json: bool,
    /// Again every second, until it is interrupted
    #[arg(long, short)]
    watch: bool,
}

pub(super) fn main(args: &Args) -> Result<()> {
    let mut client = Client::default();
    show_or_watch(args.watch, || picture(&mut client, args))
}

fn picture(client: &mut Client, args: &Args) -> Result<String> {
    let mut services = match client.request(&Request::Health)? {
        Response::Health(services) => services,
        other => return Err(unexpected(&other)),
    };
    if let Some(id) = args.service {
        services.retain(|service| service.service == id);
        if services.is_empty() {
            bail!(
                "{} has no checks: 'lvx health' shows those that have",
                id.name()
            );
        }
    }
    if args.json {
        let value = serde_json::to_value(&services)?;
        return Ok(if args.watch {
            format!("{value}\n")
        } else {
            format!("{value:#}\n")
        });
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    Ok(text(&services, now, args.service.is_some()))
}

const TITLES: [&str; 6] = [
    "SERVICE / SERVER",
    "CHECK",
    "WEIGHT",
    "STATE",
    "SINCE",
    "REASON",
];
const NUMBERS: &[usize] = &[2, 4];

fn text(services: &[ServiceHealth], now: u64, history: bool) -> String {
    if services.is_empty() {
        return "no checks: 'check' in lvx.toml or 'lvx run --ldirectord-cf FILE' makes them\n"
            .into();
    }
    let mut table = Columns::new(&TITLES, NUMBERS);
    for service in services {
        service_row(&mut table, service);
        for server in &service.servers {
            server_row(&mut table, server, now);
            if history {
                for past in server.history.iter().rev() {
                    table.row(vec![
                        Cell::new(""),
                        Cell::new(""),
                        Cell::new(""),
                        Cell::new(past.to.name()).fg(Color::DarkGrey),
                        Cell::new(age(past.at, now)).fg(Color::DarkGrey),
                        Cell::new(&past.reason).fg(Color::DarkGrey),
                    ]);
                }
            }
        }
    }
    table.text()
}

fn service_row(table: &mut Columns, service: &ServiceHealth) {
    let up = service
        .servers
        .iter()
        .filter(|server| server.state == Condition::Up);
    let up = format!("{}/{} up", up.count(), service.servers.len());
    let seconds = |millis: u32| f64::from(millis) / 1000.0;
    let timing = &service.timing;
    let mut words = format!(
        "every {} s, within {} s, down after {}, then {}",
        seconds(timing.interval),
        seconds(timing.timeout),
        timing.failures,
        match service.on_failure {
            OnFailure::Remove => "removed",
            OnFailure::Quiesce => "weight 0",
        }
    );
    if let Some((sorry, active)) = service.sorry {
        let state = if active { ", which serves" } else { "" };
        words += &format!("; sorry server {sorry}{state}");
    }
    if let Some(owner) = &service.owner {
        words += &format!("; of {owner}");
    }
    table.row(vec![
        Cell::new(service.service.name()).add_attribute(Attribute::Bold),
        Cell::new(&service.check),
        Cell::new(""),
        Cell::new(up),
        Cell::new(""),
        Cell::new(words),
    ]);
}

fn server_row(table: &mut Columns, server: &ServerHealth, now: u64) {
    let color = match server.state {
        Condition::Up => Color::Green,
        Condition::Waiting => Color::Yellow,
        Condition::Down => Color::Red,
    };
    // What the last check says is news when the state has not followed yet.
    let last = server.last.as_ref();
    let error = last.and_then(|last| Some((last.error.as_ref()?, last.failures)));
    let reason = match (server.state, error) {
        (Condition::Up, Some((error, failures))) => {
            format!("{}; failed {failures} times since: {error}", server.reason)
        }
        (_, Some((error, _))) => error.clone(),
        (_, None) => server.reason.clone(),
    };
    table.row(vec![
        Cell::new(format!("  {}", server.server)),
        Cell::new(last.map_or(String::new(), |last| format!("{} ms", last.took))),
        Cell::new(server.weight),
        Cell::new(server.state.name()).fg(color),
        Cell::new(age(server.since, now)),
        Cell::new(reason),
    ]);
}

/// `12 s`, `3 min`, `5 h`, `9 d` ago.
fn age(at: u64, now: u64) -> String {
    match now.saturating_sub(at) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LastCheck, Timing, Transition};

    #[test]
    fn a_server_that_failed_says_why() {
        let server = |state, error: Option<&str>| ServerHealth {
            server: "10.1.0.1:80"
                .parse::<std::net::SocketAddr>()
                .map(|at| crate::model::DestId {
                    addr: at.ip(),
                    port: at.port(),
                })
                .unwrap(),
            state,
            weight: 3,
            since: 1_000,
            reason: "http check good after 1 ms".into(),
            history: vec![Transition {
                to: Condition::Waiting,
                at: 900,
                reason: "not checked yet".into(),
            }],
            last: error.map(|error| LastCheck {
                at: 1_050,
                took: 7,
                failures: 1,
                error: Some(error.into()),
            }),
        };
        let service = ServiceHealth {
            service: "tcp:10.0.0.1:80".parse().unwrap(),
            owner: Some("web".into()),
            check: "http".into(),
            timing: Timing::default(),
            on_failure: OnFailure::Remove,
            sorry: None,
            servers: vec![
                server(Condition::Up, None),
                server(Condition::Up, Some("HTTP 503 instead of 200")),
                server(Condition::Down, Some("connection refused")),
            ],
        };
        let text = text(&[service], 1_060, true);
        for line in [
            "2/3 up",
            "every 5 s, within 3 s, down after 2, then removed; of web",
            "failed 1 times since: HTTP 503 instead of 200",
            "down     60 s  connection refused",
            "waiting  2 min  not checked yet",
        ] {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(squeezed(&text).contains(&squeezed(line)), "{line}:\n{text}");
        }
    }
}
