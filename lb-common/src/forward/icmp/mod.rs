//! ICMP and ICMPv6 errors: those that this director makes, and those about
//! its connections that it hands on.

mod answer;
mod relay;

pub use answer::{Answer, answer, answer_by, too_big};
pub use relay::{is_intact, relay, retell};
