//! `lvx-lab bench`: what a packet costs on each path through the program.
//!
//! Every figure is net: the time of a program less the time of an empty one that is
//! called with the same packets, measured in turns on one CPU. Nanoseconds are this
//! machine's; what carries over is the ratio to F1, the least that a stateful balancer
//! must do, in the same run.

mod cases;
mod forwarding;
mod guest;
mod measure;
mod plot;
mod report;
#[expect(unreachable_pub, reason = "the programs' crate has the same file")]
#[path = "../../../../../lb-ebpf/src/bench_run.rs"]
mod run_record;
mod scale;
mod schedulers;
mod stand;
mod streams;
mod template;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::measure::Plan;

/// Columns of the tables: flows that packets are spread over.
const FLOWS: [u32; 5] = [1, 1 << 14, 1 << 18, 1 << 20, 1 << 22];
const QUICK_FLOWS: [u32; 2] = [1, 1 << 20];

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Fewer rounds and columns: less exact, below two minutes
    #[arg(long)]
    quick: bool,
    /// Only paths with this in their name [may be given several times]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Flows that packets are spread over, powers of two [default: 1 to 4,194,304]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = flows)]
    flows: Vec<u32>,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw nanoseconds over flows
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print tables as Markdown has them
    #[arg(long)]
    markdown: bool,
    /// Measure on this CPU [default: the last one]
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
}

#[derive(clap::Subcommand)]
enum What {
    /// One TCP stream by each method, next to direct and to plain forwarding.
    Streams(streams::Arguments),
    /// From end to end, next to plain forwarding, nftables and HAProxy.
    Forwarding(forwarding::Arguments),
    /// Millions of connections, the sweep, several CPUs, thousands of services.
    Scale(scale::Arguments),
    /// A new connection by each scheduler, with 2 to 1,000 servers.
    Schedulers(schedulers::Arguments),
    /// Inside the virtual machine: instructions a packet.
    #[command(hide = true)]
    Guest(guest::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(What::Streams(arguments)) = &arguments.what {
        return streams::run(arguments);
    }
    if let Some(What::Forwarding(arguments)) = &arguments.what {
        return forwarding::run(arguments);
    }
    if let Some(What::Scale(arguments)) = &arguments.what {
        return scale::run(arguments);
    }
    if let Some(What::Guest(arguments)) = &arguments.what {
        return guest::run(arguments);
    }
    let cpus = std::thread::available_parallelism()?.get();
    let cpu = arguments.cpu.unwrap_or(cpus - 1);
    pin(cpu)?;
    if let Some(What::Schedulers(arguments)) = &arguments.what {
        return schedulers::run(arguments);
    }
    let plan = plan(arguments);
    let cases: Vec<_> = cases::all()
        .into_iter()
        .filter(|case| {
            let wanted = &arguments.only;
            wanted.is_empty() || wanted.iter().any(|name| case.name.contains(name))
        })
        .collect();
    ensure!(!cases.is_empty(), "no path is called so");
    let mut stands = Vec::new();
    let mut rows = Vec::new();
    for case in &cases {
        eprintln!("measuring {}", case.name);
        let row = measure::row(&mut stands, case, &plan);
        rows.push(row.with_context(|| format!("cannot measure {}", case.name))?);
    }

    let report = report::Report::new(cpus, cpu, plan, rows)?;
    report.print(&cases, arguments.markdown);
    if let Some(path) = &arguments.plot {
        plot::draw(report.rows(), path)?;
    }
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Moves the calling thread to a CPU, and what it starts from then on.
fn pin(cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)
        .with_context(|| format!("there is no CPU {cpu}"))?;
    // 0 is the calling thread.
    sched_setaffinity(Pid::from_raw(0), &only).with_context(|| format!("cannot move to CPU {cpu}"))
}

fn plan(arguments: &Arguments) -> Plan {
    let (rounds, packets, connections, columns) = if arguments.quick {
        (5, 100_000, 10_000, &QUICK_FLOWS[..])
    } else {
        (11, 400_000, 20_000, &FLOWS[..])
    };
    Plan {
        rounds,
        packets,
        connections,
        flows: if arguments.flows.is_empty() {
            columns.to_vec()
        } else {
            arguments.flows.clone()
        },
    }
}

/// Flows of which there are at most as many as the programs can name.
fn flows(text: &str) -> Result<u32, String> {
    let flows: u32 = text.parse().map_err(|error| format!("{error}"))?;
    if flows.is_power_of_two() && flows <= 1 << 22 {
        Ok(flows)
    } else {
        Err("a power of two, at most 4194304".to_owned())
    }
}
