//! From frame to facts. Whatever is not plainly well-formed is left to the
//! stack, which drops and counts it as it always did.

mod ethernet;
mod icmp;
mod ipv4;

pub use ethernet::{Ethernet, ethernet};
pub use icmp::{Quoted, quoted};
pub use ipv4::{Ipv4, ipv4, transport};
