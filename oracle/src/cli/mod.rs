//! The verbs, one file each.

mod commands;
mod compare;
mod random;
mod self_check;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use lvx_oracle::{commands::stage, devices, play::Engine, times, vm::Kernel};

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
    /// Play scenarios on the kernel's IPVS and on lvx, and show what differs
    Compare(compare::Args),
    /// Play command lines on the real ipvsadm and on lvx, and show what differs
    Commands(commands::Args),
    /// Play a transcript with the programs of PATH
    #[command(hide = true)]
    PlayCommands {
        /// Hide /etc but for the names that belong to the transcripts
        #[arg(long)]
        own_etc: bool,
        /// The transcript
        from: PathBuf,
        /// Where it goes with the answers
        to: PathBuf,
    },
    /// In the virtual machine: lvx among Linux's bonds, VLANs, bridges and tunnels
    Devices {
        /// Which kernel: 6.12, or Debian 12's own 6.1
        #[arg(long, value_enum, default_value_t = Kernel::V6_12, hide_possible_values = true)]
        kernel: Kernel,
        /// Only what has one of these words in its name
        only: Vec<String>,
    },
    /// Inside the virtual machine: the same
    #[command(hide = true)]
    GuestDevices {
        /// Only what has one of these words in its name
        only: Vec<String>,
    },
    /// Inside the virtual machine: the times of `commands --times`
    #[command(hide = true)]
    GuestTimes {
        /// How often
        rounds: u32,
        /// Numbers of services
        sizes: Vec<u32>,
    },
    /// Inside the virtual machine: play what is in /scenarios
    #[command(hide = true)]
    Guest {
        /// On which directors
        engines: Vec<Engine>,
    },
}

pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Vm(args) => vm::main(&args),
        Verb::Compare(args) => compare::main(&args),
        Verb::Commands(args) => commands::main(&args),
        Verb::PlayCommands { own_etc, from, to } => {
            stage::play(&from, &to, own_etc).map(|()| ExitCode::SUCCESS)
        }
        Verb::Devices { kernel, only } => devices::in_guest(kernel, &only).map(|said| {
            print!("{said}");
            ExitCode::SUCCESS
        }),
        Verb::GuestDevices { only } => devices::guest(&only).map(|()| ExitCode::SUCCESS),
        Verb::GuestTimes { rounds, sizes } => {
            times::guest(rounds, &sizes).map(|()| ExitCode::SUCCESS)
        }
        Verb::Guest { engines } => lvx_oracle::batch::guest(&engines).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lvx-oracle: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    /// `--help` is read on a screen of 80 columns and 24 lines.
    #[test]
    fn help_fits_a_screen() {
        for verb in ["commands", "compare", "vm"] {
            let asked =
                Cli::command()
                    .term_width(80)
                    .try_get_matches_from(["lvx-oracle", verb, "--help"]);
            let help = asked.expect_err("it is shown instead").to_string();
            assert!(help.lines().count() <= 24, "{help}");
            assert!(help.contains("Usage: cargo xtask"), "{help}");
        }
    }
}
