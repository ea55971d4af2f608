//! The flow table: connections and templates, one cache line each.
//!
//! A key has a home cell; it lies in the window of [`WINDOW`] cells that starts
//! there, or, when that was full, in a window of the stash (an eighth of the
//! table, behind the main part), which is visited only when the home cell's
//! spill count is not zero.
//!
//! The protocol, proved under loom and by two CPUs racing in the kernel:
//!
//! * A look-up scans the window and re-reads the state word after the data; it
//!   never stops at a free cell.
//! * An insert takes the lock in the key's home cell, searches again unless the
//!   home's word is what it was before the key was searched for in vain, claims a
//!   free cell (FREE → BUSY), fills it, publishes it (BUSY → LIVE), unlocks, which
//!   changes the word. So a key has at most one live cell.
//! * A change of state and a release are a compare-and-swap of the state word;
//!   only the winner touches the counts of the server, the block and the spill.
//! * A release increments the cell's generation; links are (index, generation).
//! * A connection is dead to look-ups at its deadline; the sweep frees it
//!   [`SWEEP_DELAY`] ticks later, so that a packet on another CPU that still
//!   saw it alive has left.
//! * A NAT connection has a second cell, under the key of its server's packets,
//!   which only links to the first. It is made after the first one and before
//!   the first packet leaves, and is over when its link is.
//! * A template counts the connections that were made from it and outlives them
//!   all; its count is closed before it is released.

mod cell;
mod home;
mod insert;
mod lookup;
mod release;
mod reverse;
mod state;
pub mod sweep;
mod template;

pub use cell::{FlowCell, Link, TEMPLATE_SHIFT, Times, word};
pub use home::HomeWord;
pub use insert::{Inserted, NewFlow, PREPARED_WORDS, Prepared, insert};
pub use lookup::{Found, find, find_or_home, find_rare, home, linked, stash_home};
pub use release::{release, transition, vacate};
pub use reverse::{NewReverse, read_reverse, way_of};
pub use state::{Phase, StateWord, load_of};
pub use template::{
    CONTROLLED, Control, NewTemplate, assure, close, hold, is_alive, let_go, renew, retire,
};

/// Cells in a window.
pub const WINDOW: u32 = 8;
/// Cells a block counts.
pub const BLOCK: u32 = 1024;
/// The stash is this fraction of the main part.
pub const STASH_SHARE: u32 = 8;
/// Ticks between a connection's deadline and its release.
pub const SWEEP_DELAY: u32 = 2;
/// Tries for a home cell's lock.
pub const LOCK_TRIES: u32 = 32;

/// All cells of a table whose main part has `cells`.
pub const fn total_cells(cells: u32) -> u32 {
    cells + cells / STASH_SHARE
}

/// Main cells for `connections` promised ones: a power of two, at least twice
/// as many, and enough for whole blocks in the stash.
pub const fn cells_for(connections: u32) -> u32 {
    let wanted = connections as u64 * 2;
    let smallest = (BLOCK * STASH_SHARE) as u64;
    let largest = 1 << 30;
    if wanted > largest {
        largest as u32
    } else if wanted < smallest {
        smallest as u32
    } else {
        wanted.next_power_of_two() as u32
    }
}

#[cfg(test)]
mod tests;
