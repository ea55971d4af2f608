//! Requests that change the configuration. Each is done whole or refused with
//! nothing changed.

use std::net::IpAddr;

use lb_common::layout::{SchedulerKind, Stats};

use super::{Change, Node, Service, State, trash::Trashed};
use crate::{
    daemon::{
        cursor::{MAX_LIST, Step},
        sched_tables::has_table,
    },
    model::{Dest, DestId, Family, Method, Refusal, Request, ServiceId, ServiceSpec, Tunnel},
};

/// The raw counters of a server's slot.
pub trait RawStats {
    /// Summed over CPUs, since the data plane was created.
    fn raw(&self, slot: u32) -> Stats;
    /// Packets and bytes that a filter rule's slot has counted.
    fn rule(&self, _slot: u32) -> [u64; 2] {
        [0; 2]
    }
}

/// What still refers to a server's slot.
pub trait Loads {
    /// Connections, active and inactive, and templates.
    fn references(&self, slot: u32) -> u64;
}

impl State {
    /// Applies one request that changes services or servers; others (batches
    /// too) are none of this module's business and change nothing. `now` is in seconds.
    ///
    /// # Errors
    /// The kernel's refusals, a full table, or what is not built.
    pub fn apply(
        &mut self,
        request: &Request,
        stats: &dyn RawStats,
        loads: &dyn Loads,
        now: u64,
    ) -> Result<(), Refusal> {
        match request {
            Request::AddService(id, spec) => self.add_service(*id, spec),
            Request::EditService(id, spec) => self.edit_service(*id, spec),
            Request::DeleteService(id) => self.delete_service(*id, now),
            Request::Clear => {
                while let Some((id, _)) = self.services.last() {
                    self.delete_service(*id, now)?;
                }
                Ok(())
            }
            Request::AddDest(id, dest) => self.add_dest(*id, *dest, stats, loads),
            Request::EditDest(id, dest) => self.edit_dest(*id, *dest),
            Request::DeleteDest(id, dest) => self.delete_dest(*id, *dest, now, stats, loads),
            Request::AddLocal(owner, ranges) => self.add_local(*owner, ranges),
            Request::DeleteLocal(owner, ranges) => self.delete_local(*owner, ranges),
            Request::SetTimeouts(timeouts) => {
                self.settings.set_timeouts(*timeouts)?;
                self.dirty = true;
                Ok(())
            }
            Request::SetSysctl(name, value) => {
                self.settings.set(name, *value)?;
                self.dirty = true;
                Ok(())
            }
            Request::Rules(change) => self.change_rules(change, stats),
            Request::Drain(id, dest) => self.drain(*id, *dest, false),
            Request::Undrain(id, dest) => self.drain(*id, *dest, true),
            Request::SetCheck(id, check) => {
                self.set_check(*id, check.as_deref(), now, stats, loads)
            }
            Request::Report(verdicts) => {
                self.report(verdicts, stats, loads);
                Ok(())
            }
            Request::Apply(_)
            | Request::Batch(_)
            | Request::Strict(_)
            | Request::Health
            | Request::RetireTemplates(..)
            | Request::Flows(_)
            | Request::Kill(_)
            | Request::Overview
            | Request::Config
            | Request::Proc(_)
            | Request::Maps
            | Request::Zero(_)
            | Request::List(_)
            | Request::Connections
            | Request::Locals
            | Request::Settings
            | Request::ListRules(_)
            | Request::ListSets
            | Request::Status
            | Request::Capture(_)
            | Request::EndCapture(_)
            | Request::Down { .. } => Ok(()),
        }
    }

    fn add_service(&mut self, id: ServiceId, spec: &ServiceSpec) -> Result<(), Refusal> {
        if self.services.contains_key(&id) {
            return Err(Refusal::ServiceExists);
        }
        supported_spec(spec)?;
        let tables = self.tables_after(None, &spec.scheduler)?;
        let limit = self.limits.services;
        let full = || Self::refuse_full("services", limit, "--services");
        let slot = self.service_slots.take().ok_or_else(full)?;
        if !self.placement.insert(id) {
            self.service_slots.give(slot);
            return Err(full());
        }
        let change = Change {
            created: true,
            steps: vec![Step::Bind { weight: 0 }],
            ..Change::default()
        };
        let service = Service {
            slot,
            spec: spec.clone(),
            generation: 0,
            binding: 0,
            left: Stats::default(),
            dests: Vec::new(),
            health: None,
            change: Some(change),
            line: String::new(),
        };
        self.services.insert(id, service);
        self.sched_tables = tables;
        self.dirty = true;
        Ok(())
    }

    fn edit_service(&mut self, id: ServiceId, spec: &ServiceSpec) -> Result<(), Refusal> {
        let service = self.services.get(&id).ok_or(Refusal::NoSuchService)?;
        supported_spec(spec)?;
        self.sched_tables = self.tables_after(Some(service), &spec.scheduler)?;
        let service = self.services.get_mut(&id).ok_or(Refusal::NoSuchService)?;
        let rebind = service.spec.scheduler != spec.scheduler;
        service.spec = spec.clone();
        service.line.clear();
        if rebind {
            let weight = if spec.scheduler == "wrr" {
                service.wrr().max as i32
            } else {
                0
            };
            service.changing().steps.push(Step::Bind { weight });
        }
        self.dirty = true;
        Ok(())
    }

    /// Services whose scheduler has a table once that of `service`, or of a new
    /// one, is `scheduler`.
    fn tables_after(&self, service: Option<&Service>, scheduler: &str) -> Result<u32, Refusal> {
        let had = service.is_some_and(|service| has_table(&service.spec.scheduler));
        let (before, most) = self.sched_tables();
        let after = before - u32::from(had) + u32::from(has_table(scheduler));
        if after > before && after > most {
            return Err(Self::refuse_full("mh services", most, "--mh-services"));
        }
        Ok(after)
    }

    fn delete_service(&mut self, id: ServiceId, now: u64) -> Result<(), Refusal> {
        let service = self
            .services
            .shift_remove(&id)
            .ok_or(Refusal::NoSuchService)?;
        self.sched_tables -= u32::from(has_table(&service.spec.scheduler));
        self.placement.remove(&id);
        self.service_slots.give(service.slot);
        self.trash.orphan(service.slot);
        for node in service.dests {
            self.trash.put(Trashed::new(id, None, node), now);
        }
        self.dirty = true;
        Ok(())
    }

    /// Puts a server into the list.
    pub(super) fn list_dest(
        &mut self,
        id: ServiceId,
        dest: Dest,
        stats: &dyn RawStats,
        loads: &dyn Loads,
    ) -> Result<(), Refusal> {
        let service = self.services.get(&id).ok_or(Refusal::NoSuchService)?;
        supported_dest(id, &dest)?;
        if service.position(dest.id).is_some() {
            return Err(Refusal::DestExists);
        }
        if service.dests.len() >= MAX_LIST as usize {
            return Err(Refusal::Full(format!(
                "lvx: a service holds at most {MAX_LIST} servers"
            )));
        }
        let new_slot = if self.trash.holds(&id, dest.id) {
            None
        } else {
            unicast(dest.id.addr)?;
            let slot = self
                .dest_slots
                .take()
                .or_else(|| self.reclaim(stats, loads));
            Some(slot.ok_or_else(|| {
                let table = "servers, removed ones with connections included,";
                Self::refuse_full(table, self.limits.dests, "--dests")
            })?)
        };
        let service = self.services.get_mut(&id).ok_or(Refusal::NoSuchService)?;
        let masq = dest.spec.method.translates();
        let node = match self.trash.take(&id, dest.id) {
            Some(trashed) if trashed.service_slot == Some(service.slot) => Node {
                slot: trashed.slot,
                dest,
                masq: masq || trashed.masq,
                start: None,
                fresh: false,
                last_weight: dest.spec.weight,
            },
            // The slot is new to the service, or the service was created again:
            // statistics start at zero.
            trashed => {
                let masq = masq || trashed.is_some_and(|trashed| trashed.masq);
                let Some(slot) = trashed.map(|trashed| trashed.slot).or(new_slot) else {
                    return Err(Refusal::Other(
                        "lvx: internal error: a server without a slot".into(),
                    ));
                };
                let raw = stats.raw(slot);
                service.left = sub(service.left, raw);
                Node {
                    slot,
                    dest,
                    masq,
                    start: Some(raw),
                    fresh: new_slot.is_some(),
                    last_weight: dest.spec.weight,
                }
            }
        };
        service.changing();
        service.dests.insert(0, node);
        service.record(Some(Step::Insert));
        self.dirty = true;
        Ok(())
    }

    /// Edits a server in the list.
    pub(super) fn edit_listed(&mut self, id: ServiceId, dest: Dest) -> Result<(), Refusal> {
        let service = self.services.get_mut(&id).ok_or(Refusal::NoSuchService)?;
        supported_dest(id, &dest)?;
        let position = service.position(dest.id).ok_or(Refusal::NoSuchDest)?;
        service.changing();
        let node = &mut service.dests[position];
        node.dest = dest;
        node.masq |= dest.spec.method.translates();
        if dest.spec.weight > 0 {
            node.last_weight = dest.spec.weight;
        }
        service.record(None);
        self.dirty = true;
        Ok(())
    }

    /// Takes a server out of the list.
    pub(super) fn unlist_dest(
        &mut self,
        id: ServiceId,
        dest: DestId,
        now: u64,
    ) -> Result<(), Refusal> {
        let service = self.services.get_mut(&id).ok_or(Refusal::NoSuchService)?;
        let position = service.position(dest).ok_or(Refusal::NoSuchDest)?;
        service.changing();
        let node = service.dests.remove(position);
        service.record(Some(Step::Remove(position)));
        self.trash
            .put(Trashed::new(id, Some(service.slot), node), now);
        self.dirty = true;
        Ok(())
    }

    /// Looks through the trash if its timer is due at `now` (seconds), and
    /// frees the slots of servers that nothing has referred to for long enough.
    pub fn expire_trash(&mut self, loads: &dyn Loads, stats: &dyn RawStats, now: u64) {
        for trashed in self.trash.tick(loads, now) {
            self.free(&trashed, stats);
            self.dest_slots.give(trashed.slot);
            self.dirty = true;
        }
        self.forget_marked(|slot| loads.references(slot));
    }

    /// A slot out of the trash, when there is no other.
    fn reclaim(&mut self, stats: &dyn RawStats, loads: &dyn Loads) -> Option<u32> {
        let trashed = self.trash.reclaim(loads)?;
        self.free(&trashed, stats);
        Some(trashed.slot)
    }

    /// What a server counted stays with its service, if that still exists.
    fn free(&mut self, trashed: &Trashed, stats: &dyn RawStats) {
        if let Some(service) = self.services.get_mut(&trashed.service)
            && trashed.service_slot == Some(service.slot)
        {
            service.left = add(service.left, stats.raw(trashed.slot));
            service.line.clear();
        }
    }

    /// When [`State::expire_trash`] is next due, in seconds.
    pub fn trash_due(&self) -> Option<u64> {
        self.trash.due()
    }
}

impl Service {
    fn position(&self, id: DestId) -> Option<usize> {
        self.dests.iter().position(|node| node.dest.id == id)
    }

    /// The record of this transaction's changes, begun before the first of them.
    fn changing(&mut self) -> &mut Change {
        let dests = &self.dests;
        self.change.get_or_insert_with(|| Change {
            before: dests.iter().map(|node| node.slot).collect(),
            ..Change::default()
        })
    }

    /// Records what an edit of the list means to the cursor: `rr`, or wrr's own.
    fn record(&mut self, rr: Option<Step>) {
        let step = match self.spec.scheduler.as_str() {
            "wrr" => Some(Step::Reweigh(self.wrr())),
            _ => rr,
        };
        self.changing().steps.extend(step);
    }
}

/// The only persistence engine that IPVS has.
const ENGINE: &str = "sip";

fn supported_spec(spec: &ServiceSpec) -> Result<(), Refusal> {
    let is_engine = spec.pe.as_ref().is_none_or(|name| name == ENGINE);
    if !is_engine || SchedulerKind::from_name(&spec.scheduler).is_none() {
        return Err(Refusal::NoScheduler);
    }
    Ok(())
}

/// The checks of a server that come before it is looked for, in the kernel's order.
pub(super) fn supported_dest(service: ServiceId, dest: &Dest) -> Result<(), Refusal> {
    let spec = &dest.spec;
    // Only a tunnel can carry packets of one family in those of the other.
    if service.family() != Family::of(dest.id.addr) && spec.method != Method::Tunnel {
        return Err(Refusal::Invalid);
    }
    if spec.weight > i32::MAX as u32 || spec.l_threshold > spec.u_threshold {
        return Err(Refusal::Range);
    }
    if spec.method == Method::Tunnel && matches!(spec.tunnel, Tunnel::Gue { port: 0, .. }) {
        return Err(Refusal::Invalid);
    }
    let what = match spec.method {
        Method::Local => "local delivery as a forwarding method",
        Method::Masq | Method::Fullnat | Method::Tunnel | Method::Route => return Ok(()),
    };
    Err(Refusal::Unsupported(what.into()))
}

/// Refuses what the kernel does not take for a server. Of an IPv4 address it
/// asks its routing table, which knows "this network", multicast and broadcast
/// addresses; an IPv6 address tells by itself.
pub(super) fn unicast(addr: IpAddr) -> Result<(), Refusal> {
    let refused = match addr {
        IpAddr::V4(addr) => addr.octets()[0] == 0 || addr.is_multicast() || addr.is_broadcast(),
        IpAddr::V6(addr) => {
            let mapped = addr.to_ipv4_mapped().is_some();
            mapped || addr.is_unspecified() || addr.is_multicast() || addr.is_unicast_link_local()
        }
    };
    if refused {
        Err(Refusal::Invalid)
    } else {
        Ok(())
    }
}

/// Adds counters, wrapping.
pub(crate) fn add(a: Stats, b: Stats) -> Stats {
    combine(a, b, u64::wrapping_add)
}

/// Subtracts counters, wrapping.
pub(crate) fn sub(a: Stats, b: Stats) -> Stats {
    combine(a, b, u64::wrapping_sub)
}

fn combine(a: Stats, b: Stats, with: fn(u64, u64) -> u64) -> Stats {
    Stats {
        conns: with(a.conns, b.conns),
        in_packets: with(a.in_packets, b.in_packets),
        out_packets: with(a.out_packets, b.out_packets),
        in_bytes: with(a.in_bytes, b.in_bytes),
        out_bytes: with(a.out_bytes, b.out_bytes),
    }
}
