//! The netlink watch against the kernel: two namespaces and a cable. Needs root.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod follow;
mod lab;
mod source;
