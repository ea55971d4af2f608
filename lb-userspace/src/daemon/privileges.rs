//! What the daemon may do once it has started: four capabilities, and no way to
//! more.

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    errno::Errno,
    unistd::{Gid, Group, setgroups},
};

/// The group whose members may list, where nobody names another.
const READERS: &str = "lvx";

/// What is kept: to make maps and load programs, to load them without the slower
/// masks against speculation, to attach them and follow the network, and for the
/// tools that list the firewall's rules.
pub const KEPT: [Capability; 4] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
];

/// The group that may list: `name`, else `lvx` where there is one.
///
/// # Errors
/// When there is no group of this name.
pub fn readers(name: Option<&str>) -> Result<Option<Gid>> {
    let group = match Group::from_name(name.unwrap_or(READERS)) {
        // So says a system without /etc/group.
        Err(Errno::ENOENT) => None,
        answer => answer.context("cannot look groups up")?,
    };
    match (group, name) {
        (None, Some(name)) => {
            anyhow::bail!("there is no group '{name}': 'groupadd --system {name}' makes it")
        }
        (group, _) => Ok(group.map(|group| group.gid)),
    }
}

/// Gives up every capability but [`KEPT`], for this process and all that it
/// starts. It is in the group `readers` then, so that it may hand files to it.
/// There must be one thread.
///
/// # Errors
/// When the kernel refuses. Capabilities that are not there are not missed here.
pub fn give_up(readers: Option<Gid>) -> Result<()> {
    let context = "cannot give up privileges";
    let effective = caps::read(None, CapSet::Effective).context(context)?;
    if let (Some(group), true) = (readers, effective.contains(&Capability::CAP_SETGID)) {
        setgroups(&[group]).context(context)?;
    }
    nix::sys::prctl::set_no_new_privs().context(context)?;
    let kept = CapsHashSet::from(KEPT);
    if effective.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding).context(context)?;
        for capability in bounding.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability).context(context)?;
        }
    }
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).context(context)?;
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        let there = caps::read(None, set).context(context)?;
        caps::set(None, set, &there.intersection(&kept).copied().collect()).context(context)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_name() {
        assert_eq!(readers(Some("root")).unwrap(), Some(Gid::from_raw(0)));
        let error = readers(Some("no-such-group")).unwrap_err().to_string();
        assert!(error.contains("groupadd"), "{error}");
    }
}
