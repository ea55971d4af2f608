//! Servers that were removed while connections referred to them.

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

/// The removed servers and their timer.
#[derive(Clone, Debug, Default)]
pub(super) struct Trash {
    dests: Vec<Trashed>,
    due: Option<u64>,
}

impl Trash {
    /// As it was saved.
    pub(super) fn restore(dests: Vec<Trashed>, due: Option<u64>) -> Self {
        let due = if dests.is_empty() {
            None
        } else {
            due.or(Some(0))
        };
        Self { dests, due }
    }

    pub(super) fn dests(&self) -> &[Trashed] {
        &self.dests
    }

    pub(super) fn due(&self) -> Option<u64> {
        self.due
    }

    /// The service in `slot` is gone: its statistics are no longer these servers'.
    pub(super) fn orphan(&mut self, slot: u32) {
        let orphans = self
            .dests
            .iter_mut()
            .filter(|trashed| trashed.service_slot == Some(slot));
        orphans.for_each(|trashed| trashed.service_slot = None);
    }

    /// No packet can still choose what is here.
    pub(super) fn settle(&mut self) {
        self.dests
            .iter_mut()
            .for_each(|trashed| trashed.settled = true);
    }

    /// Whether the server `id` of a service with the identity `service` is here.
    pub(super) fn holds(&self, service: &ServiceId, id: DestId) -> bool {
        self.dests
            .iter()
            .any(|trashed| trashed.dest.id == id && trashed.service == *service)
    }

    /// Gives up the server that was removed first of those that nothing refers
    /// to: its slot is needed.
    pub(super) fn reclaim(&mut self, loads: &dyn Loads) -> Option<Trashed> {
        let unused = |trashed: &Trashed| trashed.settled && loads.references(trashed.slot) == 0;
        let found = self.dests.iter().position(unused)?;
        Some(self.dests.remove(found))
    }

    /// Puts a server in; the timer is armed anew when there was none.
    pub(super) fn put(&mut self, trashed: Trashed, now: u64) {
        if self.dests.is_empty() {
            self.due = Some(now + PERIOD);
        }
        self.dests.push(trashed);
    }

    /// Takes the server `id` of a service with the identity `service` out again.
    pub(super) fn take(&mut self, service: &ServiceId, id: DestId) -> Option<Trashed> {
        let found = self
            .dests
            .iter()
            .position(|trashed| trashed.dest.id == id && trashed.service == *service)?;
        Some(self.dests.remove(found))
    }

    /// The looks that are due at `now`: returns the servers whose time is over.
    pub(super) fn tick(&mut self, loads: &dyn Loads, now: u64) -> Vec<Trashed> {
        let mut freed = Vec::new();
        // Each look counts from the second it was due, not from when it was made.
        while let Some(due) = self.due.filter(|due| *due <= now) {
            // After a pause (no daemon for hours) one look stands for all that were missed.
            let at = if now - due >= PERIOD { now } else { due };
            self.dests.retain_mut(|trashed| {
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
        freed
    }
}
