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

/// Where packets and commands are in a frame, and how many it takes.
#[derive(Clone, Copy)]
struct Plan {
    packet: Duration,
    packets: u32,
    commands_at: Duration,
    command: Duration,
    commands: u32,
}

/// One thing after the other, each with the time that it takes.
const ALONE: Plan = Plan {
    packet: Duration::from_millis(10),
    packets: 25,
    commands_at: Duration::from_millis(400),
    command: Duration::ZERO,
    commands: 3,
};

/// Many services in one file: packets at once, commands that nobody waits for.
/// After the last command of a frame there is time to carry it out.
const CROWDED: Plan = Plan {
    packet: Duration::ZERO,
    packets: 210,
    commands_at: Duration::from_millis(100),
    command: Duration::from_millis(20),
    commands: 16,
};

/// Clients of `clients` in a frame: there is time for what each takes.
const CLIENTS_A_FRAME: u32 = 400;

struct Now {
    plan: Plan,
    frame: u32,
    packets: u32,
    commands: u32,
}

impl Now {
    fn next_frame(&mut self, frames: u32) {
        self.frame += frames;
        (self.packets, self.commands) = (0, 0);
    }

    fn packet(&mut self) -> Duration {
        if self.commands > 0 || self.packets == self.plan.packets {
            self.next_frame(1);
        }
        self.packets += 1;
        FRAME * self.frame + self.plan.packet * (self.packets - 1)
    }

    fn command(&mut self) -> Duration {
        if self.commands == self.plan.commands {
            self.next_frame(1);
        }
        self.commands += 1;
        FRAME * self.frame + self.plan.commands_at + self.plan.command * (self.commands - 1)
    }

    /// A long listing, which takes part of a second.
    fn listing(&mut self) -> Duration {
        self.next_frame(2);
        FRAME * (self.frame - 1) + self.plan.commands_at
    }
}

/// Whether a command lists and changes nothing.
#[must_use]
pub fn lists(words: &[String]) -> bool {
    words
        .first()
        .is_some_and(|word| word.starts_with("-L") || word.starts_with("-S"))
}

/// The moment of each step, from the scenario's start: of its first packet, of
/// its command, of the end of its wait. Commands before the first packet or wait
/// happen before the start, in their own time.
#[must_use]
pub fn schedule(steps: &[Step], crowded: bool) -> Vec<Duration> {
    let mut now = Now {
        plan: if crowded { CROWDED } else { ALONE },
        frame: 0,
        packets: 0,
        commands: 0,
    };
    let mut began = false;
    steps
        .iter()
        .map(|step| match &step.action {
            Action::Ipvsadm(_) | Action::Rules(..) if !began => Duration::ZERO,
            Action::Ipvsadm(words) if crowded && lists(words) => now.listing(),
            Action::Ipvsadm(_) | Action::Rules(..) => now.command(),
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
            Action::Clients(count, _) => {
                began = true;
                now.next_frame(1);
                let first = FRAME * now.frame;
                now.next_frame(count.div_ceil(CLIENTS_A_FRAME));
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

/// The moment of the packet after one at `moment`, in a step of several, which
/// crowded scenarios do not have.
#[must_use]
pub fn next_packet(moment: Duration) -> Duration {
    let inside = Duration::from_millis((moment.as_millis() % FRAME.as_millis()) as u64);
    if inside + ALONE.packet < ALONE.packet * ALONE.packets {
        moment + ALONE.packet
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
        schedule(&scenario.steps, scenario.crowded)
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
    fn many_services_send_at_once_and_change_one_after_the_other() {
        let packets = "udp V:1 > V:1\n".repeat(211);
        let listings = "snapshot -Ln\n".repeat(2);
        let commands = "ipvsadm -C\n".repeat(17);
        let moments = moments(&format!("crowded\n{packets}{commands}{listings}"));
        assert_eq!(moments[209..212], [0, 500, 600]);
        assert_eq!(moments[226..], [900, 1100, 1600, 2600]);
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
