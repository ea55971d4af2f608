//! Where a network namespace's daemon keeps its files.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use lb_common::layout::LAYOUT_VERSION;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use serde::de::DeserializeOwned;

use super::{
    Attachments,
    offloads::TurnedOff,
    state::{Limits, State},
};
use crate::{model::Counters, netns};

const ROOT: &str = "/run/lvx";
const BPFFS: &str = "/run/lvx/bpf";
const DECAP: &str = "decap";
const INTERFACES: &str = "interfaces.json";
const OFFLOADS: &str = "offloads.json";
const TOTALS: &str = "totals.json";

/// The files of one network namespace: keyed by its cookie, because inode
/// numbers are used again.
#[derive(Clone, Debug)]
pub struct Files {
    netns: u64,
    dir: PathBuf,
    pins: PathBuf,
}

impl Files {
    /// Of the network namespace this thread is in.
    ///
    /// # Errors
    /// When the kernel does not tell the namespace's cookie (before 5.14).
    pub fn here() -> Result<Self> {
        let netns =
            netns::cookie().context("the kernel does not tell this network namespace's cookie")?;
        Ok(Self::of(netns))
    }

    /// Of the network namespace with this cookie, dead or alive.
    pub fn of(netns: u64) -> Self {
        let dir = Path::new(ROOT).join(netns.to_string());
        let pins = Path::new(BPFFS)
            .join(netns.to_string())
            .join(version_dir(LAYOUT_VERSION));
        Self { netns, dir, pins }
    }

    /// Cookies of all namespaces that have a directory here, dead or alive.
    pub fn all_namespaces() -> BTreeSet<u64> {
        // A directory that cannot be read, or is not there, tells of nobody.
        let entries = [ROOT, BPFFS].map(|root| fs::read_dir(root).into_iter().flatten().flatten());
        entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Cookie of the network namespace.
    pub fn netns(&self) -> u64 {
        self.netns
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("lvx.sock")
    }

    /// Where maps and links of this layout are pinned.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Where `lvx decap` pins what belongs to it, beside the director's.
    pub fn decap_pins(&self) -> PathBuf {
        self.pins.with_file_name(DECAP)
    }

    /// Where `lvx rs-setup` writes down what it has changed.
    pub fn rs_setup(&self) -> PathBuf {
        self.dir.join("rs-setup.json")
    }

    /// Removes this namespace's directories where they are empty.
    pub fn forget_empty(&self) {
        // Fails on what holds something.
        let _ = fs::remove_dir(&self.dir);
        if let Some(parent) = self.pins.parent() {
            let _ = fs::remove_dir(parent);
        }
    }

    /// Makes the directories and mounts the BPF file system where they are missing.
    ///
    /// # Errors
    /// When the kernel refuses; the text says what.
    pub fn prepare(&self) -> Result<()> {
        make_dir(Path::new(ROOT), 0o755)?;
        make_dir(&self.dir, 0o755)?;
        let bpffs = Path::new(BPFFS);
        make_dir(bpffs, 0o700)?;
        if !is_bpffs(bpffs)? {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("lvx"), bpffs, Some("bpf"), flags, Some("mode=0700"))
                .with_context(|| format!("cannot mount a BPF file system on {BPFFS}"))?;
        }
        Ok(())
    }

    /// Whether a data plane of this layout is pinned.
    pub fn has_pins(&self) -> bool {
        fs::read_dir(&self.pins).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Directories of data planes of this namespace, whatever their layout.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all_pins(&self) -> Result<Vec<PathBuf>> {
        let Some(parent) = self.pins.parent() else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot read {}", parent.display()))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if !path.ends_with(DECAP) {
                all.push(path);
            }
        }
        Ok(all)
    }

    /// Refuses to go on beside a data plane of another layout.
    ///
    /// # Errors
    /// When there is one; the text says how to remove it.
    pub fn check_layout(&self) -> Result<()> {
        for other in self.all_pins()?.iter().filter(|path| !self.is_ours(path)) {
            if !is_empty(other) {
                bail!(
                    "this namespace's data plane has another layout ({}; this lvx has v{LAYOUT_VERSION}): \
                     remove it with 'lvx down', then start again",
                    other.display()
                );
            }
        }
        Ok(())
    }

    /// Removes empty directories of other layouts. Only whoever holds the lock
    /// may: a daemon that starts pins into a directory that was empty just now.
    pub fn remove_empty_layouts(&self, _lock: &Flock<File>) {
        for other in self.all_pins().unwrap_or_default() {
            if !self.is_ours(&other) {
                // Fails on whatever is not empty.
                let _ = fs::remove_dir(other);
            }
        }
    }

    /// Whether these pins are of this layout; also half-made ones, which a
    /// start that was killed left behind.
    fn is_ours(&self, path: &Path) -> bool {
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let own = name(&self.pins).unwrap_or_default();
        name(path).is_some_and(|name| name == own || name == own.clone() + "-new")
    }

    /// Becomes the one daemon of this namespace, until the result is dropped.
    ///
    /// # Errors
    /// When another daemon is; the text names its process.
    pub fn lock(&self) -> Result<Flock<File>> {
        let path = self.dir.join("lock");
        let context = || format!("cannot lock {}", path.display());
        // Whoever asks whether a daemon lives holds the lock for a moment, and
        // 'lvx down' removes the file.
        for patience in (0..10).rev() {
            make_dir(&self.dir, 0o755)?;
            let mut options = File::options();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600);
            let file = file.open(&path).with_context(context)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut lock) => {
                    let (locked, there) = (lock.metadata()?.ino(), fs::metadata(&path));
                    if there.is_ok_and(|there| there.ino() == locked) {
                        lock.set_len(0)?;
                        lock.write_all(std::process::id().to_string().as_bytes())?;
                        return Ok(lock);
                    }
                }
                Err((_, Errno::EWOULDBLOCK)) if patience > 0 => {}
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let mut pid = String::new();
                    let _ = file.read_to_string(&mut pid);
                    bail!(
                        "a daemon already runs in this network namespace: process {}",
                        pid.trim()
                    )
                }
                Err((_, error)) => return Err(anyhow!(error).context(context())),
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        bail!("cannot lock {}", path.display())
    }

    /// Process of the daemon that holds the lock, if one does.
    pub fn daemon(&self) -> Option<u32> {
        let mut file = File::open(self.dir.join("lock")).ok()?;
        let mut pid = String::new();
        file.read_to_string(&mut pid).ok()?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Err((_, Errno::EWOULDBLOCK)) => pid.trim().parse().ok(),
            _ => None,
        }
    }

    fn config(&self, epoch: u64) -> PathBuf {
        self.dir.join(format!("config.{epoch}"))
    }

    /// Stores the configuration of its epoch, and gives its text. It becomes the
    /// true one when the root word names that epoch.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, state: &State) -> Result<String> {
        let text = state.to_text();
        self.store(&self.config(state.epoch), text.as_bytes())?;
        Ok(text)
    }

    /// Reads the configuration of `epoch`; that of 0 is empty.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn load(&self, epoch: u64, limits: Limits) -> Result<State> {
        if epoch == 0 {
            return Ok(State::new(limits));
        }
        let path = self.config(epoch);
        let advice = "'lvx down --force' removes the data plane, so that 'lvx run' can start anew";
        let text = fs::read_to_string(&path).with_context(|| {
            format!("cannot read the configuration {}: {advice}", path.display())
        })?;
        State::from_text(&text, limits).with_context(|| format!("{}: {advice}", path.display()))
    }

    /// Removes the configurations of all other epochs.
    pub fn keep_only(&self, epoch: u64) {
        let keep = self.config(epoch);
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if name.starts_with("config.") && path != keep {
                // What stays is overwritten or removed another time.
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Remembers which interfaces are attached, for readers without a daemon.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_interfaces(&self, interfaces: &Attachments) -> Result<()> {
        self.store(&self.dir.join(INTERFACES), &serde_json::to_vec(interfaces)?)
    }

    /// The interfaces that were attached last.
    pub fn interfaces(&self) -> Attachments {
        self.read(INTERFACES)
    }

    /// Remembers which features of interfaces have been turned off.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_turned_off(&self, features: &TurnedOff) -> Result<()> {
        self.store(&self.dir.join(OFFLOADS), &serde_json::to_vec(features)?)
    }

    /// Features of interfaces that have been turned off.
    pub fn turned_off(&self) -> TurnedOff {
        self.read(OFFLOADS)
    }

    /// Remembers what the totals were when they were shown as zero.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_zero(&self, totals: &Counters) -> Result<()> {
        self.store(&self.dir.join(TOTALS), &serde_json::to_vec(totals)?)
    }

    /// The totals that are shown as zero.
    pub fn zero(&self) -> Counters {
        self.read(TOTALS)
    }

    /// A file that only remembers: what cannot be read is empty.
    fn read<T: DeserializeOwned + Default>(&self, name: &str) -> T {
        let text = fs::read(self.dir.join(name)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Removes everything, once the data plane is gone. The caller holds the lock.
    pub fn clear(&self) {
        self.keep_only(0);
        for name in [INTERFACES, OFFLOADS, TOTALS, "new", "lvx.sock", "lock"] {
            let _ = fs::remove_file(self.dir.join(name));
        }
        self.forget_empty();
    }

    /// Writes a file beside `path` and puts it in its place.
    fn store(&self, path: &Path, content: &[u8]) -> Result<()> {
        let write = || -> io::Result<()> {
            let new = self.dir.join("new");
            fs::write(&new, content)?;
            fs::rename(&new, path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn version_dir(version: u32) -> String {
    format!("v{version}")
}

/// Whether a directory holds nothing, or is gone.
fn is_empty(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(anyhow!(error).context(format!("cannot make the directory {}", path.display())))
        }
        _ => Ok(()),
    }
}

fn is_bpffs(path: &Path) -> Result<bool> {
    let kind = statfs(path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(kind.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Files {
        Files {
            netns: 1,
            dir: dir.join("1"),
            pins: dir.join("bpf/1/v1"),
        }
    }

    const LIMITS: Limits = Limits {
        sched_tables: 2,
        services: 4,
        dests: 4,
        table: 16,
        seed: 1,
        rules: 1 << 12,
    };

    #[test]
    fn one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        assert_eq!(files.daemon(), None);
        let lock = files.lock().unwrap();
        assert_eq!(files.daemon(), Some(std::process::id()));
        let error = files.lock().unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        assert_eq!(files.daemon(), None);
        let lock = files.lock().unwrap();
        files.clear();
        assert!(!files.dir.exists());
        drop(lock);
        files.lock().unwrap();
    }

    #[test]
    fn the_epoch_names_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let _lock = files.lock().unwrap();
        assert_eq!(files.load(0, LIMITS).unwrap().epoch, 0);
        let mut state = State::new(LIMITS);
        for epoch in 1..=3 {
            state.number();
            files.save(&state).unwrap();
            assert_eq!(files.load(epoch, LIMITS).unwrap().epoch, epoch);
        }
        files.keep_only(3);
        let error = format!("{:#}", files.load(2, LIMITS).unwrap_err());
        assert!(
            error.contains("config.2") && error.contains("lvx down"),
            "{error}"
        );
        fs::write(files.config(3), "{").unwrap();
        let error = format!("{:#}", files.load(3, LIMITS).unwrap_err());
        assert!(
            error.contains("damaged") && error.contains("config.3"),
            "{error}"
        );
    }

    #[test]
    fn another_layout_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        fs::create_dir_all(files.pins().join("links")).unwrap();
        files.check_layout().unwrap();
        assert!(files.has_pins());
        let old = files.pins().with_file_name("v0");
        fs::create_dir(&old).unwrap();
        files.check_layout().unwrap();
        assert!(old.exists(), "a reader removes nothing");
        // What a start that goes on at this moment is making.
        let making = files.pins().with_file_name("v1-new");
        fs::create_dir(&making).unwrap();
        files.remove_empty_layouts(&files.lock().unwrap());
        assert!(!old.exists(), "an empty directory is nothing");
        assert!(making.exists());
        fs::remove_dir(making).unwrap();
        fs::create_dir_all(old.join("links")).unwrap();
        let error = files.check_layout().unwrap_err().to_string();
        assert!(
            error.contains("v0") && error.contains("lvx down"),
            "{error}"
        );
        assert_eq!(files.all_pins().unwrap().len(), 2);
    }

    #[test]
    fn interfaces_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let _lock = files.lock().unwrap();
        assert_eq!(files.interfaces(), Attachments::default());
        let interfaces = Attachments {
            devices: vec![("eth0".into(), "native".into())],
            places: vec!["eth0.100: on eth0".into()],
        };
        files.save_interfaces(&interfaces).unwrap();
        assert_eq!(files.interfaces(), interfaces);
    }
}
