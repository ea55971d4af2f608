//! `lvx-lab bench forwarding`: from end to end over veth pairs, next to what users
//! would take instead, in turns within one run.

pub(super) mod flood;
mod generator;
pub(super) mod scene;
mod sockets;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use comfy_table::Table;
use serde::Serialize;

use super::{
    measure::median,
    report::{Machine, drawn},
};
use crate::stop::Signals;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// Only ways with this in their name [may be given several times]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Flows that packets are spread over, a power of two
    #[arg(long, value_name = "N", value_parser = super::flows, default_value = "16384")]
    flows: u32,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print tables as Markdown has them
    #[arg(long)]
    markdown: bool,
    /// Send packets on this CPU [default: the last one]
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
}

/// Everything that was measured.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    flood_plan: flood::Plan,
    flood: Vec<flood::Row>,
    sockets_plan: sockets::Plan,
    sockets: Vec<sockets::Row>,
}

/// How many times another way's rate one must reach: the way, the other, the factor.
const TARGETS: [(&str, &str, f64); 4] = [
    (flood::DIRECT, flood::REDIRECT, 0.8),
    (flood::NAT, flood::REDIRECT, 0.8),
    (flood::NAT, flood::FORWARDING, 3.0),
    (flood::NAT, flood::NFTABLES, 5.0),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let signals = Signals::catch()?;
    let cpus = std::thread::available_parallelism()?.get();
    let cpu = arguments.cpu.unwrap_or(cpus - 1);
    let (rounds, packets, socket_rounds, seconds) = if arguments.quick {
        (5, 200_000, 2, 0.4)
    } else {
        (11, 400_000, 5, 0.7)
    };
    let flood_plan = flood::Plan {
        rounds,
        packets,
        flows: arguments.flows,
    };
    let sockets_plan = sockets::Plan {
        rounds: socket_rounds,
        seconds,
        clients: 16,
        rate: 1000,
    };
    let wanted = |name: &str| {
        let only = &arguments.only;
        only.is_empty() || only.iter().any(|part| name.contains(part))
    };
    eprintln!("packets");
    let scenes = flood::Scenes::new()?;
    let mut flood = flood::measure(&scenes, flood_plan, &[&[cpu]], wanted, &signals)?;
    drop(scenes);
    eprintln!("connections");
    let sockets = sockets::measure(sockets_plan, wanted, &signals)?;
    let report = Report {
        machine: Machine::here(cpus, cpu)?,
        flood_plan,
        flood: flood.remove(0),
        sockets_plan,
        sockets,
    };
    report.print(arguments.markdown);
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl Report {
    fn print(&self, markdown: bool) {
        println!("{}.\n", self.machine);
        self.print_flood(markdown);
        println!();
        self.print_sockets(markdown);
    }

    fn print_flood(&self, markdown: bool) {
        let plan = self.flood_plan;
        println!(
            "Packets through the director on one CPU, {} warm flows, {} rounds of {} packets in turns.",
            plan.flows, plan.rounds, plan.packets
        );
        println!(
            "CPU time of a packet that arrived, the generator's and the far end's included; least (median)."
        );
        let of = |name| self.flood.iter().find(|row| row.name == name);
        let others = [
            flood::REDIRECT,
            flood::FLOOR,
            flood::FORWARDING,
            flood::NFTABLES,
        ];
        let mut heading = ["way", "ns", "million/s", "arrived"]
            .map(str::to_owned)
            .to_vec();
        heading.extend(others.map(|other| format!("/ {other}")));
        let mut table = Table::new();
        table.set_header(heading);
        for row in &self.flood {
            let mut cells = vec![
                row.name.to_owned(),
                format!("{:.0} ({:.0})", row.least(), row.median()),
                format!("{:.2} ({:.2})", 1e3 / row.least(), 1e3 / row.median()),
                format!("{:.2} %", row.arrived * 100.0),
            ];
            for name in others {
                cells.push(of(name).map_or_else(String::new, |other| faster(row, other)));
            }
            table.add_row(cells);
        }
        println!("{}", drawn(table, markdown));
        println!(
            "F1: the least that a stateful balancer must do. \"/\": the rate as a multiple of another way's; a target that was missed is shown behind \"<\"."
        );
    }

    fn print_sockets(&self, markdown: bool) {
        if self.sockets.is_empty() {
            return;
        }
        let plan = self.sockets_plan;
        println!(
            "Real sockets, client, director and nginx on the same {} CPUs: a small HTTP request on a connection of its own, {} rounds of {} s in turns; best (median).",
            self.machine.cpus(),
            plan.rounds,
            plan.seconds
        );
        println!(
            "Connections a second by {} clients as fast as they are answered; times at {} requests a second, connecting included.",
            plan.clients, plan.rate
        );
        let mut table = Table::new();
        table.set_header([
            "way",
            "connections/s",
            "/ no balancer",
            "p50 µs",
            "p99 µs",
            "failed",
        ]);
        let plain = self.sockets.iter().find(|row| row.name == sockets::PLAIN);
        for row in &self.sockets {
            let most = |row: &sockets::Row| row.connections.iter().copied().fold(0.0, f64::max);
            let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
            let times =
                |times: &[f64]| format!("{:.0} ({:.0})", least(times), median(times.to_vec()));
            table.add_row([
                row.name.to_owned(),
                format!("{:.0} ({:.0})", most(row), median(row.connections.clone())),
                plain.map_or_else(String::new, |plain| {
                    let ratios = row.connections.iter().zip(&plain.connections);
                    let ratios = ratios.map(|(one, other)| one / other).collect();
                    format!("{:.2} ({:.2})", most(row) / most(plain), median(ratios))
                }),
                times(&row.p50),
                times(&row.p99),
                format!("{} of {}", row.failed, row.requests),
            ]);
        }
        println!("{}", drawn(table, markdown));
    }
}

/// The rate of one way as a multiple of another's.
fn faster(row: &flood::Row, other: &flood::Row) -> String {
    let ratio = other.least() / row.least();
    let target = TARGETS
        .iter()
        .find(|(name, to, _)| *name == row.name && *to == other.name);
    let missed = match target {
        Some((.., target)) if ratio < *target => format!(" < {target}"),
        _ => String::new(),
    };
    format!("{ratio:.2} ({:.2}){missed}", other.median() / row.median())
}
