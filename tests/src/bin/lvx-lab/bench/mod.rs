//! `lvx-lab bench`: what a packet costs, in the flow table and altogether.
//!
//! Every figure is net: the time of a program less the time of one that only
//! makes and parses the same packets, measured in turns on one CPU. Nanoseconds
//! are this machine's; what carries over is the ratio to a hash of the kernel's
//! in the same run.

mod measure;
mod programs;
mod report;
#[expect(unreachable_pub, reason = "the programs' crate has the same file")]
#[path = "../../../../../lb-ebpf/src/bench_run.rs"]
mod run_record;
mod schedulers;
mod streams;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use lvx_tests::kernel::bpffs::Bpffs;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::{measure::Plan, programs::Programs};

/// Rows of the tables: flows that packets are spread over.
const FLOWS: [u32; 5] = [1, 1 << 14, 1 << 16, 1 << 18, 1 << 20];

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Fewer rounds: less exact, below 20 seconds
    #[arg(long)]
    quick: bool,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure on this CPU [default: the last one]
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
}

#[derive(clap::Subcommand)]
enum What {
    /// One TCP stream by each method, next to direct and to plain forwarding.
    Streams(streams::Arguments),
    /// A new connection by each scheduler, with 2 to 1,000 servers.
    Schedulers(schedulers::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(What::Streams(arguments)) = &arguments.what {
        return streams::run(arguments);
    }
    let cpus = std::thread::available_parallelism()?.get();
    let cpu = arguments.cpu.unwrap_or(cpus - 1);
    let mut only = CpuSet::new();
    only.set(cpu)
        .with_context(|| format!("there is no CPU {cpu}"))?;
    // 0 is the calling thread.
    sched_setaffinity(Pid::from_raw(0), &only)
        .with_context(|| format!("cannot move to CPU {cpu}"))?;
    if let Some(What::Schedulers(arguments)) = &arguments.what {
        return schedulers::run(arguments);
    }
    let plan = if arguments.quick {
        Plan {
            rounds: 5,
            packets: 150_000,
        }
    } else {
        Plan {
            rounds: 15,
            packets: 1_000_000,
        }
    };
    let bpffs = Bpffs::new()?;
    let mut programs = Programs::load(&bpffs.pins())?;
    let mut rows = Vec::new();
    for flows in FLOWS {
        eprintln!("measuring {flows} flows");
        rows.push(measure::row(&mut programs, flows, plan)?);
    }
    programs.check()?;

    let report = report::Report::new(cpus, cpu, plan, rows)?;
    report.print();
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
