//! Waits between bursts that keep out of every connection's quiet zone.

use super::dice::Dice;

/// Bursts of one file.
const BURSTS: usize = 3;
/// No burst takes longer (seconds).
pub(super) const BURST: u64 = 9;
/// From a deadline until the kernel has released for sure (seconds).
const ZONES: [(u64, u64); 5] = [(10, 14), (60, 71), (120, 137), (300, 340), (900, 1015)];
/// Least and most seconds of a gap, and how many of a hundred are there. An idle
/// second costs real time, so long ones are rare; over many files each is seen.
const GAPS: [(usize, usize, usize); 5] = [
    (14, 52, 70),
    (71, 112, 16),
    (137, 292, 7),
    (340, 892, 5),
    (1015, 1100, 2),
];

/// Seconds after each burst, the last one before the end.
pub(super) fn gaps(dice: &mut Dice) -> [u64; BURSTS] {
    loop {
        let gaps = [(); BURSTS].map(|()| gap(dice));
        if quiet(&gaps) {
            return gaps;
        }
    }
}

fn gap(dice: &mut Dice) -> u64 {
    let mut chance = dice.below(100);
    for (least, most, share) in GAPS {
        if chance < share {
            return (least + dice.below(most - least)) as u64;
        }
        chance -= share;
    }
    GAPS[0].0 as u64
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn gaps_keep_out_of_every_zone() {
        assert!(quiet(&[20]));
        assert!(!quiet(&[50]), "a burst after 50 s may reach into 60 s");
        assert!(
            !quiet(&[20, 25]),
            "the first burst and the third are 45 s apart"
        );
        assert!(!quiet(&[5]));
    }

    #[test]
    fn every_length_of_a_gap_is_drawn() {
        assert_eq!(GAPS.iter().map(|(_, _, share)| share).sum::<usize>(), 100);
        let mut seen = BTreeSet::new();
        for seed in 0..300 {
            for gap in gaps(&mut Dice::new(seed)) {
                seen.extend(
                    GAPS.iter()
                        .position(|(least, most, _)| (*least..*most).contains(&(gap as usize))),
                );
            }
        }
        assert_eq!(seen.len(), GAPS.len());
    }
}
