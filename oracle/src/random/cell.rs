//! One random service with its servers, clients and packets.

use super::dice::Dice;

/// Names of the servers that there are.
pub(super) const SERVERS: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

const WEIGHTS: [u32; 9] = [0, 1, 1, 1, 2, 3, 5, 10, 100];

/// A service of its own, so that many share a topology and its waits.
#[derive(Debug)]
pub(super) struct Cell {
    /// Its number, by which its VIP and its clients are named.
    number: usize,
    tcp: bool,
    scheduler: &'static str,
    /// Servers that it has now.
    servers: Vec<&'static str>,
    /// Client ports in use, the last one newest.
    flows: Vec<u16>,
}

impl Cell {
    /// A new cell and the commands that set it up.
    pub(super) fn new(number: usize, dice: &mut Dice) -> (Self, Vec<String>) {
        let mut cell = Self {
            number,
            tcp: dice.percent(75),
            scheduler: dice.pick(&["rr", "wrr"]),
            servers: Vec::new(),
            flows: Vec::new(),
        };
        let mut lines = vec![format!(
            "ipvsadm -A {} -s {}",
            cell.service(),
            cell.scheduler
        )];
        for _ in 0..dice.below(4) + 1 {
            lines.extend(cell.add(dice));
        }
        (cell, lines)
    }

    /// `-t V3:80`.
    fn service(&self) -> String {
        if self.tcp {
            format!("-t V{}:80", self.number)
        } else {
            format!("-u V{}:53", self.number)
        }
    }

    fn server(&self, letter: char, name: &str, dice: &mut Dice) -> String {
        let weight = dice.pick(&WEIGHTS);
        let port = if self.tcp { 80 } else { 53 };
        format!(
            "ipvsadm -{letter} {} -r {name}:{port} -g -w {weight}",
            self.service()
        )
    }

    fn add(&mut self, dice: &mut Dice) -> Option<String> {
        let free: Vec<_> = SERVERS
            .into_iter()
            .filter(|name| !self.servers.contains(name))
            .collect();
        if free.is_empty() {
            return None;
        }
        let name = dice.pick(&free);
        self.servers.push(name);
        Some(self.server('a', name, dice))
    }

    /// A change of the configuration.
    pub(super) fn edit(&mut self, dice: &mut Dice) -> String {
        let port = if self.tcp { 80 } else { 53 };
        match dice.below(10) {
            0..=4 if !self.servers.is_empty() => {
                let name = dice.pick(&self.servers);
                self.server('e', name, dice)
            }
            5 | 6 if !self.servers.is_empty() => {
                let name = self.servers.swap_remove(dice.below(self.servers.len()));
                format!("ipvsadm -d {} -r {name}:{port}", self.service())
            }
            7 => {
                self.scheduler = dice.pick(&["rr", "wrr"]);
                format!("ipvsadm -E {} -s {}", self.service(), self.scheduler)
            }
            // Mostly refused: it is there.
            8 => {
                let name = dice.pick(&SERVERS);
                if !self.servers.contains(&name) {
                    self.servers.push(name);
                }
                self.server('a', name, dice)
            }
            _ => self.add(dice).unwrap_or_else(|| {
                // Refused: there is no such server.
                format!("ipvsadm -d {} -r {}:{port}", self.service(), "A")
            }),
        }
    }

    /// A packet of a new flow or of one before.
    pub(super) fn packet(&mut self, dice: &mut Dice) -> String {
        let fresh = self.flows.is_empty() || dice.percent(35);
        let port = if fresh {
            let port = 1000 + self.flows.len() as u16;
            self.flows.push(port);
            port
        } else {
            // Rather one of the last ones, so that flows get somewhere.
            let last = self.flows.len().min(4);
            if dice.percent(80) {
                self.flows[self.flows.len() - 1 - dice.below(last)]
            } else {
                dice.pick(&self.flows)
            }
        };
        let ends = |protocol: &str, to: u16| {
            format!(
                "{protocol} 1.2.3.{}:{port} > V{}:{to}",
                self.number + 1,
                self.number
            )
        };
        if !self.tcp {
            return format!("{} len {}", ends("udp", 53), dice.below(64));
        }
        let flags = match (fresh, dice.below(100)) {
            (true, 0..=89) => "S",
            (true, 90..=92) => "SA",
            (true, 93) => "SF",
            (true, 94) => "SR",
            (true, 95..=96) => "A",
            (true, 97) => "F",
            (true, 98) => "R",
            (true, _) => "-",
            (false, 0..=34) => "A",
            (false, 35..=54) => "PA",
            (false, 55..=69) => "FA",
            (false, 70..=79) => "R",
            (false, 80..=91) => "S",
            (false, 92..=93) => "SA",
            (false, 94..=95) => "RA",
            (false, 96..=97) => "F",
            (false, 98) => "-",
            (false, _) => "SFA",
        };
        let line = format!("{} {flags}", ends("tcp", 80));
        if flags == "PA" {
            format!("{line} len {}", dice.below(64) + 1)
        } else {
            line
        }
    }
}
