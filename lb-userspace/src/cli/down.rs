use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args as ClapArgs;

use super::unexpected;
use crate::{
    daemon::{client::Client, dead, files::Files, offline},
    model::{Request, Response},
};

/// How long the daemon may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `lvx down`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Also while connections are being balanced
    #[arg(long)]
    force: bool,
    /// Only what is left of network namespaces that are no more
    #[arg(long, conflicts_with = "force")]
    dead: bool,
}

pub(super) fn main(args: &Args) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("permission denied: lvx down needs root");
    }
    if args.dead {
        for cookie in dead::remove()? {
            println!("removed what was left of the dead network namespace {cookie}");
        }
        return Ok(());
    }
    let files = Files::here()?;
    if files.daemon().is_some() {
        match Client::default().request(&Request::Down { force: args.force })? {
            Response::Ok => {}
            other => return Err(unexpected(&other)),
        }
        let asked = Instant::now();
        while let Some(pid) = files.daemon() {
            if asked.elapsed() > PATIENCE {
                bail!("the daemon (process {pid}) does not stop");
            }
            sleep(Duration::from_millis(10));
        }
        if !files.has_pins() {
            return Ok(());
        }
    }
    if files.all_pins()?.is_empty() {
        bail!("there is no data plane in this network namespace");
    }
    let _lock = files.lock()?;
    offline::down(&files, args.force).map(drop)
}
