use crate::{
    facts::Facts,
    layout::{SERVICE_WINDOW, ServiceKey, ServiceView},
    tables::{Param, Step, Table, Tables},
};

/// The service that a packet is for: that of its mark before that of its
/// address, and that of its port before one of any port. A mark without a service
/// is no mark.
#[inline(always)]
pub(super) fn find_service<T: Tables>(
    tables: T,
    side: u32,
    facts: &Facts,
) -> Option<ServiceView<T::Cell>> {
    let mut place = NOWHERE;
    if facts.mark != 0 {
        let key = ServiceKey::of_mark(facts.mark as u32, facts.family as u8);
        place = probe(tables, side, [facts.mark & 0xffff_ffff, 0], key, key);
    }
    if place == NOWHERE {
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
        let any = ServiceKey { port: 0, ..key };
        place = probe(tables, side, facts.dst, key, any);
    }
    if place == NOWHERE {
        return None;
    }
    tables.cell(Table::Service, place as u32).map(ServiceView)
}

/// No table has that many slots.
const NOWHERE: u64 = u64::MAX;

/// Where the service `exact` is, or else `any`, in half `side`; both are of the
/// address `addr`, as in the facts.
#[inline(always)]
fn probe<T: Tables>(
    tables: T,
    side: u32,
    addr: [u64; 2],
    exact: ServiceKey,
    any: ServiceKey,
) -> u64 {
    let slots = tables.param(Param::ServiceSlots) as u32;
    let seed = tables.param(Param::ServiceSeed);
    let mut probe = Probe {
        addr,
        exact: exact.tail().into(),
        any: any.tail().into(),
        home: exact.home(seed, slots).into(),
        home_any: any.home(seed, slots).into(),
        base: u64::from(side).wrapping_mul(slots.into()),
        mask: u64::from(slots).wrapping_sub(1),
        found: NOWHERE,
    };
    tables.repeat(2 * SERVICE_WINDOW, &mut probe);
    probe.found
}

/// Looks at the window of the port, then at that of any port. A loop, so that
/// what comes after is verified once and not once a slot.
#[derive(Clone, Copy)]
struct Probe {
    addr: [u64; 2],
    exact: u64,
    any: u64,
    home: u64,
    home_any: u64,
    base: u64,
    mask: u64,
    found: u64,
}

impl<T: Tables> Step<T> for Probe {
    #[inline(always)]
    fn step(&mut self, tables: T, i: u32) -> bool {
        let (home, tail) = if i < SERVICE_WINDOW {
            (self.home, self.exact)
        } else {
            (self.home_any, self.any)
        };
        let slot = home.wrapping_add((i % SERVICE_WINDOW).into()) & self.mask;
        let index = self.base.wrapping_add(slot);
        let Some(cell) = tables.cell(Table::Service, index as u32) else {
            return true;
        };
        if !ServiceView(cell).is_of(self.addr, tail as u32) {
            return true;
        }
        self.found = index;
        false
    }
}
