//! Links for tests.

use std::collections::BTreeMap;

use super::{Link, LinkKind};

/// A plain link that is up; its station address ends in its index.
pub(super) fn link(index: u32, name: &str) -> Link {
    let mac = [2, 0, 0, 0, 0, index as u8];
    Link {
        index,
        name: name.into(),
        mac,
        mtu: 1500,
        up: true,
        master: None,
        kind: LinkKind::Plain,
        xdp: None,
    }
}

pub(super) fn vlan(index: u32, name: &str, parent: u32, id: u16, ethertype: u16) -> Link {
    Link {
        kind: LinkKind::Vlan {
            parent,
            id,
            ethertype,
        },
        ..link(index, name)
    }
}

pub(super) fn macvlan(index: u32, name: &str, parent: u32) -> Link {
    Link {
        kind: LinkKind::Macvlan { parent },
        ..link(index, name)
    }
}

pub(super) fn links<const N: usize>(list: [Link; N]) -> BTreeMap<u32, Link> {
    list.into_iter().map(|link| (link.index, link)).collect()
}
