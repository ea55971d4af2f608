//! The programs of the benchmark and a data plane with one service, loaded.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _,
    maps::{MapData, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{TestRunOptions, Xdp, loaded_programs},
    util::nr_cpus,
};
use lb_common::{
    checksum,
    flow::{BLOCK, total_cells},
    layout::{SchedulerKind, Settings, filter_bit},
    reason::Reason,
};
use lb_userspace::dataplane::{Maps, Plane, Sizes};
use lvx_tests::kernel::scene::{self, Reached, Service};
use nix::time::{ClockId, clock_gettime};

use super::run_record::Run;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));

/// Both tables promise a million connections, however many flows there are.
const SIZES: Sizes = Sizes {
    connections: 1 << 20,
    connections6: 4096,
    services: 16,
    dests: 64,
    mh_services: 16,
    rule_words: 1 << 12,
};
/// The service's address.
pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PORT: u16 = 53;
/// Ethernet, IPv4, UDP, padded to the shortest frame.
const FRAME: usize = 60;

/// More flows than are ever made.
const MANY: u32 = 1 << 22;

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Makes and parses the packet: to be taken off from the next three.
    Harness,
    /// One load from lvx's flow table: memory alone.
    Line,
    /// Look-up and touch in lvx's flow table.
    Cells,
    /// The same in a `BPF_MAP_TYPE_HASH`.
    Hash,
    /// Makes the packet and calls an empty program: to be taken off from the next two.
    Empty,
    /// Makes a packet of an established flow and calls lvx.
    Lvx,
    /// The same with a packet that is not for a service.
    NotForService,
}

impl Program {
    /// In the order in which they take turns.
    pub(super) const ALL: [Self; 7] = [
        Self::Harness,
        Self::Line,
        Self::Cells,
        Self::Hash,
        Self::Empty,
        Self::Lvx,
        Self::NotForService,
    ];
    /// Those with a table of flows.
    pub(super) const WITH_FLOWS: [Self; 3] = [Self::Cells, Self::Hash, Self::Lvx];

    const fn name(self) -> &'static str {
        match self {
            Self::Harness => "bench_harness",
            Self::Line => "bench_line",
            Self::Cells => "bench_cells",
            Self::Hash => "bench_hash",
            Self::Empty | Self::Lvx | Self::NotForService => "bench_behind",
        }
    }
}

/// How packets follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Flow after flow: meets each once.
    Sequential,
    /// As real traffic: any flow.
    Scrambled,
}

/// The loaded programs.
pub(super) struct Programs {
    bench: Ebpf,
    run: PerCpuArray<MapData, [u64; 8]>,
    // Held by the kernel's array only as long as it lives here.
    _behind: ProgramArray<MapData>,
    _plane: Plane,
    maps: Maps,
    elsewhere: Ipv4Addr,
    port: u16,
    next: u64,
    sent: u64,
    passed: u64,
    flows: u64,
}

impl Programs {
    /// Loads everything; lvx's maps are pinned under `pins`.
    pub(super) fn load(pins: &Path) -> Result<Self> {
        Self::load_services(pins, SIZES, &[service()])
    }

    /// Loads everything, with these services in lvx.
    pub(super) fn load_services(pins: &Path, sizes: Sizes, services: &[Service]) -> Result<Self> {
        let plane = Plane::load(pins, sizes)?;
        let maps = Maps::open(pins)?;
        scene::write(&maps, services, Settings::kernel_defaults());
        let cells = total_cells(maps.params.flow4_cells);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("PARAMS", bytemuck::bytes_of(&maps.params), true)
            .map_max_entries("FLOW4", cells)
            .map_max_entries("BLOCKS4", cells / BLOCK)
            .map_max_entries("HASH", sizes.connections);
        let mut bench = loader
            .load(OBJECT)
            .context("cannot create the benchmark's maps")?;
        for name in [
            "bench_harness",
            "bench_line",
            "bench_cells",
            "bench_hash",
            "bench_behind",
        ] {
            xdp(&mut bench, name)?
                .load()
                .with_context(|| format!("cannot load program {name}"))?;
        }
        let mut behind: ProgramArray<MapData> = bench
            .take_map("PROGRAMS")
            .context("no map PROGRAMS")?
            .try_into()?;
        for (index, name) in (0..).zip(["lvx_pass", "lvx"]) {
            let facts = plane.facts().iter().find(|facts| facts.name == name);
            let id = facts.with_context(|| format!("no program {name}"))?.id;
            let program = loaded_programs()
                .filter_map(Result::ok)
                .find(|program| program.id() == id)
                .with_context(|| format!("program {name} is gone"))?;
            behind
                .set(index, &program.fd()?, 0)
                .with_context(|| format!("cannot call {name}"))?;
        }
        let run = bench.take_map("RUN").context("no map RUN")?.try_into()?;
        Ok(Self {
            bench,
            run,
            _behind: behind,
            _plane: plane,
            elsewhere: elsewhere(&maps)?,
            maps,
            port: PORT,
            next: 0,
            sent: 0,
            passed: 0,
            flows: 0,
        })
    }

    /// Has every table know `flows` flows, a power of two.
    pub(super) fn warm_up(&mut self, flows: u32) -> Result<()> {
        for program in Program::WITH_FLOWS {
            self.next = 0;
            self.run(program, Order::Sequential, flows, flows)?;
        }
        self.flows = self.flows.max(flows.into());
        Ok(())
    }

    /// Nanoseconds of CPU a packet, over `packets` packets of `flows` known flows.
    pub(super) fn measure(&mut self, program: Program, flows: u32, packets: u32) -> Result<f64> {
        // The others have had the caches.
        self.run(
            program,
            Order::Scrambled,
            flows,
            flows.min(packets / 4).max(1000),
        )?;
        let (time, misses) = self.run(program, Order::Scrambled, flows, packets)?;
        ensure!(
            misses == 0,
            "{program:?} did not know {misses} of {flows} flows"
        );
        Ok(time.as_secs_f64() * 1e9 / f64::from(packets))
    }

    /// Nanoseconds of CPU a packet, of which each is another flow to the service at
    /// a port.
    pub(super) fn open(&mut self, program: Program, port: u16, packets: u32) -> Result<f64> {
        self.port = port;
        let (time, _) = self.run(program, Order::Sequential, MANY, packets)?;
        Ok(time.as_secs_f64() * 1e9 / f64::from(packets))
    }

    /// Whether every packet of [`Programs::open`] made a connection.
    pub(super) fn check_opened(&self) -> Result<()> {
        let slots = 0..self.maps.dests.len();
        let conns = slots.map(|slot| Ok(self.maps.dest_stats(slot)?.conns));
        let conns: u64 = conns.sum::<Result<u64>>()?;
        ensure!(
            conns == self.sent,
            "{conns} connections for {} packets",
            self.sent
        );
        Ok(())
    }

    fn run(
        &mut self,
        program: Program,
        order: Order,
        flows: u32,
        packets: u32,
    ) -> Result<(Duration, u64)> {
        let destination = match program {
            Program::NotForService => self.elsewhere,
            _ => VIP,
        };
        let frame = frame(destination);
        let run = Run {
            next: self.next,
            mask: u64::from(flows) - 1,
            scrambled: u64::from(order == Order::Scrambled),
            destination: u32::from_ne_bytes(destination.octets()).into(),
            port: self.port.to_be().into(),
            sum: header_sum(&frame),
            program: u64::from(program != Program::Empty),
            misses: 0,
        };
        self.next += u64::from(packets);
        let values = vec![bytemuck::cast(run); nr_cpus().map_err(|(_, error)| error)?];
        self.run.set(0, PerCpuValues::try_from(values)?, 0)?;

        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = packets;
        let xdp = xdp(&mut self.bench, program.name())?;
        // This thread's, so that what else runs here does not count.
        let started = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        let result = xdp.test_run(options)?;
        let ended = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);

        let expected = match program {
            Program::Lvx => {
                self.sent += u64::from(packets);
                XDP_TX
            }
            Program::NotForService => {
                self.passed += u64::from(packets);
                XDP_PASS
            }
            _ => XDP_PASS,
        };
        ensure!(
            result.return_value == expected,
            "{program:?} answered {}, not {expected}",
            result.return_value
        );
        let after = self.run.get(&0, 0)?;
        let misses = after
            .iter()
            .map(|words| bytemuck::cast::<_, Run>(*words).misses);
        Ok((ended - started, misses.sum()))
    }

    /// Whether every packet had the end that was meant to be measured.
    pub(super) fn check(&self) -> Result<()> {
        for (reason, count) in self.maps.reasons()? {
            let expected = match reason {
                Reason::ForwardedTx => self.sent,
                Reason::PassedNoVip => self.passed,
                _ => 0,
            };
            if count != expected {
                bail!("{count} packets ended as {}, not {expected}", reason.name());
            }
        }
        let conns = self.maps.dest_stats(0)?.conns;
        ensure!(
            conns == self.flows,
            "{conns} connections for {} flows",
            self.flows
        );
        Ok(())
    }
}

fn xdp<'a>(bench: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = bench.program_mut(name);
    Ok(program
        .with_context(|| format!("no program {name}"))?
        .try_into()?)
}

/// UDP, one server, reached by where the packets come from.
fn service() -> Service {
    Service {
        vip: VIP.into(),
        port: PORT,
        protocol: 17,
        mark: 0,
        scheduler: SchedulerKind::Rr,
        sched_flags: 0,
        claimed: true,
        toa: false,
        flags: 0,
        limit: 0,
        servers: vec![(Reached::Back, 1).into()],
    }
}

/// An address that the VIP filter knows not to be a service's.
fn elsewhere(maps: &Maps) -> Result<Ipv4Addr> {
    let bit = |address: Ipv4Addr| {
        filter_bit(
            u32::from_ne_bytes(address.octets()),
            maps.params.filter_seed,
        )
    };
    (1..=254)
        .map(|last| Ipv4Addr::new(203, 0, 113, last))
        .find(|&address| bit(address) != bit(VIP))
        .context("every address shares the service's filter bit")
}

/// A UDP frame without what the programs fill in.
fn frame(destination: Ipv4Addr) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let length = (FRAME - 14) as u16;
    frame[14..16].copy_from_slice(&[0x45, 0]);
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame[20..22].copy_from_slice(&[0x40, 0]);
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[30..34].copy_from_slice(&destination.octets());
    frame[38..40].copy_from_slice(&(length - 20).to_be_bytes());
    frame
}

/// The sum of the IPv4 header as it is there: source and checksum are zero.
fn header_sum(frame: &[u8; FRAME]) -> u64 {
    let mut words = [0; 5];
    for (word, bytes) in words.iter_mut().zip(frame[14..34].chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    checksum::ipv4_sum(&words)
}
