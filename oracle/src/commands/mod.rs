//! Command lines: what the real ipvsadm and lvx answer to the same ones.
//!
//! | module | holds |
//! | --- | --- |
//! | [`transcript`] | commands and their answers as text |
//! | [`agent`] | runs them, in the guest or in a namespace of this machine |
//! | [`stage`] | where the two directors are |
//! | `forks` | many commands by one start of the real ipvsadm |
//! | `generate` | random sequences from a grammar, valid and not |
//! | [`compare`] | what differs, and what may |
//! | [`shrink`] | the few commands that a difference needs |

pub mod agent;
pub mod compare;
mod forks;
mod generate;
pub mod shrink;
pub mod stage;
pub mod transcript;
mod values;

pub use generate::sequences;
