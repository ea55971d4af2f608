//! Builds the eBPF crate and hands its object to the `lvx` binary.
//!
//! Leaves `lvx.o` and `decap.o` in `OUT_DIR`, and in `LVX_BUILD_ID` a decimal number that
//! identifies the bytes of the first.

use std::process::ExitCode;

use ebpf_build::{build_id, script};

fn main() -> ExitCode {
    let objects =
        script::embed("lvx", &[]).and_then(|lvx| script::embed("decap", &[]).map(|_| lvx));
    match objects {
        Ok(object) => {
            println!("cargo::rustc-env=LVX_BUILD_ID={}", build_id(&object));
            ExitCode::SUCCESS
        }
        Err(error) => {
            script::complain(&error);
            ExitCode::FAILURE
        }
    }
}
