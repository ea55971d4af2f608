//! Where servers are, kept current from netlink, and what on this machine
//! bypasses or surprises the data plane.

mod claims;
pub mod coexistence;
mod iface_names;
mod neighbours;
mod next_hop;
mod parse;
mod request;
mod resolve;
#[cfg(test)]
mod testing;
mod watch;

pub use claims::{Claims, claims};
pub use iface_names::iface_names;
pub use next_hop::{NextHopError, PacketFamily, next_hop};
pub use watch::{Watch, watch};

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What a link is, as far as claiming frames is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A device of its own.
    Plain,
    /// 802.1Q or 802.1ad on `parent`.
    Vlan {
        /// Index of the device below.
        parent: u32,
        /// VLAN identifier.
        id: u16,
        /// EtherType of the tag: 0x8100 or 0x88a8.
        ethertype: u16,
    },
    /// A macvlan on `parent` (VRRP's virtual MAC).
    Macvlan {
        /// Index of the device below.
        parent: u32,
    },
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Station address; zero where the link has none.
    pub mac: [u8; 6],
    /// Largest layer-3 packet.
    pub mtu: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Index of the bond or bridge it belongs to.
    pub master: Option<u32>,
    /// Kind.
    pub kind: LinkKind,
    /// Id of the XDP program on it, whoever attached it.
    pub xdp: Option<u32>,
}

/// Where packets to an address go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// To this namespace itself.
    Local,
    /// Out of an interface.
    Via {
        /// The link of the route (may be a VLAN).
        ifindex: u32,
        /// Whose layer-2 address is wanted: the gateway, or the address itself.
        neighbour: IpAddr,
        /// The neighbour's layer-2 address, `None` until it is known.
        mac: Option<[u8; 6]>,
        /// MTU of the route.
        mtu: u32,
        /// This director's own address on the way there, of the target's family;
        /// `None` where it has none.
        source: Option<IpAddr>,
    },
    /// No route; the text says why.
    Unreachable(String),
}

/// The network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Links by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses of this namespace with the link they are on.
    pub addresses: BTreeSet<(IpAddr, u32)>,
    /// One entry for every target.
    pub targets: BTreeMap<IpAddr, Resolution>,
}
