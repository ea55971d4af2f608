use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::{
    daemon::{namespaces, run},
    dataplane::{DEFAULT_RULES, Mode, Sizes, default_connections6, rule_words},
};

/// Arguments of `lvx run`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Interface that service traffic comes in by; may be given again
    #[arg(long, short, value_name = "NAME", required = true)]
    interface: Vec<String>,
    /// How to attach: in the driver, in the generic hook, or the first that works
    #[arg(long, value_enum, default_value_t = ModeArg::Auto)]
    mode: ModeArg,
    /// Network namespace to run in, as 'ip netns' names it
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    /// IPv4 connections to have room for
    #[arg(long, value_name = "N", default_value_t = Sizes::default().connections,
          value_parser = clap::value_parser!(u32).range(512..=1 << 26))]
    connections: u32,
    /// IPv6 connections to have room for [default: a quarter of --connections]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(512..=1 << 26))]
    connections6: Option<u32>,
    /// Services to have room for
    #[arg(long, value_name = "N", default_value_t = Sizes::default().services,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    services: u32,
    /// Servers to have room for, removed ones with connections included
    #[arg(long, value_name = "N", default_value_t = Sizes::default().dests,
          value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
    dests: u32,
    /// Services scheduled by mh to have room for
    #[arg(long, value_name = "N", default_value_t = Sizes::default().mh_services,
          value_parser = clap::value_parser!(u32).range(1..=1 << 18))]
    mh_services: u32,
    /// Memory for mark and filter rules, in MiB
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_RULES,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    rules: u32,
    /// Which service addresses to act on: those of this machine, or all
    #[arg(long, value_enum, default_value_t = Scope::Local)]
    vip_scope: Scope,
    /// Keep the kernel's /proc/net/ip_vs… files as DIR/net/ip_vs…
    #[arg(long, value_name = "DIR")]
    proc_dir: Option<PathBuf>,
    /// Take services and their checks from this ldirectord.cf, and follow it
    #[arg(long, value_name = "FILE")]
    ldirectord_cf: Option<PathBuf>,
    /// Keep the configuration in FILE, and bring it back after a reboot
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Group whose members may list, not change [default: lvx, if any]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

/// How to attach, as it is typed.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum ModeArg {
    Native,
    Generic,
    Auto,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Native => Self::Native,
            ModeArg::Generic => Self::Generic,
            ModeArg::Auto => Self::Auto,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    Local,
    Any,
}

pub(super) fn main(args: Args) -> Result<()> {
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("permission denied: lvx run needs root");
    }
    // Relative to where it was typed.
    let proc_dir = args.proc_dir.map(std::path::absolute).transpose()?;
    let ldirectord_cf = args.ldirectord_cf.map(std::path::absolute).transpose()?;
    let state = args.state.map(std::path::absolute).transpose()?;
    namespaces::enter_first_mount_namespace()?;
    if let Some(name) = &args.netns {
        namespaces::enter_network_namespace(name)?;
    }
    let wanted = run::Wanted {
        interfaces: args.interface,
        mode: args.mode.into(),
        any_vip: args.vip_scope == Scope::Any,
        proc_dir,
        ldirectord_cf,
        state,
        group: args.group,
        sizes: Sizes {
            connections: args.connections,
            connections6: args
                .connections6
                .unwrap_or_else(|| default_connections6(args.connections)),
            services: args.services,
            dests: args.dests,
            mh_services: args.mh_services,
            rule_words: rule_words(args.rules),
        },
    };
    run::run(wanted).map_err(explained)
}

/// Says what is missing when the kernel forbade something: its own words say
/// only what it was.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let forbidden = error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
    });
    if forbidden {
        error.context("permission denied: lvx run needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and, to start, CAP_SYS_ADMIN")
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::rejected;

    #[test]
    fn what_was_forbidden_is_explained() {
        let of = |kind: io::ErrorKind| {
            let error = anyhow::Error::from(io::Error::from(kind)).context("cannot create a map");
            format!("{:#}", explained(error))
        };
        let text = of(io::ErrorKind::PermissionDenied);
        assert!(
            text.contains("CAP_BPF") && text.contains("cannot create a map"),
            "{text}"
        );
        let text = of(io::ErrorKind::NotFound);
        assert!(text.starts_with("cannot create a map"), "{text}");
    }

    /// The unit that is shipped starts this lvx, with the options that it names.
    #[test]
    fn the_unit_is_understood() {
        use clap::Parser as _;
        let unit = include_str!("../../../packaging/systemd/lvx.service");
        let value = |start: &str| {
            let line = unit.lines().find_map(|line| line.strip_prefix(start));
            line.unwrap_or_else(|| panic!("no {start}"))
        };
        let options = value("#     LVX_OPTIONS=").trim_matches('"');
        let command = value("ExecStart=").replace("$LVX_OPTIONS", options);
        assert!(command.contains("--interface eth0") && command.contains("--state "));
        crate::cli::Cli::try_parse_from(command.split_whitespace()).unwrap();
    }

    /// Both have the same error number.
    #[test]
    fn what_the_verifier_says_is_not_taken_for_missing_privileges() {
        let log = "0: R1=ctx() R10=fp0\n12: (71) r1 = *(u8 *)(r0 +14)\nR0 invalid mem access 'scalar'\n\
                   verification time 12 usec\nprocessed 13 insns (limit 1000000) max_states_per_insn 0\n";
        let error = rejected("lvx", log).expect("the verifier has said something");
        let text = format!("{:#}", explained(error.into()));
        assert!(!text.contains("CAP_BPF"), "{text}");
        assert!(
            text.ends_with("(r0 +14); R0 invalid mem access 'scalar'"),
            "{text}"
        );
        assert!(rejected("lvx", "\n").is_none());
    }
}
