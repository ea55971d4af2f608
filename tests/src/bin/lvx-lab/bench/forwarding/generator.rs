//! The generator: live frames into a director, counted at the far end.
//!
//! A test run with live frames hands each frame on for good: `XDP_REDIRECT` sends
//! it, `XDP_PASS` gives it to the stack of the interface that it is said to have
//! come in by. Their pages come back, as the last program or the kernel left them;
//! so the generator's program writes each frame whole.

use std::{fs, sync::Barrier, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _,
    maps::{MapData, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{Xdp, XdpMode, loaded_programs},
    util::nr_cpus,
    {TestRunAttrs, TestRunOptions},
};
use lb_common::{
    flow::{BLOCK, cells_for, total_cells},
    tables::Params,
};
use lvx_tests::lab::{Door, Namespace};
use nix::{
    net::if_::if_nametoindex,
    time::{ClockId, clock_gettime},
};

use super::super::{
    pin,
    run_record::{Run, program},
    stand::{load_behind, xdp},
    template::{LENGTH, Template},
};

/// Frames that the kernel makes before it hands them on; its own default.
const BATCH: u32 = 64;

/// What becomes of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// They are counted and dropped: the generator alone.
    Drop,
    /// Out of `eth1`, as they are.
    Redirect,
    /// F1, the least that a stateful balancer must do, has them; back out of `eth0`.
    Floor,
    /// The stack has them.
    Kernel,
    /// lvx has them.
    Lvx,
}

/// Packets for one turn.
pub(super) struct Flood<'a> {
    pub(super) director: &'a Namespace,
    pub(super) then: Then,
    pub(super) frame: &'a Template,
    /// Flows a CPU, a power of two.
    pub(super) flows: u32,
    /// Packets a CPU.
    pub(super) count: u32,
}

/// What one CPU did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Packets that reached the far end on this CPU.
    pub(super) arrived: u64,
    /// The CPU's time for that: of the thread that sent, in which its soft interrupts
    /// run too, and of the thread of the kernel that takes over what those leave.
    pub(super) time: Duration,
}

/// The programs.
pub(super) struct Generator {
    bench: Ebpf,
    run: PerCpuArray<MapData, [u64; size_of::<Run>() / 8]>,
    arrived: PerCpuArray<MapData, u64>,
    behind: ProgramArray<MapData>,
    next: u64,
}

impl Generator {
    /// Loads them; F1's table has room for so many flows.
    pub(super) fn load(flows: u32) -> Result<Self> {
        let params = Params {
            hash: rand::random(),
            multiplier: rand::random::<u64>() | 1,
            flow4_cells: cells_for(flows),
            ..Params::default()
        };
        let cells = total_cells(params.flow4_cells);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("PARAMS", bytemuck::bytes_of(&params), true)
            .map_max_entries("FLOW4", cells)
            .map_max_entries("BLOCKS4", cells / BLOCK);
        let (mut bench, behind) = load_behind(
            &mut loader,
            &[
                ("bench_pass", program::PASS),
                ("bench_redirect", program::REDIRECT),
                ("bench_floor", program::FLOOR),
                ("bench_arrive", program::ARRIVE),
            ],
        )?;
        Ok(Self {
            run: bench.take_map("RUN").context("no map RUN")?.try_into()?,
            arrived: bench
                .take_map("ARRIVED")
                .context("no map ARRIVED")?
                .try_into()?,
            bench,
            behind,
            next: 0,
        })
    }

    /// Has an interface count what arrives.
    pub(super) fn count_at(&mut self, ns: &Namespace, interface: &str) -> Result<()> {
        let arrive = xdp(&mut self.bench, "bench_arrive")?;
        ns.enter(|| arrive.attach(interface, XdpMode::Driver))
            .with_context(|| format!("cannot attach to {interface} of {}", ns.name()))?;
        Ok(())
    }

    /// Has frames go to the program on a director's `eth0`.
    pub(super) fn call_program_on(&mut self, director: &Namespace) -> Result<()> {
        let words = ["-j", "-d", "link", "show", "dev", "eth0"];
        let shown: serde_json::Value = serde_json::from_str(&director.ip_show(&words)?)?;
        let id = shown[0]["xdp"]["prog"]["id"]
            .as_u64()
            .context("there is no program on eth0")?;
        let lvx = loaded_programs()
            .filter_map(Result::ok)
            .find(|program| u64::from(program.id()) == id)
            .context("the program on eth0 is gone")?;
        self.behind
            .set(program::LVX as u32, &lvx.fd()?, 0)
            .context("cannot call the program on eth0")
    }

    /// Sends on each of `cpus` at once; a turn for each.
    pub(super) fn send(&mut self, flood: &Flood<'_>, cpus: &[usize]) -> Result<Vec<Turn>> {
        let [ingress, egress] = flood
            .director
            .enter(|| ["eth0", "eth1"].map(if_nametoindex));
        let (ingress, egress) = (ingress?, egress?);
        self.tell(flood, egress)?;
        let before = self.arrived.get(&0, 0)?;

        let xdp: &Xdp = self
            .bench
            .program("bench")
            .context("no program bench")?
            .try_into()?;
        let door = flood.director.door();
        let start = Barrier::new(cpus.len());
        let times: Vec<Result<Duration>> = thread::scope(|scope| {
            let senders: Vec<_> = cpus
                .iter()
                .map(|&cpu| {
                    let (door, start) = (&door, &start);
                    scope.spawn(move || send_on(xdp, flood, cpu, ingress, door, start))
                })
                .collect();
            let join = |sender: thread::ScopedJoinHandle<'_, _>| {
                sender
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            senders.into_iter().map(join).collect()
        });
        let after = self.arrived.get(&0, 0)?;
        cpus.iter()
            .zip(times)
            .map(|(&cpu, time)| {
                Ok(Turn {
                    arrived: after[cpu] - before[cpu],
                    time: time?,
                })
            })
            .collect()
    }

    /// Each CPU's record: flows of its own.
    fn tell(&mut self, flood: &Flood<'_>, egress: u32) -> Result<()> {
        let mut frame = [0; LENGTH / 8];
        bytemuck::cast_slice_mut(&mut frame).copy_from_slice(&flood.frame.bytes);
        let check = u16::from_ne_bytes([flood.frame.bytes[40], flood.frame.bytes[41]]);
        let mut run = Run {
            next: self.next,
            mask: u64::from(flood.flows) - 1,
            scrambled: 1,
            layout: flood.frame.layout,
            sum: flood.frame.sum,
            // The same to the sum as nothing, which would be no checksum.
            datagram_sum: u64::from(!check) + 0xffff,
            program: match flood.then {
                Then::Drop => program::ARRIVE,
                Then::Redirect => program::REDIRECT,
                Then::Floor => program::FLOOR,
                Then::Kernel => program::PASS,
                Then::Lvx => program::LVX,
            },
            egress: egress.into(),
            frame,
            ..Run::default()
        };
        self.next += u64::from(flood.count);
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let mut records = Vec::new();
        for _ in 0..cpus {
            records.push(bytemuck::cast(run));
            run.first += u64::from(flood.flows);
        }
        self.run.set(0, PerCpuValues::try_from(records)?, 0)?;
        Ok(())
    }
}

/// Sends from this thread, on a CPU, as if frames came in by an interface.
fn send_on(
    xdp: &Xdp,
    flood: &Flood<'_>,
    cpu: usize,
    ingress: u32,
    door: &Door,
    start: &Barrier,
) -> Result<Duration> {
    let ready = door.enter_thread().and_then(|()| pin(cpu));
    let helper = Helper::of(cpu);
    start.wait();
    ready?;
    let helper = helper?;
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index.
    let context = [0, LENGTH as u32, 0, ingress, 0, 0];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&flood.frame.bytes);
    options.ctx_in = Some(bytemuck::cast_slice(&context));
    options.repeat = flood.count;
    options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
    let before = now()? + helper.time()?;
    xdp.test_run(options).context("cannot send live frames")?;
    Ok(now()? + helper.time()? - before)
}

fn now() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// `ksoftirqd` of a CPU.
struct Helper(u32);

impl Helper {
    fn of(cpu: usize) -> Result<Self> {
        let name = format!("ksoftirqd/{cpu}");
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // A process may end meanwhile.
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if comm.trim_end() == name {
                return Ok(Self(pid));
            }
        }
        // In a container that does not see it: the thread's own time is all there is.
        Ok(Self(0))
    }

    /// What it has run so far.
    fn time(&self) -> Result<Duration> {
        if self.0 == 0 {
            return Ok(Duration::ZERO);
        }
        let path = format!("/proc/{}/schedstat", self.0);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let nanos = text.split_whitespace().next().map(str::parse);
        ensure!(matches!(nanos, Some(Ok(_))), "{path}: {text}");
        Ok(Duration::from_nanos(
            nanos.and_then(Result::ok).unwrap_or(0),
        ))
    }
}
