use bytemuck::{Pod, Zeroable};

/// What the sweep tells about itself. `lvx status` shows it: unpinning its map
/// would stop expiry without a sound.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SweepStatus {
    /// Tick of the last run.
    pub last_tick: u64,
    /// Build of the program whose callback runs.
    pub version: u64,
    /// Runs so far.
    pub runs: u64,
    /// Cells looked at.
    pub visited: u64,
    /// Cells freed.
    pub freed: u64,
    /// Nanoseconds of a CPU that it took so far.
    pub busy: u64,
    /// Blocks that held a cell when they were last passed.
    pub occupied_blocks: u64,
    /// Interval to the next run in nanoseconds.
    pub interval: u64,
}
