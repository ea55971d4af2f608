//! `lvx-lab bench forwarding`: from end to end over veth pairs, next to what users
//! would take instead, in turns within one run.

mod flood;
mod generator;
mod scene;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use comfy_table::Table;
use serde::Serialize;

use super::report::{Machine, drawn};
use crate::stop::Signals;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
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
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let signals = Signals::catch()?;
    let cpus = std::thread::available_parallelism()?.get();
    let cpu = arguments.cpu.unwrap_or(cpus - 1);
    let flood_plan = if arguments.quick {
        flood::Plan {
            rounds: 5,
            packets: 200_000,
            flows: 1 << 14,
        }
    } else {
        flood::Plan {
            rounds: 11,
            packets: 400_000,
            flows: 1 << 14,
        }
    };
    let scenes = flood::Scenes::new()?;
    let flood = flood::measure(&scenes, flood_plan, &[cpu], &[], &signals)?;
    drop(scenes);
    let report = Report {
        machine: Machine::here(cpus, cpu)?,
        flood_plan,
        flood,
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
        println!("{}", self.machine);
        let plan = self.flood_plan;
        println!(
            "Packets through the director on one CPU, {} flows; {} rounds of {} packets in turns; CPU time a packet that arrived, least (median).",
            plan.flows, plan.rounds, plan.packets
        );
        let of = |name| self.flood.iter().find(|row| row.name == name);
        let mut table = Table::new();
        let others = [flood::REDIRECT, flood::FORWARDING, flood::NFTABLES];
        let mut heading = vec!["way".to_owned(), "ns".to_owned(), "million/s".to_owned()];
        heading.extend(others.map(|other| format!("rate / {other}")));
        heading.push("arrived".to_owned());
        table.set_header(heading);
        for row in &self.flood {
            let mut cells = vec![
                row.name.to_owned(),
                format!("{:.0} ({:.0})", row.least(), row.median()),
                format!("{:.2}", 1e3 / row.least()),
            ];
            cells.extend(others.map(|other| {
                of(other).map_or_else(String::new, |other| {
                    format!(
                        "{:.2} ({:.2})",
                        other.least() / row.least(),
                        other.median() / row.median()
                    )
                })
            }));
            cells.push(format!("{:.2} %", row.arrived * 100.0));
            table.add_row(cells);
        }
        println!("{}", drawn(table, markdown));
    }
}
