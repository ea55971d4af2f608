//! The oracle: the same scenario through the kernel's IPVS and through lvx, and
//! every difference between the two.
//!
//! | module | holds |
//! | --- | --- |
//! | [`vm`] | the virtual machine that has the kernel's IPVS |
//! | [`guest`] | the first process in that machine |
//! | [`scenario`] | the text of a scenario |
//! | [`play`] | a scenario on a director, the kernel's or lvx |
//! | [`results`] | what came of it as text, and what differs |
//! | [`random`] | random scenarios from a seed |
//! | [`batch`] | many scenarios, in the guest or on this machine |
//! | [`commands`] | the real ipvsadm and lvx on the same command lines |
//! | [`devices`] | Linux's bonds, VLANs, bridges and tunnels around lvx, in the virtual machine |
//! | [`times`] | how long large tables take with the real ipvsadm and with lvx |
//! | [`self_check`] | whether random scenarios find defects that are planted |

pub mod batch;
pub mod commands;
pub mod devices;
pub mod guest;
pub mod play;
pub mod random;
pub mod results;
pub mod scenario;
pub mod self_check;
pub mod times;
pub mod vm;
