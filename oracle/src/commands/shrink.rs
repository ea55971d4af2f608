//! The few commands that a difference needs.

use anyhow::Result;

use super::{
    compare::{Difference, compare},
    transcript::Item,
};

/// Rounds of leaving commands out; each plays all candidates at once.
const ROUNDS: usize = 4;

/// Gives the transcripts of the real ipvsadm and of lvx.
pub type Play<'a> = dyn Fn(&[Item]) -> Result<(Vec<Item>, Vec<Item>)> + 'a;

/// Leaves out commands before the last of `sequence`, which is the one that
/// differs, as long as it does. `play` gives both transcripts of what it is
/// handed.
///
/// # Errors
/// Those of `play`.
pub fn shrink(sequence: &[Item], play: &Play<'_>) -> Result<(Vec<Item>, Option<Difference>)> {
    let mut kept: Vec<Item> = sequence.to_vec();
    let mut difference = None;
    for _ in 0..ROUNDS {
        let before = kept.len().saturating_sub(1);
        // Everything but the last at once, each one alone, and each half.
        let mut candidates: Vec<Vec<Item>> = vec![kept[before..].to_vec()];
        candidates.push(kept[before / 2..].to_vec());
        candidates.extend((0..before).map(|without| {
            let mut candidate = kept.clone();
            candidate.remove(without);
            candidate
        }));
        let all: Vec<Item> = candidates
            .iter()
            .flat_map(|candidate| std::iter::once(Item::Clear).chain(candidate.iter().cloned()))
            .collect();
        let (real, lvx) = play(&all)?;
        let differences = compare(&real, &lvx).differences;
        let mut end = 0;
        let mut best: Option<(Vec<Item>, Difference)> = None;
        for candidate in candidates {
            end += candidate.len() + 1;
            let last = differences.iter().find(|found| found.at + 1 == end);
            if let Some(found) = last
                && best
                    .as_ref()
                    .is_none_or(|(kept, _)| candidate.len() < kept.len())
            {
                best = Some((candidate, found.clone()));
            }
        }
        match best {
            Some((candidate, found)) => {
                kept = candidate;
                difference = Some(found);
            }
            None => break,
        }
        if kept.len() == 1 {
            break;
        }
    }
    Ok((kept, difference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::transcript::{Answer, Step, read};

    /// A tool that goes wrong in `-L` when `-A` came before it.
    fn play(items: &[Item], wrong: bool) -> Vec<Item> {
        let mut added = false;
        let mut played = items.to_vec();
        for item in &mut played {
            let Item::Step(Step { words, answer, .. }) = item else {
                added = false;
                continue;
            };
            added |= words[1] == "-A";
            *answer = Some(Answer {
                code: i32::from(wrong && added && words[1] == "-L"),
                ..Answer::default()
            });
        }
        played
    }

    #[test]
    fn what_does_not_matter_goes() {
        let text = "$ ipvsadm -C\n$ ipvsadm -A\n$ ipvsadm -Z\n$ ipvsadm -v\n$ ipvsadm -L\n";
        let both = |items: &[Item]| Ok((play(items, false), play(items, true)));
        let (kept, difference) = shrink(&read(text).unwrap(), &both).unwrap();
        assert_eq!(kept, read("$ ipvsadm -A\n$ ipvsadm -L\n").unwrap());
        assert_eq!(difference.unwrap().lvx.code, 1);
    }
}
