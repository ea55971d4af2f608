//! `cargo xtask verify`: verified instructions and load time of each program
//! against `lb-ebpf/budget.toml`.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    build,
    shell::{self, is_root, release_program},
};

pub(crate) fn run() -> Result<()> {
    if !is_root() {
        bail!("verify loads eBPF programs; run it as root");
    }
    build::release()?;
    shell::run(
        Command::new(release_program("lvx-lab"))
            .current_dir(shell::root())
            .arg("verify"),
    )
}
