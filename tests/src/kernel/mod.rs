//! The loaded program without any network: frames in by `BPF_PROG_TEST_RUN`,
//! verdicts, frames and counters out.
//!
//! | module | holds |
//! | --- | --- |
//! | [`bpffs`] | a bpffs of the test's own |
//! | [`scene`] | one configuration, written alike into maps and into host memory |
//! | [`frames`] | random frames, from plausible to garbage |

pub mod bpffs;
pub mod frames;
pub mod scene;
