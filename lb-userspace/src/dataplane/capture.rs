//! The capturing program: loaded by `lvx capture`, put in the place of the other
//! by the daemon for as long as that runs.

use std::{
    fs,
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::Xdp,
};
use lb_common::capture::{Filter, Head, SNAP};

use super::{Maps, ProgramFacts, object};

/// Name of the program.
pub(super) const CAPTURING: &str = "lvx_capture";

/// Bytes of the ring: room for some thousand whole frames.
const RING: u32 = 16 << 20;

/// The record of a CPU, in which the program counts what found no room.
#[derive(Clone, Copy)]
#[repr(C)]
struct Record {
    _frames: [[u8; size_of::<Head>() + SNAP as usize]; 2],
    lost: u64,
    _rest: [u64; 2],
}

// SAFETY: plain numbers, without padding.
unsafe impl aya::Pod for Record {}

/// Where the daemon finds the program with this id.
pub(super) fn capture_pin(pins: &Path, id: u32) -> PathBuf {
    pins.join(format!("{CAPTURING}-{id}"))
}

/// A pin that goes with this.
struct Pin(PathBuf);

impl Drop for Pin {
    fn drop(&mut self) {
        // Gone already when the data plane was removed.
        let _ = fs::remove_file(&self.0);
    }
}

/// A capturing program, loaded.
pub struct Capture {
    ring: RingBuf<MapData>,
    records: PerCpuArray<MapData, Record>,
    facts: ProgramFacts,
    pin: Option<Pin>,
    /// Keeps the program.
    _ebpf: Ebpf,
}

impl Capture {
    /// Loads it beside the data plane that is pinned under `pins`, for the packets
    /// that `filter` takes.
    ///
    /// # Errors
    /// When there is no data plane of this build's layout, or the kernel refuses.
    pub fn load(pins: &Path, filter: &Filter) -> Result<Self> {
        let maps = Maps::open(pins)?;
        let mut ebpf = object::open(pins, maps.sizes, &maps.params, filter, RING)?;
        let program = ebpf.program_mut(CAPTURING);
        let program: &mut Xdp = program.context("no capturing program")?.try_into()?;
        let started = Instant::now();
        program
            .load()
            .map_err(|error| object::not_loaded(CAPTURING, error))?;
        let facts = ProgramFacts::of(CAPTURING, &program.info()?, started.elapsed());
        let pin = capture_pin(pins, facts.id);
        program
            .pin(&pin)
            .with_context(|| format!("cannot pin the program as {}", pin.display()))?;
        let pin = Pin(pin);
        let mut map = |name: &str| {
            ebpf.take_map(name)
                .with_context(|| format!("no map {name}"))
        };
        Ok(Self {
            ring: map("CAPTURES")?.try_into()?,
            records: map("CAPTURE")?.try_into()?,
            facts,
            pin: Some(pin),
            _ebpf: ebpf,
        })
    }

    /// The daemon has the program, or will not take it: it must not be found any
    /// more.
    pub fn handed_over(&mut self) {
        self.pin = None;
    }

    /// What the kernel said of the program.
    pub fn facts(&self) -> &ProgramFacts {
        &self.facts
    }

    /// Hands the next frame to `each`; whether there was one.
    pub fn next(&mut self, each: impl FnOnce(&Head, &[u8])) -> bool {
        let Some(item) = self.ring.next() else {
            return false;
        };
        if let Some((head, bytes)) = item.split_at_checked(size_of::<Head>()) {
            each(&bytemuck::pod_read_unaligned(head), bytes);
        }
        true
    }

    /// Frames that found no room in the ring.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn lost(&self) -> Result<u64> {
        Ok(self
            .records
            .get(&0, 0)?
            .iter()
            .map(|record| record.lost)
            .sum())
    }
}

/// Readable when there are frames.
impl AsRawFd for Capture {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
