//! What listings show, from the configuration and the maps: the same for the
//! daemon and for a reader without one.

use super::{
    state::{Service, State},
    stats::{self, TrashTotals},
    tables::Tables,
};
use crate::model::{DestSnapshot, Listing, Refusal, ServiceId, ServiceSnapshot};

/// Everything that is configured, or one service, as it is now.
///
/// # Errors
/// When there is no such service.
pub fn listing(
    tables: &Tables<'_>,
    state: &State,
    id: Option<&ServiceId>,
) -> Result<Listing, Refusal> {
    let trash = stats::trash_totals(tables, state);
    let services = match id {
        Some(id) => {
            let service = state.service(id).ok_or(Refusal::NoSuchService)?;
            vec![snapshot(tables, id, service, &trash)]
        }
        None => state
            .services()
            .map(|(id, service)| snapshot(tables, id, service, &trash))
            .collect(),
    };
    Ok(Listing {
        size: tables.params.flow4_cells,
        services,
    })
}

fn snapshot(
    tables: &Tables<'_>,
    id: &ServiceId,
    service: &Service,
    trash: &TrashTotals,
) -> ServiceSnapshot {
    let (total, raws) = stats::raw(tables, service, trash);
    let page = tables.pages.get(tables.service_page(service.slot));
    let dests = service.dests.iter().zip(raws).map(|(node, raw)| {
        let page = tables.pages.get(node.slot);
        let load = tables.dest_loads.get(node.slot);
        DestSnapshot {
            dest: node.dest,
            active: load.active(),
            inactive: load.inactive(),
            persistent: load.templates as u32,
            counters: stats::counters(&page, raw),
            rates: stats::rates(&page),
        }
    });
    ServiceSnapshot {
        id: *id,
        spec: service.spec.clone(),
        counters: stats::counters(&page, total),
        rates: stats::rates(&page),
        dests: dests.collect(),
    }
}
