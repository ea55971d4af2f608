//! `lvx-oracle`: what `cargo xtask vm` and `cargo xtask oracle` run.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The kernel of the guest starts this program as its first process.
    if std::process::id() == 1 {
        lvx_oracle::guest::init();
        return ExitCode::FAILURE;
    }
    cli::main()
}
