//! UDP: one state, always inactive.

/// State number.
pub const STATE: u8 = 0;
/// Every packet leads to it.
pub const COLUMNS: [u64; 3] = [STATE as u64; 3];
/// Its name in `-L -c`.
pub const NAME: &str = "UDP";
/// Time-out in seconds, re-armed by each packet.
pub const TIMEOUT: u32 = 300;
