//! A saved configuration for a data plane that has none: what was configured,
//! without the slots and counters that died with the old data plane.

use anyhow::{Context as _, Result};

use super::{Loads, RawStats, State, text};
use crate::model::{Config, Declared, DestId, Refusal, Request, ServiceId};

/// What a saved text says is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Services, pools, settings, rules and sets.
    pub config: Config,
    /// Services as files declare them.
    pub declared: Vec<Declared>,
    /// Weights to which drained servers go back.
    pub weights: Vec<(ServiceId, DestId, u32)>,
}

impl Kept {
    /// Reads the text that [`State::to_text`] wrote.
    ///
    /// # Errors
    /// When it is damaged, or of another format.
    pub fn read(text: &str) -> Result<Self> {
        text::kept(text).context("the saved configuration cannot be used")
    }

    /// Services and servers.
    pub fn counts(&self) -> (usize, usize) {
        let services = self.config.services.as_deref().unwrap_or_default();
        let dests = services.iter().map(|service| service.dests.len()).sum();
        (services.len(), dests)
    }
}

impl State {
    /// Configures what was kept, in a state that has nothing yet.
    ///
    /// # Errors
    /// The first change that is refused. Nothing is done then.
    pub fn restore(
        &mut self,
        kept: &Kept,
        stats: &dyn RawStats,
        loads: &dyn Loads,
        now: u64,
    ) -> Result<(), Box<(Request, Refusal)>> {
        self.apply_config(&kept.config, stats, loads, now)?;
        let declared = kept.declared.iter().cloned();
        self.declared = declared.map(|one| (one.service.id, one)).collect();
        for (id, dest, weight) in &kept.weights {
            let service = self.services.get_mut(id);
            let nodes = service.map(|service| service.dests.iter_mut());
            let mut nodes = nodes.into_iter().flatten();
            if let Some(node) = nodes.find(|node| node.dest.id == *dest) {
                node.last_weight = *weight;
            }
        }
        Ok(())
    }
}
