//! Health checks over the configuration: a server that is down is configured
//! and not in the list, or in it with weight 0; when none is up the sorry
//! server is in the list and not configured.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Loads, RawStats, Service, State};
use crate::model::{
    Check, Condition, Dest, DestId, OnFailure, Refusal, ServerHealth, ServiceCheck, ServiceHealth,
    ServiceId, Transition, Verdict,
};

/// Transitions of a server that are remembered.
const HISTORY: usize = 8;

/// The checks of a service and what they found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// As configured.
    pub check: ServiceCheck,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<Record>,
    /// The sorry server is in the list.
    #[serde(default)]
    pub sorry: bool,
}

/// A configured server of a checked service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The server.
    pub id: DestId,
    /// Its condition.
    pub condition: Condition,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Why.
    pub reason: String,
    /// What it was before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Transition>,
    /// What the configuration says, where the list does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// What a check has taken from a server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// Its weight.
    Weight(u32),
    /// Its place in the list; with the last weight that was not 0.
    Place(Dest, u32),
}

impl Health {
    /// Latest weights, which were not 0, of servers that are not in the list.
    pub(super) fn held_weights(&self) -> impl Iterator<Item = (DestId, u32)> {
        self.servers.iter().filter_map(|record| match record.held {
            Some(Held::Place(_, last)) => Some((record.id, last)),
            _ => None,
        })
    }

    fn record(&self, id: DestId) -> Option<&Record> {
        self.servers.iter().find(|record| record.id == id)
    }

    fn record_mut(&mut self, id: DestId) -> Option<&mut Record> {
        self.servers.iter_mut().find(|record| record.id == id)
    }
}

impl Record {
    fn new(id: DestId, condition: Condition, reason: &str) -> Self {
        Self {
            id,
            condition,
            since: now(),
            reason: reason.into(),
            history: Vec::new(),
            held: None,
        }
    }

    fn turn(&mut self, condition: Condition, reason: &str) {
        self.history.push(Transition {
            to: self.condition,
            at: self.since,
            reason: std::mem::take(&mut self.reason),
        });
        let extra = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..extra);
        self.condition = condition;
        self.since = now();
        reason.clone_into(&mut self.reason);
    }
}

/// Servers as they are configured, the oldest first, where these are listed.
pub(super) fn configured(listed: impl Iterator<Item = Dest>, health: Option<&Health>) -> Vec<Dest> {
    let Some(health) = health else {
        return listed.collect();
    };
    let listed: HashMap<DestId, Dest> = listed.map(|dest| (dest.id, dest)).collect();
    let of = |record: &Record| match record.held {
        Some(Held::Place(dest, _)) => Some(dest),
        held => {
            let mut dest = *listed.get(&record.id)?;
            if let Some(Held::Weight(weight)) = held {
                dest.spec.weight = weight;
            }
            Some(dest)
        }
    };
    health.servers.iter().filter_map(of).collect()
}

impl Service {
    /// Its servers as they are configured, the oldest first.
    pub fn configured(&self) -> Vec<Dest> {
        let listed = self.dests.iter().rev().map(|node| node.dest);
        configured(listed, self.health.as_deref())
    }

    /// The latest weight of a configured server that was not 0, or its first.
    pub(super) fn last_weight(&self, id: DestId) -> Option<u32> {
        let node = self.dests.iter().find(|node| node.dest.id == id);
        let held = || match self.health.as_ref()?.record(id)?.held {
            Some(Held::Place(_, last)) => Some(last),
            _ => None,
        };
        node.map(|node| node.last_weight).or_else(held)
    }
}

impl State {
    /// Adds a server. One of a checked service that comes from a file waits for
    /// its first good check; one that is added by hand is believed to live.
    pub(super) fn add_dest(
        &mut self,
        id: ServiceId,
        dest: Dest,
        stats: &dyn RawStats,
        loads: &dyn Loads,
    ) -> Result<(), Refusal> {
        let waits = self.from_file;
        let Some(health) = self.health(&id) else {
            return self.list_dest(id, dest, stats, loads);
        };
        if let Some(record) = health.record_mut(dest.id) {
            if let Some(Held::Place(held, last)) = &mut record.held {
                // It is configured, and not in the list: as if it were edited.
                super::apply::supported_dest(id, &dest)?;
                *held = dest;
                if dest.spec.weight > 0 {
                    *last = dest.spec.weight;
                }
                self.touch(id);
                return Ok(());
            }
            return Err(Refusal::DestExists);
        }
        let check = &health.check.check;
        let (condition, reason) = match check {
            Check::On => (Condition::Up, "not checked"),
            Check::Off => (Condition::Down, "off"),
            _ if waits => (Condition::Waiting, "not checked yet"),
            _ => (Condition::Up, "added by hand, not checked yet"),
        };
        let mut record = Record::new(dest.id, condition, reason);
        let remove = health.check.on_failure == OnFailure::Remove;
        if condition == Condition::Up {
            self.list_dest(id, dest, stats, loads)?;
        } else if remove {
            super::apply::supported_dest(id, &dest)?;
            super::apply::unicast(dest.id.addr)?;
            record.held = Some(Held::Place(dest, dest.spec.weight));
        } else {
            let mut quiet = dest;
            quiet.spec.weight = 0;
            self.list_dest(id, quiet, stats, loads)?;
            self.remember_weight(id, dest.id, dest.spec.weight);
            record.held = Some(Held::Weight(dest.spec.weight));
        }
        if let Some(health) = self.health(&id) {
            health.servers.push(record);
        }
        self.touch(id);
        self.settle_sorry(id, stats, loads);
        Ok(())
    }

    /// Edits a server as it is configured.
    pub(super) fn edit_dest(&mut self, id: ServiceId, dest: Dest) -> Result<(), Refusal> {
        let record = self
            .health(&id)
            .and_then(|health| health.record_mut(dest.id));
        let Some(held) = record.and_then(|record| record.held.as_mut()) else {
            return self.edit_listed(id, dest);
        };
        super::apply::supported_dest(id, &dest)?;
        match held {
            Held::Place(held, last) => {
                *held = dest;
                if dest.spec.weight > 0 {
                    *last = dest.spec.weight;
                }
            }
            Held::Weight(weight) => {
                *weight = dest.spec.weight;
                let mut quiet = dest;
                quiet.spec.weight = 0;
                self.edit_listed(id, quiet)?;
                if dest.spec.weight > 0 {
                    self.remember_weight(id, dest.id, dest.spec.weight);
                }
            }
        }
        self.touch(id);
        Ok(())
    }

    /// Deletes a server, in the list or not.
    pub(super) fn delete_dest(
        &mut self,
        id: ServiceId,
        dest: DestId,
        now: u64,
        stats: &dyn RawStats,
        loads: &dyn Loads,
    ) -> Result<(), Refusal> {
        let Some(health) = self.health(&id) else {
            return self.unlist_dest(id, dest, now);
        };
        let at = health.servers.iter().position(|record| record.id == dest);
        let Some(at) = at else {
            if health.sorry && health.check.sorry.is_some_and(|sorry| sorry.id == dest) {
                health.sorry = false;
            }
            return self.unlist_dest(id, dest, now);
        };
        let record = health.servers.remove(at);
        if !matches!(record.held, Some(Held::Place(..))) {
            self.unlist_dest(id, dest, now)?;
        }
        self.touch(id);
        self.settle_sorry(id, stats, loads);
        Ok(())
    }

    /// Gives a service other checks, or none. Servers keep the condition they have.
    pub(super) fn set_check(
        &mut self,
        id: ServiceId,
        check: Option<&ServiceCheck>,
        now: u64,
        stats: &dyn RawStats,
        loads: &dyn Loads,
    ) -> Result<(), Refusal> {
        let service = self.services.get(&id).ok_or(Refusal::NoSuchService)?;
        if let Some(sorry) = check.and_then(|check| check.sorry) {
            super::apply::supported_dest(id, &sorry)?;
        }
        let old = service.health.clone();
        let mut sorry = false;
        let mut kept = Vec::new();
        if let Some(old) = &old {
            sorry = old.sorry && check.is_some_and(|new| new.sorry == old.check.sorry);
            if old.sorry && !sorry {
                self.withdraw_sorry(id, now)?;
            }
            let as_before = check.is_some_and(|new| {
                new.on_failure == old.check.on_failure && new.check != Check::On
            });
            for record in &old.servers {
                let mut record = record.clone();
                if !as_before {
                    self.release(id, record.id, stats, loads)?;
                    record.held = None;
                }
                kept.push(record);
            }
        }
        let service = self.services.get_mut(&id).ok_or(Refusal::NoSuchService)?;
        let Some(check) = check else {
            service.health = None;
            self.touch(id);
            return Ok(());
        };
        if old.is_none() {
            let there = service.dests.iter().rev().map(|node| node.dest.id);
            let up = |dest| Record::new(dest, Condition::Up, "was there, not checked yet");
            kept = there.map(up).collect();
        }
        for record in &mut kept {
            match check.check {
                Check::On if record.condition != Condition::Up => {
                    record.turn(Condition::Up, "not checked");
                }
                Check::Off if record.condition != Condition::Down => {
                    record.turn(Condition::Down, "off");
                }
                _ => {}
            }
        }
        let down = kept
            .iter()
            .filter(|record| record.condition != Condition::Up && record.held.is_none());
        let down: Vec<DestId> = down.map(|record| record.id).collect();
        service.health = Some(Box::new(Health {
            check: check.clone(),
            servers: kept,
            sorry,
        }));
        for dest in down {
            self.hold(id, dest)?;
        }
        self.touch(id);
        self.settle_sorry(id, stats, loads);
        Ok(())
    }

    /// Does what checks have found to servers that still are what was checked.
    pub fn report(&mut self, verdicts: &[Verdict], stats: &dyn RawStats, loads: &dyn Loads) {
        for verdict in verdicts {
            let Verdict {
                service: id,
                dest,
                up,
                reason,
            } = verdict;
            let to = if *up { Condition::Up } else { Condition::Down };
            let Some(record) = self.health(id).and_then(|health| health.record_mut(*dest)) else {
                continue;
            };
            if record.condition == to {
                continue;
            }
            let was = record.condition;
            let after = now().saturating_sub(record.since);
            let done = if *up {
                self.release(*id, *dest, stats, loads)
            } else if was == Condition::Waiting {
                // It is held already.
                Ok(())
            } else {
                self.hold(*id, *dest)
            };
            let (service, server) = (id.name(), dest.to_string());
            if let Err(refusal) = done {
                tracing::error!(
                    service,
                    server,
                    "the server stays {}: {refusal}",
                    was.name()
                );
                continue;
            }
            if let Some(record) = self.health(id).and_then(|health| health.record_mut(*dest)) {
                record.turn(to, reason);
            }
            self.touch(*id);
            tracing::info!(
                service,
                server,
                was = was.name(),
                seconds = after,
                reason,
                "server {}",
                to.name()
            );
            self.settle_sorry(*id, stats, loads);
        }
    }

    /// What `lvx health` shows, but for the last checks.
    pub fn health_list(&self) -> Vec<ServiceHealth> {
        let mut all = Vec::new();
        for (id, service) in &self.services {
            let Some(health) = &service.health else {
                continue;
            };
            let configured = service.configured();
            let weight = |dest| {
                let mut found = configured.iter();
                let found = found.find(|known| known.id == dest);
                found.map_or(0, |dest| dest.spec.weight)
            };
            let servers = health.servers.iter().map(|record| ServerHealth {
                server: record.id,
                state: record.condition,
                weight: weight(record.id),
                since: record.since,
                reason: record.reason.clone(),
                history: record.history.clone(),
                last: None,
            });
            all.push(ServiceHealth {
                service: *id,
                owner: self.declared.get(id).map(|one| one.owner.clone()),
                check: health.check.check.name().into(),
                timing: health.check.timing,
                on_failure: health.check.on_failure,
                sorry: health.check.sorry.map(|sorry| (sorry.id, health.sorry)),
                servers: servers.collect(),
            });
        }
        all
    }

    /// Servers that are not in a list but may come: checks must know the way to
    /// them, and packets when they do.
    pub(super) fn absent(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.services.values();
        let all = all.filter_map(|service| service.health.as_deref());
        all.flat_map(|health| {
            let held = health.servers.iter().map(|record| record.id.addr);
            held.chain(health.check.sorry.map(|sorry| sorry.id.addr))
        })
    }

    fn health(&mut self, id: &ServiceId) -> Option<&mut Health> {
        self.services.get_mut(id)?.health.as_deref_mut()
    }

    /// The service must be saved anew.
    fn touch(&mut self, id: ServiceId) {
        if let Some(service) = self.services.get_mut(&id) {
            service.line.clear();
        }
        self.dirty = true;
    }

    /// The latest weight of a server, in the list or not.
    pub(super) fn remember_weight(&mut self, id: ServiceId, dest: DestId, weight: u32) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let mut nodes = service.dests.iter_mut();
        if let Some(node) = nodes.find(|node| node.dest.id == dest) {
            node.last_weight = weight;
        }
        let health = service.health.as_deref_mut();
        let record = health.and_then(|health| health.record_mut(dest));
        if let Some(Held::Place(_, last)) = record.and_then(|record| record.held.as_mut()) {
            *last = weight;
        }
    }

    /// Takes its place or its weight from a server that is in the list.
    fn hold(&mut self, id: ServiceId, dest: DestId) -> Result<(), Refusal> {
        let service = self.services.get_mut(&id).ok_or(Refusal::NoSuchService)?;
        let node = service.dests.iter().find(|node| node.dest.id == dest);
        let node = *node.ok_or(Refusal::NoSuchDest)?;
        let Some(health) = &mut service.health else {
            return Ok(());
        };
        let mode = health.check.on_failure;
        let held = match mode {
            OnFailure::Remove => Held::Place(node.dest, node.last_weight),
            OnFailure::Quiesce => Held::Weight(node.dest.spec.weight),
        };
        if let Some(record) = health.record_mut(dest) {
            record.held = Some(held);
        }
        match mode {
            OnFailure::Remove => self.unlist_dest(id, dest, crate::daemon::clock::seconds()),
            OnFailure::Quiesce => {
                let mut quiet = node.dest;
                quiet.spec.weight = 0;
                self.edit_listed(id, quiet)
            }
        }
    }

    /// Gives it back.
    fn release(
        &mut self,
        id: ServiceId,
        dest: DestId,
        stats: &dyn RawStats,
        loads: &dyn Loads,
    ) -> Result<(), Refusal> {
        let record = self.health(&id).and_then(|health| health.record(dest));
        let Some(held) = record.and_then(|record| record.held) else {
            return Ok(());
        };
        match held {
            Held::Place(dest, last) => {
                self.list_dest(id, dest, stats, loads)?;
                self.remember_weight(id, dest.id, last);
            }
            Held::Weight(weight) => {
                let service = self.services.get(&id).ok_or(Refusal::NoSuchService)?;
                let mut nodes = service.dests.iter();
                let node = nodes.find(|node| node.dest.id == dest);
                let mut dest = node.ok_or(Refusal::NoSuchDest)?.dest;
                dest.spec.weight = weight;
                self.edit_listed(id, dest)?;
            }
        }
        if let Some(record) = self.health(&id).and_then(|health| health.record_mut(dest)) {
            record.held = None;
        }
        Ok(())
    }

    /// Puts the sorry server into the list when no other is up, and takes it out.
    fn settle_sorry(&mut self, id: ServiceId, stats: &dyn RawStats, loads: &dyn Loads) {
        let Some(health) = self.health(&id) else {
            return;
        };
        let Some(sorry) = health.check.sorry else {
            return;
        };
        let alone = health
            .servers
            .iter()
            .all(|record| record.condition != Condition::Up);
        let there = health.sorry;
        let (service, server) = (id.name(), sorry.id.to_string());
        let done = match (alone, there) {
            (true, false) => self.list_dest(id, sorry, stats, loads).map(|()| {
                tracing::info!(service, server, "sorry server in: no server is up");
                true
            }),
            (false, true) => self
                .withdraw_sorry(id, crate::daemon::clock::seconds())
                .map(|()| {
                    tracing::info!(service, server, "sorry server out");
                    false
                }),
            _ => return,
        };
        match done {
            Ok(in_list) => {
                if let Some(health) = self.health(&id) {
                    health.sorry = in_list;
                }
                self.touch(id);
            }
            // One of the servers is the sorry server too, and in the list with weight 0.
            Err(Refusal::DestExists) => {}
            Err(refusal) => tracing::error!(service, server, "sorry server: {refusal}"),
        }
    }

    fn withdraw_sorry(&mut self, id: ServiceId, now: u64) -> Result<(), Refusal> {
        let sorry = self.health(&id).and_then(|health| health.check.sorry);
        match sorry.map(|sorry| self.unlist_dest(id, sorry.id, now)) {
            None | Some(Ok(()) | Err(Refusal::NoSuchDest)) => Ok(()),
            Some(Err(refusal)) => Err(refusal),
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
