//! `lvx migrate`: what a move from the kernel's IPVS would change.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args as ClapArgs, Subcommand};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    daemon::{files::Files, offline::START},
    dataplane::Maps,
    migrate::{
        clients::{self, Client},
        compare::{Report, ServiceReport, Verdict, compare},
        plane::{Plane, Trial},
        rules::{self, Rules},
    },
};

const CHECK_HELP: &str = "\
No kernel is asked: its side is computed from the rules, by its tables of sh, dh and mh; lvx's
side are the running director's own tables. Where state decides (rr, wrr, lc, ...) the rules are
compared. Exit status: 0 all equal, 1 something differs, 2 an error.";

/// Arguments of `lvx migrate`.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Compare where clients go by a kernel's saved rules, and by lvx
    #[command(after_help = CHECK_HELP)]
    Check(Check),
}

/// Arguments of `lvx migrate check`.
#[derive(ClapArgs)]
struct Check {
    /// What 'ipvsadm-save' or 'ipvsadm-save -n' printed; - is standard input
    rules: String,
    /// Clients, a line each: ADDRESS, ADDRESS:PORT or ADDRESS/LENGTH COUNT; - is standard input
    #[arg(required = true)]
    clients: String,
    /// The kernel's /proc/net/ip_vs: the order of its servers, which a saved table lacks
    #[arg(long, value_name = "FILE")]
    order: Option<String>,
    /// What lvx would do with these rules, instead of what runs
    #[arg(long)]
    offline: bool,
    /// Only what differs
    #[arg(short, long)]
    differences: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Whether nothing differs is the exit status.
pub(super) fn main(args: &Args) -> Result<ExitCode> {
    let Verb::Check(args) = &args.verb;
    let standard = [&args.rules, &args.clients].into_iter().chain(&args.order);
    ensure!(
        standard.filter(|file| *file == "-").count() <= 1,
        "standard input can be read once: only one '-'"
    );
    let saved = rules::read(&args.rules, &read(&args.rules)?)?;
    let rules = match &args.order {
        Some(file) => rules::ordered(&saved.state, file, &read(file)?)?,
        None => saved,
    };
    let clients = clients::read(&args.clients, &read(&args.clients)?)?;
    let mut report = check(&rules, &clients, args.offline)?;
    let equal = report.is_equal();
    if args.differences {
        for service in &mut report.services {
            let differs = |verdict| matches!(verdict, Verdict::Differs | Verdict::Full);
            service.clients.retain(|client| differs(client.verdict));
        }
    }
    show(&report, args)?;
    Ok(ExitCode::from(u8::from(!equal)))
}

fn read(file: &str) -> Result<String> {
    let mut bytes = Vec::new();
    if file == "-" {
        let read = io::stdin().read_to_end(&mut bytes);
        read.context("cannot read standard input")?;
    } else {
        bytes = fs::read(file).with_context(|| format!("cannot read {file}"))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn check(rules: &Rules, clients: &[Client], offline: bool) -> Result<Report> {
    let trial = Trial::new(rules).context("no memory for the tables")?;
    if offline {
        return Ok(compare(rules, &trial, trial.plane(), clients));
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "permission denied: only root may read the director's tables ('--offline' needs none)"
    );
    let files = Files::here()?;
    if !files.has_pins() {
        files.check_layout()?;
        bail!(
            "lvx does not run in this network namespace: {START}, load the rules, and ask again; \
             or see with '--offline' what it would do"
        );
    }
    let maps = Maps::open(files.pins()).context("cannot read the data plane")?;
    // A transaction may come in between.
    for _ in 0..10 {
        let running = Plane::running(&maps);
        let report = compare(rules, &trial, running, clients);
        if running.is_current() {
            return Ok(report);
        }
    }
    bail!("the configuration changes all the time: ask again when it does not")
}

fn show(report: &Report, args: &Check) -> Result<()> {
    let mut out = io::stdout().lock();
    // A closed pipe is nobody's fault.
    let _ = if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)
    } else {
        let rows = report
            .services
            .iter()
            .flat_map(|service| rows(service, args.differences));
        if out.is_terminal() {
            let mut table = Table::new();
            table.load_style(UTF8_FULL_CONDENSED);
            table.set_header(["service", "client", "kernel", "lvx", ""]);
            for row in rows {
                table.add_row(row);
            }
            writeln!(out, "{table}")
        } else {
            rows.map(|row| row.join("\t") + "\n")
                .try_for_each(|row| out.write_all(row.as_bytes()))
        }
    };
    drop(out);
    for service in report.services.iter().filter(|service| service.persistent) {
        eprintln!(
            "lvx: {} is persistent: clients that have a template keep its server",
            service.service
        );
    }
    for service in &report.only_in_lvx {
        eprintln!("lvx: {service} is in lvx only");
    }
    eprintln!(
        "lvx: {} clients compared, {} go elsewhere; {} of {} services differ{}",
        report.compared,
        report.different_clients,
        report.different_services,
        report.services.len(),
        match report.not_compared {
            0 => String::new(),
            count => format!("; {count} clients not compared"),
        }
    );
    Ok(())
}

/// A service's lines: what differs, then its clients.
fn rows(service: &ServiceReport, differences: bool) -> Vec<[String; 5]> {
    let mut rows = Vec::new();
    let name = || service.service.clone();
    for difference in &service.differences {
        rows.push([
            name(),
            "*".into(),
            difference.kernel.clone(),
            difference.lvx.clone(),
            format!("differs: {}", difference.what),
        ]);
    }
    if service.decided_by == "state" && service.differences.is_empty() && !differences {
        let by_state = || format!("by state ({})", service.scheduler);
        rows.push([
            name(),
            "*".into(),
            by_state(),
            by_state(),
            "same rules".into(),
        ]);
    }
    for client in &service.clients {
        rows.push([
            name(),
            client.client.to_string(),
            client.kernel.to_string(),
            client.lvx.to_string(),
            client.verdict.text().into(),
        ]);
    }
    rows
}
