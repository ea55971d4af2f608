//! `lvx apply` and `lvx diff`: configurations as files.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    io::{self, IsTerminal as _, Read as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;

use super::{save::running, terminal::show, unexpected};
use crate::{
    config::{self, Line, Places},
    daemon::client::Client,
    model::{Config, DestId, Overview, Request, Response, ServiceId},
};

/// What `lvx diff` calls the director's own.
const RUNNING: &str = "running";
/// Exit status of a difference.
const DIFFERENT: u8 = 1;
/// Exit status when a file is wrong or nobody answers.
const TROUBLE: u8 = 2;

/// Arguments of `lvx apply`.
#[derive(ClapArgs)]
pub(super) struct ApplyArgs {
    /// lvx.toml, or what 'ipvsadm -S' wrote; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    /// Only show what would change, and what becomes of connections
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Arguments of `lvx diff`.
#[derive(ClapArgs)]
pub(super) struct DiffArgs {
    /// A file as for 'lvx apply', or 'running'
    #[arg(value_name = "FROM")]
    from: String,
    /// A file as for 'lvx apply', or 'running'
    #[arg(value_name = "TO", default_value = "running")]
    to: String,
}

pub(super) fn apply(args: &ApplyArgs) -> Result<ExitCode> {
    let Some((wanted, places)) = read(&args.file)? else {
        return Ok(ExitCode::from(TROUBLE));
    };
    let mut client = Client::default();
    if args.dry_run {
        let running = match config::scope(running(&mut client)?, &wanted) {
            Ok(running) => running,
            Err(foreign) => {
                let (change, why) = *foreign;
                eprintln!("{}", refused(&args.file, &places, &change, &why));
                return Ok(ExitCode::from(TROUBLE));
            }
        };
        let lines = config::difference(&running, &wanted);
        let text = if lines.is_empty() {
            "nothing would change\n".to_owned()
        } else {
            let overview = match client.request(&Request::Overview)? {
                Response::Overview(overview) => overview,
                other => return Err(unexpected(&other)),
            };
            let nodest = setting(&running, &wanted, "expire_nodest_conn");
            let quiescent = setting(&running, &wanted, "expire_quiescent_template");
            text(&lines, &Live::of(&overview, nodest, quiescent))
        };
        show(&text);
        return Ok(ExitCode::SUCCESS);
    }
    match client.request(&Request::Apply(Box::new(wanted)))? {
        Response::Ok => Ok(ExitCode::SUCCESS),
        Response::NotApplied(change, refusal) => {
            eprintln!(
                "{}",
                refused(&args.file, &places, &change, &refusal.to_string())
            );
            Ok(ExitCode::from(TROUBLE))
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) fn diff(args: &DiffArgs) -> Result<ExitCode> {
    if args.from == "-" && args.to == "-" {
        bail!("only one of the two can be standard input");
    }
    let mut client = Client::default();
    let mut side = |name: &str| -> Result<Option<Config>> {
        if name == RUNNING {
            running(&mut client).map(Some)
        } else {
            Ok(read(name)?.map(|(config, _)| config))
        }
    };
    let (Some(mut from), Some(mut to)) = (side(&args.from)?, side(&args.to)?) else {
        return Ok(ExitCode::from(TROUBLE));
    };
    // A file is compared with what it speaks of.
    match (args.from.as_str(), args.to.as_str()) {
        (RUNNING, RUNNING) => {}
        (RUNNING, _) => from = config::part(from, &to),
        (_, RUNNING) => to = config::part(to, &from),
        _ => {}
    }
    let lines = config::difference(&restricted(from, &to), &to);
    show(&text(&lines, &Live::default()));
    Ok(if lines.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENT)
    })
}

/// A side that does not speak of a section says nothing about it: it is compared
/// where both do.
fn restricted(from: Config, to: &Config) -> Config {
    // The sections of `to` alone are looked at. Where `from` lacks one, it is
    // taken to be the same.
    Config {
        services: from.services.or_else(|| to.services.clone()),
        pools: from.pools.or_else(|| to.pools.clone()),
        timeouts: from.timeouts.or(to.timeouts),
        sysctls: from.sysctls.or_else(|| to.sysctls.clone()),
        marks: from.marks.or_else(|| to.marks.clone()),
        filters: from.filters.or_else(|| to.filters.clone()),
        sets: from.sets.or_else(|| to.sets.clone()),
        declaration: None,
        declared: Vec::new(),
    }
}

/// Reads a file; what is wrong with it is told on standard error, a line each.
fn read(file: &str) -> Result<Option<(Config, Places)>> {
    let (name, bytes) = if file == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
        ("<stdin>", bytes)
    } else {
        let bytes = fs::read(file).with_context(|| format!("cannot read {file}"))?;
        (file, bytes)
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            bail!("{name}: not text in UTF-8 (byte {good})")
        }
    };
    match config::read(&text) {
        Ok((mut config, places)) => {
            if let Some(declaration) = &mut config.declaration {
                // Whoever meets a service of it elsewhere is told where it is.
                let whole = fs::canonicalize(name).map(|path| path.display().to_string());
                declaration.file = whole.unwrap_or_else(|_| name.to_owned());
            }
            Ok(Some((config, places)))
        }
        Err(faults) => {
            for fault in faults {
                eprintln!("{name}:{fault}");
            }
            Ok(None)
        }
    }
}

fn refused(file: &str, places: &Places, change: &Request, why: &str) -> String {
    let (line, column) = places.of(change);
    let name = if file == "-" { "<stdin>" } else { file };
    let why = why.strip_prefix("lvx: ").unwrap_or(why);
    let what = change.subject();
    format!("{name}:{line}:{column}: {what}{why}; nothing was changed")
}

/// Whether a setting will be on.
fn setting(running: &Config, wanted: &Config, name: &str) -> bool {
    let all = wanted.sysctls.as_ref().or(running.sysctls.as_ref());
    all.and_then(|all| all.get(name))
        .is_some_and(|value| *value != 0)
}

/// What connections there are, by server.
#[derive(Default)]
struct Live {
    counts: HashMap<(ServiceId, DestId), [u32; 3]>,
    /// `expire_nodest_conn`.
    nodest: bool,
    /// `expire_quiescent_template`.
    quiescent: bool,
}

impl Live {
    fn of(overview: &Overview, nodest: bool, quiescent: bool) -> Self {
        let services = overview.listing.services.iter();
        let counts = services.flat_map(|service| {
            let dests = service.dests.iter();
            dests.map(|dest| {
                let counts = [dest.active, dest.inactive, dest.persistent];
                ((service.id, dest.dest.id), counts)
            })
        });
        Self {
            counts: counts.collect(),
            nodest,
            quiescent,
        }
    }

    /// What becomes of the connections of a server that goes or gets weight 0.
    fn note(&self, server: (ServiceId, DestId, bool)) -> Option<String> {
        let (service, dest, goes) = server;
        let [active, inactive, persistent] = *self.counts.get(&(service, dest))?;
        let mut notes = Vec::new();
        if active + inactive > 0 {
            let what = format!("{active} active and {inactive} inactive connections");
            notes.push(match (goes, self.nodest) {
                (true, false) => format!(
                    "{what}: their packets are dropped until they time out, or the server is back \
                     ('lvx drain' first lets them end)"
                ),
                (true, true) => format!("{what}: end at their next packet (expire_nodest_conn)"),
                (false, _) => format!("{what}: stay until they end"),
            });
        }
        if persistent > 0 {
            let what = format!("{persistent} persistent clients");
            notes.push(if goes || self.quiescent {
                format!("{what}: get another server")
            } else {
                format!("{what}: still get this server ('lvx drain' sends them elsewhere)")
            });
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// A difference as it is shown.
fn text(lines: &[Line], live: &Live) -> String {
    let colours = io::stdout().is_terminal();
    let mut out = String::new();
    for line in lines {
        let colour = match line.sign {
            '+' => "32",
            '-' => "31",
            _ => "33",
        };
        let plain = format!("{} {}", line.sign, line.text);
        // Writing to a string does not fail.
        let _ = if colours {
            writeln!(out, "\x1b[{colour}m{plain}\x1b[0m")
        } else {
            writeln!(out, "{plain}")
        };
        if let Some(note) = line.server.and_then(|server| live.note(server)) {
            let _ = writeln!(out, "    {note}");
        }
    }
    out
}
