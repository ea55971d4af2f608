//! When each step happens.
//!
//! Time goes in frames of half a second: packets in the first part of a frame,
//! commands and listings in the second. So a listing is never close to a whole
//! number of seconds after a packet, where a millisecond would change what it
//! shows of the time left.

use std::time::Duration;

use super::{Action, Step};

/// The length of a frame.
const FRAME: Duration = Duration::from_millis(500);
/// Between packets, and how many a frame takes.
const PACKET: Duration = Duration::from_millis(10);
const PACKETS: u32 = 25;
/// Where the commands of a frame begin, and how many it takes.
const COMMANDS_AT: Duration = Duration::from_millis(400);
const COMMANDS: u32 = 3;

#[derive(Default)]
struct Now {
    frame: u32,
    packets: u32,
    commands: u32,
}

impl Now {
    fn next_frame(&mut self, frames: u32) {
        *self = Self {
            frame: self.frame + frames,
            ..Self::default()
        };
    }

    fn packet(&mut self) -> Duration {
        if self.commands > 0 || self.packets == PACKETS {
            self.next_frame(1);
        }
        self.packets += 1;
        FRAME * self.frame + PACKET * (self.packets - 1)
    }

    fn command(&mut self) -> Duration {
        if self.commands == COMMANDS {
            self.next_frame(1);
        }
        self.commands += 1;
        FRAME * self.frame + COMMANDS_AT
    }
}

/// The moment of each step, from the scenario's start: of its first packet, of
/// its command, of the end of its wait. Commands before the first packet or wait
/// happen before the start, in their own time.
#[must_use]
pub fn schedule(steps: &[Step]) -> Vec<Duration> {
    let mut now = Now::default();
    let mut began = false;
    steps
        .iter()
        .map(|step| match &step.action {
            Action::Ipvsadm(_) if !began => Duration::ZERO,
            Action::Ipvsadm(_) => now.command(),
            Action::Packet(_) => {
                began = true;
                now.packet()
            }
            Action::Flows(count, _) => {
                began = true;
                let first = now.packet();
                for _ in 1..*count {
                    now.packet();
                }
                first
            }
            Action::Wait(time) => {
                began = true;
                now.next_frame((time.as_millis() / FRAME.as_millis()) as u32);
                FRAME * now.frame
            }
        })
        .collect()
}

/// The moment of the packet after one at `moment`, in a step of several.
#[must_use]
pub fn next_packet(moment: Duration) -> Duration {
    let inside = Duration::from_millis((moment.as_millis() % FRAME.as_millis()) as u64);
    if inside + PACKET < PACKET * PACKETS {
        moment + PACKET
    } else {
        moment - inside + FRAME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn moments(steps: &str) -> Vec<u128> {
        let text = format!("about x\nvip V 10.9.9.1\n{steps}");
        let scenario = Scenario::parse("x", "x", &text).expect("it is right");
        schedule(&scenario.steps)
            .iter()
            .map(Duration::as_millis)
            .collect()
    }

    #[test]
    fn packets_and_commands_have_parts_of_a_frame() {
        let steps = "ipvsadm -A -u V:1\nudp V:1 > V:1\nudp V:2 > V:1\nsnapshot -Ln\nsnapshot -Lnc\n\
                     udp V:1 > V:1\nwait 2s\nsnapshot -Lnc\nsnapshot -Ln\nsnapshot -Ln\nsnapshot -Ln\n";
        assert_eq!(
            moments(steps),
            [0, 0, 10, 400, 400, 500, 2500, 2900, 2900, 2900, 3400]
        );
    }

    #[test]
    fn a_step_of_many_packets_goes_on_in_the_next_frame() {
        assert_eq!(
            moments("flows 27 udp V:1 > V:1\nudp V:99 > V:1\n"),
            [0, 520]
        );
        let mut moment = Duration::ZERO;
        for _ in 0..26 {
            moment = next_packet(moment);
        }
        assert_eq!(moment.as_millis(), 510);
    }
}
