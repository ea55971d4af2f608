//! Where each service stands in the service table.

use std::{collections::HashMap, net::IpAddr};

use lb_common::layout::{SERVICE_WINDOW, ServiceKey};

use crate::model::ServiceId;

/// The key that packets look a service up by; `None` for a mark.
pub fn service_key(id: ServiceId) -> Option<ServiceKey> {
    let ServiceId::Address {
        protocol,
        addr,
        port,
    } = id
    else {
        return None;
    };
    let (addr, family) = words(addr);
    Some(ServiceKey {
        addr,
        port: port.to_be(),
        protocol: protocol.number(),
        family,
    })
}

/// An address as tables hold it (network byte order), and its family's number.
pub fn words(addr: IpAddr) -> ([u32; 4], u8) {
    match addr {
        IpAddr::V4(addr) => ([u32::from_ne_bytes(addr.octets()), 0, 0, 0], 4),
        IpAddr::V6(addr) => {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(addr.octets().chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            (words, 6)
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
    /// that makes room. `false` when there is none.
    pub(super) fn insert(&mut self, id: ServiceId) -> bool {
        let Some(place) = self.make_room(id, 3) else {
            return false;
        };
        self.put(id, place);
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

    fn window(&self, id: ServiceId) -> impl Iterator<Item = u32> + use<> {
        let slots = self.table.len() as u32;
        let home = service_key(id).map(|key| key.home(self.seed, slots));
        home.into_iter().flat_map(move |home| {
            (0..SERVICE_WINDOW.min(slots)).map(move |i| (home + i) & (slots - 1))
        })
    }

    /// A free slot in the window of `id`, after moving at most `depth` others.
    fn make_room(&mut self, id: ServiceId, depth: u32) -> Option<u32> {
        if let Some(free) = self
            .window(id)
            .find(|place| self.table[*place as usize].is_none())
        {
            return Some(free);
        }
        if depth == 0 {
            return None;
        }
        for place in self.window(id) {
            let occupant = self.table[place as usize]?;
            if let Some(other) = self.make_room(occupant, depth - 1)
                // Moving others on the way may have moved the occupant itself.
                && self.table[place as usize] == Some(occupant)
            {
                self.table[place as usize] = None;
                self.put(occupant, other);
                return Some(place);
            }
        }
        None
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
        for n in 0..700 {
            assert!(placement.insert(id(n)), "service {n} of 700 in 1024 slots");
        }
        for n in (0..700).step_by(3) {
            placement.remove(&id(n));
        }
        for n in 0..700 {
            match placement.place(&id(n)) {
                None => assert_eq!(n % 3, 0),
                Some(place) => {
                    assert!(
                        placement.window(id(n)).any(|slot| slot == place),
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
