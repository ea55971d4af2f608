//! `cargo xtask test`: every layer, then the sum.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use ebpf_build::{environment, toolchain};

use crate::{
    build,
    layers::{Kind, LAYERS, Layer},
    lint, oracle, setup,
    shell::{self, is_root, run_watched, seconds},
    totals::Totals,
    verify,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run one layer only
    #[arg(long, value_name = "NAME", value_parser = layer_names())]
    only: Option<String>,
}

fn layer_names() -> PossibleValuesParser {
    PossibleValuesParser::new(LAYERS.iter().map(|layer| layer.name))
}

/// How a layer ended.
enum Outcome {
    Passed,
    Failed(anyhow::Error),
    /// For want of a tool, with the reason.
    NotRun(String),
}

struct Report {
    layer: &'static Layer,
    outcome: Outcome,
    totals: Totals,
    took: Duration,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("the tests make network namespaces and load eBPF programs; run them as root");
    }
    setup::ensure()?;
    let start = Instant::now();
    let reports = match options.only.as_deref() {
        Some(only) => LAYERS
            .iter()
            .filter(|layer| layer.name == only)
            .map(run_layer)
            .collect(),
        None => run_all(),
    };
    conclude(&reports, start.elapsed())
}

/// Every layer: those that have a processor to themselves first, then the others in
/// two lanes.
fn run_all() -> Vec<Report> {
    let (beside, rest): (Vec<&Layer>, Vec<&Layer>) = LAYERS.iter().partition(|layer| layer.beside);
    let alone = rest.iter().position(|layer| layer.name == "unit");
    let (alone, rest) = rest.split_at(alone.map_or(0, |unit| unit + 1));
    let mut reports: Vec<Report> = alone.iter().map(|layer| run_layer(layer)).collect();
    thread::scope(|scope| {
        let lane = scope.spawn(|| beside.into_iter().map(run_captured).collect::<Vec<_>>());
        reports.extend(rest.iter().map(|layer| run_layer(layer)));
        let beside = lane
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for (report, printed) in beside {
            print!("{printed}");
            reports.push(report);
        }
    });
    reports
}

/// Runs a layer as a process of its own; what it printed is for later.
fn run_captured(layer: &'static Layer) -> (Report, String) {
    let start = Instant::now();
    let run = || -> Result<std::process::Output> {
        // Not this program: `unit` has built it anew, and its file is gone.
        let mut command = shell::cargo();
        Ok(command
            .args(["xtask", "test", "--only", layer.name])
            .output()?)
    };
    let mut totals = Totals::default();
    let (outcome, printed) = match run() {
        Ok(output) => {
            let [printed, errors] = [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned());
            // Its own sum is part of ours.
            let layer = printed
                .rsplit_once("\n\n")
                .map_or(&*printed, |(layer, _)| layer);
            let printed = format!("{layer}\n{errors}");
            printed.lines().for_each(|line| totals.see(line));
            let outcome = if output.status.success() {
                Outcome::Passed
            } else {
                Outcome::Failed(anyhow::anyhow!("see above"))
            };
            (outcome, printed)
        }
        Err(error) => {
            let printed = format!("\n{}: cannot be started: {error:#}\n", layer.name);
            (Outcome::Failed(error), printed)
        }
    };
    let report = Report {
        layer,
        outcome,
        totals,
        took: start.elapsed(),
    };
    (report, printed)
}

fn run_layer(layer: &'static Layer) -> Report {
    println!("\n=== {}: {} ===", layer.name, layer.about);
    let start = Instant::now();
    let mut totals = Totals::default();
    let outcome = match &layer.kind {
        Kind::Lint => without_tests(lint::check()),
        Kind::Verify { kernels } => without_tests(verify::everywhere(kernels)),
        Kind::Oracle { scenarios } => without_tests(oracle::check(scenarios)),
        Kind::Devices { only } => without_tests(oracle::devices(only)),
        Kind::Cargo { arguments } => {
            // The namespace tests run the programs of the same profile, which
            // `cargo test` alone does not always build.
            match build::compile_tests() {
                Ok(()) => watch(
                    shell::cargo().args(["test", "--locked"]).args(*arguments),
                    &mut totals,
                ),
                Err(error) => Outcome::Failed(error),
            }
        }
        Kind::CargoWith {
            arguments,
            rustflags,
        } => {
            let mut command = shell::cargo();
            command
                .args(["test", "--locked"])
                .args(*arguments)
                .env("RUSTFLAGS", rustflags)
                .env("CARGO_TARGET_DIR", shell::target_dir().join(layer.name));
            watch(&mut command, &mut totals)
        }
        Kind::Miri { arguments } => miri(arguments, &mut totals),
    };
    match &outcome {
        Outcome::Passed => {}
        Outcome::Failed(error) => println!("{}: {error:#}", layer.name),
        Outcome::NotRun(reason) => println!("{}: not run: {reason}", layer.name),
    }
    Report {
        layer,
        outcome,
        totals,
        took: start.elapsed(),
    }
}

fn without_tests(result: Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(error),
    }
}

/// Runs a `cargo test`. Success without a single test is a failure: a filter
/// or a name no longer fits.
fn watch(command: &mut Command, totals: &mut Totals) -> Outcome {
    match run_watched(command, |line| totals.see(line)) {
        Ok(()) if totals.is_empty() => {
            Outcome::Failed(anyhow::anyhow!("ran no test: {}", shell::show(command)))
        }
        result => without_tests(result),
    }
}

fn miri(arguments: &[&str], totals: &mut Totals) -> Outcome {
    let with_miri = toolchain::rustup_toolchains()
        .into_iter()
        .find(|t| t.has_source && t.program("cargo-miri").is_file());
    let Some(toolchain) = with_miri else {
        return Outcome::NotRun(
            "no toolchain with miri; to have it: \
             rustup toolchain install nightly --component miri,rust-src"
                .to_owned(),
        );
    };
    println!("with {} ({})", toolchain.name, toolchain.release);
    let mut command = Command::new("rustup");
    environment::clean(&mut command)
        .current_dir(shell::root())
        .env("CARGO_TARGET_DIR", shell::target_dir().join("miri"))
        // Tests read the clock and the environment.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .args(["run", &toolchain.name, "cargo", "miri", "test", "--locked"])
        .args(arguments);
    watch(&mut command, totals)
}

/// Prints a line for each layer and, last, the sum of all tests.
fn conclude(reports: &[Report], took: Duration) -> Result<()> {
    println!();
    for report in reports {
        let Totals { passed, failed } = report.totals;
        let outcome = match &report.outcome {
            Outcome::Passed if report.totals.is_empty() => "passed".to_owned(),
            Outcome::Passed => format!("{passed} passed"),
            Outcome::Failed(_) if failed > 0 => format!("{passed} passed, {failed} failed"),
            Outcome::Failed(_) => "failed, see above".to_owned(),
            Outcome::NotRun(reason) => format!("not run: {reason}"),
        };
        println!(
            "{:11} {:>8}  {outcome}",
            report.layer.name,
            seconds(report.took)
        );
    }
    println!("{:11} {:>8}", "all", seconds(took));
    let sum = sum(reports);
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// All tests, and one failure for each layer that failed without a failed
/// test (lint, verify, a test that does not compile): the last line never
/// says "0 failed" when something did.
fn sum(reports: &[Report]) -> Totals {
    let mut sum = Totals::default();
    for report in reports {
        sum.add(report.totals);
        if matches!(report.outcome, Outcome::Failed(_)) && report.totals.failed == 0 {
            sum.failed += 1;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome, passed: u64, failed: u64) -> Report {
        let totals = Totals { passed, failed };
        Report {
            layer: &LAYERS[0],
            outcome,
            totals,
            took: Duration::ZERO,
        }
    }

    fn failure() -> Outcome {
        Outcome::Failed(anyhow::anyhow!("failed"))
    }

    #[test]
    fn a_layer_that_fails_without_a_failed_test_counts_as_one() {
        let reports = [
            report(failure(), 0, 0),
            report(failure(), 10, 2),
            report(Outcome::Passed, 5, 0),
            report(Outcome::NotRun("no miri".to_owned()), 0, 0),
        ];
        assert_eq!(
            sum(&reports),
            Totals {
                passed: 15,
                failed: 3
            }
        );
    }

    #[test]
    fn success_without_a_test_is_a_failure() {
        let mut totals = Totals::default();
        assert!(matches!(
            watch(&mut Command::new("true"), &mut totals),
            Outcome::Failed(_)
        ));
        let mut command = Command::new("echo");
        command.arg("test result: ok. 1 passed; 0 failed;");
        assert!(matches!(watch(&mut command, &mut totals), Outcome::Passed));
        assert_eq!(
            totals,
            Totals {
                passed: 1,
                failed: 0
            }
        );
    }
}
