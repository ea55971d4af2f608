//! In the machine: lvx among Linux's own devices, which development kernels often
//! lack. Real TCP connections pass, path MTU discovery included.
//!
//! | module | holds |
//! | --- | --- |
//! | [`stage`] | client, director and server, and what is between them |
//! | [`sctp`] | real SCTP by every method |
//! | [`stacked`] | bonds, VLANs and bridges that `--interface` names |
//! | [`tunnels`] | tunnel devices that take what lvx has wrapped |

mod sctp;
mod stacked;
mod stage;
mod tunnels;

use std::time::Duration;

use anyhow::{Result, ensure};
use lvx_tests::director::{Director, Start};

use stage::{Links, Stage};

use crate::vm::{self, Clock, Job, Kernel};

/// Boots the machine and has everything tried in it, or `only` what has one of
/// these words in its name; the lines that tell about each.
///
/// # Errors
/// When the machine fails or one of them does; the text tells which.
pub fn in_guest(kernel: Kernel, only: &[String]) -> Result<String> {
    let lvx = lvx_tests::director::binary()?;
    let command = ["/usr/bin/lvx-oracle", "guest-devices"].map(str::to_owned);
    let job = Job {
        command: command.into_iter().chain(only.iter().cloned()).collect(),
        files: Vec::new(),
        programs: vec![&lvx],
        modules: &["sctp"],
        limit: Duration::from_secs(600),
        clock: Clock::Virtual,
    };
    let outcome = vm::run(kernel, &job)?;
    let said = outcome.files.get("stdout").cloned().unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(
        outcome.status == 0,
        "{said}the test in the machine failed; its console:\n{}",
        outcome.console
    );
    Ok(said)
}

/// In the machine: tries everything, or `only` what has one of these words in its
/// name; prints a line each.
///
/// # Errors
/// When one fails.
pub fn guest(only: &[String]) -> Result<()> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word));
    stacked::all(&wanted)?;
    plain(&wanted)
}

/// What needs no more than two interfaces has one director: it takes seconds in
/// the machine to load one.
fn plain(wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    if !tunnels::any(wanted) && !sctp::any(wanted) {
        return Ok(());
    }
    let stage = Stage::new(Links::Plain)?;
    let interfaces = ["eth0", "eth1"];
    let director = Director::start_with(&stage.director, Start::default().interfaces(&interfaces))?;
    tunnels::all(&stage, &director, wanted)?;
    sctp::all(&stage, &director, wanted)
}

/// Tells what has been tried; on the console too, which is there when the rest
/// does not end.
fn say(line: &str) {
    println!("{line}");
    // Only for whoever looks for the reason of a failure.
    let _ = std::fs::write("/dev/console", format!("{line}\n"));
}
