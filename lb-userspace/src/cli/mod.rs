//! The verbs of `lvx`, one file each, and the names that the binary answers to.

mod apply;
mod capture;
mod config;
mod conns;
mod decap;
mod down;
mod drain;
mod files;
mod gather;
mod health;
mod ipvsadm;
mod laddr;
mod maps;
mod migrate;
mod rs_setup;
mod rules;
mod run;
mod save;
mod show;
mod status;
mod sysctl;
mod terminal;

use std::{ffi::OsString, path::Path, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    daemon::namespaces,
    model::{Chain, Response},
};

/// The Linux Virtual Server on XDP.
#[derive(Parser)]
#[command(
    name = "lvx",
    version,
    disable_help_subcommand = true,
    // Every verb has its line, and a screen has 24.
    override_usage = "lvx <COMMAND>   ('lvx <COMMAND> --help' says more)",
    help_template = "{about}. {usage-heading} {usage}\n\n{subcommands}"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// Whether these are words that lvx takes.
#[cfg(any(test, fuzzing))]
pub(crate) fn understands(words: Vec<String>) -> bool {
    Cli::try_parse_from(words).is_ok()
}

#[derive(Subcommand)]
enum Verb {
    /// Start the daemon: load the data plane and serve ipvsadm
    Run(run::Args),
    /// Detach and remove the data plane, and stop the daemon
    Down(down::Args),
    /// Show what runs, what is frozen, and what became of packets
    Status(status::Args),
    /// Show or save packets as they came and as lvx left them, and why
    Capture(capture::Args),
    /// Show services and servers, their connections, rates and states
    Show(show::Args),
    /// Show which servers live, since when, and why
    Health(health::Args),
    /// Print what is configured, for 'lvx apply'
    Save(save::Args),
    /// Make the configuration what a file says, in one step
    Apply(apply::ApplyArgs),
    /// Show what differs between two configurations (exit status 1 if anything)
    Diff(apply::DiffArgs),
    /// Check a configuration file, or convert it to lvx.toml
    Config(config::Args),
    /// List, count or end connections
    Conns(conns::Args),
    /// Let a server's connections end: no new ones, also of persistent clients
    ///
    /// Gives the server weight 0, sends its persistent clients elsewhere and
    /// waits until its connections have ended. Exit status 0: it is empty; 1:
    /// time is over, and the number left is printed. The weight stays 0:
    /// --undo gives back the one it had. A UDP client that goes on sending
    /// never ends.
    Drain(drain::Args),
    /// Show how full the maps are, and their memory
    Maps(maps::Args),
    /// Print a file as the kernel's /proc/net has it
    Proc(files::ProcArgs),
    /// Print what completes words in a shell
    #[command(hide = true)]
    Completions(files::CompletionArgs),
    /// Print a manual page: 'lvx man | man -l -'
    #[command(hide = true)]
    Man(files::ManArgs),
    /// On a real server: take packets out of the director's tunnels
    Decap(decap::Args),
    /// On a real server: print, apply or take back what its method needs
    RsSetup(rs_setup::Args),
    /// Local addresses that FULLNAT connections are made from
    Laddr(laddr::Args),
    /// Show and set net.ipv4.vs.* settings
    Sysctl(sysctl::Args),
    /// Compare a kernel's saved rules with lvx: does each client keep its server?
    Migrate(migrate::Args),
    /// Firewall marks: rules in the grammar of iptables ('lvx mark -h')
    #[command(disable_help_flag = true)]
    Mark {
        /// As for iptables
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Drop service traffic: rules in the grammar of iptables ('lvx filter -h')
    #[command(disable_help_flag = true)]
    Filter {
        /// As for iptables
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// The ipvsadm command line ('lvx ipvsadm -h' for its options)
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// As for ipvsadm
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Runs the command line `args`, of which the first is the name of the program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name.starts_with("ipvsadm") {
        return ipvsadm::main(&name, &program.to_string_lossy(), &args.collect::<Vec<_>>());
    }
    let cli = match Cli::try_parse_from(std::iter::once(program).chain(args)) {
        Ok(cli) => cli,
        // clap prints help and errors itself, and exits with 0 and 2.
        Err(error) => error.exit(),
    };
    match cli.verb {
        Verb::Run(args) => end(run::main(args)),
        Verb::Down(args) => {
            end(namespaces::enter_first_mount_namespace().and_then(|()| down::main(&args)))
        }
        Verb::Capture(args) => {
            enter_softly();
            end(capture::main(&args))
        }
        Verb::Decap(args) => {
            end(namespaces::enter_first_mount_namespace().and_then(|()| decap::main(&args)))
        }
        Verb::RsSetup(args) => {
            end(namespaces::enter_first_mount_namespace().and_then(|()| rs_setup::main(&args)))
        }
        Verb::Status(args) => {
            enter_softly();
            end(status::main(&args))
        }
        Verb::Show(args) => {
            enter_softly();
            end(show::main(&args))
        }
        Verb::Health(args) => {
            enter_softly();
            end(health::main(&args))
        }
        Verb::Save(args) => {
            enter_softly();
            end(save::main(&args))
        }
        Verb::Conns(args) => {
            enter_softly();
            end(conns::main(&args))
        }
        Verb::Drain(args) => end_with(drain::main(&args)),
        Verb::Maps(args) => {
            enter_softly();
            end(maps::main(&args))
        }
        Verb::Proc(args) => {
            enter_softly();
            end(files::proc(&args))
        }
        Verb::Completions(args) => end(files::completions(&args, &mut Cli::command())),
        Verb::Man(args) => end(files::man(&args, &Cli::command())),
        Verb::Apply(args) => end_with(apply::apply(&args)),
        Verb::Diff(args) => end_with(apply::diff(&args)),
        Verb::Config(args) => end_with(config::main(&args)),
        Verb::Laddr(args) => {
            enter_softly();
            end(laddr::main(args))
        }
        Verb::Sysctl(args) => {
            enter_softly();
            end(sysctl::main(&args))
        }
        Verb::Migrate(args) => {
            enter_softly();
            migrate::main(&args).unwrap_or_else(|error| end(Err(error)))
        }
        Verb::Mark { args } => {
            enter_softly();
            end(rules::main(Chain::Mark, &args))
        }
        Verb::Filter { args } => {
            enter_softly();
            end(rules::main(Chain::Filter, &args))
        }
        Verb::Ipvsadm { args } => ipvsadm::main("ipvsadm", "lvx ipvsadm", &args),
    }
}

/// Goes where the pins are, for a reader without a daemon. A living daemon is
/// reached from everywhere.
fn enter_softly() {
    let _ = namespaces::enter_first_mount_namespace();
}

/// As [`end`], with a status of its own.
fn end_with(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| end(Err(error)))
}

/// One line for an error, and exit status 2.
fn end(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("{error:#}");
            // Some errors say themselves who speaks, because ipvsadm prints them as they are.
            eprintln!("lvx: {}", text.strip_prefix("lvx: ").unwrap_or(&text));
            ExitCode::from(2)
        }
    }
}

fn unexpected(response: &Response) -> anyhow::Error {
    match response {
        Response::Refused(refusal) => anyhow::anyhow!("{refusal}"),
        _ => anyhow::anyhow!("the daemon is of another version: restart it"),
    }
}
