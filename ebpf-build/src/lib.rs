//! Finds a compiler and a linker for lvx's eBPF crate, and builds it.
//!
//! The host side of lvx builds with any stable toolchain. The eBPF side needs
//! `-Z build-std=core` and a compiler of the same LLVM major version as
//! `bpf-linker`, so it gets a toolchain of its own, found here and never
//! inherited from the cargo that runs us.
//!
//! | module | holds |
//! | --- | --- |
//! | [`toolchain`] | which rustc, cargo and library source to use |
//! | [`linker`] | which `bpf-linker` to use, and where `setup` keeps its own |
//! | [`environment`] | what a nested cargo must not inherit |
//! | [`compile`] | the cargo command of the eBPF crate |
//! | [`object_check`] | what the linked object must hold and must not |
//! | [`script`] | what the build scripts have in common |
//!
//! Used by the build scripts of `lb-userspace`, which embeds the `lvx` object,
//! and of `tests`, which embeds the benchmark's, and by `cargo xtask`, which
//! installs what is missing and lints the crate.

#![forbid(unsafe_code)]

pub mod compile;
pub mod environment;
pub mod linker;
pub mod object_check;
pub mod script;
pub mod toolchain;

pub use compile::{Builder, target_dir_of};

/// The LLVM major version that compiler and linker must share.
pub const LLVM_MAJOR: u32 = 22;

/// The command that installs everything this crate looks for.
pub const SETUP_HINT: &str = "run: cargo xtask setup";

/// Identifies an object by its bytes: 64-bit FNV-1a, whatever compiles this
/// crate. The loader uses it as the version of the sweep.
pub fn build_id(object: &[u8]) -> u64 {
    object.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::build_id;

    #[test]
    fn build_id_is_fnv1a() {
        // The published test vectors of FNV-1a, 64 bits.
        assert_eq!(build_id(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(build_id(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(build_id(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
