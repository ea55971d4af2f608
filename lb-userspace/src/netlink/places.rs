//! Where the program goes for an interface that is asked for by name: stacked
//! devices have their frames from others, and only those have drivers.

use std::collections::BTreeSet;

use super::{Link, LinkKind, View, claims::ports};

/// More stacked links than any configuration has; guards against a loop in
/// links read while they changed.
const MAX_DEPTH: usize = 8;

/// A place for the program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On the device with this index.
    Device(u32),
    /// On a bond, which hands it on to its ports; where it does not, on them.
    Bond {
        /// Index of the bond.
        index: u32,
        /// Indexes of the devices instead.
        ports: BTreeSet<u32>,
    },
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Name of the interface, and what it is.
    #[error(
        "{0} carries no Ethernet frames ({1}), and lvx reads and writes nothing else: \
         name the Ethernet interface that the packets come in by"
    )]
    NotEthernet(String, String),
}

/// The places from which the program sees what comes in by `link`: the device
/// below a VLAN or macvlan, the ports of a bridge, a bond itself; else the link.
/// A link whose device below is in another namespace is a place of its own.
///
/// # Errors
/// When it carries no Ethernet frames.
pub fn places(link: &Link, view: &View) -> Result<BTreeSet<Place>, PlaceError> {
    let mut found = BTreeSet::new();
    descend(link, view, 0, &mut found)?;
    Ok(found)
}

fn descend(
    link: &Link,
    view: &View,
    depth: usize,
    found: &mut BTreeSet<Place>,
) -> Result<(), PlaceError> {
    match &link.kind {
        LinkKind::NotEthernet(what) => {
            return Err(PlaceError::NotEthernet(link.name.clone(), what.clone()));
        }
        _ if depth == MAX_DEPTH => {}
        LinkKind::Vlan { parent, .. } | LinkKind::Macvlan { parent } => {
            if let Some(parent) = view.links.get(parent) {
                return descend(parent, view, depth + 1, found);
            }
        }
        LinkKind::Bridge { .. } => {
            for port in ports(link.index, view) {
                descend(port, view, depth + 1, found)?;
            }
            return Ok(());
        }
        LinkKind::Bond => {
            let mut below = BTreeSet::new();
            for port in ports(link.index, view) {
                descend(port, view, depth + 1, &mut below)?;
            }
            let devices = below.into_iter().flat_map(|place| match place {
                Place::Device(index) => BTreeSet::from([index]),
                Place::Bond { ports, .. } => ports,
            });
            found.insert(Place::Bond {
                index: link.index,
                ports: devices.collect(),
            });
            return Ok(());
        }
        LinkKind::Plain | LinkKind::Veth => {}
    }
    found.insert(Place::Device(link.index));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::testing::{link, links, macvlan, vlan};

    fn of(index: u32) -> Result<BTreeSet<Place>, PlaceError> {
        let kind = |kind, link| Link { kind, ..link };
        let port = |master, link| Link {
            master: Some(master),
            ..link
        };
        let bridge = LinkKind::Bridge {
            filters_vlans: false,
        };
        let view = View {
            links: links([
                port(9, link(2, "eth0")),
                port(9, link(3, "eth1")),
                link(4, "eth2"),
                vlan(5, "eth2.100", 4, 100, 0x88a8),
                vlan(6, "eth2.100.7", 5, 7, 0x8100),
                macvlan(7, "vrrp.51", 6),
                vlan(8, "bond0.5", 9, 5, 0x8100),
                kind(LinkKind::Bond, port(10, link(9, "bond0"))),
                kind(bridge.clone(), link(10, "br0")),
                port(10, vlan(11, "eth2.9", 4, 9, 0x8100)),
                kind(bridge, link(12, "br1")),
                vlan(13, "stray", 0, 9, 0x8100),
                kind(LinkKind::NotEthernet("wireguard".into()), link(14, "wg0")),
            ]),
            ..View::default()
        };
        places(&view.links[&index], &view)
    }

    fn bond() -> Place {
        Place::Bond {
            index: 9,
            ports: BTreeSet::from([2, 3]),
        }
    }

    #[test]
    fn stacked_devices_lead_to_those_with_drivers() {
        for index in [4, 5, 6, 7] {
            assert_eq!(
                of(index).unwrap(),
                BTreeSet::from([Place::Device(4)]),
                "{index}"
            );
        }
        for index in [8, 9] {
            assert_eq!(of(index).unwrap(), BTreeSet::from([bond()]), "{index}");
        }
        assert_eq!(of(10).unwrap(), BTreeSet::from([Place::Device(4), bond()]));
        assert_eq!(of(12).unwrap(), BTreeSet::new());
        // The device below is in another namespace.
        assert_eq!(of(13).unwrap(), BTreeSet::from([Place::Device(13)]));
    }

    #[test]
    fn what_carries_no_ethernet_is_refused() {
        let text = of(14).unwrap_err().to_string();
        assert!(
            text.starts_with("wg0 carries no Ethernet frames (wireguard)"),
            "{text}"
        );
    }
}
