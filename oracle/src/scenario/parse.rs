//! Lines to steps; an error names file and line and says what was expected.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Result, bail};

use super::{Action, RuleChain, Scenario, Step, fields};

/// What a line may begin with.
const WORDS: &str = "about, legs, mtu, crowded, exact, vip, server, client, sysctl, ipvsadm, mark, filter, tcp, udp, sctp, \
                     icmp, ipip, gue, gre, flows, clients, wait, snapshot or deviates";

pub(super) fn parse(name: &str, file: &str, text: &str) -> Result<Scenario> {
    let mut reader = Reader {
        names: BTreeMap::new(),
        scenario: Scenario {
            name: name.to_owned(),
            about: String::new(),
            one_leg: false,
            crowded: false,
            exact: false,
            vips: Vec::new(),
            servers: BTreeMap::new(),
            mtu: [1500; 2],
            sysctls: Vec::new(),
            steps: Vec::new(),
        },
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Err(wrong) = reader.line(number + 1, line) {
            bail!("{file}:{}: {wrong}", number + 1);
        }
    }
    let scenario = reader.scenario;
    if scenario.about.is_empty() {
        bail!("{file}:1: expected a line `about …` that says what the scenario shows");
    }
    if scenario.steps.is_empty() {
        bail!(
            "{file}:{}: expected at least one step",
            text.lines().count()
        );
    }
    Ok(scenario)
}

struct Reader {
    /// Addresses by name.
    names: fields::Names,
    scenario: Scenario,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let action = match words[..] {
            ["about", ..] => {
                self.scenario.about = line["about".len()..].trim().to_owned();
                return Ok(());
            }
            ["legs", "1"] => return self.head(|scenario| scenario.one_leg = true),
            ["legs", "2"] => return self.head(|scenario| scenario.one_leg = false),
            ["mtu", leg @ ("clients" | "servers"), bytes] => {
                let bytes = fields::number("mtu", bytes, 9000)?;
                return self.head(|scenario| scenario.mtu[usize::from(leg == "servers")] = bytes);
            }
            ["mtu", ..] => return Err("expected mtu clients N or mtu servers N".to_owned()),
            ["crowded"] => return self.head(|scenario| scenario.crowded = true),
            ["exact"] => return self.head(|scenario| scenario.exact = true),
            ["legs", ..] => return Err("expected legs 1 or legs 2".to_owned()),
            ["vip" | "server" | "client", ..] => return self.name(&words),
            ["sysctl", key, "=", value] => {
                let pair = (key.to_owned(), value.to_owned());
                return self.head(|scenario| scenario.sysctls.push(pair));
            }
            ["sysctl", ..] => return Err("expected sysctl KEY = VALUE".to_owned()),
            ["deviates", id] => return self.deviates(id),
            ["deviates", ..] => {
                return Err("expected deviates ID, one row of docs/deviations.md".to_owned());
            }
            ["ipvsadm" | "snapshot", ref words @ ..] => {
                // The kernel's tool would look the name up, and refuse.
                if let Some(word) = words.iter().find(|word| self.is_bracketed_name(word)) {
                    return Err(format!("{word}: brackets come with the address of a name"));
                }
                Action::Ipvsadm(
                    words
                        .iter()
                        .map(|word| fields::replace(word, &self.names))
                        .collect(),
                )
            }
            [verb @ ("mark" | "filter"), ref words @ ..] => {
                let chain = if verb == "mark" {
                    RuleChain::Mark
                } else {
                    RuleChain::Filter
                };
                let words = words
                    .iter()
                    .map(|word| fields::replace(word, &self.names))
                    .collect();
                Action::Rules(chain, words)
            }
            ["tcp" | "udp" | "sctp" | "icmp" | "ipip" | "gue" | "gre", ..] => {
                Action::Packet(fields::packet(&words, &self.names)?)
            }
            ["flows", ..] if self.scenario.crowded => {
                return Err("expected single packets in a crowded scenario".to_owned());
            }
            ["flows", count, "tcp" | "udp", ..] => {
                let count = count
                    .parse()
                    .ok()
                    .filter(|count| (1..=500).contains(count))
                    .ok_or_else(|| format!("expected a number from 1 to 500, not {count:?}"))?;
                let packet = fields::packet(&words[2..], &self.names)?;
                if packet.from.port().checked_add(count).is_none() {
                    return Err("expected a source port with room for all the flows".to_owned());
                }
                Action::Flows(count, packet)
            }
            ["clients", count, "tcp" | "udp", ..] => {
                let count = count
                    .parse()
                    .ok()
                    .filter(|count| (1..=50_000).contains(count))
                    .ok_or_else(|| format!("expected a number from 1 to 50000, not {count:?}"))?;
                Action::Clients(count, fields::packet(&words[2..], &self.names)?)
            }
            ["clients", ..] => {
                return Err("expected clients COUNT tcp|udp FROM:PORT > TO:PORT …".to_owned());
            }
            ["flows", ..] => {
                return Err("expected flows COUNT tcp|udp FROM:PORT > TO:PORT …".to_owned());
            }
            ["wait", time] => Action::Wait(fields::duration(time)?),
            ["wait", ..] => return Err("expected wait TIME".to_owned()),
            _ => return Err(format!("expected {WORDS}, not {:?}", words[0])),
        };
        self.scenario.steps.push(Step {
            text: words.join(" "),
            line: number,
            action,
            deviates: None,
        });
        Ok(())
    }

    /// Something about the topology, which has to be known before it is used.
    fn head(&mut self, change: impl FnOnce(&mut Scenario)) -> Result<(), String> {
        if !self.scenario.steps.is_empty() {
            return Err("expected this line before the first step".to_owned());
        }
        change(&mut self.scenario);
        Ok(())
    }

    fn name(&mut self, words: &[&str]) -> Result<(), String> {
        let [kind, name, address] = *words else {
            return Err(format!("expected {} NAME ADDRESS", words[0]));
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("expected an address, not {address:?}"))?;
        if !name.starts_with(|first: char| first.is_ascii_uppercase()) {
            return Err(format!(
                "expected a name with a capital letter, not {name:?}"
            ));
        }
        if self.names.insert(name.to_owned(), address).is_some() {
            return Err(format!("expected a new name: {name} is taken"));
        }
        let name = name.to_owned();
        self.head(|scenario| match kind {
            "vip" => scenario.vips.push(address),
            "server" => {
                scenario.servers.insert(name, address);
            }
            // Clients are behind a gateway: they have a name only.
            _ => {}
        })
    }

    /// Whether a word is a name of the scenario in brackets, as IPv6 addresses have.
    fn is_bracketed_name(&self, word: &str) -> bool {
        let inner = word.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        inner.is_some_and(|(name, _)| self.names.contains_key(name))
    }

    fn deviates(&mut self, id: &str) -> Result<(), String> {
        let step = self
            .scenario
            .steps
            .last_mut()
            .ok_or("expected a step before deviates")?;
        if !id.starts_with("D-") {
            return Err(format!("expected an id such as D-expiry, not {id:?}"));
        }
        if step.deviates.replace(id.to_owned()).is_some() {
            return Err("expected one deviation a step".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::{Flags, Transport};

    fn refused(text: &str) -> String {
        let text = format!("about x\nserver A 10.8.0.1\n{text}\n");
        parse("x", "x.scn", &text)
            .expect_err("the line is wrong")
            .to_string()
    }

    #[test]
    fn names_stand_for_addresses_in_commands_and_packets() {
        let text = "about x # y\nvip VIP 10.9.9.1\nserver A 10.8.0.1\nclient C 1.2.3.4\n\
                    ipvsadm -a -t VIP:80 -r A:80 -g\n tcp  C:1000 > VIP:80 SA len 7 df by A\n\
                    deviates D-x\nwait 1.5s\n";
        let scenario = parse("x", "x.scn", text).expect("it is right");
        assert_eq!(scenario.about, "x");
        let Action::Ipvsadm(words) = &scenario.steps[0].action else {
            panic!("{:?}", scenario.steps[0]);
        };
        assert_eq!(words.join(" "), "-a -t 10.9.9.1:80 -r 10.8.0.1:80 -g");
        let step = &scenario.steps[1];
        assert_eq!(step.deviates.as_deref(), Some("D-x"));
        let Action::Packet(packet) = &step.action else {
            panic!("{step:?}");
        };
        assert_eq!(packet.from.to_string(), "1.2.3.4:1000");
        assert_eq!((packet.data, packet.df), (7, true));
        let flags = Flags {
            syn: true,
            ack: true,
            ..Flags::default()
        };
        assert_eq!(packet.transport, Transport::Tcp(flags));
        assert_eq!(
            scenario.steps[2].action,
            Action::Wait(Duration::from_millis(1500))
        );
        assert_eq!(scenario.setup(), 1);
    }

    #[test]
    fn errors_name_file_and_line_and_what_was_expected() {
        for (line, expected) in [
            ("frobnicate", "x.scn:3: expected about, legs,"),
            ("legs 3", "x.scn:3: expected legs 1 or legs 2"),
            ("tcp 1.2.3.4:1 > 1.2.3.5:2", "x.scn:3: expected the flags"),
            (
                "tcp 1.2.3.4:1 > 1.2.3.5:2 X",
                "x.scn:3: expected flags out of",
            ),
            (
                "sctp 1.2.3.4:1 > 1.2.3.5:2 S",
                "x.scn:3: expected chunks such as",
            ),
            ("udp 1.2.3.4 > 1.2.3.5:2", "x.scn:3: expected ADDRESS:PORT"),
            (
                "udp A:1 > B:2",
                "x.scn:3: expected ADDRESS:PORT or NAME:PORT, not \"B:2\"",
            ),
            (
                "udp A:1 > A:2 len 9000",
                "x.scn:3: expected a number from 0 to 8000",
            ),
            (
                "udp A:1 > A:2 by B",
                "x.scn:3: expected the name of a server",
            ),
            ("udp A:1 > A:2 text a\\q", "x.scn:3: expected text such as"),
            ("mtu x 1400", "x.scn:3: expected mtu clients N"),
            ("icmp A > A 3", "x.scn:3: expected TYPE/CODE"),
            (
                "icmp A > A 3/1 about udp A:1",
                "x.scn:3: expected FROM:PORT > TO:PORT",
            ),
            (
                "ipip A > A df",
                "x.scn:3: expected the packet within behind",
            ),
            ("gue A > A udp A:1 > A:2", "x.scn:3: expected ADDRESS:PORT"),
            ("udp A:1 > A:2 mtu 5", "x.scn:3: expected mtu in an icmp"),
            ("udp A:1 > A:2 frag 1/2", "x.scn:3: expected id N"),
            ("udp A:1 > A:2 frag 3/2 id 1", "x.scn:3: expected frag K/N"),
            (
                "udp A:1 > [fd00::1]:2",
                "x.scn:3: expected two addresses of one family",
            ),
            ("wait 0.3s", "x.scn:3: expected a multiple of half a second"),
            ("wait 3", "x.scn:3: expected a time"),
            ("server A 10.8.0.2", "x.scn:3: expected a new name"),
            (
                "server b 10.8.0.2",
                "x.scn:3: expected a name with a capital",
            ),
            ("deviates D-x", "x.scn:3: expected a step before"),
            ("wait 1s\nlegs 1", "x.scn:4: expected this line before"),
            ("wait 1s\ndeviates x", "x.scn:4: expected an id"),
            (
                "flows 0 udp A:1 > A:2",
                "x.scn:3: expected a number from 1 to 500",
            ),
            (
                "flows 9 udp A:65530 > A:2",
                "x.scn:3: expected a source port",
            ),
            ("", "x.scn:3: expected at least one step"),
        ] {
            let said = refused(line);
            assert!(said.starts_with(expected), "{line}: {said}");
        }
    }
}
