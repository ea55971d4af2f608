//! The file of `lvx run --state`: the configuration as it outlives a reboot. It
//! is replaced whole, and the one before stays beside it as `FILE.previous`.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};

/// What a file begins with; then its format, bytes and checksum.
const MAGIC: &str = "lvx-state";
/// Changes when the first line changes shape.
const FORMAT: u32 = 1;

/// The file, by its path.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    /// What is there was written by this process, and so is whole.
    ours: bool,
}

/// A configuration that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The saved text.
    pub text: String,
    /// What was wrong with the file, when this is the one before.
    pub trouble: Option<String>,
}

impl StateFile {
    /// The file at `path`, which must be absolute.
    pub fn new(path: PathBuf) -> Self {
        Self { path, ours: false }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can be written.
    ///
    /// # Errors
    /// When it cannot; the text says what to do.
    pub fn check(&self) -> Result<()> {
        let new = self.beside("new");
        create(&new)
            .and_then(|_| fs::remove_file(&new))
            .with_context(|| {
                format!(
                    "the state file {} cannot be written: its directory must exist and belong to root",
                    self.path.display()
                )
            })
    }

    /// The last good configuration; `None` when there never was one.
    ///
    /// # Errors
    /// When neither the file nor the one before can be used; nothing is changed
    /// then, and the text says what to do.
    pub fn read(&self) -> Result<Option<Found>> {
        let path = self.path.display();
        let trouble = match load(&self.path) {
            Ok(text) => {
                let trouble = None;
                return Ok(Some(Found { text, trouble }));
            }
            Err(Unreadable::Missing) => return Ok(None),
            Err(Unreadable::Other(error)) => {
                return Err(error).with_context(|| format!("cannot read the state file {path}"));
            }
            Err(Unreadable::Later(format)) => bail!(
                "the state file {path} has format {format}, and this lvx reads {FORMAT}: \
                 start the lvx that wrote it, or move the file away to start empty"
            ),
            Err(Unreadable::Damaged(why)) => why,
        };
        let before = self.beside("previous");
        match load(&before) {
            Ok(text) => {
                let trouble = format!(
                    "the state file {path} is damaged ({trouble}): the configuration before the last change \
                     is restored, from {}",
                    before.display()
                );
                let trouble = Some(trouble);
                Ok(Some(Found { text, trouble }))
            }
            Err(_) => bail!(
                "the state file {path} is damaged ({trouble}), and there is no good {}: \
                 put a good copy in its place, or move it away to start empty",
                before.display()
            ),
        }
    }

    /// Replaces it by `text`. Whenever this is interrupted, the old or the new one
    /// is there, whole. A damaged file stays as `FILE.damaged`.
    ///
    /// # Errors
    /// When the disk refuses; the old one is then still there.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        let new = self.beside("new");
        let mut file = create(&new)?;
        file.write_all(head(text).as_bytes())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let good = self.ours || load(&self.path).is_ok();
        self.keep(if good { "previous" } else { "damaged" })?;
        fs::rename(&new, &self.path)?;
        self.ours = true;
        // The names are on the disk when the directory is.
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Gives what is there a second name.
    fn keep(&self, suffix: &str) -> io::Result<()> {
        let link = self.beside("link");
        match fs::remove_file(&link) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::hard_link(&self.path, &link) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // A file system without hard links.
            Err(_) => fs::copy(&self.path, &link).map(drop)?,
            Ok(()) => {}
        }
        fs::rename(&link, self.beside(suffix))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)
}

fn head(text: &str) -> String {
    let sum = crc32fast::hash(text.as_bytes());
    format!("{MAGIC} {FORMAT} {} {sum:08x}\n", text.len())
}

/// Why a file gives no configuration.
#[derive(Debug)]
enum Unreadable {
    Missing,
    Damaged(String),
    Later(u32),
    Other(anyhow::Error),
}

fn load(path: &Path) -> Result<String, Unreadable> {
    match fs::read(path) {
        Ok(bytes) => decode(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Unreadable::Missing),
        Err(error) => Err(Unreadable::Other(anyhow!(error))),
    }
}

/// The text in a file's bytes.
fn decode(bytes: Vec<u8>) -> Result<String, Unreadable> {
    let damaged = |why: &str| Unreadable::Damaged(why.to_owned());
    let text = String::from_utf8(bytes).map_err(|_| damaged("not text"))?;
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let words: Vec<&str> = first.split(' ').collect();
    let [MAGIC, format, length, sum] = words[..] else {
        return Err(damaged("it does not begin as a state file"));
    };
    match format.parse() {
        Ok(FORMAT) => {}
        Ok(later) => return Err(Unreadable::Later(later)),
        Err(_) => return Err(damaged("it does not begin as a state file")),
    }
    if length != rest.len().to_string() {
        let there = rest.len();
        return Err(damaged(&format!("{there} bytes of {length} are there")));
    }
    if sum != format!("{:08x}", crc32fast::hash(rest.as_bytes())) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(rest.to_owned())
}

/// For the fuzzers: any bytes as a state file.
pub fn decodes(bytes: Vec<u8>) -> bool {
    decode(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, StateFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path().join("state"));
        (dir, file)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_comes_back() {
        let (dir, mut file) = file();
        assert_eq!(file.read().unwrap(), None);
        file.check().unwrap();
        assert_eq!(names(&dir), Vec::<String>::new());
        for text in ["", "one\ntwo\n", "a service with ü\n"] {
            file.write(text).unwrap();
            let found = file.read().unwrap().unwrap();
            assert_eq!((found.text.as_str(), found.trouble), (text, None));
        }
        assert_eq!(names(&dir), ["state", "state.previous"]);
    }

    /// However a file is cut off or changed, the one before is taken.
    #[test]
    fn a_damaged_file_gives_way_to_the_one_before() {
        let (dir, mut file) = file();
        file.write("old\n").unwrap();
        file.write("the new configuration\n").unwrap();
        let whole = fs::read(file.path()).unwrap();
        let torn = (0..whole.len()).map(|length| whole[..length].to_vec());
        let flipped = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x80;
            bytes
        });
        for bytes in torn.chain(flipped).chain([vec![0; 4096]]) {
            fs::write(file.path(), &bytes).unwrap();
            let found = StateFile::new(file.path().to_owned()).read();
            let found = found.unwrap().unwrap();
            assert_eq!(found.text, "old\n", "{bytes:?}");
            assert!(found.trouble.unwrap().contains("is damaged"));
        }
        // The next daemon keeps what is damaged, and does not take it for the one before.
        let mut next = StateFile::new(file.path().to_owned());
        next.write("newer\n").unwrap();
        assert_eq!(next.read().unwrap().unwrap().text, "newer\n");
        assert_eq!(names(&dir), ["state", "state.damaged", "state.previous"]);
        let before = fs::read_to_string(dir.path().join("state.previous")).unwrap();
        assert!(before.ends_with("\nold\n"), "{before}");
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let (dir, file) = file();
        fs::write(file.path(), "lvx-state 1 5 00000000\n").unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("0 bytes of 5") && error.contains("move it away"));
        fs::write(file.path(), "lvx-state 7 5 00000000\n").unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("format 7"), "{error}");
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert!(file.read().is_err());
        let nowhere = StateFile::new(dir.path().join("no/state"));
        let error = format!("{:#}", nowhere.check().unwrap_err());
        assert!(error.contains("its directory must exist"), "{error}");
    }
}
