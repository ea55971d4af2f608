//! lvx on this machine against the recorded results of the kernel's IPVS.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Mutex,
    thread,
};

use lvx_oracle::{
    batch::{self, LONG},
    results::{Closeness, differences},
    scenario::{self, Scenario},
};

/// Scenarios at a time: they mostly wait.
const WORKERS: usize = 6;

fn scenarios() -> Vec<Scenario> {
    scenario::all(&batch::directory()).expect("the scenarios are right")
}

#[test]
fn lvx_does_what_the_kernel_did() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "network namespaces need root: run this again as root (sudo)"
    );
    let mut left: Vec<_> = scenarios()
        .into_iter()
        .filter(|scenario| scenario.duration() <= LONG)
        .collect();
    let count = left.len();
    assert!(count >= 10, "only {count} scenarios fit a real clock");
    left.reverse();
    let (left, found) = (Mutex::new(left), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(scenario) = { left.lock().expect("no panic").pop() } {
                    let text = compare(&scenario);
                    found.lock().expect("no panic").insert(scenario.name, text);
                }
            });
        }
    });
    let found = found.into_inner().expect("no panic");
    assert_eq!(found.len(), count);
    let text: String = found.into_values().collect();
    assert!(
        text.is_empty(),
        "- the kernel, + lvx; docs/oracle.md tells how to read this\n{text}"
    );
}

fn compare(scenario: &Scenario) -> String {
    let played = batch::recording(&batch::directory(), &scenario.name).and_then(|(_, kernel)| {
        let lvx = batch::on_this_machine(scenario, &kernel)?;
        Ok(differences(scenario, &kernel, &lvx, Closeness::Loose))
    });
    played.unwrap_or_else(|error| format!("{}: {error:#}\n", scenario.name))
}

/// Every scenario is recorded as it is now, and nothing else is.
#[test]
fn recordings_fit_the_scenarios() {
    let directory = batch::directory();
    let mut names = BTreeSet::new();
    for scenario in scenarios() {
        let (release, kernel) =
            batch::recording(&directory, &scenario.name).expect("it is recorded");
        assert!(!release.is_empty());
        let recorded: Vec<_> = kernel.steps.iter().map(|step| &step.text).collect();
        let steps: Vec<_> = scenario.steps.iter().map(|step| &step.text).collect();
        assert_eq!(
            recorded, steps,
            "record it anew: cargo xtask oracle --record {}",
            scenario.name
        );
        for (step, recorded) in scenario.steps.iter().zip(&kernel.steps) {
            assert_eq!(
                step.deviates.is_some(),
                recorded.instead.is_some(),
                "{}:{}: what lvx does instead is recorded where it deviates",
                scenario.name,
                step.line
            );
        }
        names.insert(format!("{}.txt", scenario.name));
    }
    let files: BTreeSet<_> = fs::read_dir(directory.join("recorded"))
        .expect("the directory is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, names);
}

/// A scenario names rows of the page that explains them.
#[test]
fn deviations_are_explained() {
    let page = batch::directory().join("../../docs/deviations.md");
    let text = fs::read_to_string(&page).expect("docs/deviations.md is there");
    for scenario in scenarios() {
        for step in &scenario.steps {
            if let Some(id) = &step.deviates {
                assert!(
                    text.contains(&format!("| {id} |")),
                    "{}:{}: docs/deviations.md has no row {id}",
                    scenario.name,
                    step.line
                );
            }
        }
    }
}
