//! The daemon's single writer: what it holds and what it does with it. No
//! waiting happens here; see the [`writer`](super::writer).

use std::{
    cell::OnceCell,
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Result, anyhow};
use lb_common::layout::{Root, Settings};
use tokio::sync::watch;

use super::{
    Status, clock, compile,
    connections::{connections, flows},
    cursor::Cursor,
    defence, end,
    files::Files,
    ifaces,
    interfaces::Interfaces,
    keeper::Done,
    locals, offloads, overview, procfs,
    publish::{self, Found, Shared, World},
    purge, report,
    sched_tables::SchedTables,
    snapshot,
    state::{Kept, Limits, State},
    stats,
    tables::Tables,
    totals::{self, Idle, Totals},
    usage,
};
use crate::{
    dataplane::Plane,
    model::{Method, ProcFile, Refusal, Request, Response, ServiceId},
    netlink::{self, View},
};

/// Word of the settings record that holds the heartbeat.
const HEARTBEAT_WORD: usize = 7;
/// Words of that record.
const SETTINGS_WORDS: usize = size_of::<Settings>() / 8;

/// Cells in use above which connections are not written into `--proc-dir`.
const MOST_LISTED: u64 = 1 << 16;

/// Seconds without a daemon after which rates start from where they were.
const ESTIMATOR_PAUSE: u64 = 4;

/// The configuration, the data plane and the network as the daemon knows them.
pub struct Core {
    plane: Plane,
    state: State,
    shared: Shared,
    files: Files,
    interfaces: Interfaces,
    any_vip: bool,
    view: Arc<View>,
    found: Found,
    /// Frames that are ours and not claimed.
    unclaimed: Vec<String>,
    /// What bypasses the firewall or the data plane.
    coexistence: Vec<String>,
    /// VIPs that the current half treats as this director's.
    claimed: BTreeSet<IpAddr>,
    /// Read when somebody first asks for totals.
    idle: OnceCell<Idle>,
    /// Text of the configuration that packets read, until it is taken.
    text: Option<String>,
    /// Of `--state`.
    kept: Option<watch::Receiver<Done>>,
}

/// What firewall rules and interfaces are compared with.
pub struct Surroundings {
    /// Service addresses.
    pub vips: Vec<IpAddr>,
    /// Servers by NAT.
    pub servers: Vec<IpAddr>,
    /// Devices that carry the program.
    pub attached: BTreeSet<u32>,
    /// The network.
    pub view: Arc<View>,
}

impl Core {
    /// Takes the data plane over, with the configuration it has.
    ///
    /// # Errors
    /// When the configuration of a data plane that exists cannot be read.
    pub fn new(plane: Plane, files: Files, interfaces: Interfaces, any_vip: bool) -> Result<Self> {
        let tables = Tables::from(&plane.maps);
        let root = Root(plane.maps.root.get(0));
        let limits = Limits::of(plane.maps.sizes, &plane.maps.params);
        let state = files.load(root.epoch(), limits)?;
        let shared = Shared::restore(&tables);
        compile::settle_cursors(&tables, root.side());
        Ok(Self {
            state,
            shared,
            files,
            interfaces,
            any_vip,
            view: Arc::default(),
            found: Found::default(),
            unclaimed: Vec::new(),
            coexistence: Vec::new(),
            claimed: BTreeSet::new(),
            idle: OnceCell::new(),
            text: None,
            kept: None,
            plane,
        })
    }

    /// Whether this data plane never had a configuration, not even an empty one.
    pub fn is_new(&self) -> bool {
        Root(self.plane.maps.root.get(0)).epoch() == 0
    }

    /// Configures what a state file kept; [`Core::commit`] makes packets see it.
    ///
    /// # Errors
    /// The first part that is refused. Nothing is done then.
    pub fn restore(&mut self, kept: &Kept) -> Result<()> {
        let tables = Tables::from(&self.plane.maps);
        let now = clock::seconds();
        let restored = self.state.restore(kept, tables.raw, &tables, now);
        restored.map_err(|refused| {
            let (change, refusal) = *refused;
            let refusal = refusal.to_string();
            let why = refusal.strip_prefix("lvx: ").unwrap_or(&refusal);
            anyhow!("{}{why}", change.subject())
        })
    }

    /// The text of the configuration that packets read, if it is another than
    /// when this was last asked.
    pub fn take_text(&mut self) -> Option<String> {
        self.text.take()
    }

    /// Shows from now on how far the state file is.
    pub fn watch_kept(&mut self, done: watch::Receiver<Done>) {
        self.kept = Some(done);
    }

    /// Attaches to every wanted interface.
    ///
    /// # Errors
    /// As [`Interfaces::attach_all`].
    pub fn attach_all(&mut self, view: &View) -> Result<()> {
        self.interfaces.attach_all(&mut self.plane, view)?;
        self.files.save_interfaces(&self.interfaces.list())
    }

    /// Addresses to resolve.
    pub fn targets(&self) -> BTreeSet<IpAddr> {
        self.state.targets().collect()
    }

    /// When the trash must be looked at, in seconds of the clock.
    pub fn trash_due(&self) -> Option<u64> {
        self.state.trash_due()
    }

    /// Has packets captured by the loaded program of this id.
    pub fn begin_capture(&mut self, program: u32) -> Response {
        match self.plane.begin_capture(program) {
            Ok(()) => {
                self.reattach();
                tracing::info!("captures, by program {program}");
                Response::Ok
            }
            Err(error) => Response::Refused(Refusal::Other(format!("lvx: {error:#}"))),
        }
    }

    /// Puts the ordinary program back.
    pub fn end_capture(&mut self, program: u32) -> Response {
        self.plane.end_capture();
        self.reattach();
        tracing::info!("program {program} captures no more");
        Response::Ok
    }

    /// Puts the program that is wanted now behind every link.
    fn reattach(&mut self) {
        for ifindex in self.interfaces.devices() {
            if let Err(error) = self.plane.reattach(ifindex) {
                // An interface that has just gone; it is attached anew if it returns.
                tracing::warn!("interface {ifindex}: {error:#}");
            }
        }
    }

    /// Opens a transaction; a grace period has passed since the last.
    pub fn begin(&mut self) {
        self.state.begin();
        self.shared.begin();
        let tables = Tables::from(&self.plane.maps);
        self.state
            .expire_trash(&tables, tables.raw, clock::seconds());
    }

    /// Applies a request that changes something.
    pub fn change(&mut self, request: &Request) -> Response {
        match request {
            Request::Batch(requests) => return Response::Batch(self.each(requests, false)),
            Request::Strict(requests) => {
                let before = self.state.clone();
                let answers = self.each(requests, true);
                if matches!(answers.last(), Some(Response::Refused(_))) {
                    self.state = before;
                }
                return Response::Batch(answers);
            }
            _ => {}
        }
        let tables = Tables::from(&self.plane.maps);
        if let Request::Apply(wanted) = request {
            let now = clock::seconds();
            let applied = self.state.apply_config(wanted, tables.raw, &tables, now);
            return match applied {
                Ok(()) => Response::Ok,
                Err(refused) => {
                    let (change, refusal) = *refused;
                    Response::NotApplied(Box::new(change), refusal)
                }
            };
        }
        match self
            .state
            .apply(request, tables.raw, &tables, clock::seconds())
        {
            Ok(()) => Response::Ok,
            Err(refusal) => Response::Refused(refusal),
        }
    }

    /// Applies requests in their order, up to one after which nothing may be
    /// done; with `strict` that is any that is refused.
    fn each(&mut self, requests: &[Request], strict: bool) -> Vec<Response> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let answer = match request {
                Request::Batch(_) | Request::Strict(_) | Request::Status | Request::Down { .. } => {
                    Response::Refused(not_in_a_batch())
                }
                request if request.is_change() => self.change(request),
                // It would not be undone.
                Request::Zero(id) if strict => match id {
                    Some(id) if self.state.service(id).is_none() => {
                        Response::Refused(Refusal::NoSuchService)
                    }
                    _ => Response::Ok,
                },
                request => self.read(request),
            };
            let end = match &answer {
                Response::Refused(Refusal::Unsupported(_)) => true,
                // A change that is refused does not end a restore; a listing does.
                Response::Refused(_) => {
                    strict || !(request.is_change() || matches!(request, Request::Zero(_)))
                }
                _ => false,
            };
            answers.push(answer);
            if end {
                return answers;
            }
        }
        if strict {
            for request in requests {
                if let Request::Zero(_) = request {
                    self.read(request);
                }
            }
        }
        answers
    }

    /// Whether the configuration differs from what packets read.
    pub fn is_dirty(&self) -> bool {
        self.state.is_dirty()
    }

    /// Takes note of the network. What follows from it is done by [`Core::commit`]
    /// or [`Core::refresh`].
    pub fn see(&mut self, view: Arc<View>) {
        self.view = view;
        if self.interfaces.follow(&mut self.plane, &self.view)
            && let Err(error) = self.files.save_interfaces(&self.interfaces.list())
        {
            tracing::error!("{error:#}");
        }
        let devices = self.interfaces.devices();
        self.state
            .see_ifaces(&netlink::iface_names(&devices, &self.view));
        let claims = netlink::claims(&devices, &self.view);
        let mut unclaimed = claims.warnings;
        unclaimed.extend_from_slice(self.interfaces.warnings());
        for key in ifaces::publish(&self.plane.maps.ifaces, &claims.entries) {
            unclaimed.push(format!(
                "frames of interface {} with VLAN {} are not balanced: the table of interfaces is full",
                key.ifindex, key.outer
            ));
        }
        self.log_new(&unclaimed);
        self.unclaimed = unclaimed;
    }

    /// What the look-out for surprises needs.
    pub fn surroundings(&self) -> Surroundings {
        let services = || self.state.services();
        let vips: BTreeSet<IpAddr> = services().filter_map(|(id, _)| vip(*id)).collect();
        let servers: BTreeSet<IpAddr> = services()
            .flat_map(|(_, service)| &service.dests)
            .filter(|node| node.dest.spec.method == Method::Masq)
            .map(|node| node.dest.id.addr)
            .collect();
        Surroundings {
            vips: vips.into_iter().collect(),
            servers: servers.into_iter().collect(),
            attached: self.interfaces.devices(),
            view: self.view.clone(),
        }
    }

    /// Takes note of what bypasses the firewall or the data plane.
    pub fn warn(&mut self, warnings: Vec<String>) {
        self.log_new(&warnings);
        self.coexistence = warnings;
    }

    /// Logs each warning when it is new, and again when it comes back.
    fn log_new(&self, warnings: &[String]) {
        for warning in warnings {
            let known = [&self.unclaimed, &self.coexistence, &self.found.warnings];
            if !known.iter().any(|known| known.contains(warning)) {
                tracing::warn!("{warning}");
            }
        }
    }

    fn claimed_now(&self) -> BTreeSet<IpAddr> {
        let world = World {
            view: &self.view,
            any_vip: self.any_vip,
            ports: None,
        };
        let ids = self.state.services().map(|(id, _)| *id);
        let ids = ids.chain(self.state.trash().map(|trashed| trashed.service));
        ids.filter_map(vip)
            .filter(|vip| world.claims(*vip))
            .collect()
    }

    /// Makes packets follow a change of the network: the servers' words, and
    /// the whole configuration if an address came or went.
    ///
    /// # Errors
    /// As [`Core::commit`].
    pub fn refresh(&mut self) -> Result<()> {
        if self.claimed_now() != self.claimed {
            return self.commit();
        }
        let tables = Tables::from(&self.plane.maps);
        let world = World {
            view: &self.view,
            any_vip: self.any_vip,
            ports: locals::free_ports(),
        };
        if publish::any_local(&tables, &self.state, &world) {
            self.interfaces.watch_own(&mut self.plane);
        }
        let tables = Tables::from(&self.plane.maps);
        let found = publish::publish(&tables, &self.state, &mut self.shared, &world);
        self.log_new(&found.warnings);
        self.found = found;
        publish::withdraw(&tables, &self.state, &mut self.shared, &world);
        self.follow_interfaces();
        Ok(())
    }

    /// After servers' words were published: the interfaces that packets leave by.
    fn follow_interfaces(&mut self) {
        let tables = Tables::from(&self.plane.maps);
        let world = World {
            view: &self.view,
            any_vip: self.any_vip,
            ports: None,
        };
        if !publish::any_local(&tables, &self.state, &world) {
            self.interfaces.leave_own_alone(&mut self.plane);
        }
        self.interfaces
            .open_egress(&mut self.plane, &self.view, &self.shared.hops.interfaces());
    }

    /// Makes the configuration the one that packets read.
    ///
    /// # Errors
    /// When it cannot be saved. Packets and the daemon then keep the old one.
    pub fn commit(&mut self) -> Result<()> {
        let claimed = self.claimed_now();
        let tables = Tables::from(&self.plane.maps);
        let world = World {
            view: &self.view,
            any_vip: self.any_vip,
            ports: locals::free_ports(),
        };
        let root = Root(self.plane.maps.root.get(0));
        let side = root.side() ^ 1;
        self.state.start_generations(|slot| {
            Cursor::from_word(tables.service_states.get(slot).cursor)
                .generation
                .into()
        });
        self.state.number();
        // No packet may go to a server of this director before its replies are seen.
        if publish::any_local(&tables, &self.state, &world) {
            self.interfaces.watch_own(&mut self.plane);
        }
        let tables = Tables::from(&self.plane.maps);
        let found = publish::publish(&tables, &self.state, &mut self.shared, &world);
        self.log_new(&found.warnings);
        self.found = found;
        self.shared.sched_tables.publish(&tables, &self.state);
        let claims = |vip| claimed.contains(&vip);
        let first_record = |slot| self.shared.sched_tables.first(slot);
        let carries = compile::compile(&tables, &self.state, side, &claims, &first_record);
        match self.files.save(&self.state) {
            Ok(text) => self.text = Some(text),
            Err(error) => {
                self.state = self
                    .files
                    .load(root.epoch(), Limits::of(tables.sizes, tables.params))?;
                self.shared.sched_tables = SchedTables::restore(&tables);
                return Err(error);
            }
        }
        self.publish_settings();
        compile::switch(&tables, &self.state, side);
        compile::carry_over(&tables, &carries);
        publish::withdraw(&tables, &self.state, &mut self.shared, &world);
        self.state.finish();
        self.files.keep_only(self.state.epoch);
        self.claimed = claimed;
        self.follow_interfaces();
        Ok(())
    }

    /// Gives packets the settings. Their words are the daemon's alone.
    fn publish_settings(&self) {
        let record = &self.plane.maps.settings;
        let new = self.state.settings().record(record.get(0), self.room());
        let words: [u64; SETTINGS_WORDS] = bytemuck::cast(new);
        for (word, value) in words.into_iter().enumerate() {
            if word != HEARTBEAT_WORD {
                record.word(0, word).store(value, Ordering::Release);
            }
        }
    }

    /// Connections that would find room, if that matters.
    fn room(&self) -> u64 {
        if self.state.settings().looks_at_room() {
            defence::room(&self.plane.maps)
        } else {
            u64::MAX >> 1
        }
    }

    /// The defence of a full table; due every second.
    pub fn defend(&self) {
        let settings = self.state.settings();
        if settings.looks_at_room() {
            self.publish_settings();
        }
        if settings.drops_entries(self.room()) {
            defence::drop_entries(&self.plane.maps);
        }
    }

    /// Whether connections must be held against the filter, which may have become
    /// stricter: once, and after a grace period, so that none is made by an
    /// older configuration.
    pub fn take_purge(&mut self) -> bool {
        self.state.take_purge()
    }

    /// Ends the connections that the filter drops. Returns how many.
    pub fn purge(&self) -> u64 {
        purge::purge(&self.plane.maps)
    }

    /// Answers what changes no configuration.
    pub fn read(&self, request: &Request) -> Response {
        let tables = Tables::from(&self.plane.maps);
        let refused = |result: Result<Response, Refusal>| result.unwrap_or_else(Response::Refused);
        match request {
            Request::List(id) => {
                refused(snapshot::listing(&tables, &self.state, id.as_ref()).map(Response::Listing))
            }
            Request::Zero(id) => {
                if id.is_none()
                    && let Err(error) = self.files.save_zero(&totals::base(&self.totals()))
                {
                    return Response::Refused(Refusal::Other(format!("lvx: {error:#}")));
                }
                refused(stats::zero(&tables, &self.state, id.as_ref()).map(|()| Response::Ok))
            }
            Request::RetireTemplates(id, dest) => {
                let slot = self.state.dest_slot(id, *dest);
                refused(slot.map(|slot| Response::Ended(end::retire(&self.plane.maps, slot))))
            }
            Request::Kill(filter) => {
                Response::Ended(end::kill(&self.plane.maps, &self.state, filter))
            }
            Request::Flows(filter) => {
                Response::Flows(flows(&self.plane.maps, &self.state, filter).collect())
            }
            Request::Overview => {
                Response::Overview(Box::new(overview::overview(&tables, &self.state)))
            }
            Request::Config => Response::Config(Box::new(self.state.config(tables.raw))),
            Request::Proc(file) => Response::Text(self.proc_file(*file)),
            Request::Maps => refused(
                usage::usage(&self.plane.maps, &self.state, self.files.pins())
                    .map(Response::Maps)
                    .map_err(|error| Refusal::Other(format!("lvx: {error:#}"))),
            ),
            Request::Locals => Response::Locals(self.state.pool_list()),
            Request::Settings => Response::Settings(self.state.settings().clone()),
            Request::ListRules(chain) => Response::Rules(self.state.list_rules(*chain, tables.raw)),
            Request::ListSets => Response::Sets(self.state.list_sets()),
            Request::Connections => Response::Connections(connections(&self.plane.maps)),
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Down { force: false } if self.connections() > 0 => {
                Response::Refused(refuse_down(self.connections()))
            }
            _ => Response::Ok,
        }
    }

    /// The text of a file of `/proc/net`.
    fn proc_file(&self, file: ProcFile) -> String {
        let zero = self.files.zero();
        procfs::text(file, &self.plane.maps, &self.state, self.idle(), zero)
    }

    /// The texts of all of them. That of the connections is left out when they
    /// are too many to be written every other second.
    pub fn proc_files(&self) -> Vec<(ProcFile, Option<String>)> {
        let tables = report::flow_tables(&self.plane.maps);
        let many = tables.iter().map(|table| table.used).sum::<u64>() > MOST_LISTED;
        let files = ProcFile::ALL.into_iter();
        files
            .map(|file| {
                let left_out = many && file == ProcFile::IpVsConn;
                (file, (!left_out).then(|| self.proc_file(file)))
            })
            .collect()
    }

    fn idle(&self) -> &Idle {
        let read = || Idle::read(&self.plane.maps, &self.state);
        self.idle.get_or_init(read)
    }

    fn totals(&self) -> Totals {
        let maps = &self.plane.maps;
        totals::totals(maps, &self.state, self.idle(), self.files.zero())
    }

    /// Connections that exist.
    pub fn connections(&self) -> u64 {
        report::connections(&Tables::from(&self.plane.maps), &self.state)
    }

    /// What `lvx status` shows.
    pub fn status(&self) -> Status {
        let mut status = report::status(
            &self.plane.maps,
            &self.state,
            self.files.netns(),
            Some(&self.found.unresolved),
        );
        let warnings = self
            .unclaimed
            .iter()
            .chain(&self.coexistence)
            .chain(&self.found.warnings);
        status.warnings.extend(warnings.cloned());
        status.warnings.extend(self.interfaces.unwatched());
        let kept = self.kept.as_ref();
        let fault = kept.and_then(|done| done.borrow().fault.clone());
        status.warnings.extend(fault);
        let attached = self.interfaces.list();
        Status {
            daemon: Some(std::process::id()),
            frozen_for: None,
            interfaces: attached.devices,
            places: attached.places,
            ..status
        }
    }

    /// One pass of the rate estimator; due every two seconds.
    pub fn estimate(&self) {
        stats::estimate_all(&Tables::from(&self.plane.maps), &self.state);
    }

    /// Before the first heartbeat of this daemon: picks up the estimator where
    /// the last one left it.
    pub fn resume(&self) {
        let maps = &self.plane.maps;
        let status = report::status(maps, &self.state, self.files.netns(), None);
        if status
            .frozen_for
            .is_some_and(|seconds| seconds > ESTIMATOR_PAUSE)
        {
            stats::resume(&Tables::from(maps), &self.state);
        }
    }

    /// Tells the data plane, and whoever reads it, that the daemon lives.
    pub fn beat(&self) {
        let word = self.plane.maps.settings.word(0, HEARTBEAT_WORD);
        word.store(crate::dataplane::Maps::now().into(), Ordering::Release);
    }

    /// Detaches and removes the data plane.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn remove(self) -> Result<()> {
        let Self { plane, files, .. } = self;
        drop(plane);
        crate::dataplane::remove(files.pins())?;
        offloads::restore_all(&files);
        files.clear();
        Ok(())
    }
}

/// Why `lvx down` wants to be forced.
pub fn refuse_down(connections: u64) -> Refusal {
    Refusal::Other(format!(
        "lvx: {connections} connections are being balanced, and the local stack would reset their packets: \
         'lvx down --force' removes the data plane nevertheless"
    ))
}

fn not_in_a_batch() -> Refusal {
    Refusal::Other("lvx: a batch holds changes and listings only".into())
}

fn vip(id: ServiceId) -> Option<IpAddr> {
    match id {
        ServiceId::Address { addr, .. } => Some(addr),
        ServiceId::Mark { .. } => None,
    }
}
