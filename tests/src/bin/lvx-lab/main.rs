//! `lvx-lab`: lvx at work in network namespaces made for it.

mod bench;
mod chaos;
mod clean;
mod demo;
mod stop;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// lvx at work in network namespaces made for it. Needs root.
#[derive(Parser)]
#[command(name = "lvx-lab", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// One file a verb.
#[derive(Subcommand)]
enum Verb {
    /// HTTP requests through a director to two nginx servers, in a table.
    Demo(demo::Arguments),
    /// Removes a lab that was kept, or lists them.
    Clean(clean::Arguments),
    /// What the verifier says of the programs, against the budget.
    Verify(verify::Arguments),
    /// What a packet costs, against a hash of the kernel's in the same run.
    Bench(bench::Arguments),
    /// Kills the daemon at random moments under load, and looks for what was lost.
    Chaos(chaos::Arguments),
}

fn main() -> ExitCode {
    let result: Result<()> = match Arguments::parse().verb {
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Clean(arguments) => clean::run(&arguments),
        Verb::Verify(arguments) => verify::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Chaos(arguments) => chaos::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<stop::Stopped>() => {
            eprintln!("lvx-lab: {error}");
            // As a shell reports a process that SIGINT ended.
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("lvx-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
