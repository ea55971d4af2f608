//! The guest's files, and the initial file system (a `newc` archive, not
//! compressed: unpacking costs the emulated processor more than reading).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use lvx_tests::lab::{run, tool};

use super::packages::Unpacked;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// Files by path in the guest.
#[derive(Debug, Default)]
pub struct Image {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    content: Vec<u8>,
    /// Major and minor number of a device.
    device: (u32, u32),
}

impl Image {
    /// With the directories that a system needs, and `/dev/console`.
    #[must_use]
    pub fn new() -> Self {
        let mut image = Self::default();
        for path in [
            "/bin",
            "/dev",
            "/etc",
            "/modules",
            "/out",
            "/proc",
            "/run/netns",
            "/sbin",
            "/sys",
            "/tmp",
            "/usr/bin",
            "/usr/sbin",
        ] {
            image.add(path, DIRECTORY | 0o755, Vec::new(), (0, 0));
        }
        image.add("/dev/console", DEVICE | 0o600, Vec::new(), (5, 1));
        image.link("/run", "/var/run");
        image
    }

    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>, device: (u32, u32)) {
        self.entries.insert(
            path.to_owned(),
            Entry {
                mode,
                content,
                device,
            },
        );
    }

    /// Puts a file.
    pub fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        self.add(path, FILE | permissions, content, (0, 0));
    }

    /// Puts a symbolic link to `target`.
    pub fn link(&mut self, target: &str, path: &str) {
        self.add(path, LINK | 0o777, target.as_bytes().to_vec(), (0, 0));
    }

    /// Puts a program of this machine to `/usr/bin`, with its libraries.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn program(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.program_as(path, &format!("/usr/bin/{name}"))
    }

    /// Puts a program of this machine, with its libraries, without debug
    /// information.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn program_as(&mut self, path: &Path, to: &str) -> Result<()> {
        self.libraries(path, &[])?;
        let stripped = tempfile::NamedTempFile::new()?;
        run(Command::new(tool("strip"))
            .arg("-o")
            .arg(stripped.path())
            .arg(path))?;
        self.file(to, 0o755, fs::read(stripped.path())?);
        Ok(())
    }

    /// Puts a program of an unpacked package, with the libraries it needs of
    /// those packages and of this machine.
    ///
    /// # Errors
    /// When no package holds it.
    pub fn program_of(&mut self, packages: &[Unpacked], to: &str, path: &str) -> Result<()> {
        let found = packages
            .iter()
            .map(|package| package.root.join(path))
            .find(|file| file.is_file())
            .with_context(|| format!("none of the packages holds {path}"))?;
        self.libraries(&found, packages)?;
        self.file(to, 0o755, fs::read(found)?);
        Ok(())
    }

    /// The shared libraries that the loader would take, at their paths.
    fn libraries(&mut self, program: &Path, packages: &[Unpacked]) -> Result<()> {
        const PLACES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
        let places: Vec<_> = packages
            .iter()
            .flat_map(|package| PLACES.map(|place| package.root.join(place)))
            .filter(|place| place.is_dir())
            .map(|place| place.display().to_string())
            .collect();
        // Fails for a static program, which needs none.
        let output = Command::new("ldd")
            .env("LD_LIBRARY_PATH", places.join(":"))
            .arg(program)
            .output()
            .context("cannot run `ldd`")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
            let inside = packages
                .iter()
                .find_map(|package| Path::new(path).strip_prefix(&package.root).ok())
                .map_or_else(|| path.to_owned(), |rest| format!("/{}", rest.display()));
            let content = fs::read(path).with_context(|| format!("cannot read {path}"))?;
            self.file(&inside, 0o755, content);
        }
        Ok(())
    }

    /// The archive that the kernel unpacks.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut number = 1;
        let mut made = BTreeSet::new();
        for (path, entry) in &self.entries {
            let path = path.trim_start_matches('/');
            for (end, _) in path.match_indices('/') {
                if made.insert(&path[..end]) {
                    write(
                        &mut out,
                        number,
                        &path[..end],
                        DIRECTORY | 0o755,
                        &[],
                        (0, 0),
                    );
                    number += 1;
                }
            }
            if entry.mode & DIRECTORY == 0 || made.insert(path) {
                write(
                    &mut out,
                    number,
                    path,
                    entry.mode,
                    &entry.content,
                    entry.device,
                );
                number += 1;
            }
        }
        write(&mut out, 0, "TRAILER!!!", 0, &[], (0, 0));
        out
    }
}

fn write(
    out: &mut Vec<u8>,
    number: u32,
    path: &str,
    mode: u32,
    content: &[u8],
    device: (u32, u32),
) {
    let fields = [
        number,
        mode,
        0,
        0,
        1,
        0,
        content.len() as u32,
        0,
        0,
        device.0,
        device.1,
        path.len() as u32 + 1,
        0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        // A vector takes every write.
        let _ = write!(out, "{field:08X}");
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

/// Names and contents begin at multiples of four; a header has 110 bytes, so
/// counting from the start of the archive is the same.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut image = Image::default();
        image.file("/a/b/c", 0o644, b"text".to_vec());
        let archive = image.archive();
        let names: Vec<usize> = ["a\0", "a/b\0", "a/b/c\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| {
                archive
                    .windows(name.len())
                    .position(|bytes| bytes == name.as_bytes())
                    .expect("the name is there")
            })
            .collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(archive.len() % 4, 0);
    }
}
