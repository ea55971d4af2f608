//! Builds the benchmark's programs; leaves `bench.o` in `OUT_DIR`.

use std::process::ExitCode;

use ebpf_build::script;

fn main() -> ExitCode {
    match script::embed("bench", &[]) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            script::complain(&error);
            ExitCode::FAILURE
        }
    }
}
