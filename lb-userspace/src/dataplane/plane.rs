//! Loading, attaching, replacing and removing the data plane.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use lb_common::{layout::Settings, tables::Params};

use super::{
    Loaded, Maps, PARAMS_KEPT, ProgramFacts, Sizes,
    capture::{CAPTURING, capture_pin},
    egress, links,
};

/// How XDP is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack's generic hook.
    Generic,
    /// Native where it works, else generic.
    Auto,
}

/// Result of attaching to one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// [`Mode::Native`] or [`Mode::Generic`].
    pub mode: Mode,
    /// Why it is not native, when `Auto` fell back.
    pub fallback: Option<String>,
}

/// A loaded data plane.
pub struct Plane {
    /// Its maps.
    pub maps: Maps,
    loaded: Loaded,
    /// The program of `lvx capture`, while that runs.
    capturing: Option<Xdp>,
    pins: PathBuf,
    /// Names of programs of others.
    known: BTreeMap<u32, String>,
}

impl Plane {
    /// Loads the embedded program. Maps pinned under `pins` are taken over (and
    /// `sizes` is then ignored: see `maps.sizes`), else they are created and
    /// pinned, all or none. Starts the sweep, or hands it over to this build.
    ///
    /// # Errors
    /// One line that says what to do: privileges, bpffs, another layout.
    pub fn load(pins: &Path, sizes: Sizes) -> Result<Self> {
        if pins.join(PARAMS_KEPT).exists() {
            Self::take_over(pins)
        } else {
            Self::create(pins, sizes)
        }
    }

    fn take_over(pins: &Path) -> Result<Self> {
        let maps = Maps::open(pins)?;
        let mut loaded = Loaded::new(pins, maps.sizes, &maps.params)?;
        loaded.start_sweep()?;
        Ok(Self {
            maps,
            loaded,
            capturing: None,
            pins: pins.to_owned(),
            known: BTreeMap::new(),
        })
    }

    /// Names of programs, by which one that is in the way is called.
    pub fn know(&mut self, programs: BTreeMap<u32, String>) {
        self.known = programs;
    }

    fn create(pins: &Path, sizes: Sizes) -> Result<Self> {
        let params = sizes.params();
        // No parameters: what is left of a removal that was interrupted.
        remove(pins)?;
        // A half-made set must never be taken for a data plane: it is made
        // under another name and renamed when it is whole.
        let fresh = fresh_directory(pins)?;
        let made = Self::create_in(&fresh, sizes, &params);
        let made = made.and_then(|loaded| {
            fs::rename(&fresh, pins).with_context(|| {
                format!("cannot rename {} to {}", fresh.display(), pins.display())
            })?;
            Ok(loaded)
        });
        match made {
            Ok(loaded) => Ok(Self {
                maps: Maps::open(pins)?,
                loaded,
                capturing: None,
                pins: pins.to_owned(),
                known: BTreeMap::new(),
            }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = remove(&fresh);
                Err(error)
            }
        }
    }

    fn create_in(fresh: &Path, sizes: Sizes, params: &Params) -> Result<Loaded> {
        let mut loaded = Loaded::new(fresh, sizes, params)?;
        let maps = Maps::open(fresh)?;
        maps.settings.set(0, Settings::kernel_defaults());
        maps.keep_params(fresh, params)?;
        loaded.start_sweep()?;
        Ok(loaded)
    }

    /// What the kernel said of the loaded programs.
    pub fn facts(&self) -> &[ProgramFacts] {
        self.loaded.facts()
    }

    /// Attaches to an interface of this network namespace, or replaces the
    /// program behind a pinned link without a gap. The link is pinned.
    /// `present` is the id of the program that netlink says is on the
    /// interface, to name it when it is in the way.
    ///
    /// # Errors
    /// When the interface carries a foreign XDP program, or the kernel refuses.
    pub fn attach(
        &mut self,
        ifindex: u32,
        name: &str,
        mode: Mode,
        present: Option<u32>,
    ) -> Result<Attached> {
        let attached = self.attach_program("lvx", ifindex, name, mode, present)?;
        if self.capturing.is_some() {
            self.reattach(ifindex)?;
        }
        Ok(attached)
    }

    /// Puts the capturing program with this id in the place of the ordinary one,
    /// on the interfaces that [`Self::reattach`] is called for and on those that
    /// are attached from now on.
    ///
    /// # Errors
    /// When there is no such program, or another captures already.
    pub fn begin_capture(&mut self, id: u32) -> Result<()> {
        if self.capturing.is_some() {
            bail!("another 'lvx capture' runs: end it first");
        }
        // By a pin: only CAP_SYS_ADMIN opens a program by its id.
        let program = Xdp::from_pin(capture_pin(&self.pins, id), XdpAttachType::Interface)
            .context("no capturing program: 'lvx capture' loads it")?;
        let info = program.info()?;
        if info.id() != id || info.name_as_str() != Some(CAPTURING) {
            bail!("program {id} does not capture: 'lvx capture' loads one that does");
        }
        self.capturing = Some(program);
        Ok(())
    }

    /// Ends what [`Self::begin_capture`] began.
    pub fn end_capture(&mut self) {
        self.capturing = None;
    }

    /// Puts the program that is wanted now behind the link of an interface, without
    /// a gap; whether there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reattach(&mut self, ifindex: u32) -> Result<bool> {
        let program = match &mut self.capturing {
            Some(program) => program,
            None => self.loaded.program("lvx")?,
        };
        Ok(links::replace(&self.pins, program, ifindex)?.is_some())
    }

    /// Attaches the pass program: a driver takes redirected frames only on an
    /// interface that runs an XDP program.
    ///
    /// # Errors
    /// As for [`Self::attach`].
    pub fn attach_pass(&mut self, ifindex: u32, name: &str, mode: Mode) -> Result<Attached> {
        self.attach_program("lvx_pass", ifindex, name, mode, None)
    }

    fn attach_program(
        &mut self,
        program: &str,
        ifindex: u32,
        name: &str,
        mode: Mode,
        present: Option<u32>,
    ) -> Result<Attached> {
        let program = self.loaded.program(program)?;
        let attached = match links::replace(&self.pins, program, ifindex)? {
            Some(mode) => Attached {
                mode,
                fallback: None,
            },
            None => match links::attach_anew(&self.pins, program, ifindex, mode) {
                Ok(attached) => attached,
                Err(error) if error.is_busy() => {
                    bail!(
                        "{name} already carries {}: stop the program that owns it ('bpftool link show' \
                         names it), or 'ip link set dev {name} xdp off' if it was attached without a link",
                        foreign(present, &self.known)
                    )
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot attach to {name}"));
                }
            },
        };
        // A link update leaves the old timer callback running.
        self.loaded.start_sweep()?;
        Ok(attached)
    }

    /// Detaches from an interface and removes its pin.
    ///
    /// # Errors
    /// When the pin cannot be removed.
    pub fn detach(&mut self, ifindex: u32) -> Result<()> {
        links::detach(&self.pins, ifindex)
    }

    /// Attaches the program for what this director's stack sends, or replaces the
    /// one that is there without a gap.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_egress(&mut self, ifindex: u32) -> Result<()> {
        egress::attach(&self.pins, self.loaded.egress()?, ifindex)
    }

    /// Takes it off an interface.
    ///
    /// # Errors
    /// When its pin cannot be removed.
    pub fn detach_egress(&mut self, ifindex: u32) -> Result<()> {
        egress::detach(&self.pins, ifindex)
    }

    /// Interfaces that it is on.
    ///
    /// # Errors
    /// When the directory of its pins cannot be read.
    pub fn egress(&self) -> Result<Vec<u32>> {
        egress::list(&self.pins)
    }

    /// Interfaces with a pinned link: index and mode.
    ///
    /// # Errors
    /// When the links' directory cannot be read.
    pub fn attached(&self) -> Result<Vec<(u32, Mode)>> {
        links::list(&self.pins)
    }

    /// The loaded object, to run its programs on frames.
    pub fn object(&mut self) -> &mut Loaded {
        &mut self.loaded
    }
}

/// Names the program that is in the way.
fn foreign(id: Option<u32>, known: &BTreeMap<u32, String>) -> String {
    let Some(id) = id else {
        return "another XDP program".to_owned();
    };
    match known.get(&id).filter(|name| !name.is_empty()) {
        Some(name) => format!("the XDP program \"{name}\" (id {id})"),
        None => format!("the XDP program with id {id}"),
    }
}

fn fresh_directory(pins: &Path) -> Result<PathBuf> {
    // A bpffs takes no dots in names.
    let name = pins
        .file_name()
        .context("the pins need a directory of their own")?;
    let fresh = pins.with_file_name(format!("{}-new", name.to_string_lossy()));
    if fresh.exists() {
        remove(&fresh)?;
    }
    fs::create_dir_all(&fresh)
        .with_context(|| format!("cannot make {}: is a bpffs mounted there?", fresh.display()))?;
    Ok(fresh)
}

/// Whether the data plane pinned under `pins` is still on an interface. One
/// whose namespace is dead is not.
///
/// # Errors
/// When a link cannot be looked at.
pub fn any_attached(pins: &Path) -> Result<bool> {
    links::any_attached(pins)
}

/// Detaches from every interface and removes everything pinned under `pins`.
/// Nothing there is nothing to do.
///
/// # Errors
/// When a pin cannot be removed.
pub fn remove(pins: &Path) -> Result<()> {
    // Links first: no packet may meet a program whose maps are going. Then the
    // parameters, without which nobody takes the rest for a data plane.
    remove_directory(&pins.join("links"))?;
    egress::remove_all(pins)?;
    match fs::remove_file(pins.join(PARAMS_KEPT)) {
        Err(error) if !is_gone(&error) => {
            return Err(error).with_context(|| format!("cannot remove {}", pins.display()));
        }
        _ => {}
    }
    remove_directory(pins)
}

/// Whether nothing is there.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Removes a directory of pins.
fn remove_directory(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if is_gone(&error) => return Ok(()),
        entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    fs::remove_dir(directory).with_context(|| format!("cannot remove {}", directory.display()))
}
