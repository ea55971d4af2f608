//! The maps of one data plane, opened from their pins.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use lb_common::{
    flow,
    layout::{
        DestEntry, DestLoad, FILTER_WORDS, IfaceEntry, ListEntry, LocalAddress, NextHop,
        ServiceEntry, ServiceState, Settings, Stats, StatsPage, SweepStatus,
    },
    parse::LONGEST_CALL_ID,
    reason::Reason,
    sched::mh,
    tables::Params,
    time::{Tick, tick_of},
};
use serde::{Deserialize, Serialize};

use super::Mapping;

/// Sizes that are fixed when the data plane is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// IPv4 connections promised (`--connections`); the table has at least twice as many cells.
    pub connections: u32,
    /// IPv6 connections promised (`--connections6`), in a table of their own.
    pub connections6: u32,
    /// Virtual services.
    pub services: u32,
    /// Servers of all services together, those in the trash included.
    pub dests: u32,
    /// Services scheduled by mh, which have a table each.
    pub mh_services: u32,
    /// 64-bit words of one half of the memory for mark and filter rules.
    pub rule_words: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            connections: 1 << 18,
            connections6: default_connections6(1 << 18),
            services: 1 << 12,
            dests: 1 << 14,
            mh_services: 256,
            rule_words: rule_words(DEFAULT_RULES),
        }
    }
}

/// Memory for rules, in MiB, when `--rules` does not say.
pub const DEFAULT_RULES: u32 = 16;

/// Words of one half of `mib` MiB of rule memory.
pub const fn rule_words(mib: u32) -> u32 {
    mib << 16
}

/// Filter rules with counters of their own, both families together.
pub const FILTER_RULES: u32 = 1 << 14;

/// IPv6 connections where only those of IPv4 were said.
pub fn default_connections6(connections: u32) -> u32 {
    connections / 4
}

/// Slots of the interface table.
const IFACE_SLOTS: u32 = 256;

/// Local addresses of FULLNAT: the pools of all services and of the director,
/// old and new ones while a change takes place.
const LOCALS: u32 = 4096;

impl Sizes {
    /// As a data plane made with these sizes shows them: the flow tables have a
    /// power of two of cells.
    pub fn rounded(self) -> Self {
        Self {
            connections: flow::cells_for(self.connections) / 2,
            connections6: flow::cells_for(self.connections6) / 2,
            ..self
        }
    }

    /// Load-time parameters for these sizes, with fresh secrets.
    pub(super) fn params(self) -> Params {
        Params {
            hash: rand::random(),
            multiplier: rand::random::<u64>() | 1,
            service_seed: rand::random(),
            filter_seed: rand::random(),
            flow4_cells: flow::cells_for(self.connections),
            flow6_cells: flow::cells_for(self.connections6),
            service_slots: (self.services.max(4) * 4).next_power_of_two(),
            list_entries: self.dests,
            iface_slots: IFACE_SLOTS,
            rule_words: self.rule_words,
            reserved: 0,
        }
    }

    /// Records of the tables of schedulers: of each an old and a new one while a
    /// change takes place.
    pub fn sched_records(self) -> u32 {
        2 * mh::WORDS * self.mh_services
    }

    /// Entries of every map whose size is not fixed.
    pub(super) fn entries(self, params: &Params) -> [(&'static str, u32); 19] {
        let flow4 = flow::total_cells(params.flow4_cells);
        let flow6 = flow::total_cells(params.flow6_cells);
        [
            ("FLOW4", flow4),
            ("BLOCKS4", flow4 / flow::BLOCK),
            ("FLOW6", flow6),
            ("BLOCKS6", flow6 / flow::BLOCK),
            ("FILTER", 2 * FILTER_WORDS),
            ("IFACES", params.iface_slots),
            ("SERVICES", 2 * params.service_slots),
            ("LISTS", 2 * params.list_entries),
            ("SCHED_TABLES", self.sched_records()),
            ("SERVICE_STATES", self.services),
            ("DESTS", self.dests),
            ("DEST_LOADS", self.dests),
            ("NEXT_HOPS", self.dests.max(1024)),
            ("LOCALS", LOCALS),
            ("RULES", 2 * params.rule_words),
            ("RULE_STATS", FILTER_RULES),
            ("SETTINGS", 1),
            ("PAGES", self.dests + self.services),
            ("DEST_STATS", self.dests),
        ]
    }
}

/// Every map of a data plane, mapped into memory where the kernel allows it.
pub struct Maps {
    /// Load-time sizes and secrets, kept in a pinned map of their own.
    pub params: Params,
    /// What the data plane was created for.
    pub sizes: Sizes,
    /// The root word: one record.
    pub root: Mapping<u64>,
    /// IPv4 flow cells: main table, then stash.
    pub flow4: Mapping<[u64; 8]>,
    /// Occupied cells of each block of the IPv4 flow table.
    pub blocks4: Mapping<u64>,
    /// IPv6 flow cells: main table, then stash.
    pub flow6: Mapping<[u64; 16]>,
    /// Occupied cells of each block of the IPv6 flow table.
    pub blocks6: Mapping<u64>,
    /// VIP filter, two halves of `FILTER_WORDS`.
    pub filter: Mapping<u64>,
    /// Interfaces, `params.iface_slots`, open addressing (`IfaceKey::home`, `IFACE_WINDOW`).
    pub ifaces: Mapping<IfaceEntry>,
    /// Services, two halves of `params.service_slots`, open addressing
    /// (`ServiceKey::home`, `SERVICE_WINDOW`, wrapping within the half).
    pub services: Mapping<ServiceEntry>,
    /// Lists, two halves of `params.list_entries`.
    pub lists: Mapping<ListEntry>,
    /// Tables of schedulers, in runs of `mh::WORDS` records.
    pub sched_tables: Mapping<u64>,
    /// Scheduler state by service slot, `sizes.services` records.
    pub service_states: Mapping<ServiceState>,
    /// Servers by slot, `sizes.dests` records.
    pub dests: Mapping<DestEntry>,
    /// Servers' loads by slot.
    pub dest_loads: Mapping<DestLoad>,
    /// Next hops.
    pub next_hops: Mapping<NextHop>,
    /// Addresses that FULLNAT connections are made from.
    pub locals: Mapping<LocalAddress>,
    /// Compiled mark and filter rules, two halves of `params.rule_words`.
    pub rules: Mapping<u64>,
    /// Time-outs and the heartbeat: one record.
    pub settings: Mapping<Settings>,
    /// Statistics pages: `sizes.dests` of servers, then `sizes.services` of services.
    pub pages: Mapping<StatsPage>,
    dest_stats: PerCpuArray<MapData, [u64; 5]>,
    rule_stats: PerCpuArray<MapData, [u64; 2]>,
    reasons: PerCpuArray<MapData, u64>,
    calls: HashMap<MapData, [u64; 2], [u8; LONGEST_CALL_ID as usize + 1]>,
    sweep: Array<MapData, SweepRecord>,
}

/// The value of the sweep's map: timer (2 words, opaque), then for each family
/// four words of the sweep's own and [`SweepStatus`].
type SweepRecord = [u64; 26];

impl Maps {
    /// Opens the pinned maps under `pins`, as a reader that needs no daemon.
    ///
    /// # Errors
    /// When there are no pins, or they are of another layout.
    pub fn open(pins: &Path) -> Result<Self> {
        let kept: Mapping<Params> = mapped(pins, super::PARAMS_KEPT)?;
        let service_states: Mapping<ServiceState> = mapped(pins, "SERVICE_STATES")?;
        let dests: Mapping<DestEntry> = mapped(pins, "DESTS")?;
        let sched_tables: Mapping<u64> = mapped(pins, "SCHED_TABLES")?;
        let params = kept.get(0);
        Ok(Self {
            params,
            sizes: Sizes {
                connections: params.flow4_cells / 2,
                connections6: params.flow6_cells / 2,
                services: service_states.len(),
                dests: dests.len(),
                mh_services: sched_tables.len() / (2 * mh::WORDS),
                rule_words: params.rule_words,
            },
            root: mapped(pins, "ROOT")?,
            flow4: mapped(pins, "FLOW4")?,
            blocks4: mapped(pins, "BLOCKS4")?,
            flow6: mapped(pins, "FLOW6")?,
            blocks6: mapped(pins, "BLOCKS6")?,
            filter: mapped(pins, "FILTER")?,
            ifaces: mapped(pins, "IFACES")?,
            services: mapped(pins, "SERVICES")?,
            lists: mapped(pins, "LISTS")?,
            sched_tables,
            service_states,
            dests,
            dest_loads: mapped(pins, "DEST_LOADS")?,
            next_hops: mapped(pins, "NEXT_HOPS")?,
            locals: mapped(pins, "LOCALS")?,
            rules: mapped(pins, "RULES")?,
            settings: mapped(pins, "SETTINGS")?,
            pages: mapped(pins, "PAGES")?,
            dest_stats: PerCpuArray::try_from(Map::PerCpuArray(pinned(pins, "DEST_STATS")?))?,
            rule_stats: PerCpuArray::try_from(Map::PerCpuArray(pinned(pins, "RULE_STATS")?))?,
            calls: HashMap::try_from(Map::LruHashMap(pinned(pins, "CALLS")?))?,
            reasons: PerCpuArray::try_from(Map::PerCpuArray(pinned(pins, "REASONS")?))?,
            sweep: Array::try_from(Map::Array(pinned(pins, "SWEEP")?))?,
        })
    }

    /// Keeps the load-time parameters for the next daemon.
    pub(super) fn keep_params(&self, pins: &Path, params: &Params) -> Result<()> {
        let kept: Mapping<Params> = mapped(pins, super::PARAMS_KEPT)?;
        kept.set(0, *params);
        Ok(())
    }

    /// Counters of the server in `slot`, summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses the look-up.
    pub fn dest_stats(&self, slot: u32) -> Result<Stats> {
        let mut sum = [0_u64; 5];
        for cpu in self.dest_stats.get(&slot, 0)?.iter() {
            for (total, value) in sum.iter_mut().zip(cpu) {
                *total = total.wrapping_add(*value);
            }
        }
        Ok(bytemuck::cast(sum))
    }

    /// Counters of the server in `slot`, CPU by CPU.
    ///
    /// # Errors
    /// When the kernel refuses the look-up.
    pub fn dest_stats_by_cpu(&self, slot: u32) -> Result<Vec<Stats>> {
        let cpus = self.dest_stats.get(&slot, 0)?;
        Ok(cpus.iter().map(|cpu| bytemuck::cast(*cpu)).collect())
    }

    /// Packets and bytes of the filter rule in `slot`, summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses the look-up.
    pub fn rule_stats(&self, slot: u32) -> Result<[u64; 2]> {
        let per_cpu = self.rule_stats.get(&slot, 0)?;
        Ok(per_cpu.iter().fold([0; 2], |sum, cpu| {
            [sum[0].wrapping_add(cpu[0]), sum[1].wrapping_add(cpu[1])]
        }))
    }

    /// Every reason counter, summed over CPUs, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// When the kernel refuses the look-up.
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>> {
        Reason::ALL
            .iter()
            .map(|&reason| Ok((reason, self.reasons.get(&(reason as u32), 0)?.iter().sum())))
            .collect()
    }

    /// The Call-ID that stands behind these words of a template's key, if it is
    /// remembered; bytes that are no UTF-8 are replaced.
    pub fn call(&self, key: [u64; 2]) -> Option<String> {
        let text = self.calls.get(&key, 0).ok()?;
        let end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let id = &text[..end.unwrap_or(text.len())];
        Some(String::from_utf8_lossy(id).into_owned())
    }

    /// What the sweeps of the IPv4 table and of the IPv6 table tell about
    /// themselves; one timer runs both.
    ///
    /// # Errors
    /// When the kernel refuses the look-up.
    pub fn sweeps(&self) -> Result<[SweepStatus; 2]> {
        let record = self.sweep.get(&0, 0)?;
        Ok([6, 18].map(|start| {
            let mut status = [0; 8];
            status.copy_from_slice(&record[start..start + 8]);
            bytemuck::cast(status)
        }))
    }

    /// Now, by the data plane's clock.
    pub fn now() -> Tick {
        let clock = nix::time::ClockId::CLOCK_MONOTONIC_COARSE;
        // Cannot fail: the clock exists on every kernel that runs the program.
        let now = nix::time::clock_gettime(clock).map_or(0, |time| {
            time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
        });
        tick_of(now)
    }
}

/// A pinned map as the kernel accounts for it.
#[derive(Clone, Debug)]
pub struct PinnedMap {
    /// Name of the pin.
    pub name: String,
    /// Most entries.
    pub entries: u32,
    /// Bytes of memory.
    pub bytes: u64,
}

/// Every map that is pinned in a directory, by name.
///
/// # Errors
/// When the directory or a map cannot be read.
pub fn pinned_maps(pins: &Path) -> Result<Vec<PinnedMap>> {
    let context = || format!("cannot read {}", pins.display());
    let mut all = Vec::new();
    for entry in std::fs::read_dir(pins).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Programs and links are in there too.
        let Ok(map) = MapData::from_pin(&path) else {
            continue;
        };
        let info = map.info()?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(map.fd()));
        let account = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        let bytes = account
            .lines()
            .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
        all.push(PinnedMap {
            entries: info.max_entries(),
            bytes: bytes
                .with_context(|| format!("the kernel does not tell how large {name} is"))?,
            name,
        });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The map pinned as `name`.
fn pinned(pins: &Path, name: &str) -> Result<MapData> {
    let path = pins.join(name);
    MapData::from_pin(&path).with_context(|| format!("cannot open the map {}", path.display()))
}

/// The map pinned as `name`, in memory. Its record size must be that of `T`:
/// the pin path carries the layout's version, so another size is a defect.
fn mapped<T: bytemuck::Pod>(pins: &Path, name: &str) -> Result<Mapping<T>> {
    let path = pins.join(name);
    // Not by the map's id: that is for CAP_SYS_ADMIN alone.
    let map = pinned(pins, name)?;
    let info = map.info()?;
    anyhow::ensure!(
        info.value_size() as usize == size_of::<T>(),
        "{} is of another version: remove it with 'lvx down'",
        path.display()
    );
    Mapping::new(std::os::fd::AsFd::as_fd(map.fd()), info.max_entries())
        .with_context(|| format!("cannot map {} into memory", path.display()))
}
