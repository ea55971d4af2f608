//! A scenario played on one director: what left it, and what it listed.

pub mod clients;
mod crowd;
pub mod frame;
mod race;
pub mod stage;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use lvx_tests::{director::Answer, lab::mac_of, packet::Tap};

use crate::{
    results::{Results, StepResult},
    scenario::{Action, Packet, Scenario, schedule, schedule_next},
};
use frame::Sent;
pub use race::{Raced, race};
pub use stage::Engine;
use stage::{CLIENT_SIDE, Directing, GATEWAY, Stage};

/// How patient the player is, which depends on whose clock it is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// No frame for so long means that there will be none.
    pub quiet: Duration,
    /// How long to wait for frames that are expected.
    pub patience: Duration,
    /// Being later than this is an error, where it is one.
    pub lateness: Option<Duration>,
}

impl Pace {
    /// In virtual time nothing is late but by too much work.
    pub const VIRTUAL: Self = Self {
        quiet: Duration::from_millis(1),
        patience: Duration::from_millis(1),
        lateness: Some(Duration::from_millis(80)),
    };
    /// On a machine that does other things too.
    pub const REAL: Self = Self {
        quiet: Duration::from_millis(4),
        patience: Duration::from_millis(400),
        lateness: None,
    };
}

/// The player did not keep a step's time, so what it saw says nothing. Playing
/// the scenario again may help.
#[derive(Debug, thiserror::Error)]
#[error("step `{step}` began {late:?} late: too much happens at the same time")]
pub struct Late {
    step: String,
    late: Duration,
}

/// Plays a scenario. `start` is called when all is set up and says when the
/// scenario's time begins. `expected` has results to wait for, where they are known.
///
/// # Errors
/// When the topology cannot be made, or, as [`Late`], the player was late.
pub fn play(
    scenario: &Scenario,
    engine: Engine,
    pace: Pace,
    expected: Option<&Results>,
    start: impl FnOnce() -> Instant,
) -> Result<Results> {
    let stage = Stage::new(scenario, engine)?;
    let directing = stage.direct(engine)?;
    let mut player = Player {
        names: &scenario.servers,
        taps: stage.taps()?,
        server_leg: stage.server_leg(),
        one_leg: scenario.one_leg,
        pace,
        began: Instant::now(),
        packets: 0,
    };
    if scenario.crowded {
        return crowd::play(scenario, &directing, player, start);
    }
    let setup = scenario.setup();
    let mut start = Some(start);
    let mut steps = Vec::new();
    for (index, (step, moment)) in scenario
        .steps
        .iter()
        .zip(schedule(&scenario.steps, scenario.crowded))
        .enumerate()
    {
        if index == setup
            && let Some(start) = start.take()
        {
            // Frames from before the beginning, if any, are nobody's.
            player.collect(&Sent::default(), 0)?;
            player.began = start();
        }
        if index >= setup {
            player.wait_until(moment, &step.text)?;
        }
        let wanted = expected
            .and_then(|results| results.steps.get(index))
            .map_or(0, |step| step.lines.len());
        let lines = match &step.action {
            Action::Ipvsadm(words) => said(&directing.ipvsadm(words)?, scenario.exact),
            Action::Rules(chain, words) => said(&directing.rules(*chain, words)?, scenario.exact),
            Action::Packet(packet) => player.packet(packet, wanted)?,
            Action::Flows(count, packet) => player.flows(*count, packet, moment, wanted > 0)?,
            Action::Clients(count, packet) => player.clients(*count, packet, wanted > 0)?,
            Action::Wait(_) => player.collect(&Sent::default(), 0)?,
        };
        steps.push(StepResult {
            text: step.text.clone(),
            lines,
            instead: None,
        });
    }
    if let (Directing::Lvx(director), true) = (&directing, std::env::var_os("LVX_LOG").is_some()) {
        eprintln!("{}", director.log());
    }
    Ok(Results { steps })
}

/// Clients whose packets are under way together.
const CLIENTS_AT_ONCE: usize = 64;

struct Player<'a> {
    names: &'a BTreeMap<String, IpAddr>,
    taps: Vec<(&'static str, Tap)>,
    server_leg: Ipv4Addr,
    one_leg: bool,
    pace: Pace,
    began: Instant,
    packets: u16,
}

impl Player<'_> {
    fn wait_until(&self, moment: Duration, text: &str) -> Result<()> {
        // The beginning may be in the future.
        let (due, now) = (self.began + moment, Instant::now());
        let late = now.saturating_duration_since(due);
        thread::sleep(due.saturating_duration_since(now));
        if self.pace.lateness.is_some_and(|limit| late > limit) {
            return Err(Late {
                step: text.to_owned(),
                late,
            }
            .into());
        }
        Ok(())
    }

    fn send(&mut self, packet: &Packet) -> Result<Sent> {
        self.packets = self.packets.wrapping_add(1);
        let by = packet.by.as_ref().and_then(|name| self.names.get(name));
        let (tap, macs) = match by {
            Some(server) => (
                self.taps.last(),
                (frame::mac(*server), mac_of(self.server_leg)),
            ),
            None => (self.taps.first(), (mac_of(GATEWAY), mac_of(CLIENT_SIDE))),
        };
        let frame = frame::build(packet, self.packets, macs);
        if let Some((_, tap)) = tap {
            tap.send(&frame)?;
        }
        Ok(Sent { frame })
    }

    fn packet(&mut self, packet: &Packet, expected: usize) -> Result<Vec<String>> {
        let sent = self.send(packet)?;
        self.collect(&sent, expected)
    }

    /// Lines about all that came since the last time.
    fn collect(&self, sent: &Sent, expected: usize) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        self.gather(expected, |leg, frame| {
            lines.push(self.line(leg, frame, sent))
        })?;
        Ok(lines)
    }

    /// One line about a frame that came to a leg.
    fn line(&self, leg: &str, frame: &[u8], sent: &Sent) -> String {
        let to = frame::receiver(frame, self.names, GATEWAY);
        let place = if self.one_leg { "" } else { leg };
        let mac = if leg == "server" {
            self.server_leg
        } else {
            CLIENT_SIDE
        };
        let from = if frame.get(6..12) == Some(&mac_of(mac)) {
            ""
        } else {
            " from a wrong MAC address"
        };
        let what = frame::show(frame, sent);
        format!("{place} {to}{from}: {what}")
            .trim_start()
            .to_owned()
    }

    /// The receivers of packets with ascending source ports, then what all of
    /// them look like.
    fn flows(
        &mut self,
        count: u16,
        packet: &Packet,
        first: Duration,
        expected: bool,
    ) -> Result<Vec<String>> {
        let mut packet = packet.clone();
        let (mut receivers, mut looks) = (Vec::new(), Vec::new());
        let mut moment = first;
        for _ in 0..count {
            self.wait_until(moment, "flows")?;
            let sent = self.send(&packet)?;
            let mut here = Vec::new();
            self.gather(usize::from(expected), |leg, frame| {
                here.push(frame::receiver(frame, self.names, GATEWAY));
                // The two fields that differ from flow to flow.
                let port = packet.from.port().to_string();
                let id = format!(" id {}", self.packets);
                let label = format!(" label {}", self.packets);
                let look = frame::show(frame, &sent)
                    .split(' ')
                    .map(|word| if word == port { "*" } else { word })
                    .collect::<Vec<_>>()
                    .join(" ")
                    .replace(&id, "")
                    .replace(&label, "");
                let place = if self.one_leg { "each" } else { leg };
                let look = format!("{place}: {look}");
                if !looks.contains(&look) {
                    looks.push(look);
                }
            })?;
            receivers.push(if here.is_empty() {
                "-".to_owned()
            } else {
                here.join("+")
            });
            packet.from.set_port(packet.from.port() + 1);
            moment = schedule_next(moment);
        }
        let mut lines = vec![receivers.join(" ")];
        lines.extend(looks);
        Ok(lines)
    }

    /// How many of the packets from ascending client addresses and ports each
    /// server got, and a hash of who got which, in order.
    fn clients(&mut self, count: u32, packet: &Packet, expected: bool) -> Result<Vec<String>> {
        let mut receivers = vec!["-".to_owned(); count as usize];
        let numbers: Vec<u32> = (0..count).collect();
        for some in numbers.chunks(CLIENTS_AT_ONCE) {
            let mut places = BTreeMap::new();
            for number in some {
                let mut packet = packet.clone();
                packet.from = clients::client(packet.from, *number);
                places.insert(packet.from, *number as usize);
                self.send(&packet)?;
            }
            let wanted = if expected { some.len() } else { 0 };
            self.gather(wanted, |_, frame| {
                if let Some(place) = clients::source(frame).and_then(|from| places.get(&from)) {
                    receivers[*place] = frame::receiver(frame, self.names, GATEWAY);
                }
            })?;
        }
        Ok(vec![clients::summary(&receivers)])
    }

    fn gather(&self, expected: usize, mut see: impl FnMut(&str, &[u8])) -> Result<()> {
        let began = Instant::now();
        let (mut last, mut count) = (began, 0);
        loop {
            let mut any = false;
            for (leg, tap) in &self.taps {
                while let Some(frame) = tap.next(Duration::ZERO, frame::counts)? {
                    see(leg, &frame);
                    any = true;
                    count += 1;
                }
            }
            if any {
                last = Instant::now();
            }
            let limit = if count < expected {
                self.pace.patience
            } else {
                self.pace.quiet
            };
            if last.elapsed() >= limit {
                return Ok(());
            }
            thread::sleep(self.pace.quiet / 3);
        }
    }
}

/// As [`said`], without blanks at the ends of lines.
fn listing(answer: &Answer) -> Vec<String> {
    said(answer, false)
}

/// What a command printed. Connections are in no order that means anything, so
/// they are sorted; the size of the connection table is an option of whoever
/// loaded the module or started lvx, so it is not shown. With `exact`, lines
/// keep their blanks and end with `$`.
fn said(answer: &Answer, exact: bool) -> Vec<String> {
    let mut lines: Vec<_> = answer
        .stdout
        .lines()
        .map(|line| match line.split_once(" (size=") {
            Some((version, _)) => version.to_owned(),
            None if exact => line.to_owned(),
            None => line.trim_end().to_owned(),
        })
        .map(|line| if exact { line + "$" } else { line })
        .collect();
    if lines
        .first()
        .is_some_and(|line| line.starts_with("IPVS connection entries"))
        && lines.len() > 2
    {
        // By the client: the time, in the second column, is not the same on every clock,
        // so it only orders lines that are equal otherwise.
        lines[2..].sort_by_cached_key(|line| {
            let mut words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            if words.len() > 1 {
                let time = words.remove(1);
                words.push(time);
            }
            words
        });
    }
    lines.extend(answer.stderr.lines().map(|line| format!("error: {line}")));
    if answer.code != 0 {
        lines.push(format!("exit status {}", answer.code));
    }
    lines
}
