//! `lvx run`: puts the parts together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Gid;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

use super::{
    core::Core,
    files::Files,
    grace,
    interfaces::Interfaces,
    keeper::Keeper,
    offloads::Offloads,
    privileges,
    proc_dir::ProcDir,
    report, server,
    state::Kept,
    state_file::StateFile,
    writer::{self, End, Inputs},
};
use crate::{
    dataplane::{Maps, Mode, Plane, Sizes},
    netlink,
};

/// What `lvx run` was asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Names of the interfaces.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: Mode,
    /// `--vip-scope any`.
    pub any_vip: bool,
    /// Sizes of a new data plane.
    pub sizes: Sizes,
    /// `--proc-dir`.
    pub proc_dir: Option<PathBuf>,
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--group`.
    pub group: Option<String>,
}

/// Requests that may wait for the writer before clients wait to hand theirs over.
const QUEUE: usize = 1024;

/// Runs the daemon of this network namespace until it is told to stop.
///
/// # Errors
/// One line that says what to do; nothing is then left half done.
pub fn run(wanted: Wanted) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("permission denied: lvx run needs root");
    }
    let files = Files::here()?;
    let offloads = Offloads::new(files.clone());
    let interfaces = Interfaces::new(wanted.interfaces.clone(), wanted.mode, offloads)?;
    let readers = privileges::readers(wanted.group.as_deref())?;
    files.prepare()?;
    let lock = files.lock()?;
    // Only CAP_SYS_ADMIN lists the programs of others.
    let programs = crate::dataplane::program_names();
    privileges::give_up(readers)?;
    files.remove_empty_layouts(&lock);
    let end = files
        .check_layout()
        .and_then(|()| run_locked(&wanted, interfaces, &files, Start { readers, programs }));
    if end.is_err() && files.all_pins().is_ok_and(|pins| pins.is_empty()) {
        // A start that came to nothing leaves nothing.
        files.clear();
    }
    end
}

/// What was found out while there were privileges for it.
struct Start {
    /// Who may list.
    readers: Option<Gid>,
    /// Names of the programs that were loaded then.
    programs: BTreeMap<u32, String>,
}

fn run_locked(wanted: &Wanted, interfaces: Interfaces, files: &Files, known: Start) -> Result<()> {
    // One thread: everything stays in the network namespace it was started in.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(daemon(wanted, interfaces, files, known));
    runtime.shutdown_background();
    end
}

async fn daemon(
    wanted: &Wanted,
    interfaces: Interfaces,
    files: &Files,
    known: Start,
) -> Result<()> {
    let (targets, targets_seen) = watch::channel(BTreeSet::new());
    let network = netlink::watch(targets_seen)
        .await
        .context("cannot watch the network")?;
    interfaces.check(&network.view())?;
    let proc_dir = wanted.proc_dir.as_deref().map(ProcDir::new).transpose()?;
    let existed = files.has_pins();
    let readers = known.readers;
    let started = start(wanted, interfaces, files, known, &network, &targets).await;
    let mut core = match started {
        Ok(core) => core,
        Err(error) => {
            // A data plane made by this start goes with it; one that was there stays.
            if !existed && files.has_pins() {
                crate::dataplane::remove(files.pins()).context("while undoing a failed start")?;
            }
            return Err(error);
        }
    };
    let keeper = wanted.state.clone().map(StateFile::new).map(Keeper::start);
    if let Some(keeper) = &keeper {
        core.watch_kept(keeper.done());
    }
    let listener = server::listen(&files.socket(), readers)?;
    let (jobs, jobs_seen) = mpsc::channel(QUEUE);
    let server = tokio::spawn(server::serve(listener, jobs));
    let (stop, stopped) = oneshot::channel();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let signals = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // The writer may have ended on its own.
        let _ = stop.send(());
    });
    notify(&[NotifyState::Ready]);
    tracing::info!("ready");
    let inputs = Inputs {
        jobs: jobs_seen,
        view: network.subscribe(),
        targets,
        proc_dir,
        keeper,
        stop: stopped,
    };
    let end = writer::run(&mut core, inputs).await;
    notify(&[NotifyState::Stopping]);
    signals.abort();
    // Answers that are on their way are short; give them the time to leave.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    server.abort();
    let _ = fs::remove_file(files.socket());
    match end? {
        End::Stop => {
            tracing::info!("stopped; the data plane keeps forwarding ('lvx down' removes it)")
        }
        End::Down => {
            core.remove()?;
            tracing::info!("stopped; the data plane is removed");
        }
    }
    Ok(())
}

/// Loads, attaches, and makes packets see the configuration.
async fn start(
    wanted: &Wanted,
    interfaces: Interfaces,
    files: &Files,
    known: Start,
    network: &netlink::Watch,
    targets: &watch::Sender<BTreeSet<std::net::IpAddr>>,
) -> Result<Core> {
    let existed = files.has_pins();
    let mut plane = Plane::load(files.pins(), wanted.sizes)?;
    plane.know(known.programs);
    if existed && plane.maps.sizes != wanted.sizes.rounded() {
        tracing::warn!(
            "the data plane exists already and keeps its sizes: 'lvx down' first to change them"
        );
    }
    log_sizes(&plane.maps);
    let mut core = Core::new(plane, files.clone(), interfaces, wanted.any_vip)?;
    if let Some(path) = &wanted.state {
        bring_back(&mut core, &StateFile::new(path.clone()))?;
    }
    core.resume();
    core.beat();
    let wanted = core.targets();
    let mut view = network.subscribe();
    if !wanted.is_empty() {
        targets.send_replace(wanted.clone());
        // What the network does not answer in time keeps its old next hop.
        let known = |view: &std::sync::Arc<netlink::View>| {
            wanted
                .iter()
                .all(|target| view.targets.contains_key(target))
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), view.wait_for(known)).await;
    }
    // Whoever ran before may have died between a switch and its grace period.
    tokio::task::spawn_blocking(grace::wait).await?;
    let view = view.borrow_and_update().clone();
    core.attach_all(&view)?;
    core.see(view);
    core.begin();
    core.commit()?;
    Ok(core)
}

/// Restores what the state file has, unless there is a data plane already: its
/// configuration is the truth then.
fn bring_back(core: &mut Core, file: &StateFile) -> Result<()> {
    let path = file.path().display();
    if core.is_new() {
        let Some(found) = file.read()? else {
            file.check()?;
            tracing::info!("there is no state file {path} yet: nothing to restore");
            return Ok(());
        };
        if let Some(trouble) = found.trouble {
            tracing::warn!("{trouble}");
        }
        let restored = Kept::read(&found.text).and_then(|kept| {
            core.restore(&kept)?;
            Ok(kept.counts())
        });
        let (services, dests) = restored.with_context(|| {
            format!("cannot restore the state file {path} (moved away, lvx starts empty)")
        })?;
        tracing::info!("restored {services} services with {dests} servers from {path}");
    }
    // With a configuration, lvx is of more use running than not.
    if let Err(error) = file.check() {
        tracing::warn!("{error:#}");
    }
    Ok(())
}

fn log_sizes(maps: &Maps) {
    for (family, table) in ["IPv4", "IPv6"].iter().zip(report::flow_tables(maps)) {
        tracing::info!(
            "flow table {family}: {} connections, {} cells, {} MiB, {} in use ({} %)",
            table.connections,
            table.cells,
            table.bytes >> 20,
            table.used,
            table.used * 100 / table.cells.max(1),
        );
    }
    tracing::info!(
        "room for {} services, {} of them by mh, {} servers",
        maps.sizes.services,
        maps.sizes.mh_services,
        maps.sizes.dests,
    );
}

/// Tells systemd, where it waits for it.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("sd_notify: {error}");
    }
}
