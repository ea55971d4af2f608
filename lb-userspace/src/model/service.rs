use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use lb_common::layout::{self, ForwardMethod};
use serde::{Deserialize, Serialize};

/// Address family of a mark service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Transport protocol of an address service. Ordered by protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 132.
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// `TCP`, `UDP`, `SCTP`, as listings print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// What identifies a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceId {
    /// Protocol, VIP and port (`-t`, `-u`, `--sctp-service`).
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP.
        addr: IpAddr,
        /// Port, host order; 0 is any port.
        port: u16,
    },
    /// A firewall mark (`-f`, with `-6`).
    Mark {
        /// The mark, not 0.
        mark: u32,
        /// Family of the packets.
        family: Family,
    },
}

impl fmt::Display for ServiceId {
    /// As it is said to ipvsadm: `-t 10.0.0.1:80`, `-u [fd00::1]:53`, `-f 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address {
                protocol,
                addr,
                port,
            } => {
                let option = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                write!(f, "{option} {}", SocketAddr::new(addr, port))
            }
            Self::Mark {
                mark,
                family: Family::V4,
            } => write!(f, "-f {mark}"),
            Self::Mark {
                mark,
                family: Family::V6,
            } => write!(f, "-f {mark} -6"),
        }
    }
}

impl ServiceId {
    /// As lvx's own verbs say and read it: `tcp:10.0.0.1:80`, `udp:[fd00::1]:53`,
    /// `mark:7`, `mark6:7`.
    pub fn name(self) -> String {
        match self {
            Self::Address {
                protocol,
                addr,
                port,
            } => {
                let protocol = protocol.name().to_ascii_lowercase();
                format!("{protocol}:{}", SocketAddr::new(addr, port))
            }
            Self::Mark {
                mark,
                family: Family::V4,
            } => format!("mark:{mark}"),
            Self::Mark {
                mark,
                family: Family::V6,
            } => format!("mark6:{mark}"),
        }
    }

    /// Family of the packets it is for.
    pub fn family(self) -> Family {
        match self {
            Self::Address { addr, .. } => Family::of(addr),
            Self::Mark { family, .. } => family,
        }
    }
}

impl FromStr for ServiceId {
    type Err = String;

    /// Reads [`ServiceId::name`]; without a protocol it is TCP.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}' is no service: tcp:ADDRESS:PORT, udp:…, sctp:…, mark:NUMBER or mark6:NUMBER"
            )
        };
        let mark = |digits: &str, family| {
            let mark = match digits.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => digits.parse().ok(),
            };
            let mark = mark.filter(|mark| *mark != 0).ok_or_else(wrong)?;
            Ok(Self::Mark { mark, family })
        };
        let (protocol, at) = match text.split_once(':') {
            Some(("mark", digits)) => return mark(digits, Family::V4),
            Some(("mark6", digits)) => return mark(digits, Family::V6),
            Some(("tcp", at)) => (Protocol::Tcp, at),
            Some(("udp", at)) => (Protocol::Udp, at),
            Some(("sctp", at)) => (Protocol::Sctp, at),
            _ => (Protocol::Tcp, text),
        };
        let at: SocketAddr = at.parse().map_err(|_| wrong())?;
        Ok(Self::Address {
            protocol,
            addr: at.ip(),
            port: at.port(),
        })
    }
}

/// The parameters of a service: what `-A` and `-E` set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Scheduler name, at most 15 bytes.
    pub scheduler: String,
    /// Scheduler flag bits (kernel values 0x08, 0x10, 0x20).
    #[serde(default)]
    pub sched_flags: u32,
    /// One-packet scheduling (`-o`).
    #[serde(default)]
    pub ops: bool,
    /// Persistence time-out in seconds (`-p`).
    #[serde(default)]
    pub persistent: Option<u32>,
    /// Persistence granularity (`-M`): an IPv4 mask in host order, or an IPv6
    /// prefix length.
    pub netmask: u32,
    /// Persistence engine (`--pe`).
    #[serde(default)]
    pub pe: Option<String>,
    /// FULLNAT servers are told the client's address in a TCP option (`--toa`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub toa: bool,
}

/// How packets reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// NAT (`-m`).
    Masq,
    /// Local delivery (never configured, listed only).
    Local,
    /// Tunnelling (`-i`).
    Tunnel,
    /// Direct routing (`-g`).
    Route,
    /// NAT of both ends, from a local address (`--fullnat`).
    Fullnat,
}

impl Method {
    /// As the packet engine names it.
    pub fn forward(self) -> ForwardMethod {
        match self {
            Self::Masq => ForwardMethod::Masq,
            Self::Local => ForwardMethod::Local,
            Self::Tunnel => ForwardMethod::Tunnel,
            Self::Route => ForwardMethod::Route,
            Self::Fullnat => ForwardMethod::Fullnat,
        }
    }

    /// As lvx's own verbs say and read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Masq => "nat",
            Self::Local => "local",
            Self::Tunnel => "tunnel",
            Self::Route => "dr",
            Self::Fullnat => "fullnat",
        }
    }

    /// Whether addresses are translated: the server may have a port of its own,
    /// and its replies come back through this director.
    pub fn translates(self) -> bool {
        self.forward().translates()
    }
}

/// Checksum option of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// `--tun-nocsum` (default).
    None,
    /// `--tun-csum`.
    Full,
    /// `--tun-remcsum`.
    Remote,
}

impl TunnelChecksum {
    fn layout(self) -> layout::TunnelChecksum {
        match self {
            Self::None => layout::TunnelChecksum::None,
            Self::Full => layout::TunnelChecksum::Full,
            Self::Remote => layout::TunnelChecksum::Remote,
        }
    }
}

/// Kind of tunnel (`--tun-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// `--tun-port`.
        port: u16,
        /// Checksum option.
        checksum: TunnelChecksum,
    },
    /// GRE.
    Gre {
        /// Checksum option.
        checksum: TunnelChecksum,
    },
}

impl Tunnel {
    /// As the packet engine names it: kind, UDP port (host order, 0 where there
    /// is none) and checksum.
    pub fn layout(self) -> (layout::TunnelKind, u16, layout::TunnelChecksum) {
        use layout::TunnelKind;
        match self {
            Self::Ipip => (TunnelKind::Ipip, 0, layout::TunnelChecksum::None),
            Self::Gue { port, checksum } => (TunnelKind::Gue, port, checksum.layout()),
            Self::Gre { checksum } => (TunnelKind::Gre, 0, checksum.layout()),
        }
    }
}

/// What identifies a server within a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DestId {
    /// RIP.
    pub addr: IpAddr,
    /// Server port, host order.
    pub port: u16,
}

impl fmt::Display for DestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", SocketAddr::new(self.addr, self.port))
    }
}

/// The parameters of a server: what `-a` and `-e` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestSpec {
    /// Forwarding method.
    pub method: Method,
    /// Weight, 0 to 2147483647.
    pub weight: u32,
    /// Upper connection threshold, 0 is none.
    #[serde(default)]
    pub u_threshold: u32,
    /// Lower connection threshold, 0 is none.
    #[serde(default)]
    pub l_threshold: u32,
    /// Tunnel kind; meaningful with [`Method::Tunnel`].
    pub tunnel: Tunnel,
}

/// A server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dest {
    /// Its key.
    #[serde(flatten)]
    pub id: DestId,
    /// Its parameters.
    #[serde(flatten)]
    pub spec: DestSpec,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_read_back() {
        for text in [
            "tcp:10.0.0.1:80",
            "udp:[fd00::1]:53",
            "sctp:10.0.0.1:0",
            "mark:7",
            "mark6:4294967295",
        ] {
            assert_eq!(text.parse::<ServiceId>().unwrap().name(), text);
        }
        let tcp: ServiceId = "10.0.0.1:80".parse().unwrap();
        assert_eq!(tcp.name(), "tcp:10.0.0.1:80");
        assert_eq!("mark:0x10".parse::<ServiceId>().unwrap().name(), "mark:16");
        for wrong in [
            "",
            "10.0.0.1",
            "tcp:x:80",
            "mark:0",
            "mark:-1",
            "icmp:10.0.0.1:8",
        ] {
            let error = wrong.parse::<ServiceId>().unwrap_err();
            assert!(error.contains("is no service"), "{error}");
        }
    }
}
