//! Loading, attaching, replacing and removing the data plane.

use std::path::Path;

use anyhow::{Result, bail};

use super::{Maps, Sizes};

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
}

impl Plane {
    /// Loads the embedded program. Maps pinned under `pins` are taken over (and
    /// `sizes` is then ignored: see `maps.sizes`), else they are created and
    /// pinned. Starts the sweep, or hands it over to this build.
    ///
    /// # Errors
    /// One line that says what to do: privileges, bpffs, another layout.
    pub fn load(pins: &Path, sizes: Sizes) -> Result<Self> {
        bail!("cannot load {sizes:?} under {}", pins.display())
    }

    /// Attaches to an interface of this network namespace, or replaces the
    /// program behind a pinned link without a gap. The link is pinned.
    ///
    /// # Errors
    /// When the interface carries a foreign XDP program (named), or the kernel refuses.
    pub fn attach(&mut self, ifindex: u32, name: &str, mode: Mode) -> Result<Attached> {
        bail!("cannot attach to {name} ({ifindex}) in {mode:?}")
    }

    /// Detaches from an interface and removes its pin.
    ///
    /// # Errors
    /// When the pin cannot be removed.
    pub fn detach(&mut self, ifindex: u32) -> Result<()> {
        bail!("not attached to {ifindex}")
    }

    /// Interfaces with a pinned link: index and mode.
    ///
    /// # Errors
    /// When a pinned link cannot be read.
    pub fn attached(&self) -> Result<Vec<(u32, Mode)>> {
        Ok(Vec::new())
    }
}

/// Detaches from every interface and removes everything pinned under `pins`.
///
/// # Errors
/// When a pin cannot be removed.
pub fn remove(pins: &Path) -> Result<()> {
    bail!("nothing under {}", pins.display())
}
