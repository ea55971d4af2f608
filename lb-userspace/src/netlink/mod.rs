//! Where servers are, kept current from netlink, and what on this machine
//! bypasses or surprises the data plane.

mod claims;
pub mod coexistence;
mod features;
mod forwarding;
mod iface_names;
mod neighbours;
mod next_hop;
mod parse;
mod places;
mod request;
mod resolve;
#[cfg(test)]
mod testing;
mod watch;

pub use claims::{Claims, claims};
pub use features::{Feature, features, set_features};
pub use iface_names::iface_names;
pub use next_hop::{NextHopError, PacketFamily, next_hop};
pub use places::{Place, PlaceError, places};
pub use watch::{Watch, watch};

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Reads a message of the kernel, whatever it is about.
#[cfg(any(test, fuzzing))]
pub(crate) fn read(
    message: &netlink_packet_core::NetlinkMessage<netlink_packet_route::RouteNetlinkMessage>,
) {
    use netlink_packet_core::NetlinkPayload::InnerMessage;
    use netlink_packet_route::RouteNetlinkMessage as M;
    match &message.payload {
        InnerMessage(M::NewLink(message) | M::DelLink(message)) => {
            let _ = parse::link(message);
        }
        InnerMessage(M::NewAddress(message) | M::DelAddress(message)) => {
            let _ = parse::address(message);
        }
        InnerMessage(M::NewNeighbour(message) | M::DelNeighbour(message)) => {
            let _ = (parse::neighbour(message), parse::forwarding(message));
        }
        _ => {}
    }
}

/// What a link is, as far as claiming frames is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A device of its own.
    Plain,
    /// One end of a veth: what it sends, its other end receives as it is.
    Veth,
    /// A bond: its frames come in by the devices that have it as master.
    Bond,
    /// A bridge: likewise.
    Bridge {
        /// It has a view of its own of which tag a frame has.
        filters_vlans: bool,
    },
    /// Carries no Ethernet frames; the text says what it is.
    NotEthernet(String),
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
        /// The neighbour was asked for in vain since it last answered.
        failed: bool,
        /// Where the device of the route is a bridge, or stands on one: the port
        /// by which the bridge reaches the neighbour, `None` until it is known.
        port: Option<u32>,
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
