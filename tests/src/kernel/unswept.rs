//! The loaded program without its sweep: what is in the tables after a run of
//! packets depends on these packets alone.

use std::{mem::offset_of, path::Path};

use anyhow::{Context, Result};
use aya::{
    maps::{Array, Map, MapData, MapInfo, PerCpuArray},
    programs::loaded_programs,
};
use lb_common::{facts::Facts, flow, layout::ForwardMethod, tables::Params, time::Tick};
use lb_userspace::dataplane::{Loaded, Maps, Sizes};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

const FACTS: usize = size_of::<Facts>() / 8;
const PARAMS: usize = size_of::<Params>() / 8;
/// Whose facts they are: a packet's that comes in, or that leaves.
const IN: u32 = 0;
const OUT: u32 = 1;
/// The CPU on which it runs: facts are per CPU.
const CPU: usize = 0;

/// The loaded program, its maps, and the facts of its last packet.
pub struct Unswept {
    loaded: Loaded,
    facts: PerCpuArray<MapData, [u64; FACTS]>,
    /// Its maps.
    pub maps: Maps,
}

impl Unswept {
    /// Loads it under `pins` and keeps the calling thread on one CPU.
    ///
    /// # Errors
    /// Without root, or when the kernel refuses.
    pub fn load(pins: &Path, sizes: Sizes) -> Result<Self> {
        let mut set = CpuSet::new();
        set.set(CPU)?;
        sched_setaffinity(Pid::from_raw(0), &set)?;
        std::fs::create_dir_all(pins)?;
        let params = params(sizes);
        let loaded = Loaded::new(pins, sizes, &params)?;
        let kept = MapData::from_pin(pins.join("PARAMS_KEPT"))?;
        let mut kept: Array<_, [u64; PARAMS]> = Map::Array(kept).try_into()?;
        let words: [u64; PARAMS] = bytemuck::cast(params);
        kept.set(0, words, 0)?;
        Ok(Self {
            facts: facts(loaded.facts()[0].id)?,
            maps: Maps::open(pins)?,
            loaded,
        })
    }

    /// Runs it on a frame; answers the verdict and the tick that the packet saw.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(u32, Tick)> {
        let before = Maps::now();
        let verdict = self.loaded.run("lvx", frame, None, Some(out))?;
        // Asking the program costs a system call and is needed only when the
        // clock moved on meanwhile. One that ended before it looked at the
        // clock left an older packet's tick there, and it does not matter.
        if Maps::now() == before {
            return Ok((verdict, before));
        }
        Ok((verdict, self.fact(IN, offset_of!(Facts, now))? as Tick))
    }

    /// As [`Self::run`], of the program for what the director's own stack sends.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run_egress(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(i32, Tick)> {
        let before = Maps::now();
        let verdict = self.loaded.run_egress(frame, out)?;
        if Maps::now() == before {
            return Ok((verdict, before));
        }
        Ok((verdict, self.fact(OUT, offset_of!(Facts, now))? as Tick))
    }

    /// The interface that the last packet left by, which is told by the facts
    /// only if it did not go by direct routing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn egress(&self) -> Result<Option<u64>> {
        if self.fact(IN, offset_of!(Facts, method))? == ForwardMethod::Route as u64 {
            return Ok(None);
        }
        self.fact(IN, offset_of!(Facts, egress)).map(Some)
    }

    fn fact(&self, record: u32, offset: usize) -> Result<u64> {
        Ok(self.facts.get(&record, 0)?[CPU][offset / 8])
    }
}

fn params(sizes: Sizes) -> Params {
    Params {
        hash: rand::random(),
        multiplier: rand::random::<u64>() | 1,
        service_seed: rand::random(),
        filter_seed: rand::random(),
        flow4_cells: flow::cells_for(sizes.connections),
        flow6_cells: flow::cells_for(sizes.connections6),
        service_slots: (sizes.services * 4).next_power_of_two(),
        list_entries: sizes.dests,
        iface_slots: 256,
        rule_words: sizes.rule_words,
        reserved: 0,
    }
}

/// The map in which the program with this id keeps its facts.
fn facts(program: u32) -> Result<PerCpuArray<MapData, [u64; FACTS]>> {
    let program = loaded_programs()
        .filter_map(Result::ok)
        .find(|info| info.id() == program)
        .context("the program is not loaded")?;
    let id = program
        .map_ids()?
        .context("the kernel does not tell the program's maps")?
        .into_iter()
        .find(|&id| MapInfo::from_id(id).is_ok_and(|info| info.name_as_str() == Some("FACTS")))
        .context("the program has no facts")?;
    Ok(Map::PerCpuArray(MapData::from_id(id)?).try_into()?)
}
