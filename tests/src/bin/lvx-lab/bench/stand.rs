//! The benchmark's programs with a data plane behind them, loaded.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _,
    maps::{MapData, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{TestRunAttrs, TestRunOptions, Xdp, loaded_programs},
    util::nr_cpus,
};
use lb_common::{
    flow::{BLOCK, total_cells},
    layout::{LocalAddress, Settings, SweepStatus, filter_bit},
    reason::{Class, Reason},
};
use lb_userspace::dataplane::{Maps, Plane, Sizes};
use lb_userspace::model::{Chain, Rule};
use lvx_tests::kernel::{
    rules,
    scene::{self, Service},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    run_record::{Run, program},
    template::{LENGTH, Segment, Template, elsewhere},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// What is called behind the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Nothing: to be taken off from the others.
    Empty,
    /// F0: `XDP_TX`.
    Tx,
    /// F1: the least that a stateful balancer must do.
    Floor,
    /// F2: F1 with a hash of the kernel's.
    HashFloor,
    /// F1 with one load for a look-up.
    Line,
    /// The data plane.
    Lvx,
}

impl Program {
    const fn index(self) -> u64 {
        match self {
            Self::Empty => program::EMPTY,
            Self::Tx => program::TX,
            Self::Floor => program::FLOOR,
            Self::HashFloor => program::HASH_FLOOR,
            Self::Line => program::LINE,
            Self::Lvx => program::LVX,
        }
    }
}

/// Packets of one test run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packets<'a> {
    pub(super) frame: &'a Template,
    /// Whether a program before may have put a header in front of the frame.
    pub(super) grows: bool,
    /// Number of the first flow.
    pub(super) first: u32,
    /// How many flows there are, a power of two.
    pub(super) flows: u32,
    /// Any flow, as in real traffic; else flow after flow.
    pub(super) scrambled: bool,
    pub(super) count: u32,
}

/// The floors with their tables, and the way to what is measured.
pub(super) struct Stand {
    bench: Ebpf,
    run: PerCpuArray<MapData, [u64; size_of::<Run>() / 8]>,
    behind: ProgramArray<MapData>,
    next: u64,
}

impl Stand {
    /// Loads the floors, with tables of the size of a data plane's.
    pub(super) fn load(plane: &Subject) -> Result<Self> {
        let params = plane.maps.params;
        let cells = total_cells(params.flow4_cells);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("PARAMS", bytemuck::bytes_of(&params), true)
            .map_max_entries("FLOW4", cells)
            .map_max_entries("BLOCKS4", cells / BLOCK)
            .map_max_entries("HASH", params.flow4_cells / 2);
        let (mut bench, behind) = load_behind(
            &mut loader,
            &[
                ("bench_tx", program::TX),
                ("bench_floor", program::FLOOR),
                ("bench_hash", program::HASH_FLOOR),
                ("bench_line", program::LINE),
            ],
        )?;
        let run = bench.take_map("RUN").context("no map RUN")?.try_into()?;
        Ok(Self {
            bench,
            run,
            behind,
            next: 0,
        })
    }

    /// Puts a data plane behind it.
    pub(super) fn call(&mut self, plane: &Subject) -> Result<()> {
        for (index, name) in [(program::EMPTY, "lvx_pass"), (program::LVX, "lvx")] {
            let facts = plane.plane.facts().iter().find(|facts| facts.name == name);
            let id = facts.with_context(|| format!("no program {name}"))?.id;
            let program = loaded_programs()
                .filter_map(Result::ok)
                .find(|program| program.id() == id)
                .with_context(|| format!("program {name} is gone"))?;
            self.behind
                .set(index as u32, &program.fd()?, 0)
                .with_context(|| format!("cannot call {name}"))?;
        }
        Ok(())
    }

    /// Has the programs make these packets from now on.
    fn prepare(&mut self, program: Program, packets: Packets<'_>) -> Result<()> {
        let mut frame = [0; LENGTH / 8];
        bytemuck::cast_slice_mut(&mut frame).copy_from_slice(&packets.frame.bytes);
        let run = Run {
            next: if packets.scrambled { self.next } else { 0 },
            mask: u64::from(packets.flows) - 1,
            first: packets.first.into(),
            scrambled: packets.scrambled.into(),
            layout: packets.frame.layout,
            sum: packets.frame.sum,
            length: if packets.grows { LENGTH as u64 } else { 0 },
            program: program.index(),
            frame,
            ..Run::default()
        };
        self.next += u64::from(packets.count);
        let values = vec![bytemuck::cast(run); nr_cpus().map_err(|(_, error)| error)?];
        self.run.set(0, PerCpuValues::try_from(values)?, 0)?;
        Ok(())
    }

    /// Sends packets out of an interface of the calling thread's namespace: real
    /// frames, all handed over at once (at most 256).
    pub(super) fn send(&mut self, packets: Packets<'_>, interface: u32) -> Result<()> {
        self.prepare(Program::Tx, packets)?;
        // struct xdp_md: the frames seem to come from the interface that they leave by.
        let context = [0, LENGTH as u32, 0, interface, 0, 0];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&packets.frame.bytes);
        options.ctx_in = Some(bytemuck::cast_slice(&context));
        options.repeat = packets.count;
        options.attrs = TestRunAttrs::new().xdp_live_frames(packets.count);
        xdp(&mut self.bench, "bench")?.test_run(options)?;
        Ok(())
    }

    /// The time that packets took, and how many of their flows a floor did not know.
    /// `action` is what the last one must have got.
    pub(super) fn run(
        &mut self,
        program: Program,
        packets: Packets<'_>,
        action: u32,
    ) -> Result<(Duration, u64)> {
        self.prepare(program, packets)?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&packets.frame.bytes);
        options.repeat = packets.count;
        let xdp = xdp(&mut self.bench, "bench")?;
        // This thread's, so that what else runs here does not count.
        let started = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        let result = xdp.test_run(options)?;
        let ended = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        let action = match program {
            Program::Empty => XDP_PASS,
            Program::Lvx => action,
            _ => XDP_TX,
        };
        ensure!(
            result.return_value == action,
            "{program:?} answered {}, not {action}",
            result.return_value
        );
        let after = self.run.get(&0, 0)?;
        let misses = after
            .iter()
            .map(|words| bytemuck::cast::<_, Run>(*words).misses);
        Ok((ended - started, misses.sum()))
    }
}

/// A data plane to be measured.
pub(super) struct Subject {
    plane: Plane,
    maps: Maps,
    /// Packets that it was sent.
    sent: u64,
}

impl Subject {
    /// Loads one with these services; its maps are pinned under `pins`.
    pub(super) fn load(
        pins: &Path,
        sizes: Sizes,
        services: &[Service],
        rules: &[(Chain, Rule)],
    ) -> Result<Self> {
        let plane = Plane::load(pins, sizes)?;
        let maps = Maps::open(pins)?;
        let settings = Settings {
            drop_rate: 0,
            ..scene::long_timeouts()
        };
        scene::write(&maps, services, settings);
        if !rules.is_empty() {
            rules::write(&maps, services, rules);
        }
        // A scene's FULLNAT server has one local end; here, two addresses with all ports.
        for index in 0..2 {
            let local = maps.locals.get(index);
            if local.addr != [0; 4] {
                let first = u32::from_be(local.addr[0]);
                maps.locals.set(
                    index,
                    LocalAddress {
                        addr: [(first + index).to_be(), 0, 0, 0],
                        first_port: 1024,
                        last_port: u16::MAX,
                        ..local
                    },
                );
            }
        }
        Ok(Self {
            plane,
            maps,
            sent: 0,
        })
    }

    /// A frame for an address that the VIP filter knows not to be a service's.
    pub(super) fn frame_for_nobody(&self) -> Result<Template> {
        let is_free = |address: Ipv4Addr| {
            let folded = u32::from_ne_bytes(address.octets());
            let bit = filter_bit(folded, self.maps.params.filter_seed);
            self.maps.filter.get(bit / 64) >> (bit % 64) & 1 == 0
        };
        let address = (1..255)
            .map(elsewhere)
            .find(|&address| is_free(address))
            .context("every address shares a service's filter bit")?;
        Ok(Template::to((address, 80).into(), Segment::Ack))
    }

    /// As [`Stand::run`], of the data plane.
    pub(super) fn run(
        &mut self,
        stand: &mut Stand,
        packets: Packets<'_>,
        reason: Reason,
    ) -> Result<Duration> {
        self.sent += u64::from(packets.count);
        let action = match reason.class() {
            Class::Forwarded => XDP_TX,
            Class::Passed => XDP_PASS,
            Class::Dropped => XDP_DROP,
        };
        Ok(stand.run(Program::Lvx, packets, action)?.0)
    }

    /// Packets that ended so.
    pub(super) fn ended(&self, wanted: Reason) -> Result<u64> {
        let reasons = self.maps.reasons()?;
        Ok(reasons
            .into_iter()
            .find_map(|(reason, count)| (reason == wanted).then_some(count))
            .unwrap_or(0))
    }

    /// Whether every packet was forwarded or had the end that was meant, and all
    /// that it was sent were counted.
    pub(super) fn check(&self, reason: Reason) -> Result<()> {
        let mut sum = 0;
        for (ended, count) in self.maps.reasons()? {
            if count != 0 && ended != reason && ended != Reason::ForwardedTx {
                bail!("{count} packets ended as {}", ended.name());
            }
            sum += count;
        }
        ensure!(
            sum == self.sent,
            "{sum} packets ended, {} were sent",
            self.sent
        );
        Ok(())
    }

    /// What the sweep of IPv4 says of itself.
    pub(super) fn sweep(&self) -> Result<SweepStatus> {
        Ok(self.maps.sweeps()?[0])
    }

    /// Connections that were made.
    pub(super) fn connections(&self) -> Result<u64> {
        let slots = 0..self.maps.dests.len();
        slots
            .map(|slot| Ok(self.maps.dest_stats(slot)?.conns))
            .sum()
    }
}

/// Loads `bench` and, at their places behind it, these programs.
pub(super) fn load_behind(
    loader: &mut EbpfLoader<'_>,
    programs: &[(&str, u64)],
) -> Result<(Ebpf, ProgramArray<MapData>)> {
    let mut bench = loader
        .load(OBJECT)
        .context("cannot create the benchmark's maps")?;
    let mut behind: ProgramArray<MapData> = bench
        .take_map("PROGRAMS")
        .context("no map PROGRAMS")?
        .try_into()?;
    let load = |bench: &mut Ebpf, name: &str| {
        let loaded = xdp(bench, name)?.load();
        loaded.with_context(|| format!("cannot load program {name}"))
    };
    load(&mut bench, "bench")?;
    for (name, index) in programs {
        load(&mut bench, name)?;
        behind.set(*index as u32, xdp(&mut bench, name)?.fd()?, 0)?;
    }
    Ok((bench, behind))
}

pub(super) fn xdp<'a>(bench: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = bench.program_mut(name);
    Ok(program
        .with_context(|| format!("no program {name}"))?
        .try_into()?)
}
