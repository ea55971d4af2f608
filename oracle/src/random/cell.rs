//! One random service with its servers, clients and packets.

use super::{dice::Dice, gaps::BURST};

/// The director towards the servers.
const DIRECTOR: &str = "10.8.0.254";
/// Types and codes of errors about tunnel packets. Not of those that tell an MTU: what
/// the first one makes the kernel say differs (D-tunnel-errors).
const ERRORS: &[&str] = &[
    "3/0", "3/1", "3/1", "3/2", "3/3", "3/13", "4/0", "11/0", "11/1", "12/0",
];

/// Names of the servers that there are.
pub(super) const SERVERS: [&str; 12] = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "L", "M"];
/// Those with IPv6 addresses.
pub(super) const SERVERS6: [&str; 12] = [
    "A6", "B6", "C6", "D6", "E6", "F6", "G6", "H6", "I6", "J6", "L6", "M6",
];
/// So many of them a service has at a time.
const AT_A_TIME: usize = 6;

/// A server without connections may be out of the trash so many seconds after
/// it was removed, and has lost its counters then; when exactly depends on
/// timers of a minute, which are late in the kernel (D-expiry).
const TRASHED: u64 = 110;

/// Schedulers that can be compared (twos is random), some of them with flags: one
/// that is built is added here, and tried.
const SCHEDULERS: &[&str] = &[
    "rr",
    "rr",
    "wrr",
    "wrr",
    "lc",
    "wlc",
    "sed",
    "nq",
    "fo",
    "ovf",
    "lblc",
    "lblcr",
    "dh",
    "sh",
    "sh -b sh-port",
    "sh -b sh-fallback,sh-port",
    "mh",
    "mh -b mh-port",
    "mh -b mh-fallback,mh-port",
];
/// Forwarding methods that lvx has, as options of a server.
const METHODS: &[&str] = &[
    "-g",
    "-g",
    "-m",
    "-m",
    "-i",
    "-i --tun-type gue --tun-port 6080",
    "-i --tun-type gue --tun-port 5555 --tun-csum",
    "-i --tun-type gre",
    "-i --tun-type gre --tun-csum",
];
/// More options of a server; one of them each time. The last one is refused.
const SERVER_OPTIONS: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    "",
    "-x 1",
    "-x 3",
    "-x 5 -y 2",
    "-x 8 -y 8",
    "-x 2 -y 3",
];
/// More options of a service. Templates outlive the file: in what moment the
/// kernel's end is up to its timers (D-expiry).
const SERVICE_OPTIONS: &[&str] = &["", "", "", "-p 40000"];
/// Those of an IPv4 service, which may have a mask.
const SERVICE_OPTIONS4: &[&str] = &["", "", "", "-p 40000", "-p 40000 -M 255.255.255.0"];
/// Those of a UDP service.
const SERVICE_OPTIONS_UDP: &[&str] = &[
    "",
    "",
    "",
    "-p 40000",
    "-o",
    "-p 40000 -o",
    "-p 40000 --pe sip",
    "-p 40000 -o --pe sip",
];

/// SIP messages of a `--pe sip` service; `{call}` is one of a few calls. The last
/// one has no Call-ID.
const MESSAGES: &[&str] = &[
    r"INVITE_sip:x_SIP/2.0\r\nCall-ID:_{call}@x\r\n",
    r"BYE_sip:x_SIP/2.0\r\nVia:_y\r\ncall-id_:{call}@x\r\n",
    r"ACK_sip:x_SIP/2.0\r\ni:_{call}@x\r\nTo:_z\r\n",
    r"INVITE_sip:x_SIP/2.0\r\nCall-ID:_{call}\r\n",
    r"OPTIONS_sip:x_SIP/2.0\r\nCall-ID:_@{call}\r\n",
];
/// Calls of a service.
const CALLS: usize = 5;

/// How a service's packets may be marked, by rules one after the other (`|`):
/// `{mark}`, `{protocol}` and `{port}` stand for its own. The mark is below 256.
const MARKS: &[&str] = &[
    "-p {protocol} --dport {port} -j MARK --set-mark {mark}",
    "-p {protocol} -m multiport --dports {port},443 -j MARK --set-xmark {mark}/0xff",
    "-p {protocol} -m multiport ! --sports 1:999 -j MARK --or-mark {mark}",
    "! -s 192.0.2.0/24 -j MARK --xor-mark {mark}",
    "-p all -m comment --comment x -j MARK --set-mark {mark}",
    "-j MARK --set-mark 0x100|-p {protocol} --dport {port} -j MARK --or-mark {mark}|-j MARK --and-mark 0xff",
    "-j MARK --xor-mark {mark}|-p {protocol} --dport 1:9 -j MARK --set-mark 0x7f|-p {protocol} -j MARK --xor-mark 0x0",
];

const WEIGHTS: [u32; 9] = [0, 1, 1, 1, 2, 3, 5, 10, 100];

/// Flags of the first segment of a flow and of later ones, with their shares.
const FIRST: [(&str, usize); 8] = [
    ("S", 90),
    ("SA", 3),
    ("SF", 1),
    ("SR", 1),
    ("A", 2),
    ("F", 1),
    ("R", 1),
    ("-", 1),
];
const LATER: [(&str, usize); 10] = [
    ("A", 35),
    ("PA", 20),
    ("FA", 15),
    ("R", 10),
    ("S", 12),
    ("SA", 2),
    ("RA", 2),
    ("F", 2),
    ("-", 1),
    ("SFA", 1),
];

/// First chunks of a client's packets after the first, with their shares.
/// Neither an INIT ACK nor a server's INIT: they lead to states that last four
/// seconds, which would end within a burst.
const CHUNKS: [(&str, usize); 11] = [
    ("COOKIE-ECHO", 25),
    ("COOKIE-ECHO+DATA", 10),
    ("COOKIE-ECHO+ABORT", 2),
    ("DATA", 25),
    ("SACK", 8),
    ("SHUTDOWN", 8),
    ("SHUTDOWN-ACK", 5),
    ("SHUTDOWN-COMPLETE", 5),
    ("ABORT", 5),
    ("ERROR", 2),
    ("-", 5),
];
/// Those of a server's packets.
const ANSWERS: [(&str, usize); 8] = [
    ("INIT-ACK", 25),
    ("COOKIE-ACK", 25),
    ("DATA", 20),
    ("SHUTDOWN", 8),
    ("SHUTDOWN-ACK", 8),
    ("SHUTDOWN-COMPLETE", 4),
    ("ABORT", 6),
    ("HEARTBEAT", 4),
];

/// What a service balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Sctp,
}

impl Kind {
    /// As a packet's statement begins.
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The service's option of `ipvsadm`.
    fn option(self) -> &'static str {
        match self {
            Self::Tcp => "-t",
            Self::Udp => "-u",
            Self::Sctp => "--sctp-service",
        }
    }
}

/// Flags of a server's segments.
const REPLIES: [(&str, usize); 5] = [("SA", 40), ("A", 20), ("PA", 15), ("FA", 15), ("RA", 10)];

/// A service of its own, so that many share a topology and its waits.
#[derive(Debug)]
pub(super) struct Cell {
    /// Its number, by which its VIP and its clients are named.
    number: usize,
    kind: Kind,
    /// By NAT, the server's port is another one.
    maps: bool,
    ipv6: bool,
    /// It is the service of a firewall mark, which this rule sets.
    mark: Option<&'static str>,
    scheduler: &'static str,
    method: &'static str,
    options: &'static str,
    state: State,
    /// Whether a server of it has or had a threshold.
    limited: bool,
    /// Servers that it has now.
    servers: Vec<&'static str>,
    /// Servers of a service that was deleted since. They do not come back with a
    /// new one: the kernel counts for them then what it had not summed up when
    /// they went (D-counters).
    gone: Vec<&'static str>,
    /// Servers removed one by one, and for at least how many seconds they are.
    removed: Vec<(&'static str, u64)>,
    /// Client ports in use, the last one newest.
    flows: Vec<u16>,
    /// The packet before, to send it again.
    last: Option<String>,
}

/// Whether there is a service. One that was deleted comes back in a later burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    There,
    Deleted,
    Rested,
}

impl Cell {
    /// A new cell and the commands that set it up.
    pub(super) fn new(number: usize, dice: &mut Dice) -> (Self, Vec<String>) {
        let ipv6 = dice.percent(35);
        let kind = dice.pick(&[
            Kind::Tcp,
            Kind::Tcp,
            Kind::Tcp,
            Kind::Tcp,
            Kind::Udp,
            Kind::Udp,
            Kind::Sctp,
        ]);
        let options = match (kind, ipv6) {
            (Kind::Udp, _) => SERVICE_OPTIONS_UDP,
            (_, false) => SERVICE_OPTIONS4,
            (_, true) => SERVICE_OPTIONS,
        };
        let mut cell = Self {
            number,
            kind,
            maps: false,
            ipv6,
            mark: None,
            scheduler: dice.pick(SCHEDULERS),
            method: dice.pick(METHODS),
            options: dice.pick(options),
            state: State::There,
            limited: false,
            servers: Vec::new(),
            gone: Vec::new(),
            removed: Vec::new(),
            flows: Vec::new(),
            last: None,
        };
        // What its NAT servers send finds its call in the kernel (D-sip-replies).
        if cell.is_sip() && cell.method == "-m" {
            cell.method = "-g";
        }
        cell.maps = cell.method == "-m" && dice.percent(50);
        let mut lines = Vec::new();
        if dice.percent(20) {
            let rule = dice.pick(MARKS);
            // Prefixes are of a family.
            let rule = if cell.ipv6 && rule.contains("192.0.2") {
                MARKS[0]
            } else {
                rule
            };
            cell.mark = Some(rule);
            lines.extend(rule.split('|').map(|rule| cell.rule(rule)));
        }
        lines.extend(cell.create(dice));
        (cell, lines)
    }

    /// The address of its service.
    pub(super) fn vip(&self) -> String {
        vip(self.number, self.ipv6)
    }

    /// Whether its next packet waits for the next half second: when the port of a
    /// connection is used again and no server takes it, or the old one is full, the kernel
    /// has forgotten that connection a timer tick later.
    pub(super) fn waits_after(&self, lines: &str) -> bool {
        let starts = lines.lines().any(|line| {
            line.split(' ')
                .nth(4)
                .is_some_and(|word| word.starts_with('S') || word == "INIT")
        });
        self.limited || starts
    }

    fn is_sip(&self) -> bool {
        self.options.contains("sip")
    }

    fn create(&mut self, dice: &mut Dice) -> Vec<String> {
        self.state = State::There;
        let mut lines = vec![self.with_scheduler('A')];
        for _ in 0..dice.below(4) + 1 {
            lines.extend(self.add(dice));
        }
        lines
    }

    /// `ipvsadm -A -t V3:80 -s rr`.
    fn with_scheduler(&self, letter: char) -> String {
        format!(
            "ipvsadm -{letter} {} -s {} {}",
            self.service(),
            self.scheduler,
            self.options
        )
        .trim_end()
        .to_owned()
            + &self.remark()
    }

    /// Its mark.
    fn number_of_mark(&self) -> usize {
        self.number + 1
    }

    /// `mark -A -d V3 … # V3`.
    fn rule(&self, rule: &str) -> String {
        let rule = rule
            .replace("{protocol}", self.kind.name())
            .replace("{port}", &self.port().to_string())
            .replace("{mark}", &self.number_of_mark().to_string());
        format!("mark -A -d V{} {rule}", self.number)
    }

    /// `-t V3:80`, `-f 4 -6`.
    fn service(&self) -> String {
        if self.mark.is_some() {
            let six = if self.ipv6 { " -6" } else { "" };
            return format!("-f {}{six}", self.number_of_mark());
        }
        format!("{} V{}:{}", self.kind.option(), self.number, self.port())
    }

    /// Tells whose a line is that names a mark and no VIP.
    fn remark(&self) -> String {
        match self.mark {
            Some(_) => format!(" # V{}", self.number),
            None => String::new(),
        }
    }

    fn port(&self) -> u16 {
        match self.kind {
            Kind::Tcp => 80,
            Kind::Udp => 53,
            Kind::Sctp => 2905,
        }
    }

    /// The port of its servers.
    fn server_port(&self) -> u16 {
        if self.maps { 3000 } else { self.port() }
    }

    fn server(&mut self, letter: char, name: &str, dice: &mut Dice) -> String {
        let (weight, options) = (dice.pick(&WEIGHTS), dice.pick(SERVER_OPTIONS));
        self.limited |= options.contains("-x");
        format!(
            "ipvsadm -{letter} {} -r {name}:{} {} -w {weight} {options}",
            self.service(),
            self.server_port(),
            self.method,
        )
        .trim_end()
        .to_owned()
            + &self.remark()
    }

    fn add(&mut self, dice: &mut Dice) -> Option<String> {
        let all = if self.ipv6 { SERVERS6 } else { SERVERS };
        let free: Vec<_> = (0..)
            .zip(all)
            .filter(|&(place, name)| {
                self.may_have(place) && !self.servers.contains(&name) && !self.gone.contains(&name)
            })
            .map(|(_, name)| name)
            .collect();
        if free.is_empty() || self.servers.len() == AT_A_TIME {
            return None;
        }
        let name = dice.pick(&free);
        self.servers.push(name);
        self.removed.retain(|(server, _)| *server != name);
        Some(self.server('a', name, dice))
    }

    /// Whether the server at a place of the list may be one of this service's. None has
    /// tunnels of both kinds that have no port: the kernel believes errors about one of
    /// them alone, whichever it finds (D-tunnel-errors).
    fn may_have(&self, place: usize) -> bool {
        match self.method {
            "-i" => place.is_multiple_of(2),
            method if method.contains("gre") => !place.is_multiple_of(2),
            _ => true,
        }
    }

    /// A burst has ended, and this many seconds pass.
    pub(super) fn rest(&mut self, gap: u64) {
        for (_, age) in &mut self.removed {
            *age += gap + BURST;
        }
        let (old, young) = self.removed.iter().partition(|(_, age)| *age > TRASHED);
        let old: Vec<(&str, u64)> = old;
        self.gone.extend(old.into_iter().map(|(name, _)| name));
        self.removed = young;
        if self.state == State::Deleted {
            self.state = State::Rested;
        }
    }

    /// A change of the configuration.
    pub(super) fn edit(&mut self, dice: &mut Dice) -> Vec<String> {
        match self.state {
            State::There => {}
            // Refused: there is no such service.
            State::Deleted => {
                return vec![self.server('a', if self.ipv6 { "A6" } else { "A" }, dice)];
            }
            State::Rested => return self.create(dice),
        }
        let (service, port) = (self.service(), self.server_port());
        let remark = self.remark();
        let delete = |name: &str| format!("ipvsadm -d {service} -r {name}:{port}{remark}");
        vec![match dice.below(20) {
            0..=8 if !self.servers.is_empty() => {
                let name = dice.pick(&self.servers);
                self.server('e', name, dice)
            }
            9..=12 if !self.servers.is_empty() => {
                let place = dice.below(self.servers.len());
                let line = delete(self.servers[place]);
                self.removed.push((self.servers.swap_remove(place), 0));
                line
            }
            13 => {
                self.scheduler = dice.pick(SCHEDULERS);
                self.with_scheduler('E')
            }
            // Refused: it is there.
            15 if !self.servers.is_empty() => {
                let name = dice.pick(&self.servers);
                self.server('a', name, dice)
            }
            // One that was there before.
            16 | 14 if self.servers.len() < AT_A_TIME && !self.removed.is_empty() => {
                let (name, _) = self.removed.swap_remove(dice.below(self.removed.len()));
                self.servers.push(name);
                self.server('a', name, dice)
            }
            17 | 18 => {
                self.state = State::Deleted;
                self.last = None;
                self.gone.append(&mut self.servers);
                let removed = self.removed.drain(..);
                self.gone.extend(removed.map(|(name, _)| name));
                format!("ipvsadm -D {}{remark}", self.service())
            }
            _ => match self.add(dice) {
                Some(line) => line,
                // Refused: no service has this one.
                None if self.ipv6 => format!("ipvsadm -d {service} -r [fd00:8::99]:{port}{remark}"),
                None => format!("ipvsadm -d {service} -r 10.8.0.99:{port}{remark}"),
            },
        }]
    }

    fn client(&self, port: u16) -> String {
        let last = self.number + 1;
        if self.ipv6 {
            format!("[2001:db8:1::{last}]:{port}")
        } else {
            format!("1.2.3.{last}:{port}")
        }
    }

    /// What a server sends to a client's port: the one that has the connection,
    /// or another one. The remark tells whose it is.
    fn reply(&mut self, port: u16, dice: &mut Dice) -> String {
        let server = dice.pick(&self.servers);
        let flags = match self.kind {
            Kind::Tcp => draw(&REPLIES, dice),
            Kind::Udp => "len 9",
            Kind::Sctp => draw(&ANSWERS, dice),
        };
        format!(
            "{} {server}:{} > {} {flags} by {server} # V{}",
            self.kind.name(),
            self.server_port(),
            self.client(port),
            self.number
        )
    }

    /// Whether an error about a tunnel packet is answered alike: over IPv4, and
    /// only where no other server can have the connection (D-tunnel-errors).
    fn has_tunnel(&self) -> bool {
        self.method.starts_with("-i")
            && !self.ipv6
            && self.kind != Kind::Sctp
            && self.servers.len() == 1
            && self.gone.is_empty()
            && self.removed.is_empty()
    }

    /// An error from the only server about what was sent to it in a tunnel.
    fn error(&self, port: u16, dice: &mut Dice) -> String {
        let server = self.servers[0];
        let tunnel = if let Some((_, gue)) = self.method.split_once("--tun-port ") {
            let (to, sum) = gue.split_once(' ').unwrap_or((gue, "nosum"));
            let sum = if sum == "nosum" { " nosum" } else { "" };
            format!("gue {DIRECTOR}:40000 > {server}:{to}{sum}")
        } else if self.method.contains("gre") {
            let sum = if self.method.contains("csum") {
                ""
            } else {
                " nosum"
            };
            format!("gre {DIRECTOR} > {server}{sum}")
        } else {
            format!("ipip {DIRECTOR} > {server}")
        };
        let flags = if self.kind == Kind::Tcp { " PA" } else { "" };
        format!(
            "icmp {server} > {DIRECTOR} {} by {server} about {tunnel} df ttl 63 {} {} > V{}:{}{flags} ttl 63 df len {}",
            dice.pick(ERRORS),
            self.kind.name(),
            self.client(port),
            self.number,
            self.port(),
            dice.below(1000)
        )
    }

    /// A packet of a new flow or of one before.
    pub(super) fn packet(&mut self, dice: &mut Dice) -> String {
        if let Some(last) = &self.last
            && dice.percent(4)
        {
            return last.clone();
        }
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
        if !fresh && self.method == "-m" && dice.percent(40) && !self.servers.is_empty() {
            let line = self.reply(port, dice);
            self.last = Some(line.clone());
            return line;
        }
        if !fresh && dice.percent(10) && self.has_tunnel() {
            return self.error(port, dice);
        }
        let client = self.client(port);
        let start = format!(
            "{} {client} > V{}:{}",
            self.kind.name(),
            self.number,
            self.port()
        );
        let mut line = start.clone();
        match self.kind {
            Kind::Tcp => {
                let drawn = draw(if fresh { &FIRST } else { &LATER }, dice);
                // Where the service is gone, the stack would answer a port used again
                // with a reset, which the kernel counts as the server's (D-replies).
                let reused = !fresh && drawn.contains('S') && self.state != State::There;
                let flags = if reused { "A" } else { drawn };
                line += &format!(" {flags}");
                if flags == "PA" {
                    line += &format!(" len {}", dice.below(64) + 1);
                }
            }
            Kind::Udp if self.is_sip() && dice.percent(90) => {
                let call = format!("call{}", dice.below(CALLS));
                line += &format!(" text {}", dice.pick(MESSAGES).replace("{call}", &call));
            }
            Kind::Udp => line += &format!(" len {}", dice.below(64)),
            // Two of these come at once: not for a full server, see `waits_after`.
            Kind::Sctp
                if fresh || self.state == State::There && !self.limited && dice.percent(10) =>
            {
                // A first INIT alone leads to a state of four seconds.
                line = format!("{start} INIT len 16\n{start} INIT len 16");
            }
            Kind::Sctp => {
                let drawn = draw(&CHUNKS, dice);
                // The kernel takes those without a chunk from every address (D-no-chunk).
                let chunks = if drawn == "-" && self.state != State::There {
                    "DATA"
                } else {
                    drawn
                };
                line += &format!(" {chunks} len {}", dice.below(400));
            }
        }
        if dice.percent(10) {
            line += &format!(" ttl {}", dice.below(255) + 1);
        }
        if dice.percent(10) {
            line += &format!(" tos {}", dice.below(256));
        }
        if dice.percent(10) {
            line += " df";
        }
        self.last = Some(line.clone());
        line
    }
}

/// The address of a service.
pub(super) fn vip(number: usize, ipv6: bool) -> String {
    let prefix = if ipv6 { "2001:db8:9::" } else { "10.9.9." };
    format!("{prefix}{}", number + 1)
}

/// One of the words, by their shares of a hundred.
fn draw(shares: &[(&'static str, usize)], dice: &mut Dice) -> &'static str {
    let mut chance = dice.below(100);
    for (word, share) in shares {
        if chance < *share {
            return word;
        }
        chance -= share;
    }
    shares[0].0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_a_hundred() {
        for shares in [&FIRST[..], &LATER, &REPLIES, &CHUNKS, &ANSWERS] {
            assert_eq!(shares.iter().map(|(_, share)| share).sum::<usize>(), 100);
        }
    }
}
