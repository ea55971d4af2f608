//! Random scenarios from a seed.
//!
//! Thirty services share one file, each with servers, clients and packets of its
//! own, so that they share topology and waits. Time goes in bursts: within a
//! burst no connection's time-out ends, and the gaps between bursts are such
//! that no connection is near its deadline in any later burst (the kernel
//! releases connections late, see D-expiry in `docs/deviations.md`).

mod cell;
mod dice;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::Result;

use crate::scenario::{Action, Scenario, Transport};
use cell::{Cell, SERVERS};
use dice::Dice;

/// Services of one file.
pub const CELLS: usize = 30;
/// Bursts of one file, and packets and edits of each half of a burst.
const BURSTS: usize = 3;
const PACKETS: usize = 150;
const EDITS: usize = 9;
/// No burst takes longer (seconds).
const BURST: u64 = 9;
/// From a deadline until the kernel has released for sure (seconds).
const ZONES: [(u64, u64); 5] = [(10, 14), (60, 70), (120, 137), (300, 340), (900, 1015)];

/// The text of a file with thirty services.
#[must_use]
pub fn generate(seed: u64) -> String {
    let mut dice = Dice::new(seed);
    let mut head = format!("about thirty random services of seed {seed}\n");
    for (index, name) in SERVERS.iter().enumerate() {
        // A string takes every write.
        let _ = writeln!(head, "server {name} 10.8.0.{}", index + 1);
    }
    let mut body = String::new();
    let mut cells = Vec::new();
    for number in 0..CELLS {
        let _ = writeln!(head, "vip V{number} 10.9.9.{}", number + 1);
        let (cell, lines) = Cell::new(number, &mut dice);
        cells.push(cell);
        for line in lines {
            let _ = writeln!(body, "{line}");
        }
    }
    let gaps = gaps(&mut dice);
    for gap in gaps {
        for half in 0..2 {
            for _ in 0..PACKETS {
                let cell = dice.below(CELLS);
                let _ = writeln!(body, "{}", cells[cell].packet(&mut dice));
            }
            if half == 0 {
                for _ in 0..EDITS {
                    let cell = dice.below(CELLS);
                    let _ = writeln!(body, "{}", cells[cell].edit(&mut dice));
                }
            }
        }
        let _ = writeln!(body, "snapshot -Lnc\nsnapshot -Ln\nwait {gap}s");
    }
    body.push_str("snapshot -Lnc\nsnapshot -Ln\nsnapshot -Ln --stats --exact\nsnapshot -S -n\n");
    head + &body
}

/// Seconds after each burst, the last one before the end.
fn gaps(dice: &mut Dice) -> [u64; BURSTS] {
    loop {
        let gaps = [(); BURSTS].map(|()| 14 + dice.below(140) as u64);
        if quiet(&gaps) {
            return gaps;
        }
    }
}

/// Whether nothing happens in a zone of any connection, whose last packet may be
/// anywhere in a burst.
fn quiet(gaps: &[u64]) -> bool {
    (0..gaps.len()).all(|from| {
        (from..gaps.len()).all(|to| {
            let least: u64 = gaps[from..=to].iter().sum();
            let most = least + BURST * (to - from + 2) as u64;
            ZONES
                .iter()
                .all(|(begin, end)| most < *begin || least > *end)
        })
    })
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

/// The cells that a text of differences is about: by name, or by their VIP.
#[must_use]
pub fn cells_of(differences: &str) -> BTreeSet<String> {
    let mut cells = BTreeSet::new();
    for line in differences.lines() {
        let step = !line.starts_with(' ');
        let differs = line.starts_with("  - ") || line.starts_with("  + ");
        for word in line.split([' ', ':']) {
            if step && is_cell(word) {
                cells.insert(word.to_owned());
            }
            if let (true, Some(last)) = (differs, word.strip_prefix("10.9.9."))
                && let Ok(number) = last.parse::<usize>()
            {
                cells.insert(format!("V{}", number - 1));
            }
        }
    }
    cells
}

/// How often what was tried: scheduler, protocol and event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<String, usize>,
    packets: Vec<usize>,
}

impl Coverage {
    /// Adds the services of a generated file.
    pub fn see(&mut self, scenario: &Scenario) {
        let mut schedulers = BTreeMap::new();
        let mut packets: BTreeMap<String, usize> = BTreeMap::new();
        for step in &scenario.steps {
            let words: Vec<_> = step.text.split(' ').collect();
            let Some(vip) = words
                .iter()
                .filter_map(|word| word.split(':').next())
                .find(|word| is_cell(word))
            else {
                continue;
            };
            if let Some(at) = words.iter().position(|word| *word == "-s") {
                schedulers.insert(vip.to_owned(), words[at + 1].to_owned());
            }
            let scheduler = schedulers.get(vip).map_or("?", String::as_str);
            let event = match &step.action {
                Action::Packet(packet) => {
                    *packets.entry(vip.to_owned()).or_default() += 1;
                    match packet.transport {
                        Transport::Tcp(_) => format!("tcp {}", words[4]),
                        Transport::Udp => "udp".to_owned(),
                    }
                }
                _ => words[1].to_owned(),
            };
            *self
                .counts
                .entry(format!("{scheduler} {event}"))
                .or_default() += 1;
        }
        self.packets.extend(packets.into_values());
    }

    /// As lines, the median of the packets a service last.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (what, count) in &self.counts {
            // A string takes every write.
            let _ = writeln!(out, "{count:7}  dr {what}");
        }
        let mut packets = self.packets.clone();
        packets.sort_unstable();
        let median = packets.get(packets.len() / 2).copied().unwrap_or_default();
        let _ = writeln!(
            out,
            "{} services, {median} packets each in the median",
            packets.len()
        );
        out
    }
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
    use crate::scenario::schedule;

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
        for seed in 0..50 {
            let scenario = scenario(seed).expect("it is right");
            let moments = schedule(&scenario.steps);
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
    fn gaps_keep_out_of_every_zone() {
        assert!(quiet(&[20]));
        assert!(!quiet(&[45]), "a burst after 45 s may reach into 60 s");
        assert!(
            !quiet(&[20, 25]),
            "the first burst and the third are 45 s apart"
        );
        assert!(!quiet(&[5]));
    }

    #[test]
    fn a_service_is_told_by_name_and_by_address() {
        let text = "x:9: tcp 1.2.3.4:1000 > V3:80 S\n  - server A: …\nx:10: snapshot -Lnc\n    TCP 10.9.9.9:80\n  + TCP 00:09 CLOSE 1.2.3.1:1000 10.9.9.8:80 10.8.0.1:80\n";
        assert_eq!(
            cells_of(text),
            ["V3", "V7"].map(str::to_owned).into_iter().collect()
        );
        let generated = generate(3);
        let small = only(&generated, &cells_of(text), &BTreeSet::new());
        assert!(small.lines().count() * 4 < generated.lines().count());
        Scenario::parse("x", "x", &small).expect("it is still right");
        assert!(!small.contains("V4"));
    }
}
