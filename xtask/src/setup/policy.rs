//! Keeps packages from starting their services while they are installed.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result};

/// Debian asks this program before it starts a service (`invoke-rc.d`(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The first lines of a policy of ours, by which a left-over is known.
const HEADER: &str = "#!/bin/sh\n# Written by lvx's `cargo xtask setup`; it may be deleted.\n";

/// While it lives, no service is started by a package. A policy that the
/// administrator has set stays in force instead.
pub(super) struct NoServices {
    ours: Option<PathBuf>,
}

impl NoServices {
    pub(super) fn begin() -> Result<Self> {
        Self::begin_at(Path::new(POLICY))
    }

    fn begin_at(path: &Path) -> Result<Self> {
        // One of ours that a kill left behind.
        if fs::read_to_string(path).is_ok_and(|text| text.starts_with(HEADER)) {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let created = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(path);
        match created {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Ok(Self { ours: None });
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot create {}", path.display()));
            }
        }
        let policy = Self {
            ours: Some(path.to_owned()),
        };
        // It ends with us, so that one left behind by a kill forbids nothing.
        let text = format!(
            "{HEADER}[ -d /proc/{} ] && exit 101\nexit 0\n",
            process::id()
        );
        fs::write(path, text)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = &self.ours
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!(
                "cannot remove {}: {error}; remove it yourself",
                path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// By the shell: a file just written is "busy" while another test forks.
    fn answer(policy: &Path) -> Option<i32> {
        Command::new("sh").arg(policy).status().unwrap().code()
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lvx-policy-{}-{name}", process::id()));
        fs::remove_file(&path).ok();
        path
    }

    #[test]
    fn services_are_forbidden_while_it_lives() {
        let path = scratch("lives");
        let policy = NoServices::begin_at(&path).unwrap();
        assert_eq!(answer(&path), Some(101));
        drop(policy);
        assert!(!path.exists());
    }

    #[test]
    fn a_policy_of_the_administrator_stays() {
        let path = scratch("stays");
        fs::write(&path, "#!/bin/sh\nexit 104\n").unwrap();
        drop(NoServices::begin_at(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 104\n");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn one_of_ours_left_behind_is_replaced() {
        let path = scratch("left");
        fs::write(&path, format!("{HEADER}exit 0\n")).unwrap();
        let policy = NoServices::begin_at(&path).unwrap();
        assert_eq!(answer(&path), Some(101));
        drop(policy);
        assert!(!path.exists());
    }
}
