//! `lvx run --proc-dir`: the kernel's files, kept in a directory for programs
//! that read `/proc`.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::model::ProcFile;

/// `DIR/net`, and the files in it.
#[derive(Debug)]
pub struct ProcDir {
    net: PathBuf,
    /// The last attempt failed, and was told.
    failed: bool,
}

impl ProcDir {
    /// Makes the directory. What a daemon that was killed has left in it tells of
    /// what was, and goes.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn new(dir: &Path) -> Result<Self> {
        let net = dir.join("net");
        fs::create_dir_all(&net)
            .with_context(|| format!("--proc-dir: cannot make the directory {}", net.display()))?;
        for file in ProcFile::ALL {
            for stale in [net.join(file.name()), new_name(&net, file)] {
                match fs::remove_file(&stale) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| {
                            format!("--proc-dir: cannot remove the old {}", stale.display())
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(Self { net, failed: false })
    }

    /// Puts these texts in the files' places, each at once: a reader meets a
    /// whole file. One without a text is removed. What fails is logged, once.
    pub fn put(&mut self, texts: &[(ProcFile, Option<String>)]) {
        let result = texts
            .iter()
            .try_for_each(|(file, text)| self.put_one(*file, text.as_deref()));
        match (&result, self.failed) {
            (Err(error), false) => tracing::error!("--proc-dir: {error:#}"),
            (Ok(()), true) => tracing::info!("--proc-dir: the files are kept again"),
            _ => {}
        }
        self.failed = result.is_err();
    }

    fn put_one(&self, file: ProcFile, text: Option<&str>) -> Result<()> {
        let path = self.net.join(file.name());
        let Some(text) = text else {
            // It may not be there.
            let _ = fs::remove_file(path);
            return Ok(());
        };
        let new = new_name(&self.net, file);
        let write = || {
            fs::write(&new, text)?;
            // Whoever reads it is not root.
            fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
            fs::rename(&new, &path)
        };
        let result = write().or_else(|_| {
            // Somebody may have removed the directory.
            fs::create_dir_all(&self.net)?;
            write()
        });
        result.with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What is written before it is put in its place.
fn new_name(net: &Path, file: ProcFile) -> PathBuf {
    net.join(format!(".{}.new", file.name()))
}

impl Drop for ProcDir {
    /// Without a daemon the files would tell of what was: no file tells so.
    fn drop(&mut self) {
        for file in ProcFile::ALL {
            let _ = fs::remove_file(self.net.join(file.name()));
        }
        let _ = fs::remove_dir(&self.net);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = ProcDir::new(&dir.path().join("proc")).unwrap();
        let net = dir.path().join("proc/net");
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&net)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let texts = |conns: Option<&str>| {
            [
                (ProcFile::IpVs, Some("table".to_owned())),
                (ProcFile::IpVsConn, conns.map(str::to_owned)),
            ]
        };
        kept.put(&texts(Some("conns")));
        assert_eq!(names(), ["ip_vs", "ip_vs_conn"]);
        kept.put(&texts(None));
        assert_eq!(names(), ["ip_vs"]);
        fs::remove_dir_all(&net).unwrap();
        kept.put(&texts(None));
        assert_eq!(fs::read_to_string(net.join("ip_vs")).unwrap(), "table");
        let mode = fs::metadata(net.join("ip_vs"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        drop(kept);
        assert!(!net.exists());
        // After a kill they are still there, until the next start.
        fs::create_dir_all(&net).unwrap();
        for name in ["ip_vs", ".ip_vs_conn.new", "other"] {
            fs::write(net.join(name), "old").unwrap();
        }
        let kept = ProcDir::new(&dir.path().join("proc")).unwrap();
        assert_eq!(names(), ["other"]);
        drop(kept);
    }
}
