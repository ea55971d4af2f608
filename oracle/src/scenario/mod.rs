//! A scenario: a readable text of a topology, `ipvsadm` commands, packets,
//! waits and listings. `docs/oracle.md` says how to write one.

mod chunks;
mod fields;
mod parse;
mod schedule;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

pub use chunks::name as chunk_name;
pub use schedule::{lists, next_packet as schedule_next, schedule};

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// One sentence about what it shows.
    pub about: String,
    /// Clients and servers on one segment, not on two.
    pub one_leg: bool,
    /// Many services that share topology and waits, in virtual time: packets
    /// of a frame leave at once, commands go to an `ipvsadm -R` that stays.
    pub crowded: bool,
    /// Lines of listings are compared to their last blank; `$` stands at their end.
    pub exact: bool,
    /// Virtual addresses, on the director's `lo`.
    pub vips: Vec<IpAddr>,
    /// Real servers by name.
    pub servers: BTreeMap<String, IpAddr>,
    /// The MTU of the clients' leg and of the servers'.
    pub mtu: [u16; 2],
    /// Settings below `/proc/sys`, with dots, for both directors.
    pub sysctls: Vec<(String, String)>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One line that does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The line as it is written, comment and outer blanks removed.
    pub text: String,
    /// The line's number, from 1.
    pub line: usize,
    /// What it does.
    pub action: Action,
    /// The row of `docs/deviations.md` that lets the two differ here.
    pub deviates: Option<String>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs `ipvsadm` with these words, to change or to list.
    Ipvsadm(Vec<String>),
    /// Changes mark rules (netfilter's mangle PREROUTING, `lvx mark`) or filter
    /// rules (filter INPUT, `lvx filter`) by these words.
    Rules(RuleChain, Vec<String>),
    /// Sends one packet and shows what left the director for it.
    Packet(Packet),
    /// Sends packets with ascending source ports and shows who got each.
    Flows(u16, Packet),
    /// Sends packets from ascending client addresses and ports and shows how many
    /// each server got, and a hash of who got which.
    Clients(u32, Packet),
    /// Nothing for a while.
    Wait(Duration),
}

/// Rules beside IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleChain {
    /// That set the mark.
    Mark,
    /// That drop.
    Filter,
}

/// A packet, as fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address and port; the family is that of both ends.
    pub from: SocketAddr,
    /// Destination address and port.
    pub to: SocketAddr,
    /// What the IP header carries.
    pub transport: Transport,
    /// Bytes of data.
    pub data: u16,
    /// The data, where it matters what it is.
    pub text: Option<Vec<u8>>,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// Type of service, traffic class.
    pub tos: u8,
    /// Don't-fragment flag, IPv4.
    pub df: bool,
    /// UDP, GUE or GRE without a checksum; SCTP with a wrong one.
    pub no_checksum: bool,
    /// IPv4 identification, IPv6 flow label (and identification of fragments);
    /// without, the packet's number.
    pub id: Option<u16>,
    /// Which piece of the packet, counted from 1, of how many.
    pub piece: Option<(u8, u8)>,
    /// IPv6 extension headers, in order.
    pub extensions: Vec<Extension>,
    /// Name of the server that sends it; a client without.
    pub by: Option<String>,
}

/// An IPv6 extension header that holds padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options, `hop`.
    HopByHop,
    /// Destination options, `options`.
    Destination,
}

/// What an IP header carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with these flags.
    Tcp(Flags),
    /// UDP.
    Udp,
    /// SCTP with chunks of these types; bytes of data are in the first.
    Sctp(Vec<u8>),
    /// ICMP, or ICMPv6.
    Icmp(Icmp),
    /// Another packet, in a tunnel.
    Tunnel(Wrap, Box<Packet>),
}

/// What a tunnel puts between its IP header and the packet within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// Nothing: IP in IP.
    Ipip,
    /// UDP, to the tunnel's port, and four bytes of GUE.
    Gue,
    /// GRE, with its checksum if the packet has one.
    Gre,
}

/// An ICMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The MTU that it tells.
    pub mtu: u32,
    /// The packet that it is about, and how many bytes of it are quoted.
    pub about: Option<(Box<Packet>, u16)>,
}

/// Flags of a TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// SYN, `S`.
    pub syn: bool,
    /// FIN, `F`.
    pub fin: bool,
    /// RST, `R`.
    pub rst: bool,
    /// ACK, `A`.
    pub ack: bool,
    /// PSH, `P`.
    pub psh: bool,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is wrong: the text names file and line
    /// and says what was expected.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &path.display().to_string(), &text)
    }

    /// Reads the text of a file; `file` is for errors.
    ///
    /// # Errors
    /// See [`Scenario::read`].
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self> {
        parse::parse(name, file, text)
    }

    /// How long it takes by its own clock.
    #[must_use]
    pub fn duration(&self) -> Duration {
        schedule(&self.steps, self.crowded)
            .last()
            .copied()
            .unwrap_or_default()
    }

    /// Steps before the first packet or wait: they take no time.
    #[must_use]
    pub fn setup(&self) -> usize {
        self.steps
            .iter()
            .position(|step| !matches!(step.action, Action::Ipvsadm(_) | Action::Rules(..)))
            .unwrap_or(self.steps.len())
    }
}

/// Every scenario of a directory, by name.
///
/// # Errors
/// When the directory cannot be read or one file is wrong.
pub fn all(directory: &Path) -> Result<Vec<Scenario>> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scn"))
        .collect();
    paths.sort();
    paths.iter().map(|path| Scenario::read(path)).collect()
}
