//! `cargo xtask`: what people and CI run on a checkout of lvx.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod chaos;
mod demo;
mod layers;
mod lint;
mod oracle;
mod packages;
mod setup;
mod shell;
mod test;
mod totals;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, builds, shows and tests lvx.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building and testing need; quick when all is there
    Setup(setup::Options),
    /// Build the lvx binary and the lab
    Build(build::Options),
    /// Balance real HTTP requests over two servers in network namespaces
    Demo(demo::Options),
    /// Run every layer of tests, fmt and clippy included (needs root)
    Test(test::Options),
    /// Check formatting and lints, the eBPF crate included
    Lint,
    /// Load the programs and hold them against their budgets (needs root)
    Verify(verify::Options),
    /// Measure what a packet costs (needs root and a quiet machine)
    Bench(bench::Options),
    /// Kill the daemon at random moments under load and look for what was lost (needs root)
    Chaos(chaos::Options),
    /// Play scenarios on the kernel's IPVS and on lvx, and show what differs (needs root)
    Oracle(oracle::Options),
    /// Play command lines on the real ipvsadm and on lvx, and show what differs (needs root)
    Commands(oracle::Options),
    /// Run a script in a virtual machine that has the kernel's IPVS
    Vm(oracle::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup(options) => setup::run(&options),
        Verb::Build(options) => build::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Lint => lint::run(),
        Verb::Verify(options) => verify::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Chaos(options) => chaos::run(&options),
        Verb::Oracle(options) => oracle::run("compare", &options),
        Verb::Commands(options) => oracle::run("commands", &options),
        Verb::Vm(options) => oracle::run("vm", &options),
    }
}
