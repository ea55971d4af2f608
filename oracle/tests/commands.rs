//! Recorded answers of the real ipvsadm against lvx: the golden transcripts, and
//! a sample of random command lines. `cargo xtask commands` plays such lines on
//! both; `--keep tests/commands/random.txt` recorded the sample:
//!
//! ```text
//! cargo xtask commands --seed 20 --count 400 --keep tests/commands/random.txt
//! cargo xtask commands --record lb-userspace/tests/golden/*.txt
//! ```

use std::{fs, path::Path};

use lvx_oracle::{
    batch::checkout,
    commands::{
        compare::{Compared, compare},
        stage::on_lvx,
        transcript::{Item, read},
    },
};

/// Plays a transcript's commands on lvx and compares the answers.
fn replay(paths: &[impl AsRef<Path>]) -> Compared {
    let mut recorded = Vec::new();
    for path in paths {
        let path = checkout().join(path);
        let text = fs::read_to_string(&path).expect("the checkout is whole, and this is root");
        recorded.push(Item::Clear);
        recorded
            .extend(read(&text).unwrap_or_else(|error| panic!("{}: {error:#}", path.display())));
    }
    let unanswered = |item: &Item| matches!(item, Item::Step(step) if step.answer.is_none());
    assert!(!recorded.iter().any(unanswered), "record it first");
    let agent = Path::new(env!("CARGO_BIN_EXE_lvx-oracle"));
    let played = on_lvx(agent, &recorded).expect("the checkout is whole, and this is root");
    let compared = compare(&recorded, &played);
    let shown: String = compared.differences.iter().map(|it| it.show()).collect();
    assert!(
        compared.differences.is_empty(),
        "{} of {} differ\n{shown}",
        compared.differences.len(),
        compared.commands
    );
    compared
}

/// Every row that a replay has used is one of `docs/deviations.md`.
fn rows_are_documented(compared: &Compared) {
    let rows = fs::read_to_string(checkout().join("docs/deviations.md"))
        .expect("the checkout is whole, and this is root");
    for id in compared.rows.keys() {
        assert!(rows.contains(&format!("| {id} |")), "{id}");
    }
}

#[test]
fn golden_transcripts() {
    let directory = Path::new("lb-userspace/tests/golden");
    let mut paths: Vec<_> = fs::read_dir(checkout().join(directory))
        .unwrap()
        .map(|entry| directory.join(entry.unwrap().file_name()))
        // What lvx answers to what it does not support is no answer of the real ipvsadm.
        .filter(|path| !path.ends_with("unsupported.txt"))
        .collect();
    paths.sort();
    let compared = replay(&paths);
    assert!(compared.commands > 400, "{}", compared.commands);
    rows_are_documented(&compared);
}

#[test]
fn random_command_lines() {
    let compared = replay(&["tests/commands/random.txt"]);
    assert!(compared.commands > 400, "{}", compared.commands);
    rows_are_documented(&compared);
}

/// What Debian's ldirectord asked in two life cycles.
#[test]
fn ldirectord() {
    let compared = replay(&["tests/ldirectord/quiescent.txt", "tests/ldirectord/six.txt"]);
    assert!(compared.commands > 300, "{}", compared.commands);
    rows_are_documented(&compared);
}
