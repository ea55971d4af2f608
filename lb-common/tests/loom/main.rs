//! The flow table's protocol under every interleaving of two threads (up to a
//! bound on preemptions) that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p lb-common --release --test loom`
#![cfg(loom)]

mod protocol;
mod reverse;
mod tables;
