//! The program for what this director's own stack sends, on an interface:
//! `egress/<ifindex>-tcx` below the pins is its link where the kernel has them
//! (6.6). Elsewhere it is a filter of the `clsact` qdisc, which needs no pin:
//! `egress/<ifindex>-filter-<cookie>` is the program, and tells in which network
//! namespace the filter is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, Link, PinnedLink},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};

use super::links::{is_severed, remove};
use crate::netns;

/// Priority and handle of the filter: before what `tc` chooses (49152), so that
/// other filters see a reply as its client will. The number is that of "LV".
const PRIORITY: u16 = 0x4c56;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// How the program is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Link,
    /// In the network namespace with this cookie.
    Filter(u64),
}

fn directory(pins: &Path) -> PathBuf {
    pins.join("egress")
}

fn path(pins: &Path, ifindex: u32, hold: Hold) -> PathBuf {
    directory(pins).join(match hold {
        Hold::Link => format!("{ifindex}-tcx"),
        Hold::Filter(cookie) => format!("{ifindex}-filter-{cookie}"),
    })
}

fn parse(name: &str) -> Option<(u32, Hold)> {
    let (ifindex, hold) = name.split_once('-')?;
    let hold = match hold.strip_prefix("filter-") {
        Some(cookie) => Hold::Filter(cookie.parse().ok()?),
        None => Hold::Link,
    };
    Some((ifindex.parse().ok()?, hold))
}

fn held(pins: &Path) -> Result<Vec<(u32, Hold)>> {
    let directory = directory(pins);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", directory.display()));
        }
    };
    let mut held = Vec::new();
    for entry in entries {
        held.extend(parse(&entry?.file_name().to_string_lossy()));
    }
    held.sort_unstable_by_key(|&(index, _)| index);
    Ok(held)
}

/// Indexes of the interfaces that the program is on.
pub(super) fn list(pins: &Path) -> Result<Vec<u32>> {
    Ok(held(pins)?.into_iter().map(|(index, _)| index).collect())
}

/// Attaches the program to an interface, or replaces the one that is there
/// without a gap.
pub(super) fn attach(pins: &Path, program: &mut SchedClassifier, ifindex: u32) -> Result<()> {
    let name = nix::net::if_::if_indextoname(ifindex)
        .with_context(|| format!("the interface with index {ifindex} is gone"))?
        .into_string()?;
    for (_, hold) in held(pins)?
        .into_iter()
        .filter(|&(index, _)| index == ifindex)
    {
        let path = path(pins, ifindex, hold);
        match hold {
            Hold::Link => {
                let pinned = PinnedLink::from_pin(&path)
                    .with_context(|| format!("cannot open the link {}", path.display()))?;
                let link = SchedClassifierLink::try_from(FdLink::from(pinned))?;
                match program.attach_to_link(link) {
                    // The pin keeps it.
                    Ok(id) => {
                        drop(program.take_link(id)?);
                        return Ok(());
                    }
                    Err(ProgramError::SyscallError(error)) if is_severed(&error.io_error) => {}
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("cannot update the link {}", path.display()));
                    }
                }
            }
            Hold::Filter(_) => return filter(pins, program, ifindex, &name),
        }
        // Its interface went, and another has the index.
        remove(&path)?;
    }
    fs::create_dir_all(directory(pins)).context("cannot make the directory of the links")?;
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    match program.attach_with_options(&name, TcAttachType::Egress, order) {
        Ok(id) => {
            let link = FdLink::try_from(program.take_link(id)?)?;
            let pin = path(pins, ifindex, Hold::Link);
            link.pin(&pin)
                .with_context(|| format!("cannot pin the link as {}", pin.display()))?;
            Ok(())
        }
        Err(ProgramError::SyscallError(error)) if has_no_links(&error.io_error) => {
            filter(pins, program, ifindex, &name)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the kernel knows no links of this kind.
fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP)
    )
}

/// Attaches by netlink, in place of what an earlier daemon attached so.
fn filter(pins: &Path, program: &mut SchedClassifier, ifindex: u32, name: &str) -> Result<()> {
    // Fails when it is there, and then the filter can be added.
    let _ = qdisc_add_clsact(name);
    let options = || {
        TcAttachOptions::Netlink(NlOptions {
            priority: PRIORITY,
            handle: HANDLE,
            ..NlOptions::default()
        })
    };
    let id = program.attach_with_options(name, TcAttachType::Egress, options());
    let id = match id {
        Ok(id) => id,
        // There is one.
        Err(first) => program
            .attach_to_link(ours(name)?)
            .map_err(|_| anyhow!(first))?,
    };
    // Without its handle the filter stays.
    std::mem::forget(program.take_link(id)?);
    let pin = path(pins, ifindex, Hold::Filter(netns::cookie()?));
    if pin.exists() {
        remove(&pin)?;
    }
    program
        .pin(&pin)
        .with_context(|| format!("cannot pin the program as {}", pin.display()))?;
    Ok(())
}

/// The filter of an interface.
fn ours(name: &str) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(name, TcAttachType::Egress, PRIORITY, HANDLE, None)
}

/// Detaches the program from an interface. One that is gone took it along.
pub(super) fn detach(pins: &Path, ifindex: u32) -> Result<()> {
    for (index, hold) in held(pins)? {
        if index == ifindex {
            release(pins, index, hold)?;
        }
    }
    Ok(())
}

fn release(pins: &Path, ifindex: u32, hold: Hold) -> Result<()> {
    if let Hold::Filter(cookie) = hold
        && netns::cookie().is_ok_and(|own| own == cookie)
        && let Ok(name) = nix::net::if_::if_indextoname(ifindex)
    {
        // What is not there need not be removed.
        let _ = ours(&name.into_string()?)?.detach();
    }
    remove(&path(pins, ifindex, hold))
}

/// Detaches the program from every interface.
pub(super) fn remove_all(pins: &Path) -> Result<()> {
    for (index, hold) in held(pins)? {
        release(pins, index, hold)?;
    }
    match fs::remove_dir(directory(pins)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory(pins).display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins_are_read_back() {
        for hold in [Hold::Link, Hold::Filter(u64::MAX)] {
            let path = path("/x".as_ref(), 7, hold);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(parse(&name), Some((7, hold)), "{name}");
        }
        assert_eq!(parse("7"), None);
        assert_eq!(parse("7-filter-x"), None);
    }
}
