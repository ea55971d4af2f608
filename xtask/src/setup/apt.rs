//! Debian packages.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::policy::NoServices;
use crate::shell::{find_program, is_root, run_quietly, stage};

/// Installs packages, or prints the command that does when we may not.
pub(super) fn install(names: &[&str]) -> Result<()> {
    let list = names.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "this is no Debian system; install what these Debian packages bring, \
             then run cargo xtask setup again: {list}"
        );
    }
    if !is_root() {
        bail!(
            "installing needs root. Run this, then cargo xtask setup again:\n\
             sudo apt-get install -y --no-install-recommends {list}"
        );
    }
    let _no_services = NoServices::begin()?;
    // The lists may be missing or old: refresh them only when that shows.
    if stage(&format!("apt-get install {list}"), || {
        run_quietly(&mut command(names))
    })
    .is_err()
    {
        let mut update = apt_get();
        update.args(["-q", "update"]);
        stage("apt-get update", || run_quietly(&mut update))?;
        stage(&format!("apt-get install {list}"), || {
            run_quietly(&mut command(names))
        })?;
    }
    for service in ["nginx", "haproxy"] {
        if names.contains(&service) {
            keep_off(service)?;
        }
    }
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Another apt may be running: wait for it, two minutes at most.
        .args(["-o", "DPkg::Lock::Timeout=120"]);
    command
}

fn command(names: &[&str]) -> Command {
    let mut command = apt_get();
    command
        .args(["-q", "install", "-y", "--no-install-recommends"])
        .args(names);
    command
}

/// Only the binary is wanted: without this, the package's service would start with
/// the next boot.
fn keep_off(service: &str) -> Result<()> {
    let Some(systemctl) = find_program("systemctl") else {
        return Ok(());
    };
    run_quietly(Command::new(systemctl).args(["disable", &format!("{service}.service")]))
        .with_context(|| format!("{service} is installed, but its service is still enabled"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::show;

    #[test]
    fn the_command_installs_just_what_it_is_told() {
        assert_eq!(
            show(&command(&["curl", "nginx"])),
            "apt-get -o DPkg::Lock::Timeout=120 -q install -y --no-install-recommends curl nginx"
        );
    }
}
