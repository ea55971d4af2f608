//! Servers that were removed while connections referred to them.

use std::collections::{BTreeMap, HashMap, btree_map::Values};

use crate::model::{Dest, DestId, ServiceId};

use super::{Loads, Node};

/// Seconds between two looks at the trash.
const PERIOD: u64 = 60;
/// Seconds that a server stays after the look that first found it unreferenced.
const KEEP: u64 = 120;

/// A removed server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// Service it belonged to.
    pub service: ServiceId,
    /// That service's slot; `None` once the service was deleted too (it may have
    /// been created again since, as another one).
    pub service_slot: Option<u32>,
    /// Its own slot.
    pub slot: u32,
    /// As it was configured last.
    pub dest: Dest,
    /// See [`Node::masq`].
    pub masq: bool,
    /// Second of the look that first found it unreferenced.
    pub idle_since: Option<u64>,
    /// A grace period has passed since: no packet can still choose it.
    pub settled: bool,
}

impl Trashed {
    /// A server on its way out of a service.
    pub(super) fn new(service: ServiceId, service_slot: Option<u32>, node: Node) -> Self {
        Self {
            service,
            service_slot,
            slot: node.slot,
            dest: node.dest,
            masq: node.masq,
            idle_since: None,
            settled: false,
        }
    }
}

/// The removed servers and their timer. A table of ten thousand services may be
/// taken away and come back at once, so nothing here looks through all of them for one.
#[derive(Clone, Debug, Default)]
pub(super) struct Trash {
    /// By the order in which they were removed.
    dests: BTreeMap<u64, Trashed>,
    next: u64,
    by_id: HashMap<(ServiceId, DestId), u64>,
    /// Those that came from a service's slot; some may be gone.
    by_service: HashMap<u32, Vec<u64>>,
    due: Option<u64>,
    /// Within this transaction no slot can be reclaimed any more.
    exhausted: bool,
}

impl Trash {
    /// As it was saved.
    pub(super) fn restore(dests: Vec<Trashed>, due: Option<u64>) -> Self {
        let mut trash = Self::default();
        for trashed in dests {
            trash.put(trashed, 0);
        }
        trash.due = (!trash.dests.is_empty()).then(|| due.unwrap_or(0));
        trash
    }

    pub(super) fn dests(&self) -> Values<'_, u64, Trashed> {
        self.dests.values()
    }

    pub(super) fn due(&self) -> Option<u64> {
        self.due
    }

    /// The service in `slot` is gone: its statistics are no longer these servers'.
    pub(super) fn orphan(&mut self, slot: u32) {
        for number in self.by_service.remove(&slot).unwrap_or_default() {
            if let Some(trashed) = self.dests.get_mut(&number) {
                trashed.service_slot = None;
            }
        }
    }

    /// No packet can still choose what is here.
    pub(super) fn settle(&mut self) {
        self.exhausted = false;
        self.dests
            .values_mut()
            .for_each(|trashed| trashed.settled = true);
    }

    /// Whether the server `id` of a service with the identity `service` is here.
    pub(super) fn holds(&self, service: &ServiceId, id: DestId) -> bool {
        self.by_id.contains_key(&(*service, id))
    }

    /// Gives up the server that was removed first of those that nothing refers
    /// to: its slot is needed.
    pub(super) fn reclaim(&mut self, loads: &dyn Loads) -> Option<Trashed> {
        if self.exhausted {
            return None;
        }
        let unused = |trashed: &Trashed| trashed.settled && loads.references(trashed.slot) == 0;
        let found = self.dests.iter().find(|(_, trashed)| unused(trashed));
        let Some(number) = found.map(|(number, _)| *number) else {
            self.exhausted = true;
            return None;
        };
        self.remove(number)
    }

    fn remove(&mut self, number: u64) -> Option<Trashed> {
        let trashed = self.dests.remove(&number)?;
        self.by_id.remove(&(trashed.service, trashed.dest.id));
        if self.dests.is_empty() {
            self.by_service.clear();
        }
        Some(trashed)
    }

    /// Puts a server in; the timer is armed anew when there was none.
    pub(super) fn put(&mut self, trashed: Trashed, now: u64) {
        if self.dests.is_empty() {
            self.due = Some(now + PERIOD);
        }
        let number = self.next;
        self.next += 1;
        if let Some(slot) = trashed.service_slot {
            self.by_service.entry(slot).or_default().push(number);
        }
        self.by_id
            .insert((trashed.service, trashed.dest.id), number);
        self.dests.insert(number, trashed);
    }

    /// Takes the server `id` of a service with the identity `service` out again.
    pub(super) fn take(&mut self, service: &ServiceId, id: DestId) -> Option<Trashed> {
        let number = *self.by_id.get(&(*service, id))?;
        self.remove(number)
    }

    /// The looks that are due at `now`: returns the servers whose time is over.
    pub(super) fn tick(&mut self, loads: &dyn Loads, now: u64) -> Vec<Trashed> {
        let mut freed = Vec::new();
        // Each look counts from the second it was due, not from when it was made.
        while let Some(due) = self.due.filter(|due| *due <= now) {
            // After a pause (no daemon for hours) one look stands for all that were missed.
            let at = if now - due >= PERIOD { now } else { due };
            self.dests.retain(|_, trashed| {
                if loads.references(trashed.slot) != 0 {
                    return true;
                }
                let since = *trashed.idle_since.get_or_insert(at);
                let keep = at < since + KEEP;
                if !keep {
                    freed.push(*trashed);
                }
                keep
            });
            self.due = (!self.dests.is_empty()).then_some(at + PERIOD);
        }
        for trashed in &freed {
            self.by_id.remove(&(trashed.service, trashed.dest.id));
        }
        let there = &self.dests;
        self.by_service.retain(|_, numbers| {
            numbers.retain(|number| there.contains_key(number));
            !numbers.is_empty()
        });
        freed
    }
}
