//! UDP: one state, always inactive.

/// State number.
pub const STATE: u8 = 0;
/// Its name in `-L -c`.
pub const NAME: &str = "UDP";
/// Time-out in seconds, re-armed by each packet.
pub const TIMEOUT: u32 = 300;
