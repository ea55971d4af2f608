//! A saved table, as it is after the last line.

use std::{collections::HashMap, net::IpAddr};

use lb_common::layout::Stats;

use super::{BadLine, lines};
use crate::{
    daemon::{
        state::{Limits, Loads, Node, RawStats, Service, State},
        tables::memory::Memory,
    },
    dataplane::Sizes,
    ipvsadm,
    model::{Dest, DestId, Family, Protocol, Request, ServiceId},
};

/// A table that was read.
#[derive(Debug)]
pub struct Rules {
    /// What it configures.
    pub state: State,
    /// Sizes of tables that have room for it.
    pub(super) sizes: Sizes,
}

impl Rules {
    /// Nothing, with room for as much as so many lines can ask for.
    fn new(lines: usize) -> Self {
        let lines = u32::try_from(lines).unwrap_or(u32::MAX).clamp(1, 1 << 22);
        let sizes = Sizes {
            connections: 1,
            connections6: 1,
            services: lines,
            dests: lines,
            mh_services: lines.min(1 << 16),
            rule_words: 64,
        };
        let limits = Limits::of(sizes, &Memory::params(sizes));
        Self {
            state: State::new(limits),
            sizes,
        }
    }

    fn apply(&mut self, request: &Request) -> Result<(), String> {
        let done = self.state.apply(request, &Nobody, &Nobody, 0);
        done.map_err(|refusal| refusal.to_string())
    }

    /// Adds a service with its servers, which stand newest first.
    fn add(&mut self, id: &ServiceId, service: &Service, nodes: &[&Node]) -> Result<(), String> {
        self.apply(&Request::AddService(*id, service.spec.clone()))?;
        for node in nodes.iter().rev() {
            let mut added: Dest = node.dest;
            added.spec.weight = node.last_weight;
            self.apply(&Request::AddDest(*id, added))?;
            if added != node.dest {
                self.apply(&Request::EditDest(*id, node.dest))?;
            }
        }
        Ok(())
    }
}

/// Reads what `ipvsadm-save` has printed, with names or without.
///
/// # Errors
/// Names the first line that cannot be carried out.
pub fn read(file: &str, text: &str) -> Result<Rules, BadLine> {
    let mut rules = Rules::new(lines(text).count());
    for (line, words) in lines(text) {
        let request = ipvsadm::change(words);
        let done = request.and_then(|request| request.map_or(Ok(()), |it| rules.apply(&it)));
        done.map_err(|text| BadLine {
            file: file.to_owned(),
            line,
            text,
        })?;
    }
    Ok(rules)
}

/// There are no packets.
struct Nobody;

impl RawStats for Nobody {
    fn raw(&self, _: u32) -> Stats {
        Stats::default()
    }
}

impl Loads for Nobody {
    fn references(&self, _: u32) -> u64 {
        0
    }
}

/// The table with servers in the order in which a kernel has them, which a saved
/// table does not tell: it is sorted. `text` is that kernel's `/proc/net/ip_vs`.
///
/// # Errors
/// Names the line that is none of that file's, or whose service has other servers
/// in the saved table, and the service that is missing (behind the last line).
pub fn ordered(saved: &State, file: &str, text: &str) -> Result<Rules, BadLine> {
    let mut lists = listed(file, text)?;
    let mut rules = Rules::new(saved.services().len() + saved.dest_count());
    for (id, service) in saved.services() {
        let (line, order) = match lists.remove(id) {
            Some(list) => list,
            // A mark without servers is of either family.
            None if service.dests.is_empty() => (0, Vec::new()),
            None => {
                return Err(BadLine {
                    file: file.to_owned(),
                    line: text.lines().count(),
                    text: format!("{id} of the saved table is not there"),
                });
            }
        };
        let bad = |text| BadLine {
            file: file.to_owned(),
            line,
            text,
        };
        let mut nodes: Vec<&Node> = service.dests.iter().collect();
        let place = |node: &Node| order.iter().position(|known| *known == node.dest.id);
        if nodes.len() != order.len() || nodes.iter().any(|node| place(node).is_none()) {
            return Err(bad(format!(
                "{id} has other servers than in the saved table"
            )));
        }
        nodes.sort_by_key(|node| place(node));
        rules.add(id, service, &nodes).map_err(bad)?;
    }
    Ok(rules)
}

/// Where a service's list begins, and its servers in order.
type Lists = HashMap<ServiceId, (usize, Vec<DestId>)>;

fn listed(file: &str, text: &str) -> Result<Lists, BadLine> {
    let mut lists = Lists::new();
    // What a mark's family is only its servers tell.
    let mut mark = None;
    let mut current = None;
    for (line, words) in lines(text) {
        let bad = |text: &str| BadLine {
            file: file.to_owned(),
            line,
            text: text.to_owned(),
        };
        let mut words = words.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let protocol = match first {
            "IP" | "Prot" => continue,
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            "FWM" => {
                let number = u32::from_str_radix(second, 16);
                mark = Some(number.map_err(|_| bad("the mark is no hexadecimal number"))?);
                current = None;
                continue;
            }
            "->" if second.starts_with("RemoteAddress") => continue,
            "->" => {
                let (addr, port) = endpoint(second).ok_or_else(|| bad("no address"))?;
                if let Some(mark) = mark.take() {
                    let family = Family::of(addr);
                    current = Some(ServiceId::Mark { mark, family });
                }
                let id = current.ok_or_else(|| bad("a server before any service"))?;
                let entry = lists.entry(id).or_insert_with(|| (line, Vec::new()));
                entry.1.push(DestId { addr, port });
                continue;
            }
            _ => return Err(bad("not a line of /proc/net/ip_vs")),
        };
        let (addr, port) = endpoint(second).ok_or_else(|| bad("no address"))?;
        let id = ServiceId::Address {
            protocol,
            addr,
            port,
        };
        mark = None;
        current = Some(id);
        lists.insert(id, (line, Vec::new()));
    }
    Ok(lists)
}

/// `0A090901:0050`, `[2001:0db8:…]:0050`.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (addr, port) = text.rsplit_once(':')?;
    let addr = match addr.strip_prefix('[') {
        Some(addr) => addr.strip_suffix(']')?.parse().ok()?,
        None if addr.len() == 8 => IpAddr::from(u32::from_str_radix(addr, 16).ok()?.to_be_bytes()),
        None => return None,
    };
    Some((addr, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
-A -t 10.9.9.1:http -s sh -b sh-port
-a -t 10.9.9.1:http -r 10.8.0.1:http -g -w 3
-a -t 10.9.9.1:http -r 10.8.0.2:http -g -w 0
-A -f 7 -6 -s mh
-a -f 7 -6 -r [fd00::1]:0 -g -w 1
-A -u [2001:db8::1]:53 -s rr
";

    const PROC: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A090901:0050 sh
  -> 0A080001:0050      Route   3      0          0
  -> 0A080002:0050      Route   0      0          0
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 rr
FWM  00000007 mh
  -> [fd00:0000:0000:0000:0000:0000:0000:0001]:0000      Route   1      0          0
";

    fn order(state: &State) -> Vec<Vec<String>> {
        let list = |service: &Service| {
            let nodes = service.dests.iter();
            nodes.map(|node| node.dest.id.addr.to_string()).collect()
        };
        state.services().map(|(_, service)| list(service)).collect()
    }

    #[test]
    fn the_order_is_that_of_a_restore_or_of_the_kernel() {
        let saved = read("rules", SAVED).unwrap().state;
        assert_eq!(
            order(&saved),
            [vec!["10.8.0.2", "10.8.0.1"], vec!["fd00::1"], vec![]]
        );
        let kernel = ordered(&saved, "proc", PROC).unwrap().state;
        assert_eq!(
            order(&kernel),
            [vec!["10.8.0.1", "10.8.0.2"], vec!["fd00::1"], vec![]]
        );
        let weights = |state: &State| {
            let mut services = state.services();
            let nodes = services.next().unwrap().1.dests.clone();
            nodes
                .iter()
                .map(|node| node.dest.spec.weight)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (weights(&saved), weights(&kernel)),
            (vec![0, 3], vec![3, 0])
        );
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, want) in [
            ("-A -t 10.9.9.1:80 -s sh\n-L\n", "rules:2: -L: not a line"),
            (
                "\n# x\n-A -t nowhere.invalid:80",
                "rules:3: illegal virtual",
            ),
            (
                "-a -t 10.9.9.1:80 -r 10.8.0.1 -g",
                "rules:1: No such service",
            ),
            ("-A -t 10.9.9.1:80 -s nope", "rules:1: Scheduler or"),
            ("rubbish", "rules:1: "),
        ] {
            let error = read("rules", text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
        let saved = read("rules", SAVED).unwrap().state;
        for (from, to, want) in [
            (
                "0A080002",
                "0A080003",
                "proc:4: -t 10.9.9.1:80 has other servers",
            ),
            (
                "FWM  00000007",
                "FWM  00000008",
                "proc:9: -f 7 -6 of the saved",
            ),
            ("TCP ", "ICMP", "proc:4: not a line of /proc/net/ip_vs"),
            ("0A080001:", "0A08:", "proc:5: no address"),
        ] {
            let text = PROC.replacen(from, to, 1);
            let error = ordered(&saved, "proc", &text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
