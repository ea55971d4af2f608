//! The oracle: the same scenario through the kernel's IPVS and through lvx, and
//! every difference between the two.
//!
//! | module | holds |
//! | --- | --- |
//! | [`vm`] | the virtual machine that has the kernel's IPVS |
//! | [`guest`] | the first process in that machine |

pub mod guest;
pub mod vm;
