use std::fmt::Write as _;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::unexpected;
use crate::{
    daemon::{FlowTable, Status, Sweep, client::Client, dead},
    model::{Request, Response},
};

/// A sweep that has not run for so many seconds has stopped.
const SWEEP_LATE: f64 = 5.0;

/// Arguments of `lvx status`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> Result<()> {
    let mut status = match Client::default().request(&Request::Status)? {
        Response::Status(status) => status,
        other => return Err(unexpected(&other)),
    };
    // Where it cannot be told who lives, nobody is reported.
    let dead = dead::namespaces().unwrap_or_default();
    let dead = dead.iter().map(|cookie| {
        format!(
            "the network namespace {cookie} is dead, but its data plane still takes memory: \
             'lvx down --dead' removes it"
        )
    });
    status.warnings.extend(dead);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", text(&status));
    }
    Ok(())
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<14}{value}");
    };
    match (status.daemon, status.frozen_for) {
        (Some(pid), _) => line("daemon", format!("running, process {pid}")),
        (None, Some(seconds)) => {
            line("daemon", format!("dead for {seconds} s"));
            line(
                "frozen",
                "configuration, next hops, claimed addresses, rates: start 'lvx run'".into(),
            );
        }
        (None, None) => line("daemon", "dead".into()),
    }
    let interfaces = status
        .interfaces
        .iter()
        .map(|(name, mode)| format!("{name} ({mode})"));
    let interfaces = interfaces.collect::<Vec<_>>().join(", ");
    line(
        "interfaces",
        if interfaces.is_empty() {
            "none".into()
        } else {
            interfaces
        },
    );
    for place in &status.places {
        line("", place.clone());
    }
    line(
        "configured",
        format!(
            "services {}, servers {}, transaction {}",
            status.services, status.dests, status.epoch
        ),
    );
    line("flows IPv4", flow_table(&status.flow4));
    line("flows IPv6", flow_table(&status.flow6));
    line(
        "mh tables",
        format!(
            "{} of {} services, {:.1} MiB",
            status.mh_services,
            status.mh_room,
            status.mh_bytes as f64 / f64::from(1 << 20)
        ),
    );
    line("sweep IPv4", sweep(&status.sweep4));
    line("sweep IPv6", sweep(&status.sweep6));
    line("namespace", status.netns.to_string());
    for (server, why) in &status.unresolved {
        line("unresolved", format!("{server}: {why}"));
    }
    for warning in &status.warnings {
        line("warning", warning.clone());
    }
    for (reason, packets) in status.reasons.iter().filter(|(_, packets)| *packets > 0) {
        line("packets", format!("{packets:>12}  {reason}"));
    }
    text
}

fn sweep(sweep: &Sweep) -> String {
    let late = if sweep.age > SWEEP_LATE {
        ": NOT RUNNING, connections do not expire"
    } else {
        ""
    };
    format!(
        "last ran {:.1} s ago, build {:x}{late}",
        sweep.age, sweep.version
    )
}

fn flow_table(table: &FlowTable) -> String {
    let percent = table.used as f64 * 100.0 / table.cells.max(1) as f64;
    format!(
        "{} of {} cells used ({percent:.1} %), {} connections promised, {:.1} MiB",
        table.used,
        table.cells,
        table.connections,
        table.bytes as f64 / f64::from(1 << 20)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_daemon_is_told() {
        let status = Status {
            frozen_for: Some(12),
            interfaces: vec![("eth0".into(), "native".into())],
            flow4: FlowTable {
                cells: 1000,
                used: 125,
                ..FlowTable::default()
            },
            flow6: FlowTable {
                connections: 512,
                cells: 9216,
                used: 0,
                bytes: 9216 * 128,
            },
            places: vec!["eth0.100: on what is below it, eth0".into()],
            sweep4: Sweep {
                age: 0.1,
                version: 0xab,
            },
            sweep6: Sweep {
                age: 9.0,
                version: 0xab,
            },
            unresolved: vec![("10.8.0.1".into(), "no route".into())],
            reasons: vec![("forwarded-tx".into(), 7), ("dropped-ttl".into(), 0)],
            ..Status::default()
        };
        let text = text(&status);
        for part in [
            "daemon        dead for 12 s\nfrozen        configuration",
            "interfaces    eth0 (native)\n              eth0.100: on what is below it, eth0\n",
            "flows IPv4    125 of 1000 cells used (12.5 %)",
            "flows IPv6    0 of 9216 cells used (0.0 %), 512 connections promised, 1.1 MiB\n",
            "sweep IPv4    last ran 0.1 s ago, build ab\n",
            "sweep IPv6    last ran 9.0 s ago, build ab: NOT RUNNING",
            "unresolved    10.8.0.1: no route\n",
            "           7  forwarded-tx\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("dropped-ttl"), "{text}");
    }
}
