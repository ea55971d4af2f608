//! The random scenarios of a self-check: the kernel's results, which are the
//! same for every defect, and what differs from them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::{
    batch::{self, Played},
    random::{self, CELLS},
    results::{Closeness, Results, Uses, allow, differences},
    scenario::Scenario,
    vm::Kernel,
};

/// How many random scenarios have to find a defect.
const SCENARIOS: usize = 200;

/// The random files, with what the kernel made of them.
#[derive(Debug)]
pub struct Scenarios {
    kernel: Kernel,
    files: Vec<File>,
    /// Holds the files.
    _directory: TempDir,
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
        let (mut files, mut control) = (Vec::new(), None);
        for seed in (seed..).take(SCENARIOS.div_ceil(CELLS)) {
            let scenario = random::scenario(seed)?;
            let name = scenario.name.clone();
            let path = directory.path().join(format!("{name}.scn"));
            fs::write(&path, random::generate(seed))?;
            let live = batch::in_guest(kernel, std::slice::from_ref(&path), Some(lvx))?;
            let file = File {
                seed,
                path,
                scenario,
                expected: results(&live.kernel, &name, "the kernel")?,
            };
            if control.is_none() {
                control = file.differs(&live.lvx)?;
            }
            files.push(file);
        }
        let scenarios = Self {
            kernel,
            files,
            _directory: directory,
        };
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
        for (number, file) in self.files.iter().enumerate() {
            let path = std::slice::from_ref(&file.path);
            let played = batch::lvx_in_guest(self.kernel, path, lvx)?;
            if let Some(mut found) = file.differs(&played)? {
                found.scenarios += number * CELLS;
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl File {
    /// What lvx made of it that the kernel did not.
    fn differs(&self, played: &Played) -> Result<Option<Found>> {
        let lvx = results(played, &self.scenario.name, "lvx")?;
        let mut expected = self.expected.clone();
        allow(&mut expected, &lvx, &mut Uses::new());
        let differences = differences(&self.scenario, &expected, &lvx, Closeness::Exact);
        Ok((!differences.is_empty()).then(|| Found {
            seed: self.seed,
            scenarios: ordinal(&differences),
            differences,
        }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::StepResult;

    #[test]
    fn the_first_service_that_differs_tells_how_many_it_took() {
        let step = |vip: &str| format!("x:9: tcp 1.2.3.4:1000 > {vip}:80 S\n  - server A: …\n");
        assert_eq!(ordinal(&step("V7")), 8);
        assert_eq!(ordinal(&(step("V12") + &step("V0"))), 1);
        assert_eq!(ordinal("x:9: wait 9s\n  - something\n"), CELLS);
    }

    #[test]
    fn a_difference_is_found_and_an_error_is_told() {
        let scenario = random::scenario(7).expect("it is right");
        let steps = scenario.steps.iter();
        let expected = Results {
            steps: steps
                .map(|step| StepResult {
                    text: step.text.clone(),
                    lines: vec!["x".to_owned()],
                })
                .collect(),
        };
        let file = File {
            seed: 7,
            path: PathBuf::new(),
            scenario,
            expected: expected.clone(),
        };
        let played = |results| Played::from([("random-7".to_owned(), results)]);
        let same = file.differs(&played(Ok(expected.clone())));
        assert_eq!(same.expect("played"), None);

        let mut changed = expected;
        let steps = changed.steps.iter_mut();
        let mut packets = steps.filter(|step| step.text.contains("> V4:"));
        packets.next().expect("one").lines = vec!["y".to_owned()];
        let found = file.differs(&played(Ok(changed))).expect("played");
        let found = found.expect("it differs");
        assert_eq!((found.seed, found.scenarios), (7, 5));
        assert!(found.differences.contains("  - x\n  + y\n"));

        for played in [played(Err("too late".to_owned())), Played::new()] {
            let error = file.differs(&played).expect_err("an error").to_string();
            assert!(
                error.contains("too late") || error.contains("no result of random-7"),
                "{error}"
            );
        }
    }
}
