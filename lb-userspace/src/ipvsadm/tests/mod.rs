//! The command line as a whole.

mod golden;
mod random;
mod whole;
