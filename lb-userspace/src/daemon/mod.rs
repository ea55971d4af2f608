//! `lvx run`.

mod status;

pub use status::Status;
