//! The embedded eBPF object, loaded.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader, TestRun,
    programs::{ProgramError, ProgramInfo, SchedClassifier, TestRunOptions, Xdp, loaded_programs},
};
use lb_common::{capture::Filter, tables::Params};

use super::{PARAMS_KEPT, Sizes};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lvx.o"));

/// Identifies this build's object: the sweep tells whose callback runs.
pub const BUILD_ID: u64 = match u64::from_str_radix(env!("LVX_BUILD_ID"), 10) {
    Ok(id) => id,
    Err(_) => panic!("the build script gives a number"),
};

/// The program for what this director's own stack sends.
pub(super) const EGRESS: &str = "lvx_egress";

/// What the kernel says of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Name.
    pub name: String,
    /// The kernel's id.
    pub id: u32,
    /// Instructions the verifier walked.
    pub verified: u32,
    /// Bytes of the translated program.
    pub translated: u32,
    /// Bytes of machine code.
    pub jited: u32,
    /// Time the load took.
    pub load_time: std::time::Duration,
}

impl ProgramFacts {
    /// Of a program that was loaded in this time.
    pub(super) fn of(name: &str, info: &ProgramInfo, load_time: std::time::Duration) -> Self {
        Self {
            name: name.to_owned(),
            id: info.id(),
            verified: info.verified_instruction_count().unwrap_or_default(),
            translated: info.size_translated().unwrap_or_default(),
            jited: info.size_jitted(),
            load_time,
        }
    }
}

/// The object with its maps, before and after its programs are loaded.
pub struct Loaded {
    ebpf: Ebpf,
    facts: Vec<ProgramFacts>,
}

impl Loaded {
    /// The programs in the object.
    pub const PROGRAMS: [&str; 4] = ["lvx", "lvx_pass", "lvx_sweep", EGRESS];

    /// Creates the object's maps pinned under `pins`, or takes over those that
    /// are pinned there, and loads its programs.
    ///
    /// # Errors
    /// When the kernel refuses: the verifier's last lines are in the text.
    pub fn new(pins: &Path, sizes: Sizes, params: &Params) -> Result<Self> {
        let ebpf = open(pins, sizes, params, &Filter::EVERY, UNUSED_RING)?;
        let mut loaded = Self {
            ebpf,
            facts: Vec::new(),
        };
        for name in Self::PROGRAMS {
            let started = std::time::Instant::now();
            let info = loaded.load(name)?;
            loaded
                .facts
                .push(ProgramFacts::of(name, &info, started.elapsed()));
        }
        Ok(loaded)
    }

    fn load(&mut self, name: &str) -> Result<ProgramInfo> {
        if name == EGRESS {
            let program = self.egress()?;
            program.load().map_err(|error| not_loaded(name, error))?;
            return Ok(program.info()?);
        }
        let program = self.program(name)?;
        program.load().map_err(|error| not_loaded(name, error))?;
        Ok(program.info()?)
    }

    /// The program for what leaves.
    pub(super) fn egress(&mut self) -> Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(EGRESS);
        Ok(program.context("no program for what leaves")?.try_into()?)
    }

    /// An XDP program of the object.
    pub(super) fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// What the kernel said of the programs, in the order of [`Self::PROGRAMS`].
    pub fn facts(&self) -> &[ProgramFacts] {
        &self.facts
    }

    /// Starts the sweep, or hands the running timer over to this object.
    ///
    /// # Errors
    /// When the kernel refuses the run or the timer.
    pub fn start_sweep(&mut self) -> Result<()> {
        match self.run("lvx_sweep", &[0; 64], None, None)? {
            2 => Ok(()),
            code => bail!("the kernel refused the sweep's timer (verdict {code})"),
        }
    }

    /// Runs a program `count` times on `frame` as if it had come in by interface
    /// `ingress`; answers the mean time of a run. What the program does to the
    /// frame is not undone between runs.
    ///
    /// # Errors
    /// When the kernel refuses the run.
    pub fn time(
        &mut self,
        name: &str,
        frame: &[u8],
        ingress: u32,
        count: u32,
    ) -> Result<std::time::Duration> {
        let context: [u32; 6] = [0, frame.len() as u32, 0, ingress, 0, 0];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.ctx_in = Some(bytemuck::cast_slice(&context));
        options.repeat = count;
        Ok(self.program(name)?.test_run(options)?.duration)
    }

    /// Runs a program once on `frame` as if it had come in by interface
    /// `ingress`, and puts the frame as the program left it into `out`;
    /// answers the verdict.
    ///
    /// # Errors
    /// When the kernel refuses the run: a frame below 14 bytes, `out` too small.
    pub fn run(
        &mut self,
        name: &str,
        frame: &[u8],
        ingress: Option<u32>,
        out: Option<&mut Vec<u8>>,
    ) -> Result<u32> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue, egress.
        let length = frame.len() as u32;
        let context: [u32; 6] = [0, length, 0, ingress.unwrap_or(0), 0, 0];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        if ingress.is_some() {
            options.ctx_in = Some(bytemuck::cast_slice(&context));
        }
        let result = match out {
            Some(buffer) => {
                buffer.resize(frame.len() + 256, 0);
                options.data_out = Some(buffer.as_mut_slice());
                let result = self.program(name)?.test_run(options)?;
                let size = result.data_size_out as usize;
                buffer.truncate(size);
                result
            }
            None => self.program(name)?.test_run(options)?,
        };
        Ok(result.return_value)
    }

    /// Runs the program for what leaves once on `frame`, as if this director's
    /// stack sent it, and puts the frame as the program left it into `out`;
    /// answers the verdict (`TC_ACT_UNSPEC` or `TC_ACT_SHOT`).
    ///
    /// # Errors
    /// When the kernel refuses the run.
    pub fn run_egress(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<i32> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        out.resize(frame.len() + 256, 0);
        options.data_out = Some(out.as_mut_slice());
        let result = self.egress()?.test_run(options)?;
        let size = result.data_size_out as usize;
        out.truncate(size);
        Ok(result.return_value as i32)
    }
}

/// Bytes of the ring of a data plane that captures nothing: the least there is.
const UNUSED_RING: u32 = 4096;

/// The object with its maps: those that are pinned under `pins`, and a ring of
/// `ring` bytes for what is captured.
pub(super) fn open(
    pins: &Path,
    sizes: Sizes,
    params: &Params,
    filter: &Filter,
    ring: u32,
) -> Result<Ebpf> {
    let entries = sizes.entries(params);
    let paths: Vec<_> = entries
        .iter()
        .map(|&(name, _)| name)
        .chain([
            "ROOT",
            "REASONS",
            "SWEEP",
            "DESTINATIONS",
            "CALLS",
            PARAMS_KEPT,
        ])
        .map(|name| (name, pins.join(name)))
        .collect();
    let mut loader = EbpfLoader::new();
    loader.override_global("PARAMS", bytemuck::bytes_of(params), true);
    loader.override_global("BUILD_ID", &BUILD_ID, true);
    loader.override_global("CAPTURE_FILTER", bytemuck::bytes_of(filter), true);
    loader.map_max_entries("CAPTURES", ring);
    for (name, count) in entries {
        loader.map_max_entries(name, count);
    }
    for (name, path) in &paths {
        loader.map_pin_path(name, path.as_path());
    }
    loader
        .load(OBJECT)
        .context("cannot create the data plane's maps")
}

/// The kernel's verifier does not accept a program. Unlike a lack of privileges,
/// which has the same error number, this comes with the verifier's words.
#[derive(Debug, thiserror::Error)]
#[error(
    "this kernel's verifier does not accept the program {program} (tried are Linux 6.1, 6.12 and 6.18: \
     please report this line with the output of 'uname -r'): {said}"
)]
pub struct Rejected {
    program: String,
    said: String,
}

/// Lines of the verifier that are shown: the last ones say what is wrong.
const SHOWN: usize = 3;

/// Why `program` could not be loaded.
pub(super) fn not_loaded(program: &str, error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError { verifier_log, .. } = &error else {
        return anyhow::Error::new(error).context(format!("cannot load program {program}"));
    };
    match rejected(program, &verifier_log.to_string()) {
        Some(rejected) => rejected.into(),
        None => anyhow::Error::new(error).context(format!("cannot load program {program}")),
    }
}

/// What the verifier said in its `log`; `None` if it was not asked.
pub fn rejected(program: &str, log: &str) -> Option<Rejected> {
    // Its figures come last, whatever it thinks of the program.
    let figures = [
        "processed ",
        "verification time",
        "stack depth",
        "insns processed",
    ];
    let lines: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !figures.iter().any(|start| line.starts_with(start)))
        .collect();
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    (!last.is_empty()).then(|| Rejected {
        program: program.to_owned(),
        said: last.join("; "),
    })
}

/// Names of all loaded programs, by id; none without the privileges for it.
pub fn program_names() -> BTreeMap<u32, String> {
    let programs = loaded_programs().filter_map(Result::ok);
    programs
        .filter_map(|info| Some((info.id(), info.name_as_str()?.to_owned())))
        .collect()
}

/// The name of the loaded program with this id, if it is still there.
pub fn program_name(id: u32) -> Option<String> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|info: &ProgramInfo| info.id() == id)
        .and_then(|info| info.name_as_str().map(str::to_owned))
}
