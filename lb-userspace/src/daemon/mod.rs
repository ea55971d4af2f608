//! `lvx run`.

pub mod compile;
pub mod cursor;
pub mod next_hops;
pub mod publish;
pub mod snapshot;
pub mod state;
pub mod stats;
mod status;
pub mod tables;

pub use status::Status;
