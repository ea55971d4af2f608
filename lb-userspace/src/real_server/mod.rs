//! What a real server needs for the method by which its director sends to it.

mod apply;

use std::{fmt::Write as _, net::IpAddr};

use anyhow::{Result, bail};

pub use apply::{apply, undo};

/// How the director sends packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `-g`: as they are, to the server's station address.
    Direct,
    /// `-i`: in a tunnel to the server's address.
    Tunnel,
    /// `-m`: with the server's address as destination.
    Nat,
}

/// What is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How the director sends packets.
    pub method: Method,
    /// Addresses of services.
    pub vips: Vec<IpAddr>,
    /// Interface to the director.
    pub interface: String,
    /// The director, of each family; NAT only.
    pub gateways: Vec<IpAddr>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A kernel setting: path below `/proc/sys`, and value.
    Sysctl(String, &'static str),
    /// An address on `lo`, of this host alone.
    Address(IpAddr),
    /// The default route of a family.
    Default {
        /// Its next hop.
        gateway: IpAddr,
        /// Its interface.
        interface: String,
    },
}

impl Setup {
    /// Whether it says enough, and not too much.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<()> {
        match self.method {
            Method::Nat if self.gateways.is_empty() => bail!(
                "nat needs --gateway: servers answer through the director, at its address towards them"
            ),
            Method::Nat => {}
            _ if self.vips.is_empty() => {
                bail!("--vip is missing: the server must accept packets to the service's address")
            }
            _ if !self.gateways.is_empty() => {
                bail!("--gateway is for nat: with dr and tun servers answer clients directly")
            }
            _ => {}
        }
        let four = self.gateways.iter().filter(|addr| addr.is_ipv4()).count();
        if four > 1 || self.gateways.len() - four > 1 {
            bail!("one --gateway of each family is enough");
        }
        if self.interface.contains('/') || self.interface.is_empty() {
            bail!("'{}' is no name of an interface", self.interface);
        }
        Ok(())
    }

    /// The changes in their order: a server must be silent about an address
    /// before it has it.
    pub fn steps(&self) -> Vec<Step> {
        if self.method == Method::Nat {
            let default = |gateway: &IpAddr| Step::Default {
                gateway: *gateway,
                interface: self.interface.clone(),
            };
            return self.gateways.iter().map(default).collect();
        }
        let mut steps = Vec::new();
        let mut set = |which: &str, name: &str, value| {
            steps.push(Step::Sysctl(format!("net/ipv4/conf/{which}/{name}"), value));
        };
        if self.vips.iter().any(IpAddr::is_ipv4) {
            for which in ["all", &self.interface] {
                set(which, "arp_ignore", "1");
                set(which, "arp_announce", "2");
            }
            if self.method == Method::Tunnel {
                // Loose wins over what `all` says: the larger value counts.
                set(&self.interface, "rp_filter", "2");
            }
        }
        steps.extend(self.vips.iter().copied().map(Step::Address));
        steps
    }

    /// The changes as commands, with what cannot be done by a command as
    /// comments.
    pub fn script(&self) -> String {
        let mut text = String::new();
        for step in self.steps() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", step.command());
        }
        for note in self.notes() {
            let _ = writeln!(text, "# {note}");
        }
        text
    }

    fn notes(&self) -> Vec<String> {
        let interface = &self.interface;
        match self.method {
            Method::Direct => Vec::new(),
            Method::Tunnel => vec![
                format!("Take packets out of tunnels: lvx decap --interface {interface}{}", self.decap_vips()),
                "A tunnel takes 20 bytes of each packet (IPIP over IPv4) to 48 (over IPv6) and up to 12 more (GUE, GRE).".to_owned(),
                "Where path MTU discovery of clients does not work, have them send less:".to_owned(),
                "  ip route change default via ROUTER advmss 1400    # IPv6: 1380".to_owned(),
            ],
            Method::Nat => vec![
                "Clients on this server's own segment would be answered past the director: NAT does not work for them.".to_owned(),
            ],
        }
    }

    fn decap_vips(&self) -> String {
        self.vips.iter().fold(String::new(), |mut text, vip| {
            let _ = write!(text, " --vip {vip}");
            text
        })
    }
}

impl Step {
    /// The words of its command.
    pub fn words(&self) -> Vec<String> {
        let words = match self {
            Self::Sysctl(path, value) => {
                // A point in an interface's name is not the separator.
                return vec!["sysctl".into(), "-w".into(), format!("{path}={value}")];
            }
            Self::Address(addr) if addr.is_ipv4() => {
                format!("ip address add {addr}/32 dev lo")
            }
            Self::Address(addr) => format!("ip address add {addr}/128 dev lo nodad"),
            Self::Default { gateway, interface } => {
                let family = family(*gateway);
                format!("ip {family} route replace default via {gateway} dev {interface}")
            }
        };
        words.split(' ').map(str::to_owned).collect()
    }

    fn command(&self) -> String {
        self.words().join(" ")
    }
}

/// The option of `ip` for an address's family.
fn family(addr: IpAddr) -> &'static str {
    if addr.is_ipv4() { "-4" } else { "-6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(method: Method, vips: &[&str], gateways: &[&str]) -> Setup {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Setup {
            method,
            vips: parse(vips),
            interface: "eth0.7".into(),
            gateways: parse(gateways),
        }
    }

    #[test]
    fn direct_routing_is_silent_before_it_has_the_address() {
        assert_eq!(
            setup(Method::Direct, &["192.0.2.10", "2001:db8::10"], &[]).script(),
            "sysctl -w net/ipv4/conf/all/arp_ignore=1\n\
             sysctl -w net/ipv4/conf/all/arp_announce=2\n\
             sysctl -w net/ipv4/conf/eth0.7/arp_ignore=1\n\
             sysctl -w net/ipv4/conf/eth0.7/arp_announce=2\n\
             ip address add 192.0.2.10/32 dev lo\n\
             ip address add 2001:db8::10/128 dev lo nodad\n"
        );
        let six = setup(Method::Direct, &["2001:db8::10"], &[]).script();
        assert_eq!(six, "ip address add 2001:db8::10/128 dev lo nodad\n");
    }

    #[test]
    fn tunnels_take_packets_from_anywhere_and_out() {
        let script = setup(Method::Tunnel, &["192.0.2.10"], &[]).script();
        assert!(script.contains("conf/eth0.7/rp_filter=2\n"), "{script}");
        let decap =
            "# Take packets out of tunnels: lvx decap --interface eth0.7 --vip 192.0.2.10\n";
        assert!(script.contains(decap), "{script}");
    }

    #[test]
    fn nat_answers_through_the_director() {
        let script = setup(Method::Nat, &[], &["192.0.2.1", "2001:db8::1"]).script();
        assert!(
            script.starts_with(
                "ip -4 route replace default via 192.0.2.1 dev eth0.7\n\
                 ip -6 route replace default via 2001:db8::1 dev eth0.7\n"
            ),
            "{script}"
        );
    }

    #[test]
    fn what_is_missing_is_told() {
        for (setup, part) in [
            (setup(Method::Nat, &[], &[]), "--gateway"),
            (setup(Method::Direct, &[], &[]), "--vip"),
            (setup(Method::Tunnel, &["1.2.3.4"], &["1.2.3.5"]), "nat"),
            (setup(Method::Nat, &[], &["1.2.3.4", "1.2.3.5"]), "one"),
        ] {
            let error = setup.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
