//! The loaded program without any network: frames in by `BPF_PROG_TEST_RUN`,
//! verdicts, frames and counters out.
//!
//! | module | holds |
//! | --- | --- |
//! | [`bpffs`] | a bpffs of the test's own |
//! | [`scene`] | one configuration, written alike into maps and into host memory |
//! | [`everything`] | the one with every kind of service and server |
//! | [`unswept`] | the loaded program without its sweep, and the clock its packets read |
//! | [`rules`] | mark and filter rules of it |
//! | [`frames`] | random frames, from plausible to garbage |

pub mod bpffs;
mod errors;
pub mod everything;
pub mod frames;
pub mod rules;
pub mod scene;
mod sink;
pub mod unswept;
