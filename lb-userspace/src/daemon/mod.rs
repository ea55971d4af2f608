//! `lvx run`.

pub mod cursor;
pub mod state;
mod status;

pub use status::Status;
