//! The topology: a director between raw ends, without any other host. What
//! leaves it is seen by packet sockets, and nobody answers.
//!
//! ```text
//! outside: client  <->  eth0 :director: eth1  <->  server :outside
//! ```

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, ChildStderr, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use lvx_tests::{
    director::{Answer, Director, Start, answer},
    lab::{Lab, Namespace, Offload, mac_of, tool},
    packet::Tap,
    xdp,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::frame;
use crate::scenario::{RuleChain, Scenario};

/// The director towards the clients, and their gateway.
pub const CLIENT_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The clients' gateway: every client is behind it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
/// The director towards the servers.
pub const SERVER_SIDE: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 254);

/// The same in IPv6.
const CLIENT_SIDE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);
const SERVER_SIDE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 0xfe);

/// Who directs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The kernel's IPVS.
    Kernel,
    /// lvx.
    Lvx,
}

impl Engine {
    /// As results call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Lvx => "lvx",
        }
    }
}

/// The namespaces of one scenario.
#[derive(Debug)]
pub struct Stage {
    // In the order of dropping.
    director: Namespace,
    outside: Namespace,
    one_leg: bool,
    /// `net.ipv4.vs.*` settings, for lvx to take when it runs.
    settings: Vec<String>,
    _lab: Lab,
}

impl Stage {
    /// Makes everything but the director's configuration.
    ///
    /// # Errors
    /// Without root or iproute2, or when a setting is refused.
    pub fn new(scenario: &Scenario, engine: Engine) -> Result<Self> {
        let lab = Lab::new()?;
        let outside = lab.namespace("outside")?;
        let director = lab.namespace("director")?;
        let mut stage = Self {
            director,
            outside,
            one_leg: scenario.one_leg,
            settings: Vec::new(),
            _lab: lab,
        };
        stage.legs(scenario)?;
        if stage.has_ipv6(scenario) {
            stage.director.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        }
        if engine == Engine::Lvx {
            for port in stage.ports() {
                xdp::pass(&stage.outside, port)?;
            }
        }
        // Errors about every packet, not a few a second.
        stage.director.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        stage.director.sysctl("net/ipv4/icmp_ratemask", "0")?;
        for (key, value) in &scenario.sysctls {
            if engine == Engine::Lvx && key.starts_with("net.ipv4.vs.") {
                stage.settings.push(format!("{key}={value}"));
                continue;
            }
            stage.director.sysctl(&key.replace('.', "/"), value)?;
        }
        Ok(stage)
    }

    fn ports(&self) -> &'static [&'static str] {
        if self.one_leg {
            &["client"]
        } else {
            &["client", "server"]
        }
    }

    fn legs(&self, scenario: &Scenario) -> Result<()> {
        let legs: &[_] = if self.one_leg {
            &[("client", "eth0", CLIENT_SIDE)]
        } else {
            &[
                ("client", "eth0", CLIENT_SIDE),
                ("server", "eth1", SERVER_SIDE),
            ]
        };
        let ipv6 = self.has_ipv6(scenario);
        if ipv6 {
            for key in [
                "all/disable_ipv6",
                "default/disable_ipv6",
                "default/accept_ra",
            ] {
                let key = format!("net/ipv6/conf/{key}");
                self.director.sysctl(&key, "0")?;
            }
        }
        for ((port, interface, address), mtu) in legs.iter().zip(scenario.mtu) {
            self.outside.ip(&format!(
                "link add {port} mtu {mtu} type veth peer name {interface} mtu {mtu} netns {}\nlink set {port} arp off up",
                self.director.name()
            ))?;
            for feature in [
                Offload::TransmitChecksum,
                Offload::TcpSegmentation,
                Offload::GenericSegmentation,
            ] {
                self.director.offload(interface, feature, false)?;
            }
            self.director.ip(&format!(
                "link set {interface} address {} up\naddr add {address}/24 brd + dev {interface}",
                show_mac(mac_of(*address))
            ))?;
        }
        let inner = if self.one_leg { "eth0" } else { "eth1" };
        // A string takes every write.
        let mut lines = String::new();
        if self.one_leg {
            let _ = writeln!(lines, "addr add {SERVER_SIDE}/24 brd + dev eth0");
        }
        let _ = writeln!(lines, "route add default via {GATEWAY}");
        if ipv6 {
            let _ = writeln!(
                lines,
                "addr add {CLIENT_SIDE6}/64 dev eth0 nodad\n\
                 addr add {SERVER_SIDE6}/64 dev {inner} nodad\n\
                 route add ::/0 via {GATEWAY6} dev eth0"
            );
        }
        let mut neighbour = |address: IpAddr, mac: [u8; 6], interface: &str| {
            let _ = writeln!(
                lines,
                "neigh replace {address} lladdr {} dev {interface} nud permanent",
                show_mac(mac)
            );
        };
        for server in scenario.servers.values() {
            neighbour(*server, frame::mac(*server), inner);
        }
        neighbour(GATEWAY.into(), mac_of(GATEWAY), "eth0");
        if ipv6 {
            neighbour(GATEWAY6.into(), mac_of(GATEWAY), "eth0");
        }
        for vip in &scenario.vips {
            let _ = match vip {
                IpAddr::V4(vip) => writeln!(lines, "addr add {vip}/32 dev lo"),
                IpAddr::V6(vip) => writeln!(lines, "addr add {vip}/128 dev lo nodad"),
            };
        }
        self.director.ip(&lines)
    }

    fn has_ipv6(&self, scenario: &Scenario) -> bool {
        let all = scenario.vips.iter().chain(scenario.servers.values());
        all.into_iter().any(IpAddr::is_ipv6)
    }

    /// Starts who directs.
    ///
    /// # Errors
    /// When lvx does not start.
    pub fn direct(&self, engine: Engine) -> Result<Directing<'_>> {
        match engine {
            Engine::Kernel => Ok(Directing::Kernel(&self.director)),
            Engine::Lvx => {
                let start = Start::default();
                let start = if self.one_leg {
                    start
                } else {
                    start.interfaces(&["eth0", "eth1"])
                };
                let director = Director::start_with(&self.director, start)?;
                for setting in &self.settings {
                    let answer = director.lvx(&["sysctl", "-w", setting]);
                    if answer.code != 0 {
                        bail!("lvx sysctl -w {setting}: {answer}");
                    }
                }
                Ok(Directing::Lvx(Box::new(director)))
            }
        }
    }

    /// Packet sockets outside, one a leg, with their names.
    ///
    /// # Errors
    /// Without root.
    pub fn taps(&self) -> Result<Vec<(&'static str, Tap)>> {
        self.ports()
            .iter()
            .map(|port| Ok((*port, Tap::open(&self.outside, port)?)))
            .collect()
    }

    /// The director's address on the leg where the servers are.
    #[must_use]
    pub fn server_leg(&self) -> Ipv4Addr {
        if self.one_leg {
            CLIENT_SIDE
        } else {
            SERVER_SIDE
        }
    }
}

/// Who directs, at work.
#[derive(Debug)]
pub enum Directing<'stage> {
    /// The kernel's IPVS, in this namespace.
    Kernel(&'stage Namespace),
    /// lvx.
    Lvx(Box<Director<'stage>>),
}

impl Directing<'_> {
    /// Runs its `ipvsadm`.
    ///
    /// # Errors
    /// When there is none.
    pub fn ipvsadm(&self, words: &[String]) -> Result<Answer> {
        match self {
            Self::Kernel(ns) => {
                let mut command = ns.command(tool("ipvsadm"));
                command.args(words);
                answer(command).context("the kernel's ipvsadm")
            }
            Self::Lvx(director) => {
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                Ok(director.ipvsadm(&words))
            }
        }
    }
}

impl Directing<'_> {
    /// Changes its rules: netfilter's in mangle PREROUTING or filter INPUT, or
    /// lvx's.
    ///
    /// # Errors
    /// When there is no iptables.
    pub fn rules(&self, chain: RuleChain, words: &[String]) -> Result<Answer> {
        match self {
            Self::Kernel(ns) => {
                let is_v6 = |word: &String| {
                    let addr = word.split('/').next().unwrap_or(word);
                    word == "-6" || addr.parse::<Ipv6Addr>().is_ok()
                };
                let program = if words.iter().any(is_v6) {
                    "ip6tables-legacy"
                } else {
                    "iptables-legacy"
                };
                let (table, name) = match chain {
                    RuleChain::Mark => ("mangle", "PREROUTING"),
                    RuleChain::Filter => ("filter", "INPUT"),
                };
                let mut words = words.iter().filter(|word| *word != "-4" && *word != "-6");
                let mut command = ns.command(tool(program));
                command
                    .args(["-t", table])
                    .args(words.next())
                    .arg(name)
                    .args(words);
                answer(command).context("the kernel's iptables")
            }
            Self::Lvx(director) => {
                let words = words.iter().map(String::as_str);
                let verb = match chain {
                    RuleChain::Mark => "mark",
                    RuleChain::Filter => "filter",
                };
                let words: Vec<_> = [verb].into_iter().chain(words).collect();
                Ok(director.lvx(&words))
            }
        }
    }

    fn command(&self) -> Command {
        match self {
            Self::Kernel(ns) => {
                let mut command = ns.command(tool("ipvsadm"));
                command.arg("-R");
                command
            }
            Self::Lvx(director) => director.command(&["ipvsadm", "-R"]),
        }
    }

    /// Runs its `ipvsadm -R` with these lines.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn restore(&self, lines: &str) -> Result<Answer> {
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ipvsadm -R")?;
        let mut input = child.stdin.take().context("standard input was asked for")?;
        // What it prints, refusals, fits a pipe: reading can wait.
        input.write_all(lines.as_bytes())?;
        drop(input);
        Ok(child.wait_with_output()?.into())
    }

    /// Starts its `ipvsadm -R`, to be fed line by line: by a socket, of which lvx
    /// does not wait for the end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn feed(&self) -> Result<Feed> {
        let (input, stdin) = UnixStream::pair()?;
        let mut child = self
            .command()
            .stdin(OwnedFd::from(stdin))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ipvsadm -R")?;
        let errors = child
            .stderr
            .take()
            .context("standard error was asked for")?;
        // Looked at now and then, not waited for.
        fcntl(&errors, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Feed {
            child,
            input,
            errors,
        })
    }
}

/// An `ipvsadm -R` at work; it is ended when this is dropped.
#[derive(Debug)]
pub struct Feed {
    child: Child,
    input: UnixStream,
    errors: ChildStderr,
}

impl Feed {
    /// Gives it a line.
    ///
    /// # Errors
    /// When it has ended.
    pub fn line(&mut self, line: &str) -> Result<()> {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("ipvsadm -R ended before `{line}`"))
    }

    /// The lines on its standard error since the last time.
    pub fn errors(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        // It ends with the error that there is no more for now.
        let _ = self.errors.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
