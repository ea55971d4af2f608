//! The configuration as text: one JSON document with a service a line.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Kept, Limits, Node, Rules, Service, Slots, State, Trash, Trashed};
use crate::daemon::sched_tables::has_table;
use crate::model::{
    Config, Counters, Declared, Dest, Pool, ServiceConfig, ServiceId, ServiceSpec, Settings,
};

/// Changes when the text changes shape.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved<S, T> {
    format: u32,
    epoch: u64,
    trash_due: Option<u64>,
    services: Vec<S>,
    trash: Vec<T>,
    #[serde(default)]
    locals: Vec<Pool>,
    #[serde(default)]
    settings: Settings,
    rules: Option<Box<RawValue>>,
    #[serde(default)]
    declared: Vec<Declared>,
}

#[derive(Serialize, Deserialize)]
struct SavedService {
    id: ServiceId,
    spec: ServiceSpec,
    slot: u32,
    generation: u32,
    #[serde(default)]
    binding: u32,
    left: Counters,
    dests: Vec<SavedDest>,
}

#[derive(Serialize, Deserialize)]
struct SavedDest {
    slot: u32,
    dest: Dest,
    #[serde(default)]
    masq: bool,
    /// Absent: its weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_weight: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct SavedTrash {
    service: ServiceId,
    service_slot: Option<u32>,
    slot: u32,
    dest: Dest,
    #[serde(default)]
    masq: bool,
    idle_since: Option<u64>,
}

/// What a text says is configured.
pub(super) fn kept(text: &str) -> Result<Kept> {
    let saved: Saved<SavedService, SavedTrash> = parse(text)?;
    let mut config = Config {
        pools: Some(saved.locals),
        timeouts: Some(saved.settings.timeouts),
        sysctls: Some(saved.settings.sysctls),
        ..Config::default()
    };
    if let Some(rules) = saved.rules {
        let sections = Rules::sections(&rules).context("the saved rules")?;
        (config.marks, config.filters, config.sets) =
            (Some(sections.0), Some(sections.1), Some(sections.2));
    }
    let mut weights = Vec::new();
    let services = saved.services.into_iter().map(|saved| {
        let drained = saved.dests.iter().filter_map(|saved| {
            let dest = saved.dest.id;
            Some((dest, saved.last_weight?))
        });
        weights.extend(drained.map(|(dest, weight)| (saved.id, dest, weight)));
        ServiceConfig {
            id: saved.id,
            spec: saved.spec,
            dests: saved.dests.iter().rev().map(|saved| saved.dest).collect(),
        }
    });
    config.services = Some(services.collect());
    Ok(Kept {
        config,
        declared: saved.declared,
        weights,
    })
}

fn parse(text: &str) -> Result<Saved<SavedService, SavedTrash>> {
    let saved: Saved<SavedService, SavedTrash> =
        serde_json::from_str(text).context("the saved configuration is damaged")?;
    ensure!(
        saved.format == FORMAT,
        "the saved configuration has format {}",
        saved.format
    );
    Ok(saved)
}

impl State {
    /// The text of this configuration, without what only a running daemon needs.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{{\"format\":{FORMAT},\"epoch\":{},\"trash_due\":{},\n\"services\":[",
            self.epoch,
            self.trash
                .due()
                .map_or_else(|| "null".into(), |due| due.to_string()),
        );
        // Lines of services that did not change are kept: with 10,000 services
        // writing them all anew would take longer than all the rest.
        for (i, (id, service)) in self.services.iter().enumerate() {
            text.push_str(if i == 0 { "\n" } else { ",\n" });
            match service.line.as_str() {
                "" => text.push_str(&line(id, service)),
                line => text.push_str(line),
            }
        }
        text.push_str("],\n\"trash\":[");
        for (i, trashed) in self.trash.dests().enumerate() {
            text.push_str(if i == 0 { "\n" } else { ",\n" });
            text.push_str(&json(&SavedTrash {
                service: trashed.service,
                service_slot: trashed.service_slot,
                slot: trashed.slot,
                dest: trashed.dest,
                masq: trashed.masq,
                idle_since: trashed.idle_since,
            }));
        }
        text.push_str("],\n\"locals\":");
        text.push_str(&json(&self.pool_list()));
        text.push_str(",\n\"settings\":");
        text.push_str(&json(&self.settings));
        text.push_str(",\n\"rules\":");
        text.push_str(&self.rules.text());
        if !self.declared.is_empty() {
            text.push_str(",\n\"declared\":[");
            for (i, declared) in self.declared.values().enumerate() {
                text.push_str(if i == 0 { "\n" } else { ",\n" });
                text.push_str(&json(declared));
            }
            text.push(']');
        }
        text.push_str("}\n");
        text
    }

    /// Reads a configuration back.
    ///
    /// # Errors
    /// When the text is damaged, of another format, or does not fit `limits`.
    pub fn from_text(text: &str, limits: Limits) -> Result<Self> {
        let saved = parse(text)?;
        let mut state = Self::new(limits);
        let (mut service_slots, mut dest_slots) = (Vec::new(), Vec::new());
        for saved in saved.services {
            service_slots.push(saved.slot);
            dest_slots.extend(saved.dests.iter().map(|dest| dest.slot));
            if !state.placement.insert(saved.id) {
                bail!("the saved services do not fit the service table");
            }
            let nodes = saved.dests.into_iter().map(|saved| Node {
                slot: saved.slot,
                dest: saved.dest,
                masq: saved.masq,
                start: None,
                fresh: false,
                last_weight: saved.last_weight.unwrap_or(saved.dest.spec.weight),
            });
            state.sched_tables += u32::from(has_table(&saved.spec.scheduler));
            let service = Service {
                slot: saved.slot,
                spec: saved.spec,
                generation: saved.generation,
                binding: saved.binding,
                left: saved.left.into(),
                dests: nodes.collect(),
                change: None,
                line: String::new(),
            };
            ensure!(
                state.services.insert(saved.id, service).is_none(),
                "the saved configuration names a service twice"
            );
        }
        ensure!(
            distinct(&mut service_slots, limits.services),
            "the saved service slots clash"
        );
        let trash = saved.trash.into_iter().map(|saved| Trashed {
            service: saved.service,
            service_slot: saved.service_slot,
            slot: saved.slot,
            dest: saved.dest,
            masq: saved.masq,
            idle_since: saved.idle_since,
            settled: true,
        });
        let trash: Vec<Trashed> = trash.collect();
        dest_slots.extend(trash.iter().map(|trashed| trashed.slot));
        ensure!(
            distinct(&mut dest_slots, limits.dests),
            "the saved server slots clash"
        );
        if let Some(rules) = saved.rules {
            state.rules = Rules::restore(&rules, limits.rules).context("the saved rules")?;
        }
        let locals = saved.locals.into_iter();
        state.locals = locals.map(|pool| (pool.service, pool.ranges)).collect();
        state.settings = saved.settings;
        let declared = saved.declared.into_iter();
        state.declared = declared.map(|one| (one.service.id, one)).collect();
        state.trash = Trash::restore(trash, saved.trash_due);
        state.service_slots = Slots::new(limits.services, service_slots);
        state.dest_slots = Slots::new(limits.dests, dest_slots);
        state.epoch = saved.epoch;
        Ok(state)
    }
}

/// The text of one service.
pub(super) fn line(id: &ServiceId, service: &Service) -> String {
    json(&SavedService {
        id: *id,
        spec: service.spec.clone(),
        slot: service.slot,
        generation: service.generation,
        binding: service.binding,
        left: service.left.into(),
        dests: service
            .dests
            .iter()
            .map(|node| SavedDest {
                slot: node.slot,
                dest: node.dest,
                masq: node.masq,
                last_weight: (node.last_weight != node.dest.spec.weight)
                    .then_some(node.last_weight),
            })
            .collect(),
    })
}

fn json<T: Serialize>(item: &T) -> String {
    // Plain structs of numbers, strings and enums: serialization cannot fail.
    serde_json::to_string(item).expect("plain data serializes")
}

/// Whether all slots are below `limit` and none occurs twice.
fn distinct(slots: &mut [u32], limit: u32) -> bool {
    slots.sort_unstable();
    slots.windows(2).all(|pair| pair[0] != pair[1]) && slots.last().is_none_or(|last| *last < limit)
}
