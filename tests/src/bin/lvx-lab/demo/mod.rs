//! The main job of lvx on real traffic: a client, a director and two nginx
//! servers in namespaces, one service, many requests.

mod requests;
mod stages;

use std::time::Instant;

use anyhow::{Result, ensure};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use lvx_tests::{
    director::{Director, Start},
    lab::OneArm,
};

use self::{requests::Outcome, stages::Stages};
use crate::stop::{Signals, Stopped};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Number of HTTP requests, each on a connection of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    requests: u64,
    /// Scheduler of the service.
    #[arg(long, default_value = "rr")]
    scheduler: String,
    /// How the program is attached: native, generic or auto.
    #[arg(long, default_value = "auto")]
    mode: String,
    /// Leave everything standing and say how to enter it.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let signals = Signals::catch()?;
    let result = stages_of(arguments, &signals);
    // What a signal breaks on its way may fail in other words first.
    if signals.came() {
        Err(Stopped.into())
    } else {
        result
    }
}

fn stages_of(arguments: &Arguments, signals: &Signals) -> Result<()> {
    let mut stages = Stages::default();

    let lab = stages.run("namespaces and servers", OneArm::new)?;
    println!(
        "  client {}   director {}, VIP {}   rs1 {}   rs2 {}",
        lab.client.addr,
        lab.director.addr,
        OneArm::VIP,
        lab.rip(1),
        lab.rip(2)
    );
    signals.check()?;

    let start = Start::default().mode(&arguments.mode).connections(None);
    println!("  # lvx {}", start.arguments().join(" "));
    let director = stages.run("director", || Director::start_with(&lab.director.ns, start))?;
    if let Some((name, mode)) = director.status()?.interfaces.first() {
        println!("  attached to {name}, {mode} mode");
    }
    signals.check()?;

    stages.run("service", || {
        configure(&director, &lab, &arguments.scheduler)
    })?;
    signals.check()?;

    let began = Instant::now();
    let outcome = stages.run("requests", || {
        requests::run(&lab.client.ns, OneArm::VIP, arguments.requests, signals)
    })?;
    println!("\n{}", table(&outcome, began.elapsed().as_secs_f64()));
    for failure in outcome.failures.iter().take(10) {
        println!("failed: {failure}");
    }

    for words in [&["-Ln"][..], &["-Ln", "--stats"]] {
        println!("\n# ipvsadm {}", words.join(" "));
        let answer = director.ipvsadm(words);
        ensure!(answer.code == 0, "`ipvsadm {}`: {answer}", words.join(" "));
        print!("{}", answer.stdout);
    }

    if arguments.keep && !signals.came() {
        keep(&lab);
    } else {
        stages.remove("director", director);
        stages.remove("namespaces", lab);
    }
    println!("\n{stages}");
    let (failed, asked) = (outcome.failures.len(), outcome.requests());
    ensure!(failed == 0, "{failed} of {asked} requests failed");
    Ok(())
}

/// The service of the demo, by the commands an operator types.
fn configure(director: &Director<'_>, lab: &OneArm, scheduler: &str) -> Result<()> {
    let service = format!("{}:80", OneArm::VIP);
    let mut commands = vec![format!("-A -t {service} -s {scheduler}")];
    for number in 1..=lab.servers.len() {
        commands.push(format!("-a -t {service} -r {}:80 -g", lab.rip(number)));
    }
    for command in commands {
        println!("  # ipvsadm {command}");
        let answer = director.ipvsadm(&command.split(' ').collect::<Vec<_>>());
        ensure!(answer.code == 0, "`ipvsadm {command}`: {answer}");
    }
    Ok(())
}

fn table(outcome: &Outcome, seconds: f64) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["server", "requests", "share", "requests/s"]);
    let answered: u64 = outcome.answers.values().sum();
    let mut row = |name: &str, count: u64| {
        let share = 100.0 * count as f64 / outcome.requests().max(1) as f64;
        table.add_row([
            name.to_owned(),
            count.to_string(),
            format!("{share:.1} %"),
            format!("{:.0}", count as f64 / seconds),
        ]);
    };
    for (name, count) in &outcome.answers {
        row(name, *count);
    }
    row("failed", outcome.failures.len() as u64);
    row("all", answered + outcome.failures.len() as u64);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn keep(lab: &OneArm) {
    lab.lab.keep();
    let name = lab.lab.name();
    println!("\nThe lab {name} stays. To enter it:");
    println!("  ip netns exec {name}-client curl http://{}/", OneArm::VIP);
    println!(
        "  ip netns exec {name}-director {} ipvsadm -Ln",
        lvx_tests::director::binary()
            .unwrap_or_else(|_| "lvx".into())
            .display()
    );
    println!("  ip netns exec {name}-director bash      (also -client, -rs1, -rs2)");
    println!("Logs are in {}. To remove it:", lab.lab.dir().display());
    println!(
        "  {} clean {name}",
        std::env::current_exe()
            .unwrap_or_else(|_| "lvx-lab".into())
            .display()
    );
}
