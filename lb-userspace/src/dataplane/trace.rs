//! The lines of a tracing build, read from the data plane into the log.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

/// Logs what the programs of `ebpf` say, for as long as the runtime lives.
/// Without a runtime (a test run) nothing reads the lines.
pub(super) fn start(ebpf: &mut Ebpf) -> Result<()> {
    let logger = EbpfLogger::init(ebpf).context("cannot read the tracing build's lines")?;
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Ok(());
    };
    let _entered = runtime.enter();
    // SAFETY: the logger keeps its one descriptor until it is dropped.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE)? };
    runtime.spawn(async move {
        // Ends with the runtime, or when the ring is gone.
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
