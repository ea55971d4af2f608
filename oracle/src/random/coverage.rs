//! What was tried: scheduler, method, protocol and event, with counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::is_cell;
use crate::scenario::{Action, Packet, Scenario, Step, Transport};

/// How often what was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// By event, and by `rr dr tcp`.
    counts: BTreeMap<String, BTreeMap<String, usize>>,
    packets: Vec<usize>,
}

/// What is known of one service on the way.
#[derive(Default)]
struct Service {
    scheduler: String,
    protocol: &'static str,
    method: &'static str,
    servers: BTreeSet<String>,
    deleted: BTreeSet<String>,
    there: bool,
    was_there: bool,
    /// The flags of the last packet of each client port, and in which burst.
    flows: BTreeMap<u16, (String, usize)>,
    packets: usize,
}

impl Coverage {
    /// Adds the services of a generated file.
    pub fn see(&mut self, scenario: &Scenario) {
        let mut services: BTreeMap<String, Service> = BTreeMap::new();
        let mut burst = 0;
        for step in &scenario.steps {
            burst += usize::from(matches!(step.action, Action::Wait(_)));
            let words: Vec<_> = step.text.split(' ').collect();
            let Some(vip) = words
                .iter()
                .filter_map(|word| word.split(':').next())
                .find(|word| is_cell(word))
            else {
                continue;
            };
            let service = services.entry(vip.to_owned()).or_default();
            let events = match &step.action {
                Action::Packet(packet) => service.packet(packet, &words, burst),
                _ => vec![service.command(&words, step)],
            };
            let what = format!(
                "{} {} {}",
                service.scheduler, service.method, service.protocol
            );
            for event in events {
                let counts = self.counts.entry(event).or_default();
                *counts.entry(what.clone()).or_default() += 1;
            }
        }
        self.packets
            .extend(services.into_values().map(|service| service.packets));
    }

    /// How many packets a service had, in the median.
    #[must_use]
    pub fn median(&self) -> usize {
        let mut packets = self.packets.clone();
        packets.sort_unstable();
        packets.get(packets.len() / 2).copied().unwrap_or_default()
    }

    /// How many services there were.
    #[must_use]
    pub fn services(&self) -> usize {
        self.packets.len()
    }

    /// A table, an event a line, and the median of the packets.
    #[must_use]
    pub fn render(&self) -> String {
        let columns: BTreeSet<_> = self.counts.values().flat_map(BTreeMap::keys).collect();
        let mut out = format!("{:24}", "event");
        for column in &columns {
            // A string takes every write.
            let _ = write!(out, " {column:>11}");
        }
        for (event, counts) in &self.counts {
            let _ = write!(out, "\n{event:24}");
            for column in &columns {
                let count = counts.get(*column).copied().unwrap_or_default();
                let _ = write!(out, " {count:11}");
            }
        }
        let _ = writeln!(
            out,
            "\n{} services, {} packets each in the median",
            self.services(),
            self.median()
        );
        out
    }
}

impl Service {
    fn packet(&mut self, packet: &Packet, words: &[&str], burst: usize) -> Vec<String> {
        self.packets += 1;
        let flags = match &packet.transport {
            Transport::Tcp(_) | Transport::Sctp(_) => words[4].to_owned(),
            Transport::Udp if packet.text.is_some() => "SIP message".to_owned(),
            Transport::Udp => "datagram".to_owned(),
            Transport::Icmp(_) | Transport::Tunnel(..) => {
                return vec!["error about a tunnel".to_owned()];
            }
        };
        let mut events = vec![flags.clone()];
        let before = self
            .flows
            .insert(packet.from.port(), (flags.clone(), burst));
        match before {
            None => events.push("flow: new".to_owned()),
            Some((_, last)) if last < burst => events.push("flow: after an idle gap".to_owned()),
            Some((last, _)) if flags == last => events.push("flow: the same again".to_owned()),
            Some((last, _)) if flags == "S" && last.contains(['F', 'R']) => {
                events.push("flow: port reused".to_owned());
            }
            Some(_) => {}
        }
        if !self.there {
            events.push("service: deleted".to_owned());
        } else if self.servers.is_empty() {
            events.push("service: no server".to_owned());
        }
        events
    }

    fn command(&mut self, words: &[&str], step: &Step) -> String {
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).map(|word| (*word).to_owned())
        };
        if let Some(name) = after("-s") {
            self.scheduler = name;
        }
        self.protocol = if words.contains(&"-u") {
            "udp"
        } else if words.contains(&"--sctp-service") {
            "sctp"
        } else {
            "tcp"
        };
        for (option, method) in [("-g", "dr"), ("-i", "tun"), ("-m", "nat")] {
            if words.contains(&option) || self.method.is_empty() {
                self.method = method;
            }
        }
        let server = after("-r").unwrap_or_default();
        let weight = if after("-w").as_deref() == Some("0") {
            ", weight 0"
        } else {
            ""
        };
        match words[1] {
            "-A" => {
                self.there = true;
                let again = std::mem::replace(&mut self.was_there, true);
                if again { "-A again" } else { "-A" }.to_owned()
            }
            "-D" => {
                self.there = false;
                self.deleted.append(&mut self.servers);
                "-D".to_owned()
            }
            "-a" if !self.there => "-a refused, no service".to_owned(),
            "-a" if self.servers.contains(&server) => "-a refused, it is there".to_owned(),
            "-a" => {
                let again = self.deleted.contains(&server);
                self.servers.insert(server);
                format!("-a{}{weight}", if again { " again" } else { "" })
            }
            "-d" => {
                self.servers.remove(&server);
                self.deleted.insert(server);
                "-d".to_owned()
            }
            "-e" => format!("-e{weight}"),
            _ => step.text.split(' ').nth(1).unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_scheduler_method_and_protocol() {
        let text = "about x\nserver A 10.8.0.1\nvip V0 10.9.9.1\n\
            ipvsadm -A -t V0:80 -s rr\nipvsadm -a -t V0:80 -r A:80 -g -w 0\n\
            tcp 1.2.3.1:1 > V0:80 S\ntcp 1.2.3.1:1 > V0:80 S\ntcp 1.2.3.1:1 > V0:80 R\n\
            tcp 1.2.3.1:1 > V0:80 S\nipvsadm -d -t V0:80 -r A:80\nwait 1s\n\
            ipvsadm -E -t V0:80 -s wrr\ntcp 1.2.3.1:1 > V0:80 A\nipvsadm -a -t V0:80 -r A:80 -g\n";
        let mut coverage = Coverage::default();
        coverage.see(&Scenario::parse("x", "x", text).expect("it is right"));
        let count = |event: &str, what: &str| coverage.counts[event][what];
        assert_eq!(count("S", "rr dr tcp"), 3);
        assert_eq!(count("-a, weight 0", "rr dr tcp"), 1);
        assert_eq!(count("flow: new", "rr dr tcp"), 1);
        assert_eq!(count("flow: the same again", "rr dr tcp"), 1);
        assert_eq!(count("flow: port reused", "rr dr tcp"), 1);
        assert_eq!(count("flow: after an idle gap", "wrr dr tcp"), 1);
        assert_eq!(count("service: no server", "wrr dr tcp"), 1);
        assert_eq!(count("-a again", "wrr dr tcp"), 1);
        assert_eq!(coverage.median(), 5);
        assert!(coverage.render().contains("rr dr tcp"));
    }
}
