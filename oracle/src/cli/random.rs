//! Random scenarios: boots until enough were compared, then makes the first
//! difference small.

use std::{fs, path::PathBuf, process::ExitCode, sync::Mutex, thread, time::Instant};

use anyhow::{Result, bail};
use lvx_oracle::{
    batch::{self, Live},
    random::{self, CELLS, Coverage},
    results::{Closeness, Uses, allow, differences},
    scenario::Scenario,
    vm::Kernel,
};

use nix::sys::resource::{UsageWho, getrusage};

use super::compare::Args;

/// Machines at a time. Each has one processor.
const MACHINES: usize = 2;

/// Files that a boot plays side by side when a difference is made small.
const SIDE_BY_SIDE: usize = 8;

/// What boots found so far.
struct Progress {
    /// Seeds that were not tried yet.
    left: Vec<u64>,
    coverage: Coverage,
    uses: Uses,
    /// The first seed with a difference.
    bad: Option<(u64, String)>,
    failed: Option<anyhow::Error>,
}

pub(crate) fn main(args: &Args, seed: u64) -> Result<ExitCode> {
    let start = Instant::now();
    let files = args.count.div_ceil(CELLS) as u64;
    if args.show {
        for seed in seed..seed + files {
            print!("{}", random::generate(seed));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let progress = Mutex::new(Progress {
        left: (seed..seed + files).rev().collect(),
        coverage: Coverage::default(),
        uses: Uses::new(),
        bad: None,
        failed: None,
    });
    thread::scope(|scope| {
        for _ in 0..MACHINES {
            scope.spawn(|| work(args.kernel, &progress));
        }
    });
    let progress = progress
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(error) = progress.failed {
        return Err(error);
    }
    print!("{}", progress.coverage.render());
    for (id, count) in &progress.uses {
        println!("{count} uses of {id}");
    }
    let (services, took) = (progress.coverage.services(), start.elapsed().as_secs_f64());
    let busy = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    println!(
        "{services} services in {took:.0} s, {:.0} a minute; {} s of processor time",
        services as f64 / took * 60.0,
        busy.user_time().tv_sec() + busy.system_time().tv_sec()
    );
    let Some((seed, found)) = progress.bad else {
        println!("no difference that is not listed");
        return Ok(ExitCode::SUCCESS);
    };
    println!("making the difference of seed {seed} small");
    let start = Instant::now();
    let small = random::shrink(&random::generate(seed), &found, |texts| {
        random::merged(texts, |files| {
            let mut found = Vec::new();
            for files in files.chunks(SIDE_BY_SIDE) {
                found.extend(compare(args.kernel, files, &mut Uses::new())?);
            }
            Ok(found)
        })
    })?;
    if !small.alone {
        println!("alone no service differs: they have to do with each other");
    }
    println!(
        "the scenario after {} boots and {:.0} s; keep it in tests/oracle once it is understood:\n{}",
        small.rounds,
        start.elapsed().as_secs_f64(),
        small.text
    );
    Ok(ExitCode::from(1))
}

/// Boots for one seed after the other, until none is left or one differs.
fn work(kernel: Kernel, progress: &Mutex<Progress>) {
    let lock = || {
        progress
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    };
    loop {
        let seed = {
            let mut progress = lock();
            if progress.bad.is_some() || progress.failed.is_some() {
                return;
            }
            let Some(seed) = progress.left.pop() else {
                return;
            };
            seed
        };
        let mut uses = Uses::new();
        let found = random::scenario(seed).and_then(|scenario| {
            let text = [(scenario.name.clone(), random::generate(seed))];
            Ok((scenario, compare(kernel, &text, &mut uses)?.concat()))
        });
        let mut progress = lock();
        match found {
            Ok((scenario, found)) => {
                progress.coverage.see(&scenario);
                for (id, count) in uses {
                    *progress.uses.entry(id).or_default() += count;
                }
                if !found.is_empty() {
                    println!("seed {seed}:\n{found}");
                    progress.bad.get_or_insert((seed, found));
                }
            }
            Err(error) => {
                progress.failed.get_or_insert(error);
            }
        }
    }
}

/// What differs, for each text.
fn compare(kernel: Kernel, texts: &[(String, String)], uses: &mut Uses) -> Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, text) in texts {
        let path = dir.path().join(format!("{name}.scn"));
        fs::write(&path, text)?;
        paths.push(path);
    }
    let lvx = lvx_tests::director::binary()?;
    let live = batch::in_guest(kernel, &paths, Some(&lvx))?;
    texts
        .iter()
        .map(|(name, text)| {
            let scenario = Scenario::parse(name, name, text)?;
            found(&scenario, &live, uses)
        })
        .collect()
}

fn found(scenario: &Scenario, live: &Live, uses: &mut Uses) -> Result<String> {
    match (
        live.kernel.get(&scenario.name),
        live.lvx.get(&scenario.name),
    ) {
        (Some(Ok(kernel)), Some(Ok(lvx))) => {
            let mut kernel = kernel.clone();
            allow(scenario, &mut kernel, lvx, uses);
            Ok(differences(scenario, &kernel, lvx, Closeness::Exact))
        }
        (kernel, lvx) => {
            let errors: Vec<_> = [kernel, lvx]
                .into_iter()
                .flatten()
                .filter_map(|played| played.as_ref().err())
                .cloned()
                .collect();
            bail!("{} was not played: {}", scenario.name, errors.join("; "))
        }
    }
}
