//! Many services at once: what costs time is shared. Packets of a frame leave
//! one after the other, and what the director made of them is told apart by the
//! identification of each; commands go to an `ipvsadm -R` that stays.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Pace, Player, frame, frame::Sent, listing, stage::Directing, stage::Feed};
use crate::{
    results::{Results, StepResult},
    scenario::{Action, Scenario, lists, schedule},
};

/// What is on its way arrives within this time: there is one processor, and
/// most of it is done when sending returns.
const SETTLE: Duration = Duration::from_millis(1);

/// So late a listing may begin: all of it, and the end of the one before, is far
/// from a whole number of seconds after a packet.
const LISTING: Duration = Duration::from_millis(300);

/// Plays all steps; see [`super::play`].
pub(super) fn play(
    scenario: &Scenario,
    directing: &Directing<'_>,
    player: Player<'_>,
    start: impl FnOnce() -> Instant,
) -> Result<Results> {
    let patient = Pace {
        lateness: Some(LISTING),
        ..player.pace
    };
    let strict = player.pace;
    let setup = scenario.setup();
    let mut crowd = Crowd {
        player,
        sent: BTreeMap::new(),
        results: Results {
            steps: scenario
                .steps
                .iter()
                .map(|step| StepResult {
                    text: step.text.clone(),
                    ..StepResult::default()
                })
                .collect(),
        },
    };
    let commands: String = scenario.steps[..setup]
        .iter()
        .filter_map(|step| match &step.action {
            Action::Ipvsadm(words) => Some(words.join(" ") + "\n"),
            _ => None,
        })
        .collect();
    if let Some(first) = crowd.results.steps.first_mut() {
        first.lines = listing(&directing.restore(&commands)?);
    }
    for (index, step) in scenario.steps[..setup].iter().enumerate() {
        if let Action::Rules(chain, words) = &step.action {
            crowd.results.steps[index].lines = listing(&directing.rules(*chain, words)?);
        }
    }
    let mut feed = directing.feed()?;
    crowd.collect(0)?;
    crowd.player.began = start();
    // The step of the last change, whose refusal is told when there was time for one.
    let mut changed = None;
    for (index, (step, moment)) in scenario
        .steps
        .iter()
        .zip(schedule(&scenario.steps, true))
        .enumerate()
        .skip(setup)
    {
        let listing_step = matches!(&step.action, Action::Ipvsadm(words) if lists(words));
        crowd.player.pace = if listing_step { patient } else { strict };
        let due = crowd.player.began + moment;
        if Instant::now() < due {
            crowd.settle(index)?;
            crowd.player.wait_until(moment, &step.text)?;
            crowd.refusals(&mut feed, changed.take());
        } else {
            crowd.player.wait_until(moment, &step.text)?;
        }
        match &step.action {
            Action::Ipvsadm(words) if lists(words) => {
                crowd.results.steps[index].lines = listing(&directing.ipvsadm(words)?);
            }
            Action::Ipvsadm(words) => {
                feed.line(&words.join(" "))?;
                changed = Some(index);
            }
            Action::Rules(chain, words) => {
                crowd.results.steps[index].lines = listing(&directing.rules(*chain, words)?);
            }
            Action::Packet(packet) => {
                let sent = crowd.player.send(packet)?;
                crowd.sent.insert(crowd.player.packets, (index, sent));
                crowd.collect(index)?;
            }
            Action::Wait(_) | Action::Flows(..) | Action::Clients(..) => {}
        }
    }
    let last = scenario.steps.len().saturating_sub(1);
    thread::sleep(Duration::from_millis(100));
    crowd.settle(last)?;
    crowd.refusals(&mut feed, changed);
    Ok(crowd.results)
}

struct Crowd<'a> {
    player: Player<'a>,
    /// Packets of this frame by identification, with their steps.
    sent: BTreeMap<u16, (usize, Sent)>,
    results: Results,
}

impl Crowd<'_> {
    /// Takes what has come; what belongs to no packet belongs to `step`.
    fn collect(&mut self, step: usize) -> Result<bool> {
        let mut any = false;
        for (leg, tap) in &self.player.taps {
            while let Some(frame) = tap.next(Duration::ZERO, frame::counts)? {
                let nothing = Sent::default();
                let (step, sent) = frame::identification(&frame)
                    .and_then(|id| self.sent.get(&id))
                    .map_or((step, &nothing), |(step, sent)| (*step, sent));
                let line = self.player.line(leg, &frame, sent);
                self.results.steps[step].lines.push(line);
                any = true;
            }
        }
        Ok(any)
    }

    /// The end of a frame's packets.
    fn settle(&mut self, step: usize) -> Result<()> {
        if self.sent.is_empty() {
            return Ok(());
        }
        thread::sleep(SETTLE);
        while self.collect(step)? {
            thread::sleep(SETTLE);
        }
        self.sent.clear();
        Ok(())
    }

    fn refusals(&mut self, feed: &mut Feed, step: Option<usize>) {
        if let Some(step) = step {
            let lines = feed.errors().into_iter();
            self.results.steps[step]
                .lines
                .extend(lines.map(|line| format!("error: {line}")));
        }
    }
}
