use std::{fmt, net::IpAddr, str::FromStr};

use lb_common::layout::RuleKind;
use serde::{Deserialize, Serialize};

use super::Family;

/// A prefix: address and length; bits behind the length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// The prefix of this length that `addr` lies in; `None` when the length is
    /// more than the address has bits.
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        let bits = bits(addr);
        let host = bits.checked_sub(len.into())?;
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        let addr = match addr {
            IpAddr::V4(addr) => IpAddr::from(u32::from(addr).to_be_bytes().map_bits(mask as u32)),
            IpAddr::V6(addr) => IpAddr::from((u128::from(addr) & mask).to_be_bytes()),
        };
        Some(Self { addr, len })
    }

    /// One address.
    pub fn host(addr: IpAddr) -> Self {
        let len = bits(addr) as u8;
        Self { addr, len }
    }

    /// Its first address.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    /// Length in bits.
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether it is every address of its family.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether an address lies in it.
    pub fn contains(self, addr: IpAddr) -> bool {
        let (first, last) = self.span();
        Family::of(addr) == self.family() && (first..=last).contains(&number(addr))
    }

    /// Bits behind the prefix.
    pub fn host_bits(self) -> u32 {
        bits(self.addr) - u32::from(self.len)
    }

    /// Family.
    pub fn family(self) -> Family {
        Family::of(self.addr)
    }

    /// First and last address as numbers.
    pub fn span(self) -> (u128, u128) {
        let first = number(self.addr);
        let hosts = !u128::MAX.checked_shl(self.host_bits()).unwrap_or(0);
        (first, first | hosts)
    }
}

/// Masks the bytes of an IPv4 address.
trait MapBits {
    fn map_bits(self, mask: u32) -> Self;
}

impl MapBits for [u8; 4] {
    fn map_bits(self, mask: u32) -> Self {
        (u32::from_be_bytes(self) & mask).to_be_bytes()
    }
}

fn bits(addr: IpAddr) -> u32 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// An address as a number.
pub fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u32::from(addr).into(),
        IpAddr::V6(addr) => addr.into(),
    }
}

impl fmt::Display for Prefix {
    /// As `iptables-save` prints it: always with its length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl FromStr for Prefix {
    type Err = String;

    /// Reads `ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASK`; bits behind the
    /// length do not matter.
    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (text, None),
        };
        let addr: IpAddr = addr
            .parse()
            .map_err(|_| format!("`{addr}' is not an address"))?;
        let Some(len) = len else {
            return Ok(Self::host(addr));
        };
        let wrong = || format!("`{len}' is not the length of a prefix");
        let len = match (len.parse::<u8>(), len.parse::<IpAddr>()) {
            (Ok(len), _) => len,
            (_, Ok(mask)) if mask.is_ipv4() == addr.is_ipv4() => {
                let host = bits(mask);
                let ones = number(mask) << (128 - host);
                let length = ones.leading_ones();
                if ones.count_ones() != length {
                    return Err(format!("`{mask}' is not a mask of leading ones"));
                }
                length as u8
            }
            _ => return Err(wrong()),
        };
        Self::new(addr, len).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

/// Addresses that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addresses {
    /// Of a prefix.
    Prefix(Prefix),
    /// Of a set, by its name.
    Set(String),
}

/// A condition, or its opposite (`!`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Match<T> {
    /// Anything but that.
    #[serde(default)]
    pub not: bool,
    /// What is asked for.
    pub what: T,
}

/// Ports: ranges, first and last of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ports {
    /// As they were named.
    pub ranges: Vec<(u16, u16)>,
    /// Named as a list (`-m multiport`).
    #[serde(default)]
    pub list: bool,
}

impl Ports {
    /// The ports of these, or of all others, as ranges that neither touch nor
    /// overlap.
    pub fn ranges(matched: &Match<Self>) -> Vec<(u16, u16)> {
        let mut sorted = matched.what.ranges.clone();
        sorted.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::new();
        for (first, last) in sorted {
            match joined.last_mut() {
                Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        if !matched.not {
            return joined;
        }
        let mut rest = Vec::new();
        let mut next = Some(0);
        for (first, last) in joined {
            if let Some(next) = next.filter(|next| *next < first) {
                rest.push((next, first - 1));
            }
            next = last.checked_add(1);
        }
        rest.extend(next.map(|next| (next, u16::MAX)));
        rest
    }
}

/// What a rule does with a packet that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// `-j MARK --set-xmark FLIP/CLEAR`: takes the bits of the mask off the mark,
    /// then inverts those of the value.
    Mark {
        /// Value.
        flip: u32,
        /// Mask.
        clear: u32,
    },
    /// `-j DROP`.
    Drop,
    /// `-j ACCEPT`.
    Accept,
}

/// A mark or filter rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Of packets of this family.
    pub family: Family,
    /// `-s`, or a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<Match<Addresses>>,
    /// `-d`, or a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<Match<Addresses>>,
    /// `-p`: a protocol number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Match<u8>>,
    /// `--sport`, `--sports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sports: Option<Match<Ports>>,
    /// `--dport`, `--dports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dports: Option<Match<Ports>>,
    /// `--ports`: source or destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Match<Ports>>,
    /// `-i`: an interface's name; `eth+` is all that begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iface: Option<Match<String>>,
    /// `-m comment --comment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// `-j`.
    pub target: Target,
}

impl Rule {
    /// A rule for every packet.
    pub fn of(family: Family, target: Target) -> Self {
        Self {
            family,
            src: None,
            dst: None,
            protocol: None,
            sports: None,
            dports: None,
            ports: None,
            iface: None,
            comment: None,
            target,
        }
    }

    /// Names of the sets that it asks for.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        let ends = [&self.src, &self.dst].into_iter().flatten();
        ends.filter_map(|end| match &end.what {
            Addresses::Set(name) => Some(name.as_str()),
            Addresses::Prefix(_) => None,
        })
    }
}

/// Marks or filter, as requests name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chain {
    /// `lvx mark`.
    Mark,
    /// `lvx filter`.
    Filter,
}

impl Chain {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mark, Self::Filter];

    /// As in rule memory.
    pub fn kind(self) -> RuleKind {
        match self {
            Self::Mark => RuleKind::Mark,
            Self::Filter => RuleKind::Filter,
        }
    }

    /// The verb.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Filter => "filter",
        }
    }
}

/// A change of rules; each is done whole or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleChange {
    /// Adds at the end.
    Append(Chain, Vec<Rule>),
    /// Adds before the rule of this number, from 1; the length and one more is
    /// the end.
    Insert(Chain, usize, Vec<Rule>),
    /// Removes the first rule that is the same, of each.
    Delete(Chain, Vec<Rule>),
    /// Removes the rule of a family by its number, from 1.
    DeleteNumber(Chain, Family, usize),
    /// Removes all, or those of a family.
    Flush(Chain, Option<Family>),
    /// Replaces all of a chain.
    Replace(Chain, Vec<Rule>),
    /// Makes a set.
    CreateSet(String, Family),
    /// Makes a set with these members, or gives one that is there these.
    FillSet(String, Family, Vec<Prefix>),
    /// Adds members; those that are in it stay.
    AddToSet(String, Vec<Prefix>),
    /// Takes members out.
    RemoveFromSet(String, Vec<Prefix>),
    /// Removes a set that no rule asks for.
    DestroySet(String),
}

/// A rule as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedRule {
    /// The rule.
    pub rule: Rule,
    /// Packets and bytes without a connection that it decided about; of the filter.
    pub count: [u64; 2],
}

/// A set of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixSet {
    /// Its name.
    pub name: String,
    /// Family of the members.
    pub family: Family,
    /// Members, each once, sorted.
    pub members: Vec<Prefix>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (text, want) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/255.255.0.0", "10.1.0.0/16"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::1/ffff::", "::/16"),
            ("::1", "::1/128"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), want);
        }
        for wrong in [
            "10.0.0.0/33",
            "10.0.0.0/255.0.255.0",
            "x",
            "10.0.0.0/",
            "::/129",
        ] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
        let span = |text: &str| text.parse::<Prefix>().unwrap().span();
        assert_eq!(span("0.0.0.0/0"), (0, u32::MAX.into()));
        assert_eq!(span("::/0"), (0, u128::MAX));
        assert_eq!(span("10.0.0.4/30"), (0x0a00_0004, 0x0a00_0007));
    }

    #[test]
    fn port_ranges() {
        let ranges = |not, ranges: &[(u16, u16)]| {
            let what = Ports {
                ranges: ranges.to_vec(),
                list: true,
            };
            Ports::ranges(&Match { not, what })
        };
        assert_eq!(
            ranges(false, &[(443, 443), (80, 80)]),
            [(80, 80), (443, 443)]
        );
        assert_eq!(ranges(false, &[(1, 5), (6, 9), (3, 4)]), [(1, 9)]);
        assert_eq!(
            ranges(true, &[(443, 443), (80, 80)]),
            [(0, 79), (81, 442), (444, 65_535)]
        );
        assert_eq!(ranges(true, &[(0, 10), (65_535, 65_535)]), [(11, 65_534)]);
        assert!(ranges(true, &[(0, 65_535)]).is_empty());
    }
}
