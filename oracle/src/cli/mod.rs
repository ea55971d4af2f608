//! The verbs, one file each.

mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// lvx against the kernel's IPVS.
#[derive(Parser)]
#[command(name = "lvx-oracle", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a script in a virtual machine that has the kernel's IPVS
    Vm(vm::Args),
}

pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Vm(args) => vm::main(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lvx-oracle: {error:#}");
            ExitCode::from(2)
        }
    }
}
