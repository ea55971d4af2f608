//! `cargo xtask setup`: finds what is there and installs what is missing.

mod apt;
mod linker;
mod policy;
mod rust;

use anyhow::{Result, bail};
use ebpf_build::toolchain;

use crate::{
    packages::{self, Package},
    shell,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only say what is missing; exit 1 when something is
    #[arg(long)]
    check: bool,
}

/// What this machine lacks.
struct Lacks {
    packages: Vec<&'static Package>,
    /// Why no toolchain can build the eBPF crate, if none can.
    toolchain: Option<anyhow::Error>,
    /// Why no `bpf-linker` can link it, if none can.
    linker: Option<anyhow::Error>,
    /// Components of the host toolchain.
    components: Vec<&'static str>,
}

impl Lacks {
    fn look() -> Result<Self> {
        let linker = ebpf_build::linker::find(&shell::target_dir()).err();
        // A wrong value of the variable is the caller's mistake, not a lack.
        toolchain::debian_is_wanted()?;
        Ok(Self {
            packages: packages::missing(linker.is_some()),
            toolchain: toolchain::find().err(),
            linker,
            components: rust::missing_components(),
        })
    }

    fn nothing(&self) -> bool {
        self.packages.is_empty()
            && self.toolchain.is_none()
            && self.linker.is_none()
            && self.components.is_empty()
    }

    fn print(&self) {
        for package in &self.packages {
            println!("missing: package {}: {}", package.name, package.reason);
        }
        for lack in self.toolchain.iter().chain(&self.linker) {
            // The first line; the second says to run what is running.
            println!(
                "missing: {}",
                lack.to_string().lines().next().unwrap_or_default()
            );
        }
        for component in &self.components {
            println!("missing: {component}: cargo xtask lint uses it");
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let lacks = Lacks::look()?;
    if lacks.nothing() {
        println!("everything is there");
        return Ok(());
    }
    lacks.print();
    if options.check {
        bail!("something is missing; {}", ebpf_build::SETUP_HINT);
    }
    install(&lacks)
}

/// Like `setup`, but silent when there is nothing to do: the other verbs
/// begin with it.
pub(crate) fn ensure() -> Result<()> {
    let lacks = Lacks::look()?;
    if lacks.nothing() {
        return Ok(());
    }
    lacks.print();
    shell::stage("setup", || install(&lacks))
}

fn install(lacks: &Lacks) -> Result<()> {
    let mut wanted: Vec<&str> = lacks.packages.iter().map(|package| package.name).collect();
    if lacks.toolchain.is_some() && !rust::add_library_source()? {
        wanted.extend(toolchain::DEBIAN_PACKAGES);
    }
    if !wanted.is_empty() {
        apt::install(&wanted)?;
    }
    rust::add_components(&lacks.components)?;
    if lacks.linker.is_some() {
        linker::install()?;
    }
    rust::try_to_add_miri();

    let left = Lacks::look()?;
    if !left.nothing() {
        left.print();
        bail!("still missing after setup, see above");
    }
    println!("everything is there now");
    Ok(())
}
