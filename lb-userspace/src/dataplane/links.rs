//! Pinned attachments: `links/<ifindex>-<mode>` below the pins. They keep the
//! program on its interface without any process, and replace it without a gap.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    xdp::XdpLink,
};

use super::{Attached, Mode};

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Auto => "auto",
        }
    }

    fn flag(self) -> XdpMode {
        match self {
            Self::Native | Self::Auto => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

fn directory(pins: &Path) -> PathBuf {
    pins.join("links")
}

fn path(pins: &Path, ifindex: u32, mode: Mode) -> PathBuf {
    directory(pins).join(format!("{ifindex}-{}", mode.name()))
}

/// The pinned links: interface index and mode.
pub(super) fn list(pins: &Path) -> Result<Vec<(u32, Mode)>> {
    let directory = directory(pins);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", directory.display()));
        }
    };
    let mut links = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let parsed = name.split_once('-').and_then(|(index, mode)| {
            let mode = if mode == "native" {
                Mode::Native
            } else {
                Mode::Generic
            };
            Some((index.parse().ok()?, mode))
        });
        links.extend(parsed);
    }
    links.sort_unstable_by_key(|&(index, _)| index);
    Ok(links)
}

/// Puts `program` behind the pinned link of an interface, if there is one that
/// still holds on to it. A link whose interface was deleted is removed.
pub(super) fn replace(pins: &Path, program: &mut Xdp, ifindex: u32) -> Result<Option<Mode>> {
    let Some((_, mode)) = list(pins)?.into_iter().find(|&(index, _)| index == ifindex) else {
        return Ok(None);
    };
    let path = path(pins, ifindex, mode);
    let pinned = PinnedLink::from_pin(&path)
        .with_context(|| format!("cannot open the link {}", path.display()))?;
    match program.attach_to_link(XdpLink::try_from(FdLink::from(pinned))?) {
        // The pin keeps it; dropping this handle only closes a descriptor.
        Ok(id) => {
            drop(program.take_link(id)?);
            Ok(Some(mode))
        }
        Err(ProgramError::SyscallError(error)) if is_severed(&error.io_error) => {
            remove(&path)?;
            Ok(None)
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot update the link {}", path.display()))
        }
    }
}

/// Whether a link that is pinned under `pins` still has its interface.
pub(super) fn any_attached(pins: &Path) -> Result<bool> {
    for (ifindex, mode) in list(pins)? {
        let path = path(pins, ifindex, mode);
        let text = || format!("cannot look at the link {}", path.display());
        let link = FdLink::from(PinnedLink::from_pin(&path).with_context(text)?);
        // aya does not show this part of a link's info; the kernel's text of the
        // descriptor does.
        if interface_of(link.info()?.id()).with_context(text)? != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The interface of a link that this process has open: 0 when it is gone.
fn interface_of(link: u32) -> io::Result<u32> {
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // The directory's own descriptor is among them and is gone afterwards.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u32>().ok())
        };
        if field("link_id:") == Some(link) {
            return field("ifindex:").ok_or_else(|| io::Error::other("it names no interface"));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

pub(super) fn is_severed(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOLINK | libc::ENODEV | libc::EINVAL)
    )
}

/// Attaches `program` in one mode and pins the link.
pub(super) fn attach(
    pins: &Path,
    program: &mut Xdp,
    ifindex: u32,
    mode: Mode,
) -> Result<(), AttachError> {
    let id = program
        .attach_to_if_index(ifindex, mode.flag())
        .map_err(AttachError::Refused)?;
    let link = program.take_link(id).map_err(AttachError::Refused)?;
    // Without a BPF link (before 5.9, or where aya fell back to netlink) the
    // program would go with this process; dropping it detaches it again.
    let link = FdLink::try_from(link).map_err(AttachError::NotALink)?;
    fs::create_dir_all(directory(pins)).map_err(AttachError::Directory)?;
    let pin = path(pins, ifindex, mode);
    link.pin(&pin).map_err(|error| AttachError::Pin {
        path: pin,
        reason: error.to_string(),
    })?;
    Ok(())
}

/// Why an attachment failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    #[error("{}", reason(.0))]
    Refused(ProgramError),
    #[error("the kernel gave no link that outlives the daemon: {0}")]
    NotALink(LinkError),
    #[error("cannot make the directory of the links: {0}")]
    Directory(io::Error),
    #[error("cannot pin the link as {}: {reason}", path.display())]
    Pin { path: PathBuf, reason: String },
}

impl AttachError {
    /// Whether another program is in the way.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Refused(ProgramError::SyscallError(error))
            // EEXIST: one in the other mode.
            if matches!(error.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)))
    }
}

fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        other => other.to_string(),
    }
}

/// Attaches anew, as `mode` asks.
pub(super) fn attach_anew(
    pins: &Path,
    program: &mut Xdp,
    ifindex: u32,
    mode: Mode,
) -> Result<Attached, AttachError> {
    if mode != Mode::Auto {
        attach(pins, program, ifindex, mode)?;
        return Ok(Attached {
            mode,
            fallback: None,
        });
    }
    match attach(pins, program, ifindex, Mode::Native) {
        Ok(()) => Ok(Attached {
            mode: Mode::Native,
            fallback: None,
        }),
        Err(error) if error.is_busy() => Err(error),
        Err(error) => {
            attach(pins, program, ifindex, Mode::Generic)?;
            Ok(Attached {
                mode: Mode::Generic,
                fallback: Some(error.to_string()),
            })
        }
    }
}

/// Removes the pin of an interface's link; the program is detached with it.
pub(super) fn detach(pins: &Path, ifindex: u32) -> Result<()> {
    for (index, mode) in list(pins)? {
        if index == ifindex {
            remove(&path(pins, index, mode))?;
        }
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}
