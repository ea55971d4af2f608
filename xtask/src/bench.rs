//! `cargo xtask bench`: what a packet costs, and what a stream gets, by
//! `lvx-lab bench`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    build, oracle,
    shell::{self, is_root, release_program},
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer rounds: less exact, below two minutes
    #[arg(long)]
    quick: bool,
    /// One TCP stream by each method instead of single packets
    #[arg(long)]
    streams: bool,
    /// A new connection by each scheduler instead of established ones
    #[arg(long, conflicts_with = "streams")]
    schedulers: bool,
    /// From end to end, next to plain forwarding, nftables and HAProxy
    #[arg(long, conflicts_with_all = ["streams", "schedulers"])]
    forwarding: bool,
    /// Millions of connections, the sweep, two CPUs, thousands of services
    #[arg(long, conflicts_with_all = ["streams", "schedulers", "forwarding"])]
    scale: bool,
    /// Instructions a packet, next to the kernel's IPVS, in the virtual machine
    #[arg(long, conflicts_with_all = ["streams", "schedulers", "forwarding", "scale", "plot"])]
    guest: bool,
    /// Only paths with this in their name [may be given several times]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["streams", "schedulers", "forwarding", "scale"])]
    only: Vec<String>,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE", conflicts_with_all = ["streams", "schedulers"])]
    json: Option<PathBuf>,
    /// Draw nanoseconds over flows
    #[arg(long, value_name = "FILE.svg", conflicts_with_all = ["streams", "schedulers", "forwarding", "scale"])]
    plot: Option<PathBuf>,
    /// Print tables as Markdown has them
    #[arg(long, conflicts_with_all = ["streams", "schedulers"])]
    markdown: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("bench loads eBPF programs; run it as root");
    }
    build::release()?;
    if options.guest {
        return guest(options);
    }
    let mut command = Command::new(release_program("lvx-lab"));
    command.arg("bench");
    if options.streams {
        command.arg("streams");
    }
    if options.schedulers {
        command.arg("schedulers");
    }
    if options.forwarding {
        command.arg("forwarding");
    }
    if options.scale {
        command.arg("scale");
    }
    if options.quick {
        command.arg("--quick");
    }
    for name in &options.only {
        command.arg("--only").arg(name);
    }
    if let Some(path) = &options.json {
        command.arg("--json").arg(path);
    }
    if let Some(path) = &options.plot {
        command.arg("--plot").arg(path);
    }
    if options.markdown {
        command.arg("--markdown");
    }
    shell::run(&mut command)
}

/// `lvx-lab bench guest` in the machine.
fn guest(options: &Options) -> Result<()> {
    let mut script = "exec lvx-lab bench guest --json /out/guest.json".to_owned();
    if options.quick {
        script += " --quick";
    }
    if options.markdown {
        script += " --markdown";
    }
    for name in &options.only {
        // Quoted for the guest's shell.
        script += &format!(" --only '{}'", name.replace('\'', r"'\''"));
    }
    script += " 2>&1\n";
    let [path, out] = ["guest.sh", "guest"].map(|name| shell::target_dir().join(name));
    fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    shell::run(
        oracle::vm()?
            .args(["--limit", "1800", "--out"])
            .args([&out, &path])
            .args(["lvx-lab", "lvx"].map(release_program)),
    )?;
    if let Some(json) = &options.json {
        fs::copy(out.join("guest.json"), json)
            .with_context(|| format!("cannot write {}", json.display()))?;
    }
    Ok(())
}
