//! Random scenarios from a seed.
//!
//! Two hundred services share one file, each with servers, clients and packets
//! of its own, so that they share a boot, a topology and its waits. Time goes in
//! bursts: within a burst no connection's time-out ends, and the gaps between
//! bursts are such that no connection is near its deadline in any later burst
//! (the kernel releases connections late, see D-expiry in `docs/deviations.md`).

mod cell;
mod coverage;
pub(crate) mod dice;
mod gaps;
mod merge;
mod shrink;

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::Result;

use crate::scenario::Scenario;
use cell::{Cell, SERVERS, SERVERS6};
pub use coverage::Coverage;
use dice::Dice;
use gaps::gaps;
pub use merge::merged;
pub use shrink::{Found, shrink};

/// Services of one file.
pub const CELLS: usize = 200;
/// Half seconds of one burst; packets of each, and lines of edits after
/// them: at least as many, and six more when the last one makes a marked service anew.
const FRAMES: usize = 12;
const PACKETS: usize = 206;
const EDITS: usize = 10;

/// The text of a file with [`CELLS`] services.
#[must_use]
pub fn generate(seed: u64) -> String {
    let mut dice = Dice::new(seed);
    let mut head = format!("about {CELLS} random services of seed {seed}\ncrowded\n");
    // Replies of NAT's servers are on their way through the director.
    head.push_str("sysctl net.ipv4.ip_forward = 1\nsysctl net.ipv6.conf.all.forwarding = 1\n");
    let settings = settings(&mut dice);
    for setting in &settings {
        let _ = writeln!(head, "sysctl net.ipv4.vs.{setting}");
    }
    for (index, (name, name6)) in SERVERS.iter().zip(SERVERS6).enumerate() {
        // A string takes every write.
        let _ = writeln!(head, "server {name} 10.8.0.{}", index + 1);
        let _ = writeln!(head, "server {name6} fd00:8::{}", index + 1);
    }
    let mut body = String::new();
    let mut cells = Vec::new();
    for number in 0..CELLS {
        let (cell, lines) = Cell::new(number, &mut dice);
        let _ = writeln!(head, "vip V{number} {}", cell.vip());
        cells.push(cell);
        for line in lines {
            let _ = writeln!(body, "{line}");
        }
    }
    if !settings.is_empty() {
        // They are looked at once a second.
        body.push_str("wait 3s\n");
    }
    for gap in gaps(&mut dice) {
        for _ in 0..FRAMES {
            let mut packets = 0;
            let mut waiting = BTreeSet::new();
            while packets < PACKETS {
                let cell = dice.below(CELLS);
                if waiting.contains(&cell) {
                    continue;
                }
                // Some come with another.
                let lines = cells[cell].packet(&mut dice);
                if cells[cell].waits_after(&lines) {
                    waiting.insert(cell);
                }
                packets += lines.lines().count();
                let _ = writeln!(body, "{lines}");
            }
            let mut edits = 0;
            while edits < EDITS {
                let cell = dice.below(CELLS);
                for line in cells[cell].edit(&mut dice) {
                    let _ = writeln!(body, "{line}");
                    edits += 1;
                }
            }
        }
        let _ = writeln!(body, "snapshot -Lnc\nsnapshot -Ln\nwait {gap}s");
        for cell in &mut cells {
            cell.rest(gap);
        }
    }
    body.push_str("snapshot -Lnc\nsnapshot -Ln\nsnapshot -Ln --stats --exact\nsnapshot -S -n\n");
    head + &body
}

/// Settings of the whole file; most have none. Not `drop_packet`: one count of
/// packets is all services', so that a difference in one would be one in most, and
/// gone when that one is played alone.
fn settings(dice: &mut Dice) -> Vec<&'static str> {
    if dice.below(8) == 0 {
        vec!["secure_tcp = 3"]
    } else {
        Vec::new()
    }
}

/// The file with the services of some cells alone, and without the lines that
/// `without` holds.
#[must_use]
pub fn only(text: &str, cells: &BTreeSet<String>, without: &BTreeSet<usize>) -> String {
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        let names: Vec<_> = line
            .split([' ', ':'])
            .filter(|word| is_cell(word))
            .collect();
        let ours = names.is_empty() || names.iter().any(|name| cells.contains(*name));
        if ours && !without.contains(&number) {
            // A string takes every write.
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

fn is_cell(word: &str) -> bool {
    word.strip_prefix('V')
        .is_some_and(|number| number.parse::<usize>().is_ok())
}

/// The cells that a text of differences is about: by name, or by their VIP; a
/// server in a listing belongs to the service above it.
#[must_use]
pub fn cells_of(differences: &str) -> BTreeSet<String> {
    let mut cells = BTreeSet::new();
    let mut above = None;
    for line in differences.lines() {
        let step = !line.starts_with(' ');
        let differs = line.starts_with("  - ") || line.starts_with("  + ");
        let mut client = false;
        if step {
            above = None;
            let names: Vec<_> = line
                .split([' ', ':'])
                .filter(|word| is_cell(word))
                .collect();
            // What a server sends names its service by the client alone.
            client = names.is_empty();
            cells.extend(names.into_iter().map(str::to_owned));
        }
        // A mark is its cell's number and one.
        let marked = line.split_once("FWM  ").or(line.split_once(" -f "));
        let marked = marked.and_then(|(_, rest)| {
            let mark: usize = rest.split(' ').next()?.parse().ok()?;
            Some(format!("V{}", mark.checked_sub(1)?))
        });
        let named = marked.or_else(|| line.split(' ').find_map(|word| cell_at(word, client)));
        match named {
            Some(name) => {
                if differs || client {
                    cells.insert(name.clone());
                }
                above = Some(name);
            }
            None if differs && line.contains("-> ") => cells.extend(above.clone()),
            None => {}
        }
    }
    cells
}

/// The cell that an address, with a port or not, belongs to: by its VIP, where
/// it is asked for also by its client.
fn cell_at(word: &str, client: bool) -> Option<String> {
    let address = word.trim_start_matches('[');
    let prefixes = [
        ("10.9.9.", true),
        ("2001:db8:9::", true),
        ("1.2.3.", client),
        ("2001:db8:1::", client),
    ];
    let rest = prefixes
        .iter()
        .find_map(|(prefix, counts)| address.strip_prefix(prefix).filter(|_| *counts))?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    let last: usize = digits.parse().ok()?;
    Some(format!("V{}", last.checked_sub(1)?))
}

/// Reads a generated file.
///
/// # Errors
/// When the generator made a mistake.
pub fn scenario(seed: u64) -> Result<Scenario> {
    let name = name(seed);
    Scenario::parse(&name, &name, &generate(seed))
}

/// The name of a generated file.
#[must_use]
pub fn name(seed: u64) -> String {
    format!("random-{seed}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        random::gaps::BURST,
        scenario::{Action, schedule},
    };

    #[test]
    fn a_seed_gives_the_same_file_for_ever() {
        assert_eq!(generate(7), generate(7));
        assert_ne!(generate(7), generate(8));
        let mut dice = Dice::new(1);
        assert_eq!(
            [(); 4].map(|()| dice.below(1000)),
            [(); 4].map({
                let mut again = Dice::new(1);
                move |()| again.below(1000)
            })
        );
    }

    #[test]
    fn generated_files_are_right_and_their_bursts_short() {
        for seed in 0..20 {
            let scenario = scenario(seed).expect("it is right");
            let moments = schedule(&scenario.steps, true);
            let mut began = Duration::ZERO;
            for (step, moment) in scenario.steps.iter().zip(moments) {
                if matches!(step.action, Action::Wait(_)) {
                    began = moment;
                }
                assert!(
                    moment - began <= Duration::from_secs(BURST),
                    "seed {seed}, line {}",
                    step.line
                );
            }
        }
    }

    #[test]
    fn a_service_is_told_by_name_and_by_address() {
        let text = "x:9: tcp 1.2.3.4:1000 > V3:80 S\n  - server A: …\nx:10: snapshot -Lnc\n    TCP 10.9.9.9:80\n  + TCP 00:09 CLOSE 1.2.3.1:1000 10.9.9.8:80 10.8.0.1:80\n";
        assert_eq!(
            cells_of(text),
            ["V3", "V7"].map(str::to_owned).into_iter().collect()
        );
        let reply = "x:9: tcp A:80 > [2001:db8:1::4]:1000 A by A\n  - client gateway: …\n";
        assert_eq!(cells_of(reply), ["V3".to_owned()].into_iter().collect());
        let listed =
            "x:9: snapshot -Ln\n    TCP  [2001:db8:9::12]:80 rr\n  -   -> [fd00:8::1]:80\n";
        assert_eq!(cells_of(listed), ["V11".to_owned()].into_iter().collect());
        let generated = generate(3);
        let small = only(&generated, &cells_of(text), &BTreeSet::new());
        assert!(small.lines().count() * 4 < generated.lines().count());
        Scenario::parse("x", "x", &small).expect("it is still right");
        assert!(!small.contains("V4"));
    }
}
