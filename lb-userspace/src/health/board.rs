use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::model::{DestId, LastCheck, ServiceHealth, ServiceId};

/// The last check of every server: written by the checker, read by `lvx health`.
#[derive(Debug, Default)]
pub struct Board(Mutex<HashMap<(ServiceId, DestId), LastCheck>>);

impl Board {
    /// Notes a check.
    pub(super) fn note(&self, server: (ServiceId, DestId), last: LastCheck) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(server, last);
    }

    /// Forgets servers that are no longer checked.
    pub(super) fn retain(&self, keep: impl Fn(&(ServiceId, DestId)) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|server, _| keep(server));
    }

    /// Writes the last checks into what is shown.
    pub fn fill(&self, services: &mut [ServiceHealth]) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for service in services {
            for server in &mut service.servers {
                server.last = all.get(&(service.service, server.server)).cloned();
            }
        }
    }
}
