//! Labs.
pub mod kernel;
