//! From a resolution to the layer-2 header the data plane writes.

use std::collections::BTreeMap;

use lb_common::layout::NextHop;

use super::{Link, LinkKind, Resolution};
use crate::address::words;

/// Most tags a header can carry.
const MAX_TAGS: usize = 2;
/// More stacked links than any configuration has; guards against a loop in
/// links read while they changed.
const MAX_DEPTH: usize = 8;

/// Family of the packets sent to a next hop (a neighbour may be of the other).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketFamily {
    /// EtherType 0x0800.
    V4,
    /// EtherType 0x86dd.
    V6,
}

impl PacketFamily {
    const fn ethertype(self) -> [u8; 2] {
        match self {
            Self::V4 => [0x08, 0x00],
            Self::V6 => [0x86, 0xdd],
        }
    }
}

/// Why there can be no next hop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NextHopError {
    /// There is no route; the text says why.
    #[error("{0}")]
    Unreachable(String),
    /// A link has no station address.
    #[error("{0} is not an Ethernet interface: it has no station address")]
    NoStationAddress(String),
    /// The link of the route does not exist.
    #[error("the interface with index {0} is gone")]
    Missing(u32),
    /// The device below a link is not in this network namespace.
    #[error("the device below {0} is not in this network namespace")]
    Foreign(String),
    /// A bridge that does not know the neighbour.
    #[error("{0} has not learned by which of its ports the server is reached")]
    NotLearned(String),
    /// More tags than lvx writes.
    #[error("{0} stacks more than two VLANs, lvx writes at most two tags")]
    TooManyTags(String),
}

/// The next hop for packets of `family` to what `resolution` says: the device
/// below all VLANs and macvlans, with the tags in the header and the station
/// address of the route's own link as source. Of a bridge it is the port that
/// leads to the neighbour: a bridge itself takes no frames from XDP.
///
/// `None` while the neighbour's station address is not known, and for a local
/// target, which needs none.
///
/// # Errors
///
/// The target cannot be reached by a frame; see [`NextHopError`].
pub fn next_hop(
    resolution: &Resolution,
    links: &BTreeMap<u32, Link>,
    family: PacketFamily,
) -> Result<Option<NextHop>, NextHopError> {
    let (ifindex, mac, port, mtu, source) = match resolution {
        Resolution::Local => return Ok(None),
        Resolution::Unreachable(text) => return Err(NextHopError::Unreachable(text.clone())),
        Resolution::Via {
            ifindex,
            mac,
            port,
            mtu,
            source,
            ..
        } => (*ifindex, *mac, *port, *mtu, *source),
    };
    let top = links.get(&ifindex).ok_or(NextHopError::Missing(ifindex))?;
    if top.mac == [0; 6] {
        return Err(NextHopError::NoStationAddress(top.name.clone()));
    }
    // Impossible links are reported also while the address is unknown.
    let (mut device, mut tags) = descend(top, &[], links)?;
    let Some(mac) = mac else {
        return Ok(None);
    };
    if matches!(device.kind, LinkKind::Bridge { .. }) {
        let port = port.and_then(|port| links.get(&port));
        let port = port.ok_or_else(|| NextHopError::NotLearned(device.name.clone()))?;
        (device, tags) = descend(port, &tags, links)?;
    }
    let mut header = [0; 24];
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        header[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    put(&mac);
    put(&top.mac);
    // The tag of the lowest VLAN is the outermost on the wire.
    for (ethertype, id) in tags.iter().rev() {
        put(&ethertype.to_be_bytes());
        put(&id.to_be_bytes());
    }
    put(&family.ethertype());
    Ok(Some(NextHop {
        ifindex: device.index,
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        header_len: length as u16,
        header,
        source: source.map_or([0; 4], |source| words(source).0),
        reserved: [0; 2],
    }))
}

/// EtherType and identifier of a tag.
type Tag = (u16, u16);
/// The one nearest to the packet first.
type Tags = Vec<Tag>;

/// The device at the bottom, and the tags on the way down, behind those in
/// `above`.
fn descend<'a>(
    top: &'a Link,
    above: &[Tag],
    links: &'a BTreeMap<u32, Link>,
) -> Result<(&'a Link, Tags), NextHopError> {
    let mut tags = above.to_vec();
    let mut link = top;
    for _ in 0..MAX_DEPTH {
        let below = match link.kind {
            LinkKind::Macvlan { parent } => parent,
            LinkKind::Vlan {
                parent,
                id,
                ethertype,
            } => {
                if tags.len() == MAX_TAGS {
                    return Err(NextHopError::TooManyTags(top.name.clone()));
                }
                tags.push((ethertype, id));
                parent
            }
            _ => return Ok((link, tags)),
        };
        link = links
            .get(&below)
            .ok_or_else(|| NextHopError::Foreign(link.name.clone()))?;
    }
    Err(NextHopError::Foreign(top.name.clone()))
}

/// The bridge at the bottom of a link, if there is one.
pub(super) fn bridge_below(link: &Link, links: &BTreeMap<u32, Link>) -> Option<u32> {
    let (device, _) = descend(link, &[], links).ok()?;
    matches!(device.kind, LinkKind::Bridge { .. }).then_some(device.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::testing::{link, links, macvlan, vlan};

    const PEER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x99];

    fn via(ifindex: u32) -> Resolution {
        Resolution::Via {
            ifindex,
            neighbour: "10.0.0.9".parse().unwrap(),
            mac: Some(PEER),
            failed: false,
            port: None,
            mtu: 1500,
            source: Some("10.0.0.1".parse().unwrap()),
        }
    }

    fn stack() -> BTreeMap<u32, Link> {
        links([
            link(2, "eth0"),
            vlan(3, "eth0.100", 2, 100, 0x88a8),
            vlan(4, "eth0.100.7", 3, 7, 0x8100),
            vlan(5, "eth0.100.7.8", 4, 8, 0x8100),
            macvlan(6, "vrrp.51", 2),
            macvlan(7, "vrrp.52", 3),
            vlan(8, "stray", 0, 9, 0x8100),
            Link {
                mac: [0; 6],
                ..link(9, "tun0")
            },
        ])
    }

    fn built(ifindex: u32, family: PacketFamily) -> NextHop {
        next_hop(&via(ifindex), &stack(), family).unwrap().unwrap()
    }

    #[test]
    fn a_plain_link_gets_fourteen_bytes() {
        let hop = built(2, PacketFamily::V4);
        assert_eq!((hop.ifindex, hop.mtu, hop.header_len), (2, 1500, 14));
        assert_eq!(
            hop.header[..14],
            [0x52, 0x54, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 2, 8, 0]
        );
        assert_eq!(hop.header[14..], [0; 10]);
        assert_eq!(hop.source, [u32::from_ne_bytes([10, 0, 0, 1]), 0, 0, 0]);
        assert_eq!(built(2, PacketFamily::V6).header[12..14], [0x86, 0xdd]);
    }

    #[test]
    fn one_tag_goes_through_the_parent() {
        let hop = built(3, PacketFamily::V4);
        assert_eq!((hop.ifindex, hop.header_len), (2, 18));
        assert_eq!(
            hop.header[6..18],
            [2, 0, 0, 0, 0, 3, 0x88, 0xa8, 0, 100, 8, 0]
        );
    }

    #[test]
    fn of_a_bridge_the_port_is_taken() {
        let mut links = stack();
        let bridge = LinkKind::Bridge {
            filters_vlans: false,
        };
        links.extend(crate::netlink::testing::links([
            Link {
                kind: bridge,
                ..link(10, "br0")
            },
            vlan(11, "br0.7", 10, 7, 0x8100),
        ]));
        let over = |top, behind| {
            let way = match via(top) {
                Resolution::Via {
                    ifindex,
                    neighbour,
                    mac,
                    mtu,
                    source,
                    ..
                } => Resolution::Via {
                    ifindex,
                    neighbour,
                    mac,
                    failed: false,
                    port: behind,
                    mtu,
                    source,
                },
                other => other,
            };
            next_hop(&way, &links, PacketFamily::V4)
        };
        let hop = over(10, Some(2)).unwrap().unwrap();
        assert_eq!((hop.ifindex, hop.header_len, hop.header[11]), (2, 14, 10));
        // A VLAN on the bridge, behind a port that is a VLAN: both tags, the port's outermost.
        let hop = over(11, Some(3)).unwrap().unwrap();
        assert_eq!((hop.ifindex, hop.header_len), (2, 22));
        assert_eq!(hop.header[12..20], [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7]);
        let error = over(10, None).unwrap_err().to_string();
        assert!(error.starts_with("br0 has not learned"), "{error}");
    }

    #[test]
    fn the_lower_vlan_is_the_outer_tag() {
        let hop = built(4, PacketFamily::V6);
        assert_eq!((hop.ifindex, hop.header_len), (2, 22));
        assert_eq!(
            hop.header[6..22],
            [
                2, 0, 0, 0, 0, 4, 0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 0x86, 0xdd
            ]
        );
    }

    #[test]
    fn a_macvlan_sends_with_its_own_address() {
        let hop = built(6, PacketFamily::V4);
        assert_eq!((hop.ifindex, hop.header_len), (2, 14));
        assert_eq!(hop.header[6..12], [2, 0, 0, 0, 0, 6]);
        let tagged = built(7, PacketFamily::V4);
        assert_eq!((tagged.ifindex, tagged.header_len), (2, 18));
        assert_eq!(tagged.header[6..16], [2, 0, 0, 0, 0, 7, 0x88, 0xa8, 0, 100]);
    }

    #[test]
    fn the_mtu_fits_its_field() {
        let Resolution::Via { neighbour, .. } = via(2) else {
            panic!()
        };
        let jumbo = Resolution::Via {
            ifindex: 2,
            neighbour,
            mac: Some(PEER),
            failed: false,
            port: None,
            mtu: 65_536,
            source: None,
        };
        assert_eq!(
            next_hop(&jumbo, &stack(), PacketFamily::V4)
                .unwrap()
                .unwrap()
                .mtu,
            65_535
        );
    }

    #[test]
    fn the_source_is_in_network_order() {
        let resolution = Resolution::Via {
            ifindex: 2,
            neighbour: "fe80::1".parse().unwrap(),
            mac: Some(PEER),
            failed: false,
            port: None,
            mtu: 1500,
            source: Some("2001:db8::1:2".parse().unwrap()),
        };
        let hop = next_hop(&resolution, &stack(), PacketFamily::V6)
            .unwrap()
            .unwrap();
        let bytes: [u8; 16] = bytemuck::cast(hop.source);
        assert_eq!(bytes[..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(bytes[12..], [0, 1, 0, 2]);
    }

    #[test]
    fn nothing_to_write_is_not_an_error() {
        let Resolution::Via { neighbour, .. } = via(2) else {
            panic!()
        };
        let unknown = Resolution::Via {
            ifindex: 2,
            neighbour,
            mac: None,
            failed: false,
            port: None,
            mtu: 1500,
            source: None,
        };
        assert_eq!(next_hop(&unknown, &stack(), PacketFamily::V4), Ok(None));
        assert_eq!(
            next_hop(&Resolution::Local, &stack(), PacketFamily::V4),
            Ok(None)
        );
    }

    #[test]
    fn what_cannot_be_says_why() {
        let text = |resolution: &Resolution| {
            next_hop(resolution, &stack(), PacketFamily::V4)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            text(&Resolution::Unreachable("no route to 10.0.0.9".into())),
            "no route to 10.0.0.9"
        );
        assert_eq!(
            text(&via(5)),
            "eth0.100.7.8 stacks more than two VLANs, lvx writes at most two tags"
        );
        assert_eq!(
            text(&via(8)),
            "the device below stray is not in this network namespace"
        );
        assert_eq!(
            text(&via(9)),
            "tun0 is not an Ethernet interface: it has no station address"
        );
        assert_eq!(text(&via(77)), "the interface with index 77 is gone");
    }
}
