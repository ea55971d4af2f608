//! `lvx run`.

pub mod compile;
pub mod cursor;
pub mod state;
mod status;
pub mod tables;

pub use status::Status;
