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
    whole: (PathBuf, Scenario),
    /// What comes before the first gap, which shows most defects in a third of
    /// the time.
    beginning: (PathBuf, Scenario),
    /// Of the whole; the beginning of it is that of the beginning.
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
            let text = random::generate(seed);
            let part = format!("part-{seed}");
            let beginning = Scenario::parse(&part, &part, beginning_of(&text))?;
            let path = |name: &str| directory.path().join(format!("{name}.scn"));
            fs::write(path(&name), &text)?;
            fs::write(path(&part), beginning_of(&text))?;
            let live = batch::in_guest(kernel, &[path(&name)], Some(lvx))?;
            let file = File {
                seed,
                whole: (path(&name), scenario),
                beginning: (path(&part), beginning),
                expected: results(&live.kernel, &name, "the kernel")?,
            };
            if control.is_none() {
                control = file.differs(&file.whole.1, &live.lvx)?;
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
            for (path, scenario) in [&file.beginning, &file.whole] {
                let path = std::slice::from_ref(path);
                let played = batch::lvx_in_guest(self.kernel, path, lvx)?;
                if let Some(mut found) = file.differs(scenario, &played)? {
                    found.scenarios += number * CELLS;
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}

impl File {
    /// What lvx made of the whole, or of the beginning, that the kernel did not.
    fn differs(&self, scenario: &Scenario, played: &Played) -> Result<Option<Found>> {
        let lvx = results(played, &scenario.name, "lvx")?;
        let mut expected = self.expected.clone();
        allow(scenario, &mut expected, &lvx, &mut Uses::new());
        let differences = differences(scenario, &expected, &lvx, Closeness::Exact);
        Ok((!differences.is_empty()).then(|| Found {
            seed: self.seed,
            scenarios: ordinal(&differences),
            differences,
        }))
    }
}

/// The text of a scenario before its first gap.
fn beginning_of(text: &str) -> &str {
    const GAP: &str = "\nsnapshot -Ln\nwait ";
    text.find(GAP)
        .map_or(text, |end| &text[..end + GAP.len() - "wait ".len()])
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
    use crate::batch::Unplayed;
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
        let text = random::generate(7);
        let parse = |name: &str, text| {
            let scenario = Scenario::parse(name, name, text).expect("it is right");
            (PathBuf::new(), scenario)
        };
        let whole = parse("random-7", &text);
        let steps = whole.1.steps.iter();
        let expected = Results {
            steps: steps
                .map(|step| StepResult {
                    text: step.text.clone(),
                    lines: vec!["x".to_owned()],
                    ..StepResult::default()
                })
                .collect(),
        };
        let file = File {
            seed: 7,
            whole,
            beginning: parse("part-7", beginning_of(&text)),
            expected: expected.clone(),
        };
        let (whole, beginning) = (&file.whole.1, &file.beginning.1);
        let length = beginning.steps.len();
        assert!((length * 2..length * 5).contains(&whole.steps.len()));
        assert_eq!(beginning.steps[length - 1].text, "snapshot -Ln");

        let played = |name: &str, results| Played::from([(name.to_owned(), results)]);
        let same = file.differs(whole, &played("random-7", Ok(expected.clone())));
        assert_eq!(same.expect("played"), None);
        let mut part = expected.clone();
        part.steps.truncate(length);
        let same = file.differs(beginning, &played("part-7", Ok(part.clone())));
        assert_eq!(same.expect("played"), None);

        for (scenario, mut changed) in [(whole, expected), (beginning, part)] {
            let steps = changed.steps.iter_mut();
            let mut packets = steps.filter(|step| step.text.contains("> V4:"));
            packets.next().expect("one").lines = vec!["y".to_owned()];
            let found = file.differs(scenario, &played(&scenario.name, Ok(changed)));
            let found = found.expect("played").expect("it differs");
            assert_eq!((found.seed, found.scenarios), (7, 5));
            assert!(found.differences.contains("  - x\n  + y\n"));
        }

        let late = played("random-7", Err(Unplayed::Late("too late".to_owned())));
        for played in [late, Played::new()] {
            let error = file.differs(whole, &played).expect_err("an error");
            let error = error.to_string();
            assert!(
                error.contains("too late") || error.contains("no result of random-7"),
                "{error}"
            );
        }
    }
}
