//! The loop around the [`Core`]: gathers requests, network changes and timers
//! into transactions, with a grace period between two.

use std::{collections::BTreeSet, future::pending, net::IpAddr, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    clock,
    core::{Core, Surroundings},
    grace,
    keeper::Keeper,
    proc_dir::ProcDir,
};
use crate::{
    model::{Refusal, Request, Response},
    netlink::{Resolution, View, coexistence},
};

/// How long a transaction waits until the network is asked about new addresses.
const LOOK_UP: Duration = Duration::from_millis(500);

/// How long it waits for new servers' layer-2 addresses.
const NEIGHBOUR: Duration = Duration::from_millis(100);

/// How often rules and interfaces are looked at for surprises, and how long
/// after a change.
const LOOK_OUT: Duration = Duration::from_secs(60);
const LOOK_OUT_SOON: Duration = Duration::from_secs(1);

/// A request on its way to the writer.
pub struct Job {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Response>,
}

/// Why the writer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Asked to stop: the data plane stays.
    Stop,
    /// `lvx down`: the data plane goes.
    Down,
}

/// The channels of a writer.
pub struct Inputs {
    /// Requests.
    pub jobs: mpsc::Receiver<Job>,
    /// The network.
    pub view: watch::Receiver<Arc<View>>,
    /// Addresses to resolve.
    pub targets: watch::Sender<BTreeSet<IpAddr>>,
    /// Where the kernel's files are kept, if that was asked for.
    pub proc_dir: Option<ProcDir>,
    /// Of the state file, if there is to be one.
    pub keeper: Option<Keeper>,
    /// Resolves when the daemon should stop.
    pub stop: oneshot::Receiver<()>,
}

/// Runs until it is told to end; the [`Core`] must have committed once.
///
/// # Errors
/// When the network can no longer be watched, or no configuration is left.
pub async fn run(core: &mut Core, mut inputs: Inputs) -> Result<End> {
    if core.take_purge() {
        // A daemon before may have died between a commit and this.
        let _ = spawn_blocking(grace::wait).await;
        core.purge();
    }
    keep_files(core, &mut inputs);
    keep_state(core, &inputs);
    let mut grace = Some(spawn_blocking(grace::wait));
    let mut waiting = Vec::new();
    let mut network = false;
    let mut estimator = interval(Duration::from_secs(2));
    let mut heartbeat = interval(Duration::from_secs(1));
    // The estimator's formulas count passes, not time: keep the kernel's two seconds.
    estimator.set_missed_tick_behavior(MissedTickBehavior::Skip);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    estimator.tick().await;
    let mut look_out = interval(LOOK_OUT);
    look_out.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut warnings: Option<JoinHandle<Vec<String>>> = None;
    loop {
        let mut trash = false;
        tokio::select! {
            job = inputs.jobs.recv() => match job {
                Some(job) => if let Some(end) = take(core, job, &mut waiting) { return Ok(end) },
                None => return Ok(End::Stop),
            },
            changed = inputs.view.changed() => {
                changed.map_err(|_| anyhow::anyhow!("the network cannot be watched any more"))?;
                network = true;
            }
            _ = estimator.tick() => {
                core.estimate();
                keep_files(core, &mut inputs);
            }
            _ = heartbeat.tick() => {
                core.beat();
                core.defend();
            }
            _ = look_out.tick(), if warnings.is_none() => warnings = Some(look(core)),
            found = finished(&mut warnings), if warnings.is_some() => {
                warnings = None;
                core.warn(found.unwrap_or_default());
            }
            () = due(core.trash_due()) , if grace.is_none() => trash = true,
            _ = finished(&mut grace), if grace.is_some() => grace = None,
            _ = &mut inputs.stop => return Ok(End::Stop),
        }
        if grace.is_some() || !(trash || network || !waiting.is_empty()) {
            continue;
        }
        while let Ok(job) = inputs.jobs.try_recv() {
            if let Some(end) = take(core, job, &mut waiting) {
                return Ok(end);
            }
        }
        core.begin();
        let answers: Vec<_> = waiting
            .drain(..)
            .map(|job: Job| (core.change(&job.request), job.answer))
            .collect();
        let result = commit(core, &mut inputs, &mut network).await;
        keep_files(core, &mut inputs);
        keep_state(core, &inputs);
        if let Err(error) = &result {
            tracing::error!("{error:#}");
        }
        if let Some(keeper) = inputs.keeper.as_ref().filter(|_| !answers.is_empty()) {
            // Who is told that a change is made may pull the plug.
            keeper.settle().await;
        }
        if result.is_ok() && core.take_purge() {
            // Whoever made the filter stricter hears of it when it is.
            let _ = spawn_blocking(grace::wait).await;
            let ended = core.purge();
            if ended > 0 {
                tracing::info!("the filter ended {ended} connections");
            }
        }
        for (answer, to) in answers {
            let answer = match &result {
                Ok(()) => answer,
                Err(error) => undone(answer, error),
            };
            let _ = to.send(answer);
        }
        grace = Some(spawn_blocking(grace::wait));
        look_out.reset_after(LOOK_OUT_SOON);
    }
}

/// Writes what `--proc-dir` asks for.
fn keep_files(core: &Core, inputs: &mut Inputs) {
    if let Some(dir) = &mut inputs.proc_dir {
        dir.put(&core.proc_files());
    }
}

/// Hands what packets read now to the state file.
fn keep_state(core: &mut Core, inputs: &Inputs) {
    if let (Some(text), Some(keeper)) = (core.take_text(), &inputs.keeper) {
        keeper.put(text);
    }
}

/// Looks for what bypasses the firewall or the data plane.
fn look(core: &Core) -> JoinHandle<Vec<String>> {
    let Surroundings {
        vips,
        servers,
        attached,
        view,
    } = core.surroundings();
    tokio::spawn(async move { coexistence::warnings(&vips, &servers, &attached, &view).await })
}

/// Answers what can be answered at once, and lets changes wait for their transaction.
fn take(core: &mut Core, job: Job, waiting: &mut Vec<Job>) -> Option<End> {
    if job.request.is_change() {
        waiting.push(job);
        return None;
    }
    let down = matches!(job.request, Request::Down { .. });
    let answer = match job.request {
        Request::Capture(program) => core.begin_capture(program),
        Request::EndCapture(program) => core.end_capture(program),
        ref request => core.read(request),
    };
    let end = (down && answer == Response::Ok).then_some(End::Down);
    // Who does not wait for the answer has gone away.
    let _ = job.answer.send(answer);
    end
}

/// What becomes of an answer when the transaction could not be saved.
fn undone(answer: Response, error: &anyhow::Error) -> Response {
    match answer {
        Response::Ok => Response::Refused(Refusal::Other(format!("lvx: {error:#}"))),
        Response::Batch(answers) => Response::Batch(
            answers
                .into_iter()
                .map(|answer| undone(answer, error))
                .collect(),
        ),
        answer => answer,
    }
}

/// Brings what packets read up to the configuration and the network.
async fn commit(core: &mut Core, inputs: &mut Inputs, network: &mut bool) -> Result<()> {
    if core.is_dirty() {
        let wanted = core.targets();
        let news: Vec<IpAddr> = wanted
            .difference(&inputs.targets.borrow())
            .copied()
            .collect();
        inputs.targets.send_if_modified(|targets| {
            let changed = *targets != wanted;
            targets.clone_from(&wanted);
            changed
        });
        if !news.is_empty() {
            // Whatever is not known in time follows as a change of the network.
            let known = |view: &Arc<View>| {
                wanted
                    .iter()
                    .all(|target| view.targets.contains_key(target))
            };
            let _ = timeout(LOOK_UP, inputs.view.wait_for(known)).await;
            // A neighbour that is there answers at once; its first packets need not be lost.
            let found = |view: &Arc<View>| news.iter().all(|target| is_found(view, target));
            let _ = timeout(NEIGHBOUR, inputs.view.wait_for(found)).await;
            *network = true;
        }
    }
    if std::mem::take(network) {
        let view = inputs.view.borrow_and_update().clone();
        core.see(view);
    }
    if core.is_dirty() {
        core.commit()
    } else {
        core.refresh()
    }
}

fn is_found(view: &View, target: &IpAddr) -> bool {
    !matches!(
        view.targets.get(target),
        Some(Resolution::Via { mac: None, .. })
    )
}

/// The result of a task; `None` when it panicked, which is told on standard error.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    match task {
        Some(task) => task.await.ok(),
        None => pending().await,
    }
}

async fn due(second: Option<u64>) {
    match second {
        Some(second) => sleep(Duration::from_secs(second.saturating_sub(clock::seconds()))).await,
        None => pending().await,
    }
}
