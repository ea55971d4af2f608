//! Time that goes on while no daemon runs.

use nix::time::{ClockId, clock_gettime};

/// Seconds of the monotonic clock, which all daemons since boot share.
pub fn seconds() -> u64 {
    // The clock exists on every Linux; its time is never negative.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() as u64)
}
