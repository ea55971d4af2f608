use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;
use lvx_oracle::{
    batch::{self, LONG, Live},
    results::{Closeness, Results, differences},
    scenario::{self, Scenario},
    vm::Kernel,
};

/// Arguments of `compare`.
#[derive(ClapArgs)]
#[command(override_usage = "cargo xtask oracle [OPTIONS] [NAME]...")]
pub(crate) struct Args {
    /// Scenarios or files; with --self-check, defects. All without
    #[arg(value_name = "NAME")]
    pub(super) scenarios: Vec<String>,
    /// Which kernel: 6.12, or Debian 12's own 6.1
    #[arg(long, value_enum, default_value_t = Kernel::V6_12, hide_possible_values = true)]
    pub(super) kernel: Kernel,
    /// Keep the kernel's results, to compare without the machine
    #[arg(long)]
    record: bool,
    /// Play lvx on this machine, compare with what is kept; with --record,
    /// the kernel alone is played in the machine
    #[arg(long)]
    host: bool,
    /// Show all results; with --seed, show the files unplayed
    #[arg(long)]
    pub(super) show: bool,
    /// Play random scenarios, from this seed on
    #[arg(long, conflicts_with_all = ["record", "host"])]
    pub(super) seed: Option<u64>,
    /// How many random scenarios, at least
    #[arg(long, requires = "seed", default_value_t = 200)]
    pub(super) count: usize,
    /// Show differences of random scenarios as they are, not made small
    #[arg(long, requires = "seed")]
    pub(super) no_shrink: bool,
    /// Plant defects in lvx; random scenarios must find each
    #[arg(long, conflicts_with_all = ["record", "host", "count"])]
    self_check: bool,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if args.self_check {
        return super::self_check::main(args);
    }
    if let Some(seed) = args.seed {
        ensure!(
            args.scenarios.is_empty(),
            "--seed makes scenarios: name none"
        );
        return super::random::main(args, seed);
    }
    let directory = batch::directory();
    let files = files(&directory, &args.scenarios)?;
    let scenarios = files
        .iter()
        .map(|path| Scenario::read(path))
        .collect::<Result<Vec<_>>>()?;
    let bad = if args.host {
        if args.record {
            record_kernel(args, &directory, &files, &scenarios)?;
        }
        host(args, &directory, &scenarios)?
    } else {
        let lvx = lvx_tests::director::binary()?;
        let live = batch::in_guest(args.kernel, &files, Some(&lvx))?;
        guest(args, &directory, &scenarios, &live)?
    };
    println!(
        "{} scenarios, {bad} of them differ from the kernel",
        scenarios.len()
    );
    Ok(ExitCode::from(u8::from(bad > 0)))
}

fn files(directory: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    if names.is_empty() {
        let all = scenario::all(directory)?;
        return Ok(all
            .iter()
            .map(|scenario| directory.join(format!("{}.scn", scenario.name)))
            .collect());
    }
    names
        .iter()
        .map(|name| {
            [directory.join(format!("{name}.scn")), PathBuf::from(name)]
                .into_iter()
                .find(|path| path.is_file())
                .with_context(|| {
                    format!(
                        "no scenario {name} in {}, and no such file",
                        directory.display()
                    )
                })
        })
        .collect()
}

/// Compares what a boot gave; how many scenarios differ.
fn guest(args: &Args, directory: &Path, scenarios: &[Scenario], live: &Live) -> Result<usize> {
    let mut bad = 0;
    for scenario in scenarios {
        let name = &scenario.name;
        let get = |played: &batch::Played, who: &str| match played.get(name) {
            Some(Ok(results)) => Ok(results.clone()),
            Some(Err(error)) => Err(format!("{name}: {who} was not played: {error}")),
            None => Err(format!("{name}: the guest gave no result of {who}")),
        };
        let kernel = get(&live.kernel, "the kernel");
        let lvx = get(&live.lvx, "lvx");
        // What lvx does where it deviates is recorded, and held to.
        let mut kernel = kernel;
        if let (Ok(kernel), Ok(lvx)) = (&mut kernel, &lvx) {
            if args.record {
                kernel.keep_instead(scenario, lvx);
                batch::record(directory, name, &live.release, kernel)?;
            } else if scenario.steps.iter().any(|step| step.deviates.is_some())
                && let Ok((_, recorded)) = batch::recording(directory, name)
            {
                kernel.recall_instead(&recorded);
            }
        }
        match (kernel, lvx) {
            (Ok(kernel), Ok(lvx)) => {
                bad += usize::from(!report(args, scenario, &kernel, &lvx, Closeness::Exact));
            }
            (kernel, lvx) => {
                bad += 1;
                for error in [kernel.err(), lvx.err()].into_iter().flatten() {
                    println!("{error}");
                }
            }
        }
    }
    println!("kernel {}, {:.1} s", live.release, live.took.as_secs_f64());
    Ok(bad)
}

/// Plays the kernel alone and keeps what it did, and what lvx does instead on
/// this machine.
fn record_kernel(
    args: &Args,
    directory: &Path,
    files: &[PathBuf],
    scenarios: &[Scenario],
) -> Result<()> {
    let live = batch::in_guest(args.kernel, files, None)?;
    println!("kernel {}, {:.1} s", live.release, live.took.as_secs_f64());
    for scenario in scenarios {
        let name = &scenario.name;
        let mut kernel = match live.kernel.get(name) {
            Some(Ok(results)) => results.clone(),
            Some(Err(error)) => bail!("{name}: the kernel was not played: {error}"),
            None => bail!("{name}: the guest gave no result of the kernel"),
        };
        if scenario.steps.iter().any(|step| step.deviates.is_some()) {
            ensure!(
                scenario.duration() <= LONG,
                "{name} deviates and is too long for a real clock: record it without --host"
            );
            let lvx = batch::on_this_machine(scenario, &kernel)
                .with_context(|| format!("cannot play {name}"))?;
            kernel.keep_instead(scenario, &lvx);
        }
        batch::record(directory, name, &live.release, &kernel)?;
    }
    Ok(())
}

fn host(args: &Args, directory: &Path, scenarios: &[Scenario]) -> Result<usize> {
    let mut bad = 0;
    for scenario in scenarios {
        if scenario.duration() > LONG {
            let length = scenario.duration().as_secs();
            if args.scenarios.is_empty() {
                println!(
                    "{}: not played, it takes {length} s; name it",
                    scenario.name
                );
                continue;
            }
            println!("{}: takes {length} s of a real clock", scenario.name);
        }
        let (_, kernel) = batch::recording(directory, &scenario.name)?;
        let lvx = match batch::on_this_machine(scenario, &kernel) {
            Ok(lvx) => lvx,
            Err(error) => {
                println!("{}: cannot be played: {error:#}", scenario.name);
                bad += 1;
                continue;
            }
        };
        bad += usize::from(!report(args, scenario, &kernel, &lvx, Closeness::Loose));
    }
    if scenarios.is_empty() {
        bail!("there are no scenarios");
    }
    Ok(bad)
}

/// Prints what differs; whether nothing does.
fn report(
    args: &Args,
    scenario: &Scenario,
    kernel: &Results,
    lvx: &Results,
    closeness: Closeness,
) -> bool {
    if args.show {
        println!("=== {}: kernel\n{}", scenario.name, kernel.render());
        println!("=== {}: lvx\n{}", scenario.name, lvx.render());
    }
    let text = differences(scenario, kernel, lvx, closeness);
    print!("{text}");
    text.is_empty()
}
