//! What listings show, from the configuration and the maps: the same for the
//! daemon and for a reader without one.

use lb_common::layout::{Stats, StatsPage};

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
    // Within a transaction: its page still belongs to whoever had the slot before.
    let created = service.change.as_ref().is_some_and(|change| change.created);
    let (page, total) = fresh(created, page, total);
    let dests = service.dests.iter().zip(raws).map(|(node, raw)| {
        let page = tables.pages.get(node.slot);
        let (page, raw) = fresh(node.fresh || node.start.is_some(), page, raw);
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

/// Nothing has been counted yet for what is `new`.
fn fresh(new: bool, page: StatsPage, raw: Stats) -> (StatsPage, Stats) {
    if new {
        let average = [0; 5];
        let (base, last) = (raw, raw);
        (
            StatsPage {
                base,
                last,
                average,
                ..page
            },
            raw,
        )
    } else {
        (page, raw)
    }
}
