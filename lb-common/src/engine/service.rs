use crate::{
    facts::Facts,
    layout::{SERVICE_WINDOW, ServiceKey, ServiceView},
    tables::{Param, Table, Tables},
};

/// The service that a packet is for: that of its mark before that of its
/// address. A mark without a service is no mark.
#[inline(always)]
pub(super) fn find_service<T: Tables>(
    tables: T,
    side: u32,
    facts: &Facts,
) -> Option<ServiceView<T::Cell>> {
    if facts.mark != 0 {
        let key = ServiceKey::of_mark(facts.mark as u32, facts.family as u8);
        if let Some(service) = probe(tables, side, &key) {
            return Some(service);
        }
    }
    let key = ServiceKey {
        addr: [
            facts.dst[0] as u32,
            (facts.dst[0] >> 32) as u32,
            facts.dst[1] as u32,
            (facts.dst[1] >> 32) as u32,
        ],
        port: facts.dst_port(),
        protocol: facts.protocol(),
        family: facts.family as u8,
    };
    probe(tables, side, &key)
}

/// The service with this key.
#[inline(always)]
fn probe<T: Tables>(tables: T, side: u32, key: &ServiceKey) -> Option<ServiceView<T::Cell>> {
    let slots = tables.param(Param::ServiceSlots) as u32;
    let home = key.home(tables.param(Param::ServiceSeed), slots);
    let mut i = 0;
    while i < SERVICE_WINDOW {
        let slot = home.wrapping_add(i) & slots.wrapping_sub(1);
        let index = side.wrapping_mul(slots).wrapping_add(slot);
        if let Some(cell) = tables.cell(Table::Service, index) {
            let service = ServiceView(cell);
            if service.matches(key) {
                return Some(service);
            }
        }
        i += 1;
    }
    None
}
