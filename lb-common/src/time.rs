//! The data plane's clock: ticks of 2^22 ns (4.19 ms) of the monotonic coarse
//! clock, in 32 bits. It wraps after 208 days; all comparisons are of
//! differences, and no record is left alone for longer than the sweep's period.

/// log2 of a tick in nanoseconds.
pub const TICK_SHIFT: u32 = 22;

/// A moment, in ticks.
pub type Tick = u32;

/// The tick of a time in nanoseconds.
#[inline(always)]
pub const fn tick_of(nanoseconds: u64) -> Tick {
    (nanoseconds >> TICK_SHIFT) as u32
}

/// A duration in seconds as ticks, rounded to the nearest.
pub const fn seconds(seconds: u32) -> u32 {
    ((seconds as u64 * 1_000_000_000 + (1 << (TICK_SHIFT - 1))) >> TICK_SHIFT) as u32
}

/// A duration in ticks as nanoseconds.
pub const fn to_nanoseconds(ticks: u32) -> u64 {
    (ticks as u64) << TICK_SHIFT
}

/// Whether `deadline` has come at `now`.
#[inline(always)]
pub const fn is_past(now: Tick, deadline: Tick) -> bool {
    now.wrapping_sub(deadline) as i32 >= 0
}
