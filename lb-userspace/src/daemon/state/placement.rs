//! Where each service stands in the service table.

use std::collections::HashMap;

use lb_common::layout::{SERVICE_WINDOW, ServiceKey};

use crate::{
    address::words,
    model::{Family, ServiceId},
};

/// The key that packets look a service up by.
pub fn service_key(id: ServiceId) -> ServiceKey {
    match id {
        ServiceId::Address {
            protocol,
            addr,
            port,
        } => {
            let (addr, family) = words(addr);
            ServiceKey {
                addr,
                port: port.to_be(),
                protocol: protocol.number(),
                family,
            }
        }
        ServiceId::Mark { mark, family } => {
            ServiceKey::of_mark(mark, if family == Family::V4 { 4 } else { 6 })
        }
    }
}

/// An open-addressing table in which every service stands within
/// [`SERVICE_WINDOW`] slots of its home. Both halves are written from it.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    seed: u64,
    table: Vec<Option<ServiceId>>,
    places: HashMap<ServiceId, u32>,
}

impl Placement {
    /// An empty table of `slots` (a power of two).
    pub(super) fn new(slots: u32, seed: u64) -> Self {
        Self {
            seed,
            table: vec![None; slots as usize],
            places: HashMap::new(),
        }
    }

    /// Slot of a service that was inserted.
    pub(super) fn place(&self, id: &ServiceId) -> Option<u32> {
        self.places.get(id).copied()
    }

    /// Puts a service into the table, moving others within their windows where
    /// that makes room. `false`, with nothing moved out of its window, when
    /// there is none.
    pub(super) fn insert(&mut self, id: ServiceId) -> bool {
        let home = self.home(id);
        let free = (0..self.table.len() as u32).map(|i| self.after(home, i));
        let Some(mut free) = free
            .into_iter()
            .find(|place| self.table[*place as usize].is_none())
        else {
            return false;
        };
        // Hopscotch: the hole wanders back towards the window of the new service.
        while self.distance(home, free) >= SERVICE_WINDOW {
            let hop = (1..SERVICE_WINDOW)
                .rev()
                .map(|back| self.before(free, back))
                .find_map(|place| {
                    let occupant = self.table[place as usize]?;
                    let home = self.home(occupant);
                    (self.distance(home, free) < SERVICE_WINDOW).then_some((place, occupant))
                });
            let Some((place, occupant)) = hop else {
                return false;
            };
            self.put(occupant, free);
            self.table[place as usize] = None;
            free = place;
        }
        self.put(id, free);
        true
    }

    /// Takes a service out.
    pub(super) fn remove(&mut self, id: &ServiceId) {
        if let Some(place) = self.places.remove(id) {
            self.table[place as usize] = None;
        }
    }

    fn put(&mut self, id: ServiceId, place: u32) {
        self.table[place as usize] = Some(id);
        self.places.insert(id, place);
    }

    fn home(&self, id: ServiceId) -> u32 {
        service_key(id).home(self.seed, self.table.len() as u32)
    }

    fn after(&self, place: u32, steps: u32) -> u32 {
        (place + steps) & (self.table.len() as u32 - 1)
    }

    fn before(&self, place: u32, steps: u32) -> u32 {
        place.wrapping_sub(steps) & (self.table.len() as u32 - 1)
    }

    /// Slots from `home` on to `place`, around the end of the table.
    fn distance(&self, home: u32, place: u32) -> u32 {
        self.before(place, home)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::Protocol;

    fn id(n: u32) -> ServiceId {
        let addr = Ipv4Addr::from(0x0a00_0000 + n / 50).into();
        ServiceId::Address {
            protocol: Protocol::Tcp,
            addr,
            port: (n % 50) as u16 + 1,
        }
    }

    #[test]
    fn every_service_is_within_its_window() {
        let mut placement = Placement::new(1024, 42);
        for n in 0..512 {
            assert!(placement.insert(id(n)), "service {n} of 512 in 1024 slots");
        }
        for n in (0..512).step_by(3) {
            placement.remove(&id(n));
        }
        for n in 0..512 {
            match placement.place(&id(n)) {
                None => assert_eq!(n % 3, 0),
                Some(place) => {
                    let home = placement.home(id(n));
                    assert!(
                        placement.distance(home, place) < SERVICE_WINDOW,
                        "service {n}"
                    );
                    assert_eq!(placement.table[place as usize], Some(id(n)));
                }
            }
        }
    }

    #[test]
    fn a_full_table_refuses_and_keeps_what_it_has() {
        let mut placement = Placement::new(8, 1);
        let kept = (0..8).filter(|n| placement.insert(id(*n))).count();
        assert_eq!(kept, 8);
        assert!(!placement.insert(id(99)));
        assert_eq!(placement.place(&id(99)), None);
        assert!((0..8).all(|n| placement.place(&id(n)).is_some()));
    }
}
