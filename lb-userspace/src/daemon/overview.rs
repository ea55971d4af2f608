//! What `lvx show` shows beyond a listing.

use lb_common::layout::{DestFlags, DestWord};

use super::{snapshot, state::State, tables::Tables};
use crate::model::{DestState, Listing, Overview, Ownership, Removed, Way};

/// Services, servers as packets see them, and removed servers.
pub fn overview(tables: &Tables<'_>, state: &State) -> Overview {
    let states = state.services().map(|(_, service)| {
        let nodes = service.dests.iter();
        nodes.map(|node| dest_state(tables, node.slot)).collect()
    });
    let removed = state.trash().map(|trashed| {
        let load = tables.dest_loads.get(trashed.slot);
        Removed {
            service: trashed.service,
            dest: trashed.dest,
            active: load.active(),
            inactive: load.inactive(),
            persistent: load.templates as u32,
        }
    });
    let owners = state.declared().map(|declared| Ownership {
        service: declared.service.id,
        owner: declared.owner.clone(),
        file: declared.file.clone(),
        line: declared.line,
        since: state.since(declared),
    });
    Overview {
        owners: owners.collect(),
        epoch: state.epoch,
        states: states.collect(),
        removed: removed.collect(),
        // Without a name it does not fail.
        listing: snapshot::listing(tables, state, None).unwrap_or(Listing {
            size: 0,
            services: Vec::new(),
        }),
    }
}

fn dest_state(tables: &Tables<'_>, slot: u32) -> DestState {
    let word = DestWord(tables.dests.get(slot).word);
    DestState {
        way: if word.has(DestFlags::LOCAL) {
            Way::Local
        } else if word.has(DestFlags::RESOLVED) {
            Way::Resolved
        } else {
            Way::Unresolved
        },
        overloaded: word.has(DestFlags::OVERLOAD),
        claimed: word.has(DestFlags::CLAIMED),
    }
}
