//! Which frames a rule means that names an interface.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::IfaceKey;

use super::{Link, LinkKind, View};

/// More stacked links than any configuration has.
const MAX_DEPTH: usize = 8;

/// By the name of each interface that frames of `attached` (by index) come in by:
/// the keys of those frames. A VLAN has its tags; a bond or bridge has all its
/// ports; a macvlan shares the key of what it stands on.
pub fn iface_names(attached: &BTreeSet<u32>, view: &View) -> BTreeMap<String, BTreeSet<u64>> {
    let mut names = BTreeMap::new();
    // A bond that carries the program has it run on its ports.
    let carriers = attached
        .iter()
        .filter_map(|index| view.links.get(index))
        .flat_map(|link| {
            let ports = view.links.values();
            let ports = ports.filter(|port| port.master == Some(link.index));
            match link.kind {
                LinkKind::Bond => ports.collect(),
                _ => vec![link],
            }
        });
    for link in carriers {
        let index = link.index;
        add(view, index, link, &[], 0, &mut names);
        if let Some(master) = link.master.and_then(|master| view.links.get(&master)) {
            add(view, index, master, &[], 0, &mut names);
        }
    }
    names
}

fn add(
    view: &View,
    ifindex: u32,
    link: &Link,
    tags: &[u16],
    depth: usize,
    names: &mut BTreeMap<String, BTreeSet<u64>>,
) {
    let key = IfaceKey {
        ifindex,
        outer: tags.first().copied().unwrap_or(0),
        inner: tags.get(1).copied().unwrap_or(0),
    };
    names
        .entry(link.name.clone())
        .or_default()
        .insert(key.word());
    if depth == MAX_DEPTH {
        return;
    }
    for upper in view.links.values() {
        match upper.kind {
            LinkKind::Macvlan { parent } if parent == link.index => {
                add(view, ifindex, upper, tags, depth + 1, names);
            }
            LinkKind::Vlan { parent, id, .. } if parent == link.index && tags.len() < 2 => {
                add(
                    view,
                    ifindex,
                    upper,
                    &[tags, &[id]].concat(),
                    depth + 1,
                    names,
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::testing::{link, links, macvlan, vlan};

    #[test]
    fn vlans_have_their_tags() {
        let view = View {
            links: links([
                link(2, "eth0"),
                vlan(3, "eth0.100", 2, 100, 0x8100),
                vlan(4, "q", 3, 200, 0x8100),
                macvlan(5, "mac", 2),
                link(9, "eth1"),
            ]),
            ..View::default()
        };
        let names = iface_names(&BTreeSet::from([2]), &view);
        let key = |outer, inner| {
            let key = IfaceKey {
                ifindex: 2,
                outer,
                inner,
            };
            BTreeSet::from([key.word()])
        };
        assert_eq!(names["eth0"], key(0, 0));
        assert_eq!(names["mac"], key(0, 0));
        assert_eq!(names["eth0.100"], key(100, 0));
        assert_eq!(names["q"], key(100, 200));
        assert!(!names.contains_key("eth1"));
    }
}
