//! What is written into a packet on its way.
//!
//! Every function checks in the kernel's order: time to live, length, and only
//! then rewrites. One that fails leaves a packet that is good for an ICMP
//! answer ([`icmp::answer`]) or for dropping, not for sending.

pub mod client_way;
mod header;
mod hop;
pub mod icmp;
mod nat;
mod packed;
mod route;
pub mod toa;
mod tunnel;
mod way;

pub(crate) use hop::must_not_fragment;
pub use nat::{End, Ends, Part, to_client, to_server, translate};
pub(crate) use nat::{checksum_tail, halves};
pub use packed::Packed;
pub use route::route;
pub use tunnel::tunnel;
pub use way::{Learned, Way};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) use tunnel::tests as tunnel_tests;
