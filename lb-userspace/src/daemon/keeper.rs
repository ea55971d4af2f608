//! Writes the state file behind the daemon's back: a slow disk holds up neither
//! packets nor the other clients for long.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::state_file::StateFile;

/// How long a change waits until it is on the disk. It is made by then: what a
/// reboot would bring back is all that depends on it.
const PATIENCE: Duration = Duration::from_secs(2);
/// After how long a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// A configuration, and its number.
type Wanted = (u64, Arc<str>);

/// How far it is.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Number of the configuration that was written, or tried, last.
    number: u64,
    /// Why the file is not what is configured.
    pub fault: Option<String>,
}

/// The writer's side.
pub struct Keeper {
    wanted: watch::Sender<Wanted>,
    done: watch::Receiver<Done>,
}

impl Keeper {
    /// Starts a task that keeps `file`.
    pub fn start(file: StateFile) -> Self {
        let (wanted, seen) = watch::channel((0, Arc::from("")));
        let (report, done) = watch::channel(Done::default());
        tokio::spawn(keep(file, seen, report));
        Self { wanted, done }
    }

    /// What there is to be told of it.
    pub fn done(&self) -> watch::Receiver<Done> {
        self.done.clone()
    }

    /// Gives it the configuration as it is now. The newest is what counts.
    pub fn put(&self, text: String) {
        self.wanted
            .send_modify(|(number, old)| (*number, *old) = (*number + 1, text.into()));
    }

    /// Waits until the newest is on the disk, or it is clear that it will not be
    /// there soon.
    pub async fn settle(&self) {
        let number = self.wanted.borrow().0;
        let mut done = self.done.clone();
        let written = done.wait_for(|done| done.number >= number);
        if timeout(PATIENCE, written).await.is_err() {
            tracing::warn!(
                "the state file is not written after {PATIENCE:?}: the disk is slow or hangs"
            );
        }
    }
}

async fn keep(mut file: StateFile, mut wanted: watch::Receiver<Wanted>, done: watch::Sender<Done>) {
    while wanted.changed().await.is_ok() {
        loop {
            let (number, text) = wanted.borrow_and_update().clone();
            let mut writing = file.clone();
            let written = spawn_blocking(move || writing.write(&text).map(|()| writing)).await;
            let fault = match written {
                Ok(Ok(written)) => {
                    file = written;
                    None
                }
                Ok(Err(error)) => Some(format!(
                    "the state file {} cannot be written ({error}): a reboot would bring back what it holds; \
                     it is tried again every {} s",
                    file.path().display(),
                    RETRY.as_secs()
                )),
                // The daemon ends.
                Err(_) => return,
            };
            let before = done.borrow().fault.clone();
            match &fault {
                Some(fault) if before.as_ref() != Some(fault) => tracing::error!("{fault}"),
                None if before.is_some() => tracing::info!("the state file is written again"),
                _ => {}
            }
            let failed = fault.is_some();
            done.send_replace(Done { number, fault });
            if !failed {
                break;
            }
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = sleep(RETRY) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn the_newest_is_kept_and_a_failure_is_told_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("there/state");
        let keeper = Keeper::start(StateFile::new(path.clone()));
        keeper.put("one\n".into());
        keeper.settle().await;
        let fault = keeper.done().borrow().fault.clone().unwrap();
        assert!(fault.contains("there/state"), "{fault}");
        fs::create_dir(dir.path().join("there")).unwrap();
        for number in 0..20 {
            keeper.put(format!("{number}\n"));
        }
        keeper.settle().await;
        assert_eq!(keeper.done().borrow().fault, None);
        let found = StateFile::new(path).read().unwrap().unwrap();
        assert_eq!(found.text, "19\n");
    }
}
