//! Programs of the operator's own: exit status 0 is up.

use std::{process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use super::{Stage, Trouble, Whom, plain};
use crate::model::ServiceId;

/// What a program that does not end is given between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);

/// A running program with whatever it has started; ended when it is dropped.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else {
            return;
        };
        // Its number is its own until it has been waited for.
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let Some(group) = group.map(Pid::from_raw) else {
            return;
        };
        let _ = killpg(group, Signal::SIGTERM);
        // At the very end nobody is left to wait for it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                let _ = killpg(group, Signal::SIGKILL);
                let _ = child.wait().await;
            }
        });
    }
}

pub(super) async fn run(
    whom: Whom,
    program: &str,
    perl: bool,
    stage: &Stage,
) -> Result<(), Trouble> {
    stage.reached(Stage::ANSWER);
    let mut command = if perl {
        let mut command = Command::new("perl");
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    let (vip, vport) = match whom.service {
        ServiceId::Address { addr, port, .. } => (addr.to_string(), port),
        ServiceId::Mark { mark, .. } => (mark.to_string(), 0),
    };
    command
        .args([vip, vport.to_string()])
        .args([whom.dest.addr.to_string(), whom.at.port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|error| Trouble::Server(format!("cannot run {program}: {}", plain(&error))))?;
    let mut running = Running(Some(child));
    let status = match &mut running.0 {
        Some(child) => child.wait().await,
        None => return Ok(()),
    };
    let status = status.map_err(|error| Trouble::Here(plain(&error)))?;
    running.0 = None;
    if status.success() {
        Ok(())
    } else {
        Err(Trouble::Server(format!("{program}: {status}")))
    }
}
