//! Kernel messages to the types of this module.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{
        InfoBridge, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo,
        LinkLayerType, LinkMessage, LinkXdp,
    },
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
        NeighbourState,
    },
    route::RouteProtocol,
};

use super::{
    Link, LinkKind,
    neighbours::{Key, Neighbour},
};

/// A link, or `None` for messages about something else (a bridge port).
pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family == AddressFamily::Bridge {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        master: None,
        kind: LinkKind::Plain,
        xdp: None,
    };
    let (mut parent, mut foreign, mut info) = (0, false, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes)
                if message.header.link_layer_type == LinkLayerType::Ether =>
            {
                if let Ok(mac) = <[u8; 6]>::try_from(bytes.as_slice()) {
                    link.mac = mac;
                }
            }
            LinkAttribute::Controller(index) if *index != 0 => link.master = Some(*index),
            LinkAttribute::Link(index) => parent = *index,
            LinkAttribute::LinkNetNsId(_) => foreign = true,
            LinkAttribute::LinkInfo(list) => info = Some(list),
            LinkAttribute::Xdp(list) => link.xdp = list.iter().find_map(xdp_program),
            _ => {}
        }
    }
    if foreign {
        // The device below lives in another namespace; its index means nothing here.
        parent = 0;
    }
    let info = info.map_or(&[][..], Vec::as_slice);
    link.kind = if message.header.link_layer_type == LinkLayerType::Ether {
        kind(info, parent)
    } else {
        let layer = message.header.link_layer_type.to_string().to_lowercase();
        LinkKind::NotEthernet(info_kind(info).map_or(layer, InfoKind::to_string))
    };
    Some(link)
}

fn xdp_program(attribute: &LinkXdp) -> Option<u32> {
    match attribute {
        LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    }
}

fn info_kind(info: &[LinkInfo]) -> Option<&InfoKind> {
    info.iter().find_map(|i| match i {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

fn kind(info: &[LinkInfo], parent: u32) -> LinkKind {
    match info_kind(info) {
        // An ipvlan shares its parent's station address: the same thing here.
        Some(InfoKind::MacVlan | InfoKind::IpVlan) => LinkKind::Macvlan { parent },
        Some(InfoKind::Vlan) => {
            let (mut id, mut ethertype) = (0, 0x8100);
            for data in info {
                if let LinkInfo::Data(InfoData::Vlan(attributes)) = data {
                    for attribute in attributes {
                        match attribute {
                            InfoVlan::Id(value) => id = *value,
                            InfoVlan::Protocol(protocol) => ethertype = u16::from(*protocol),
                            _ => {}
                        }
                    }
                }
            }
            LinkKind::Vlan {
                parent,
                id,
                ethertype,
            }
        }
        Some(InfoKind::Veth) => LinkKind::Veth,
        Some(InfoKind::Bond) => LinkKind::Bond,
        Some(InfoKind::Bridge) => LinkKind::Bridge {
            filters_vlans: info.iter().any(|data| match data {
                LinkInfo::Data(InfoData::Bridge(attributes)) => {
                    attributes.contains(&InfoBridge::VlanFiltering(true))
                }
                _ => false,
            }),
        },
        _ => LinkKind::Plain,
    }
}

/// An entry of a bridge's forwarding table: bridge and station, and the port
/// behind which the station is. `None` for everything else, and for the
/// stations of the ports themselves.
pub(super) fn forwarding(message: &NeighbourMessage) -> Option<((u32, [u8; 6]), u32)> {
    if message.header.family != AddressFamily::Bridge {
        return None;
    }
    let (mut bridge, mut station) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Controller(index) => bridge = Some(*index),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                station = <[u8; 6]>::try_from(bytes.as_slice()).ok();
            }
            _ => {}
        }
    }
    let port = message.header.ifindex;
    (message.header.state != NeighbourState::Permanent && Some(port) != bridge)
        .then_some(((bridge?, station?), port))
}

/// An address that packets may be sent to (not one that is still being checked
/// for duplicates) and the index of its link.
pub(super) fn address(message: &AddressMessage) -> Option<(IpAddr, u32)> {
    let checking = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let optimistic = AddressFlags::Optimistic;
    let mut flags =
        AddressFlags::from_bits_retain(u32::from(AddressHeaderFlags::bits(&message.header.flags)));
    let (mut local, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the other end's.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Flags(value) => flags = *value,
            _ => {}
        }
    }
    if flags.intersects(checking) && !flags.contains(optimistic) {
        return None;
    }
    Some((local.or(peer)?, message.header.index))
}

/// An entry of the neighbour table.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(Key, Neighbour)> {
    if !matches!(
        message.header.family,
        AddressFamily::Inet | AddressFamily::Inet6
    ) {
        return None;
    }
    let mut address = None;
    let mut entry = Neighbour {
        external: message.header.flags.contains(NeighbourFlags::ExtLearned),
        ..Neighbour::default()
    };
    let mut bytes = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::V4(*ip))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::V6(*ip))
            }
            NeighbourAttribute::LinkLayerAddress(value) => {
                bytes = <[u8; 6]>::try_from(value.as_slice()).ok()
            }
            NeighbourAttribute::ExtFlags(flags) => {
                entry.managed = flags.contains(NeighbourExtFlags::Managed)
            }
            NeighbourAttribute::Protocol(protocol) => {
                entry.ours = *protocol == RouteProtocol::Other(super::neighbours::PROTOCOL)
            }
            _ => {}
        }
    }
    let state = message.header.state;
    entry.failed = state == NeighbourState::Failed;
    entry.fixed = matches!(state, NeighbourState::Permanent | NeighbourState::Noarp);
    entry.fresh = matches!(
        state,
        NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe
    );
    if entry.fixed || entry.fresh || state == NeighbourState::Stale {
        entry.mac = bytes;
    }
    Some(((message.header.ifindex, address?), entry))
}
