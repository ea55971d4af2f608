//! Which frames lvx may claim: those that the kernel itself would take for its
//! own at layer 2.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{IFACE_MACS, IfaceEntry, IfaceKey};

use super::{Link, LinkKind, View};

/// Most tags looked at.
const MAX_TAGS: usize = 2;
/// More stacked links than any configuration has; guards against a loop in
/// links read while they changed.
const MAX_DEPTH: usize = 8;

/// The result of [`claims()`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// One entry for every interface and VLAN, in the order of their keys.
    pub entries: Vec<IfaceEntry>,
    /// What the operator must know: frames that will not be claimed.
    pub warnings: Vec<String>,
}

/// The frames that may be claimed on the interfaces `attached` (by index):
/// untagged ones to the interface's own station address or that of a macvlan on
/// it; for every VLAN on it (up to two tags) those to the VLAN's and its
/// macvlans' addresses; where any of these belongs to a bond or bridge, those
/// to its master and what stands on that. A bond that carries the program has it
/// run on its ports, which frames then name as where they came in.
pub fn claims(attached: &BTreeSet<u32>, view: &View) -> Claims {
    let mut result = Claims::default();
    let carriers = attached
        .iter()
        .filter_map(|index| view.links.get(index))
        .flat_map(|link| match link.kind {
            LinkKind::Bond => ports(link.index, view).collect(),
            _ => vec![link],
        });
    let carriers: BTreeMap<u32, &Link> = carriers.map(|link| (link.index, link)).collect();
    for (index, link) in &carriers {
        let mut walk = Walk {
            links: &view.links,
            found: BTreeMap::new(),
            too_deep: None,
            filtering: None,
        };
        walk.add(link, &[], 0);
        if let Some(name) = walk.too_deep {
            result.warnings.push(format!(
                "frames to {name} are not balanced: it has more than two VLAN tags"
            ));
        }
        if let Some(name) = walk.filtering {
            let warning = format!(
                "{name} filters VLANs: a frame is balanced by the tag it has outside the bridge, not by \
                 one that a port adds or takes off"
            );
            // Every port of the bridge finds it.
            if !result.warnings.contains(&warning) {
                result.warnings.push(warning);
            }
        }
        for (tags, Found { macs, mtu }) in walk.found {
            let key = IfaceKey {
                ifindex: *index,
                outer: tags.first().copied().unwrap_or(0),
                inner: tags.get(1).copied().unwrap_or(0),
            };
            let mut entry = IfaceEntry {
                key: key.word(),
                mtu: mtu.into(),
                ..IfaceEntry::default()
            };
            for (slot, (mac, _)) in entry.macs.iter_mut().zip(&macs) {
                *slot = IfaceEntry::mac_word(*mac);
            }
            if macs.len() > IFACE_MACS {
                let left: Vec<&str> = macs[IFACE_MACS..]
                    .iter()
                    .map(|(_, name)| name.as_str())
                    .collect();
                result.warnings.push(format!(
                    "frames to {} are not balanced: {} has more than {IFACE_MACS} station addresses",
                    left.join(", "),
                    macs[0].1
                ));
            }
            result.entries.push(entry);
        }
    }
    result
}

/// The links that have `master` as their master.
pub(super) fn ports(master: u32, view: &View) -> impl Iterator<Item = &Link> {
    let links = view.links.values();
    links.filter(move |port| port.master == Some(master))
}

struct Walk<'a> {
    links: &'a BTreeMap<u32, Link>,
    /// By tags, outermost first.
    found: BTreeMap<Vec<u16>, Found>,
    too_deep: Option<String>,
    filtering: Option<String>,
}

/// The links that share the same tags.
struct Found {
    /// Station addresses, each once, with the link's name.
    macs: Vec<([u8; 6], String)>,
    /// The smallest MTU: a macvlan's may be below its device's.
    mtu: u32,
}

impl Walk<'_> {
    fn add(&mut self, link: &Link, tags: &[u16], depth: usize) {
        if link.mac != [0; 6] {
            let found = self.found.entry(tags.to_vec()).or_insert(Found {
                macs: Vec::new(),
                mtu: link.mtu,
            });
            found.mtu = found.mtu.min(link.mtu);
            if !found.macs.iter().any(|(mac, _)| *mac == link.mac) {
                found.macs.push((link.mac, link.name.clone()));
            }
        }
        if let LinkKind::Bridge {
            filters_vlans: true,
        } = link.kind
        {
            self.filtering = Some(link.name.clone());
        }
        if depth == MAX_DEPTH {
            return;
        }
        for upper in self.links.values() {
            match upper.kind {
                // The kernel drops what arrives for a link that is down.
                _ if !upper.up => {}
                LinkKind::Macvlan { parent } if parent == link.index => {
                    self.add(upper, tags, depth + 1)
                }
                LinkKind::Vlan { parent, id, .. } if parent == link.index => {
                    if tags.len() == MAX_TAGS {
                        self.too_deep = Some(upper.name.clone());
                    } else {
                        let tags = [tags, &[id]].concat();
                        self.add(upper, &tags, depth + 1);
                    }
                }
                _ if link.master == Some(upper.index) => self.add(upper, tags, depth + 1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::testing::{link, links, macvlan, vlan};

    /// Outer and inner tag, last bytes of the station addresses.
    type Claimed = ((u16, u16), Vec<u8>);

    /// Claims of interface 2, and the warnings.
    fn claimed<const N: usize>(list: [Link; N]) -> (Vec<Claimed>, Vec<String>) {
        let view = View {
            links: links(list),
            ..View::default()
        };
        let result = claims(&BTreeSet::from([2]), &view);
        let entries = result.entries.iter().map(|entry| {
            assert_eq!((entry.key as u32, entry.mtu), (2, 1500));
            let macs = entry
                .macs
                .iter()
                .filter(|m| **m != 0)
                .map(|m| m.to_le_bytes()[5])
                .collect();
            (((entry.key >> 32) as u16, (entry.key >> 48) as u16), macs)
        });
        (entries.collect(), result.warnings)
    }

    #[test]
    fn own_macvlan_and_vlan_addresses_are_claimed() {
        let (entries, warnings) = claimed([
            link(2, "eth0"),
            link(3, "eth1"),
            macvlan(4, "vrrp.51", 2),
            vlan(5, "eth0.100", 2, 100, 0x8100),
            macvlan(6, "vrrp.52", 5),
            vlan(7, "eth0.100.7", 5, 7, 0x8100),
            vlan(8, "eth1.100", 3, 100, 0x8100),
        ]);
        assert_eq!(
            entries,
            [
                ((0, 0), vec![2, 4]),
                ((100, 0), vec![5, 6]),
                ((100, 7), vec![7])
            ]
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn the_mtu_is_that_of_the_link_with_these_tags() {
        let of = |mtu, link| Link { mtu, ..link };
        let view = View {
            links: links([
                of(9000, link(2, "eth0")),
                of(1500, vlan(3, "eth0.100", 2, 100, 0x8100)),
                of(9000, vlan(4, "eth0.200", 2, 200, 0x8100)),
                of(1400, macvlan(5, "vrrp.51", 4)),
            ]),
            ..View::default()
        };
        let result = claims(&BTreeSet::from([2]), &view);
        let mtus: Vec<_> = result
            .entries
            .iter()
            .map(|entry| ((entry.key >> 32) as u16, entry.mtu))
            .collect();
        assert_eq!(mtus, [(0, 9000), (100, 1500), (200, 1400)]);
    }

    #[test]
    fn a_shared_address_is_claimed_once_and_a_link_that_is_down_not_at_all() {
        let same = Link {
            mac: [2, 0, 0, 0, 0, 2],
            ..macvlan(3, "ipvlan0", 2)
        };
        let down = Link {
            up: false,
            ..vlan(4, "eth0.9", 2, 9, 0x8100)
        };
        assert_eq!(
            claimed([link(2, "eth0"), same, down]).0,
            [((0, 0), vec![2])]
        );
    }

    #[test]
    fn a_bond_port_carries_what_is_for_the_bond() {
        let port = Link {
            master: Some(9),
            ..link(2, "eth0")
        };
        let (entries, _) = claimed([port, vlan(5, "bond0.5", 9, 5, 0x8100), link(9, "bond0")]);
        assert_eq!(entries, [((0, 0), vec![2, 9]), ((5, 0), vec![5])]);
    }

    #[test]
    fn a_bond_that_carries_the_program_claims_on_its_ports() {
        let port = |index, name| Link {
            master: Some(9),
            ..link(index, name)
        };
        let view = View {
            links: links([
                port(2, "eth0"),
                port(3, "eth1"),
                vlan(5, "bond0.5", 9, 5, 0x8100),
                Link {
                    kind: LinkKind::Bond,
                    ..link(9, "bond0")
                },
            ]),
            ..View::default()
        };
        let result = claims(&BTreeSet::from([9]), &view);
        let keys: Vec<_> = result
            .entries
            .iter()
            .map(|entry| (entry.key as u32, (entry.key >> 32) as u16))
            .collect();
        assert_eq!(keys, [(2, 0), (2, 5), (3, 0), (3, 5)]);
        assert_eq!(
            result.entries[2].macs[..2],
            [3, 9].map(|last| IfaceEntry::mac_word([2, 0, 0, 0, 0, last]))
        );
    }

    #[test]
    fn a_vlan_in_a_bridge_carries_what_is_for_the_bridge() {
        let port = Link {
            master: Some(9),
            ..vlan(5, "eth0.5", 2, 5, 0x8100)
        };
        let (entries, _) = claimed([link(2, "eth0"), port, link(9, "br0"), macvlan(10, "v", 9)]);
        assert_eq!(entries, [((0, 0), vec![2]), ((5, 0), vec![5, 9, 10])]);
    }

    #[test]
    fn a_bridge_that_filters_vlans_is_named_once() {
        let port = |index, name| Link {
            master: Some(9),
            ..link(index, name)
        };
        let bridge = Link {
            kind: LinkKind::Bridge {
                filters_vlans: true,
            },
            ..link(9, "br0")
        };
        let view = View {
            links: links([port(2, "eth0"), port(3, "eth1"), bridge]),
            ..View::default()
        };
        let warnings = claims(&BTreeSet::from([2, 3]), &view).warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].starts_with("br0 filters VLANs: "),
            "{warnings:?}"
        );
    }

    #[test]
    fn more_addresses_than_fit_are_named() {
        let (entries, warnings) = claimed([
            link(2, "eth0"),
            macvlan(3, "a", 2),
            macvlan(4, "b", 2),
            macvlan(5, "c", 2),
            macvlan(6, "d", 2),
            macvlan(7, "e", 2),
            macvlan(8, "f", 2),
            macvlan(9, "g", 2),
        ]);
        assert_eq!(entries, [((0, 0), vec![2, 3, 4, 5, 6, 7])]);
        assert_eq!(
            warnings,
            ["frames to f, g are not balanced: eth0 has more than 6 station addresses"]
        );
    }

    #[test]
    fn a_third_tag_is_not_claimed_but_named() {
        let (entries, warnings) = claimed([
            link(2, "eth0"),
            vlan(3, "q1", 2, 1, 0x8100),
            vlan(4, "q2", 3, 2, 0x8100),
            vlan(5, "q3", 4, 3, 0x8100),
        ]);
        assert_eq!(entries.last(), Some(&((1, 2), vec![4])));
        assert_eq!(
            warnings,
            ["frames to q3 are not balanced: it has more than two VLAN tags"]
        );
    }

    #[test]
    fn an_interface_that_is_gone_claims_nothing() {
        assert_eq!(
            claims(&BTreeSet::from([2]), &View::default()),
            Claims::default()
        );
    }
}
