//! The configuration as files have it, and the change to one of those.

use super::{Loads, RawStats, State};
use crate::{
    config::changes,
    model::{Chain, Config, DestId, Refusal, Request, Rule, ServiceConfig, ServiceId},
};

impl State {
    /// Everything that is configured.
    pub fn config(&self, stats: &dyn RawStats) -> Config {
        let services = self.services().map(|(id, service)| ServiceConfig {
            id: *id,
            spec: service.spec.clone(),
            dests: service.dests.iter().rev().map(|node| node.dest).collect(),
        });
        let rules = |chain| -> Vec<Rule> {
            let listed = self.list_rules(chain, stats).into_iter();
            listed.map(|listed| listed.rule).collect()
        };
        Config {
            services: Some(services.collect()),
            pools: Some(self.pool_list()),
            timeouts: Some(self.settings.timeouts),
            sysctls: Some(self.settings.sysctls.clone()),
            marks: Some(rules(Chain::Mark)),
            filters: Some(rules(Chain::Filter)),
            sets: Some(self.list_sets()),
        }
    }

    /// Makes the configuration what `wanted` says, in one transaction with what
    /// else is in it.
    ///
    /// # Errors
    /// The first change that is refused. Nothing is done then.
    pub fn apply_config(
        &mut self,
        wanted: &Config,
        stats: &dyn RawStats,
        loads: &dyn Loads,
        now: u64,
    ) -> Result<(), Box<(Request, Refusal)>> {
        let changes = changes(&self.config(stats), wanted);
        let before = self.clone();
        for change in changes {
            if let Err(refusal) = self.apply(&change, stats, loads, now) {
                *self = before;
                return Err(Box::new((change, refusal)));
            }
        }
        Ok(())
    }

    /// Gives a server weight 0, or the last other one that it had.
    pub(super) fn drain(&mut self, id: ServiceId, dest: DestId, undo: bool) -> Result<(), Refusal> {
        let service = self.services.get(&id).ok_or(Refusal::NoSuchService)?;
        let mut nodes = service.dests.iter();
        let node = nodes.find(|node| node.dest.id == dest);
        let node = node.ok_or(Refusal::NoSuchDest)?;
        let mut new = node.dest;
        new.spec.weight = if undo { node.last_weight } else { 0 };
        if undo && new.spec.weight == 0 {
            return Err(Refusal::Other(
                "lvx: this server was added with weight 0: 'lvx ipvsadm -e … -w WEIGHT' gives it another"
                    .into(),
            ));
        }
        if new == node.dest {
            return Ok(());
        }
        self.edit_dest(id, new)
    }

    /// Slot of a configured server.
    pub fn dest_slot(&self, id: &ServiceId, dest: DestId) -> Result<u32, Refusal> {
        let service = self.services.get(id).ok_or(Refusal::NoSuchService)?;
        let mut nodes = service.dests.iter();
        let node = nodes.find(|node| node.dest.id == dest);
        node.map(|node| node.slot).ok_or(Refusal::NoSuchDest)
    }

    /// Slots of servers below which all that were ever used are.
    pub fn dest_slots_used(&self) -> u32 {
        self.dest_slots.ever_used()
    }
}
