use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};

use crate::{
    daemon::files::Files,
    real_server::{self, Method, Setup},
};

/// Arguments of `lvx rs-setup`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// How the director sends packets here
    #[arg(long, value_enum, required_unless_present = "undo")]
    method: Option<MethodArg>,
    /// Address of a service; may be given again. Not needed for nat
    #[arg(long, value_name = "ADDR")]
    vip: Vec<IpAddr>,
    /// Interface to the director
    #[arg(long, value_name = "NAME", required_unless_present = "undo")]
    interface: Option<String>,
    /// The director's address towards this server, for nat; one of each family
    #[arg(long, value_name = "DIP")]
    gateway: Vec<IpAddr>,
    /// Do it, until the next boot, instead of printing it
    #[arg(long, conflicts_with = "undo")]
    apply: bool,
    /// Take back what --apply has done
    #[arg(long, conflicts_with_all = ["method", "vip", "interface", "gateway"])]
    undo: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum MethodArg {
    Dr,
    Tun,
    Nat,
}

pub(super) fn main(args: &Args) -> Result<()> {
    let (true, Some(method), Some(interface)) = (!args.undo, args.method, &args.interface) else {
        real_server::undo(&record()?)?;
        Files::here()?.forget_empty();
        return Ok(());
    };
    let setup = Setup {
        method: match method {
            MethodArg::Dr => Method::Direct,
            MethodArg::Tun => Method::Tunnel,
            MethodArg::Nat => Method::Nat,
        },
        vips: args.vip.clone(),
        interface: interface.clone(),
        gateways: args.gateway.clone(),
    };
    setup.check()?;
    if args.apply {
        let applied = real_server::apply(&setup, &record()?);
        if applied.is_err() {
            Files::here()?.forget_empty();
        }
        applied
    } else {
        print!("{}", setup.script());
        Ok(())
    }
}

/// Where it is written down what was there before.
fn record() -> Result<std::path::PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        bail!("permission denied: lvx rs-setup needs root to change anything");
    }
    let files = Files::here()?;
    files
        .prepare()
        .context("cannot write down what was there before")?;
    Ok(files.rs_setup())
}
