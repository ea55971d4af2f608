//! Waiting until no packet is still in a table that was switched away from.

use std::{io, thread::sleep, time::Duration};

/// Longer than any packet is processed; used where the kernel has no answer.
const LONG: Duration = Duration::from_millis(200);

/// Returns when every packet that may have read the old root word is done.
/// Blocks for about ten milliseconds.
pub fn wait() {
    if let Err(error) = membarrier() {
        // nohz_full kernels refuse the global barrier.
        tracing::debug!("membarrier: {error}; sleeping instead");
        sleep(LONG);
    }
}

fn membarrier() -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    let status = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_a_global_barrier() {
        membarrier().unwrap();
    }
}
