use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Family, ServiceId};

/// Most addresses that one prefix may stand for.
const MOST: u32 = 1024;

/// Addresses of this director that FULLNAT connections are made from: one, or
/// all of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LocalRange {
    /// The first.
    pub addr: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// First and last port; without them, those that the director's own
    /// connections do not use.
    #[serde(default)]
    pub ports: Option<(u16, u16)>,
}

impl LocalRange {
    /// Family of the addresses.
    pub fn family(self) -> Family {
        Family::of(self.addr)
    }

    /// Each address.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let addr = self.addr;
        self.numbers().map(move |number| match addr {
            // IPv4's numbers have 32 bits.
            IpAddr::V4(_) => IpAddr::from((number as u32).to_be_bytes()),
            IpAddr::V6(_) => IpAddr::from(number.to_be_bytes()),
        })
    }

    /// Whether both have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        let (a, b) = (self.numbers(), other.numbers());
        self.family() == other.family() && a.start() <= b.end() && b.start() <= a.end()
    }

    fn numbers(self) -> RangeInclusive<u128> {
        let (first, bits) = match self.addr {
            IpAddr::V4(addr) => (u32::from(addr).into(), 32),
            IpAddr::V6(addr) => (u128::from(addr), 128),
        };
        let hosts = low_bits(bits - u32::from(self.prefix).min(bits));
        first..=first | hosts
    }

    /// What is wrong with it, as one line; `None` when packets may come from
    /// these addresses.
    pub fn fault(self) -> Option<String> {
        let bits: u32 = if self.addr.is_ipv4() { 32 } else { 128 };
        let Some(hosts) = bits.checked_sub(self.prefix.into()) else {
            return Some(format!("{self}: a prefix has at most {bits} bits"));
        };
        if hosts > MOST.ilog2() {
            return Some(format!("{self} is more than {MOST} addresses"));
        }
        let number = *self.numbers().start();
        if number & low_bits(hosts) != 0 {
            return Some(format!(
                "{self} is neither one address ({}) nor all of a network (its first address and the length)",
                self.addr
            ));
        }
        let barred = match self.addr {
            IpAddr::V4(addr) => {
                addr.octets()[0] == 0
                    || addr.is_loopback()
                    || addr.is_multicast()
                    || addr.octets()[0] >= 240
            }
            IpAddr::V6(addr) => {
                addr.is_unspecified()
                    || addr.is_loopback()
                    || addr.is_multicast()
                    || addr.is_unicast_link_local()
                    || addr.to_ipv4_mapped().is_some()
            }
        };
        if barred {
            return Some(format!("{self}: no server could answer to such an address"));
        }
        match self.ports {
            Some((first, last)) if first == 0 || first > last => {
                Some(format!("there are no ports {first}-{last}"))
            }
            _ => None,
        }
    }
}

fn low_bits(count: u32) -> u128 {
    1_u128.checked_shl(count).map_or(u128::MAX, |bit| bit - 1)
}

impl fmt::Display for LocalRange {
    /// `10.0.0.5`, `10.0.0.0/28`; without the ports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = if self.addr.is_ipv4() { 32 } else { 128 };
        if self.prefix == one {
            write!(f, "{}", self.addr)
        } else {
            write!(f, "{}/{}", self.addr, self.prefix)
        }
    }
}

impl FromStr for LocalRange {
    type Err = String;

    /// Reads `ADDRESS` or `ADDRESS/PREFIX`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr
            .parse()
            .map_err(|_| format!("`{addr}' is not an address"))?;
        let prefix = match prefix {
            Some(prefix) => prefix
                .parse()
                .map_err(|_| format!("`{prefix}' is not the length of a prefix"))?,
            None if addr.is_ipv4() => 32,
            None => 128,
        };
        let range = Self {
            addr,
            prefix,
            ports: None,
        };
        range.fault().map_or(Ok(range), Err)
    }
}

/// A pool of local addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Whose connections use it; `None` is the director's, for services without
    /// one of their own.
    pub service: Option<ServiceId>,
    /// In the order in which they were added.
    pub ranges: Vec<LocalRange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> LocalRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_all_of_its_addresses() {
        let texts = |text| {
            let addresses = range(text).addresses();
            addresses.map(|addr| addr.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(texts("10.0.0.9"), ["10.0.0.9"]);
        assert_eq!(
            texts("10.0.0.252/30"),
            ["10.0.0.252", "10.0.0.253", "10.0.0.254", "10.0.0.255"]
        );
        assert_eq!(texts("fd00::8/127"), ["fd00::8", "fd00::9"]);
        assert_eq!(range("10.0.0.0/22").addresses().count(), 1024);
        assert_eq!(range("fd00::9").to_string(), "fd00::9");
        assert_eq!(range("fd00::8/126").to_string(), "fd00::8/126");
    }

    #[test]
    fn overlaps_are_seen() {
        for (a, b, want) in [
            ("10.0.0.0/30", "10.0.0.3", true),
            ("10.0.0.0/30", "10.0.0.4", false),
            ("10.0.0.4", "10.0.0.4/31", true),
            ("10.0.0.4", "::a00:4", false),
            ("fd00::/120", "fd00::ff", true),
        ] {
            assert_eq!(range(a).overlaps(range(b)), want, "{a} {b}");
            assert_eq!(range(b).overlaps(range(a)), want, "{b} {a}");
        }
    }

    #[test]
    fn faults_are_told() {
        for (text, part) in [
            ("10.0.0.300", "`10.0.0.300' is not an address"),
            ("10.0.0.1/x", "`x' is not the length"),
            ("10.0.0.1/33", "at most 32 bits"),
            ("10.0.0.5/24", "neither one address (10.0.0.5)"),
            ("10.0.0.0/21", "more than 1024 addresses"),
            ("fd00::/64", "more than 1024 addresses"),
            ("127.0.0.1", "no server could answer"),
            ("fe80::1", "no server could answer"),
            ("255.255.255.255", "no server could answer"),
        ] {
            let fault = text.parse::<LocalRange>().unwrap_err();
            assert!(fault.contains(part), "{text}: {fault}");
        }
        let ports = |ports| LocalRange {
            ports: Some(ports),
            ..range("10.0.0.1")
        };
        assert!(ports((0, 9)).fault().is_some() && ports((9, 8)).fault().is_some());
        assert_eq!(ports((9, 9)).fault(), None);
    }
}
