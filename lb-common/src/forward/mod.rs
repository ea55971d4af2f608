//! What is written into a packet on its way.
mod nat;
mod packed;
mod route;
#[cfg(test)]
mod testing;
mod way;

pub use nat::{End, Ends, Part, to_client, to_server, translate};
pub use route::route;
pub use way::{Learned, Way};
