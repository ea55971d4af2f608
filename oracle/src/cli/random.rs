//! Random scenarios: boots until enough were compared, then makes the first
//! difference small.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use anyhow::{Result, bail};
use lvx_oracle::{
    batch::{self, Live},
    random::{self, CELLS, Coverage},
    results::{Closeness, allow, differences},
    scenario::Scenario,
    vm::Kernel,
};

use super::compare::Args;

/// Files of thirty services that a boot plays side by side.
const FILES: usize = 4;
/// Boots that making a difference small may take, and tries in each.
const SHRINKING: usize = 8;
const TRIES: usize = 8;

pub(crate) fn main(args: &Args, seed: u64) -> Result<ExitCode> {
    let start = Instant::now();
    let files = args.count.div_ceil(CELLS);
    let mut coverage = Coverage::default();
    let mut uses = BTreeMap::new();
    let seeds: Vec<u64> = (0..files as u64).map(|number| seed + number).collect();
    let mut bad = None;
    for seeds in seeds.chunks(FILES) {
        let texts: Vec<_> = seeds
            .iter()
            .map(|seed| (random::name(*seed), random::generate(*seed)))
            .collect();
        for (seed, found) in seeds.iter().zip(compare(args.kernel, &texts, &mut uses)?) {
            coverage.see(&random::scenario(*seed)?);
            if !found.is_empty() {
                println!("seed {seed}:\n{found}");
                bad.get_or_insert((*seed, found));
            }
        }
        if bad.is_some() {
            break;
        }
    }
    print!("{}", coverage.render());
    for (id, count) in &uses {
        println!("{count} uses of {id}");
    }
    println!("{:.0} s", start.elapsed().as_secs_f64());
    let Some((seed, found)) = bad else {
        println!("no difference that is not listed");
        return Ok(ExitCode::SUCCESS);
    };
    let small = shrink(args.kernel, &random::generate(seed), &found)?;
    println!(
        "a small scenario of seed {seed}; keep it in tests/oracle once it is understood:\n{small}"
    );
    Ok(ExitCode::from(1))
}

/// What differs, for each text.
fn compare(
    kernel: Kernel,
    texts: &[(String, String)],
    uses: &mut BTreeMap<&'static str, usize>,
) -> Result<Vec<String>> {
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

fn found(
    scenario: &Scenario,
    live: &Live,
    uses: &mut BTreeMap<&'static str, usize>,
) -> Result<String> {
    match (
        live.kernel.get(&scenario.name),
        live.lvx.get(&scenario.name),
    ) {
        (Some(Ok(kernel)), Some(Ok(lvx))) => {
            let mut kernel = kernel.clone();
            allow(&mut kernel, lvx, uses);
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

/// One service of those that differ, with as few lines as some boots find out.
fn shrink(kernel: Kernel, text: &str, differences: &str) -> Result<String> {
    let Some(cell) = random::cells_of(differences).into_iter().next() else {
        return Ok(text.to_owned());
    };
    println!("making {cell} small");
    let cells = BTreeSet::from([cell]);
    let mut text = random::only(text, &cells, &BTreeSet::new());
    let mut uses = BTreeMap::new();
    let alone = [("alone".to_owned(), text.clone())];
    if compare(kernel, &alone, &mut uses)?.concat().is_empty() {
        println!("alone it does not differ: the services have to do with each other");
        return Ok(text);
    }
    let mut parts = TRIES;
    for _ in 0..SHRINKING {
        let lines: Vec<usize> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| {
                ["tcp", "udp", "ipvsadm", "snapshot"]
                    .contains(&line.split(' ').next().unwrap_or_default())
            })
            .map(|(number, _)| number)
            .collect();
        let size = lines.len().div_ceil(parts).max(1);
        let tries: Vec<_> = lines
            .chunks(size)
            .enumerate()
            .map(|(number, chunk)| {
                let without = chunk.iter().copied().collect();
                (
                    format!("try-{number}"),
                    random::only(&text, &cells, &without),
                )
            })
            .filter(|(name, text)| Scenario::parse(name, name, text).is_ok())
            .collect();
        let mut better = None;
        for tries in tries.chunks(TRIES) {
            let results = compare(kernel, tries, &mut uses)?;
            better = tries
                .iter()
                .zip(results)
                .find(|(_, found)| !found.is_empty())
                .map(|((_, text), _)| text.clone());
            if better.is_some() {
                break;
            }
        }
        match better {
            Some(smaller) => text = smaller,
            None if size == 1 => break,
            None => parts *= 2,
        }
    }
    Ok(text)
}
