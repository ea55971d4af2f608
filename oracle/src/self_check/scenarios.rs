//! The random scenarios of a self-check: the kernel's results, which are the
//! same for every defect, and what differs from them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::{
    batch::{self, Played},
    random::{self, CELLS},
    results::{Closeness, Results, allow, differences},
    scenario::Scenario,
    vm::Kernel,
};

/// How many random scenarios have to find a defect.
pub const SCENARIOS: usize = 200;
/// Files of the first boot of a defect, the second one and so on: the first
/// finds most defects. The last boots have the greatest number.
const FILES: [usize; 3] = [1, 2, 3];

/// The random files, with what the kernel made of them.
#[derive(Debug)]
pub struct Scenarios {
    kernel: Kernel,
    files: Vec<File>,
    /// Holds the files.
    directory: TempDir,
}

#[derive(Debug)]
struct File {
    seed: u64,
    path: PathBuf,
    scenario: Scenario,
    expected: Results,
}

/// What random scenarios found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The seed of the file.
    pub seed: u64,
    /// How many scenarios it took.
    pub scenarios: usize,
    /// Everything in that file that differs.
    pub differences: String,
}

impl Scenarios {
    /// Generates [`SCENARIOS`] scenarios, from `seed` on, and plays them on the
    /// kernel and on a program of lvx without a defect. A text of what differs,
    /// if something does, comes back too.
    ///
    /// # Errors
    /// When the machine does not do it.
    pub fn new(kernel: Kernel, seed: u64, lvx: &Path) -> Result<(Self, Option<Found>)> {
        let directory = tempfile::tempdir()?;
        let mut scenarios = Self {
            kernel,
            files: Vec::new(),
            directory,
        };
        let count = SCENARIOS / CELLS;
        let seeds: Vec<_> = (seed..).take(count).collect();
        let mut control = None;
        for seeds in in_boots(&seeds) {
            let mut paths = Vec::new();
            for seed in seeds {
                let name = format!("{}.scn", random::name(*seed));
                let path = scenarios.directory.path().join(name);
                fs::write(&path, random::generate(*seed))?;
                paths.push(path);
            }
            let live = batch::in_guest(kernel, &paths, Some(lvx))?;
            let begin = scenarios.files.len();
            for (seed, path) in seeds.iter().zip(paths) {
                scenarios.files.push(File {
                    seed: *seed,
                    path,
                    scenario: random::scenario(*seed)?,
                    expected: results(&live.kernel, &random::name(*seed), "the kernel")?,
                });
            }
            if control.is_none() {
                control = scenarios.differ(begin, &live.lvx)?;
            }
        }
        Ok((scenarios, control))
    }

    /// How many scenarios there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.files.len() * CELLS
    }

    /// Plays the scenarios on a program of lvx until one differs.
    ///
    /// # Errors
    /// When the machine does not do it, or lvx does not start in it.
    pub fn find(&self, lvx: &Path) -> Result<Option<Found>> {
        let mut begin = 0;
        for files in in_boots(&self.files) {
            let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
            let played = batch::lvx_in_guest(self.kernel, &paths, lvx)?;
            let found = self.differ(begin, &played)?;
            if found.is_some() {
                return Ok(found);
            }
            begin += files.len();
        }
        Ok(None)
    }

    /// The first file, from `begin` on, of which lvx made something else.
    fn differ(&self, begin: usize, played: &Played) -> Result<Option<Found>> {
        for (number, file) in self.files.iter().enumerate().skip(begin) {
            let name = &file.scenario.name;
            if !played.contains_key(name) {
                break;
            }
            let lvx = results(played, name, "lvx")?;
            let mut expected = file.expected.clone();
            allow(&mut expected, &lvx, &mut BTreeMap::new());
            let differences = differences(&file.scenario, &expected, &lvx, Closeness::Exact);
            if !differences.is_empty() {
                return Ok(Some(Found {
                    seed: file.seed,
                    scenarios: number * CELLS + ordinal(&differences),
                    differences,
                }));
            }
        }
        Ok(None)
    }
}

/// The number within its file of the first scenario that differs, from 1 on.
fn ordinal(differences: &str) -> usize {
    random::cells_of(differences)
        .iter()
        .filter_map(|cell| cell.strip_prefix('V')?.parse::<usize>().ok())
        .min()
        .map_or(CELLS, |number| number + 1)
}

fn results(played: &Played, name: &str, who: &str) -> Result<Results> {
    match played.get(name) {
        Some(Ok(results)) => Ok(results.clone()),
        Some(Err(error)) => bail!("{name} was not played on {who}: {error}"),
        None => bail!("the guest gave no result of {name} on {who}"),
    }
}

/// In the portions that [`FILES`] says.
fn in_boots<T>(all: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    let last = FILES.last().copied().unwrap_or(1);
    let mut sizes = FILES.into_iter().chain(std::iter::repeat(last));
    std::iter::from_fn(move || {
        let size = sizes.next()?.min(rest.len());
        let (now, later) = rest.split_at(size);
        rest = later;
        (size > 0).then_some(now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_take_all_files_in_order() {
        let all: Vec<_> = (0..10).collect();
        let boots: Vec<_> = in_boots(&all).map(<[_]>::to_vec).collect();
        assert_eq!(
            boots,
            [vec![0], vec![1, 2], vec![3, 4, 5], vec![6, 7, 8], vec![9]]
        );
        assert_eq!(in_boots::<u8>(&[]).count(), 0);
    }

    #[test]
    fn the_first_service_that_differs_tells_how_many_it_took() {
        let step = |vip: &str| format!("x:9: tcp 1.2.3.4:1000 > {vip}:80 S\n  - server A: …\n");
        assert_eq!(ordinal(&step("V7")), 8);
        assert_eq!(ordinal(&(step("V12") + &step("V0"))), 1);
        assert_eq!(ordinal("x:9: wait 9s\n  - something\n"), CELLS);
    }

    fn scenarios() -> Scenarios {
        let file = |seed| {
            let scenario = random::scenario(seed).expect("it is right");
            let steps = scenario.steps.iter();
            let expected = Results {
                steps: steps
                    .map(|step| crate::results::StepResult {
                        text: step.text.clone(),
                        lines: vec!["x".to_owned()],
                    })
                    .collect(),
            };
            File {
                seed,
                path: PathBuf::new(),
                scenario,
                expected,
            }
        };
        Scenarios {
            kernel: Kernel::V6_12,
            files: [5, 6, 7].map(file).into(),
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    #[test]
    fn a_difference_is_found_in_its_file_and_an_error_is_told() {
        let scenarios = scenarios();
        let mut played: Played = scenarios.files[1..]
            .iter()
            .map(|file| (file.scenario.name.clone(), Ok(file.expected.clone())))
            .collect();
        assert_eq!(scenarios.differ(1, &played).expect("played"), None);

        let changed = |results: &mut Results| {
            let steps = results.steps.iter_mut();
            let mut packets = steps.filter(|step| step.text.contains("> V4:"));
            packets.next().expect("one").lines = vec!["y".to_owned()];
        };
        let last = played.get_mut("random-7").expect("it was played");
        last.as_mut().map(changed).expect("without an error");
        let found = scenarios.differ(1, &played).expect("played");
        let found = found.expect("it differs");
        assert_eq!((found.seed, found.scenarios), (7, 2 * CELLS + 5));
        assert!(found.differences.contains("  - x\n  + y\n"));

        played.insert("random-6".to_owned(), Err("too late".to_owned()));
        let error = scenarios.differ(1, &played).expect_err("an error");
        assert!(error.to_string().contains("too late"), "{error}");
    }
}
