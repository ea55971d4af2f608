use crate::{
    facts::Facts,
    layout::{SERVICE_WINDOW, ServiceKey, ServiceView},
    tables::{Param, Table, Tables},
};

/// The service that a packet is for: that of its port before one of any port.
#[inline(always)]
pub(super) fn find_service<T: Tables>(
    tables: T,
    side: u32,
    facts: &Facts,
) -> Option<ServiceView<T::Cell>> {
    let exact = look_up(tables, side, facts, facts.dst_port());
    if exact.is_some() {
        return exact;
    }
    look_up(tables, side, facts, 0)
}

#[inline(always)]
fn look_up<T: Tables>(
    tables: T,
    side: u32,
    facts: &Facts,
    port: u16,
) -> Option<ServiceView<T::Cell>> {
    let key = ServiceKey {
        addr: [
            facts.dst[0] as u32,
            (facts.dst[0] >> 32) as u32,
            facts.dst[1] as u32,
            (facts.dst[1] >> 32) as u32,
        ],
        port,
        protocol: facts.protocol(),
        family: facts.family as u8,
    };
    let slots = tables.param(Param::ServiceSlots) as u32;
    let home = key.home(tables.param(Param::ServiceSeed), slots);
    let mut i = 0;
    while i < SERVICE_WINDOW {
        let slot = home.wrapping_add(i) & slots.wrapping_sub(1);
        let index = side.wrapping_mul(slots).wrapping_add(slot);
        if let Some(cell) = tables.cell(Table::Service, index) {
            let service = ServiceView(cell);
            if service.matches(&key) {
                return Some(service);
            }
        }
        i += 1;
    }
    None
}
