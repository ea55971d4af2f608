//! Ctrl-C and SIGTERM set a flag; who sees it returns, and `Drop` cleans up.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Someone asked this program to stop.
#[derive(Debug)]
pub(crate) struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; everything has been removed")
    }
}

impl std::error::Error for Stopped {}

/// Whether a signal has come.
#[derive(Clone, Debug)]
pub(crate) struct Signals(Arc<AtomicBool>);

impl Signals {
    /// Catches SIGINT and SIGTERM from now on. Programs that are started get the
    /// usual handling back.
    pub(crate) fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .context("cannot catch signals")?;
        }
        Ok(Self(flag))
    }

    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails with [`Stopped`] once a signal has come.
    pub(crate) fn check(&self) -> Result<()> {
        if self.came() {
            Err(Stopped.into())
        } else {
            Ok(())
        }
    }
}
