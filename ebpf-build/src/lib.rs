//! Builds the eBPF crate.
