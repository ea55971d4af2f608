//! Random scenarios: boots until all were compared, then makes the first
//! difference small. What could not be played is played again.

use std::{fs, path::PathBuf, process::ExitCode, sync::Mutex, thread, time::Instant};

use anyhow::{Result, anyhow, bail, ensure};
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

/// Files of one boot, played one after the other: a boot costs as much as a file.
const A_BOOT: usize = 4;

/// How often a file is tried in a boot of its own, after the first one in which it
/// could not be played.
const ALONE: usize = 2;

/// What boots found so far.
#[derive(Default)]
struct Progress {
    /// Seeds that were not tried yet, the first one last.
    left: Vec<u64>,
    /// Seeds that could not be played, and how often.
    again: Vec<(u64, usize)>,
    /// How often something was played again, in the machine or by a boot.
    repeats: usize,
    /// Seeds that were given up.
    given_up: Vec<u64>,
    coverage: Coverage,
    uses: Uses,
    /// Seeds with a difference, and it.
    bad: Vec<(u64, String)>,
}

impl Progress {
    /// What to boot for next: new seeds together, one that was tried before alone.
    fn next(&mut self) -> Vec<(u64, usize)> {
        if !self.left.is_empty() {
            // Each machine gets its share of the last ones.
            let count = self.left.len().div_ceil(MACHINES).min(A_BOOT);
            let some = self.left.split_off(self.left.len() - count);
            return some.into_iter().rev().map(|seed| (seed, 0)).collect();
        }
        self.again.pop().into_iter().collect()
    }

    fn see(&mut self, seed: u64, tried: usize, result: Result<(Scenario, String)>) {
        match result {
            Ok((scenario, found)) => {
                self.coverage.see(&scenario);
                if !found.is_empty() {
                    println!("seed {seed}:\n{found}");
                    self.bad.push((seed, found));
                }
            }
            Err(error) if tried < ALONE => {
                println!("seed {seed} is played again: {error:#}");
                self.repeats += 1;
                self.again.push((seed, tried + 1));
            }
            Err(error) => {
                println!("seed {seed} is given up: {error:#}");
                self.given_up.push(seed);
            }
        }
    }
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
        ..Progress::default()
    });
    thread::scope(|scope| {
        for _ in 0..MACHINES {
            scope.spawn(|| work(args.kernel, &progress));
        }
    });
    let progress = progress
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    print!("{}", progress.coverage.render());
    for (id, count) in &progress.uses {
        println!("{count} uses of {id}");
    }
    let (services, took) = (progress.coverage.services(), start.elapsed().as_secs_f64());
    let busy = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    println!(
        "{services} services in {took:.0} s, {:.0} a minute; {} s of processor time; {} times a file was played again",
        services as f64 / took * 60.0,
        busy.user_time().tv_sec() + busy.system_time().tv_sec(),
        progress.repeats
    );
    let differ: usize = (progress.bad.iter())
        .map(|(_, found)| random::cells_of(found).len())
        .sum();
    println!("{differ} services differ in a way that is not listed");
    let given_up = progress.given_up.len();
    if let Some((seed, found)) = progress.bad.first() {
        if !args.no_shrink {
            shrink(args.kernel, *seed, found)?;
        }
    } else if given_up == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        given_up == 0,
        "{given_up} files of {CELLS} services were not compared, seeds {:?}: try them again on a machine that does less",
        progress.given_up
    );
    Ok(ExitCode::from(1))
}

fn shrink(kernel: Kernel, seed: u64, found: &str) -> Result<()> {
    println!("making the difference of seed {seed} small");
    let start = Instant::now();
    let small = random::shrink(&random::generate(seed), found, |texts| {
        random::merged(texts, |files| {
            let mut found = Vec::new();
            for files in files.chunks(SIDE_BY_SIDE) {
                let (compared, _) = compare(kernel, files, &mut Uses::new())?;
                found.extend(compared.into_iter().collect::<Result<Vec<_>>>()?);
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
    Ok(())
}

/// Boots for some seeds after the other, until none is left.
fn work(kernel: Kernel, progress: &Mutex<Progress>) {
    let lock = || {
        progress
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    };
    loop {
        let some = lock().next();
        if some.is_empty() {
            return;
        }
        let texts: Vec<_> = some
            .iter()
            .map(|(seed, _)| (random::name(*seed), random::generate(*seed)))
            .collect();
        let mut uses = Uses::new();
        let compared = compare(kernel, &texts, &mut uses);
        let mut progress = lock();
        for (id, count) in uses {
            *progress.uses.entry(id).or_default() += count;
        }
        let compared = match compared {
            Ok((compared, repeats)) => {
                progress.repeats += repeats;
                compared
            }
            Err(error) => {
                let told = format!("{error:#}");
                some.iter().map(|_| Err(anyhow!("{told}"))).collect()
            }
        };
        for ((seed, tried), found) in some.into_iter().zip(compared) {
            let result = found.and_then(|found| Ok((random::scenario(seed)?, found)));
            progress.see(seed, tried, result);
        }
    }
}

/// What differs, for each text, and how often the machine played one again.
fn compare(
    kernel: Kernel,
    texts: &[(String, String)],
    uses: &mut Uses,
) -> Result<(Vec<Result<String>>, usize)> {
    let dir = tempfile::tempdir()?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, text) in texts {
        let path = dir.path().join(format!("{name}.scn"));
        fs::write(&path, text)?;
        paths.push(path);
    }
    let lvx = lvx_tests::director::binary()?;
    let live = batch::in_guest(kernel, &paths, Some(&lvx))?;
    let compared = texts
        .iter()
        .map(|(name, text)| {
            let scenario = Scenario::parse(name, name, text)?;
            found(&scenario, &live, uses)
        })
        .collect();
    Ok((compared, live.again))
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
                .map(ToString::to_string)
                .collect();
            bail!("{} was not played: {}", scenario.name, errors.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_played_is_tried_alone_and_then_named() {
        let mut progress = Progress {
            left: (1..=6).rev().collect(),
            ..Progress::default()
        };
        assert_eq!(progress.next(), [(1, 0), (2, 0), (3, 0)]);
        assert_eq!(progress.next(), [(4, 0), (5, 0)]);
        assert_eq!(progress.next(), [(6, 0)]);
        assert_eq!(progress.next(), []);
        for tried in 0..ALONE {
            progress.see(5, tried, Err(anyhow!("late")));
            assert_eq!(progress.next(), [(5, tried + 1)]);
        }
        progress.see(5, ALONE, Err(anyhow!("late")));
        assert_eq!(progress.next(), []);
        assert_eq!(
            (progress.repeats, &progress.given_up[..]),
            (ALONE, &[5][..])
        );
        assert_eq!(progress.coverage.services(), 0);
    }

    #[test]
    fn a_difference_is_kept_and_the_rest_goes_on() {
        let mut progress = Progress {
            left: vec![2],
            ..Progress::default()
        };
        let scenario = random::scenario(1).expect("it is right");
        progress.see(1, 0, Ok((scenario, "differs".to_owned())));
        assert_eq!(progress.bad, [(1, "differs".to_owned())]);
        assert_eq!(progress.coverage.services(), CELLS);
        assert_eq!(progress.next(), [(2, 0)]);
    }
}
