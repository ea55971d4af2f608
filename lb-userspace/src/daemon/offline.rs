//! What can be known and done when no daemon runs: from the pinned maps and
//! the configuration that the root word names.

use anyhow::{Context as _, Result, anyhow, bail};
use lb_common::layout::Root;

use super::{
    Status,
    connections::{connections, flows},
    core::refuse_down,
    files::Files,
    offloads, overview, procfs, report, snapshot,
    state::{Limits, State},
    tables::Tables,
    totals::Idle,
    usage,
};
use crate::{
    dataplane::{Maps, remove},
    model::{Flow, FlowFilter, Request, Response},
};

/// The only advice there is when nothing runs.
pub const START: &str = "start it with 'lvx run --interface …'";

/// A data plane without its daemon.
pub struct Offline {
    maps: Maps,
    state: State,
    files: Files,
}

impl Offline {
    /// Opens the data plane of this network namespace.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(files: Files) -> Result<Self> {
        if !files.has_pins() {
            files
                .check_layout()
                .map_err(|error| anyhow!("lvx: {error:#}"))?;
            bail!("lvx: the daemon is not running in this network namespace: {START}");
        }
        let maps = Maps::open(files.pins()).context("lvx: cannot read the data plane")?;
        // The daemon may have died between two transactions, but it may also be
        // starting and switch while this is read.
        let load = || {
            let root = Root(maps.root.get(0));
            files.load(root.epoch(), Limits::of(maps.sizes, &maps.params))
        };
        let state = load()
            .or_else(|_| load())
            .map_err(|error| anyhow!("lvx: {error:#}"))?;
        Ok(Self { maps, state, files })
    }

    /// Answers what changes nothing.
    ///
    /// # Errors
    /// When asked for a change.
    pub fn request(&self, request: &Request) -> Result<Response> {
        match request {
            Request::List(id) => {
                let tables = Tables::from(&self.maps);
                let listing = snapshot::listing(&tables, &self.state, id.as_ref());
                Ok(listing.map_or_else(Response::Refused, Response::Listing))
            }
            Request::Connections => Ok(Response::Connections(connections(&self.maps))),
            Request::Locals => Ok(Response::Locals(self.state.pool_list())),
            Request::Settings => Ok(Response::Settings(self.state.settings().clone())),
            Request::ListRules(chain) => {
                Ok(Response::Rules(self.state.list_rules(*chain, &self.maps)))
            }
            Request::ListSets => Ok(Response::Sets(self.state.list_sets())),
            Request::Flows(filter) => Ok(Response::Flows(self.flows(filter).collect())),
            Request::Health => Ok(Response::Health(self.state.health_list())),
            Request::Overview => {
                let overview = overview::overview(&Tables::from(&self.maps), &self.state);
                Ok(Response::Overview(Box::new(overview)))
            }
            Request::Config => Ok(Response::Config(Box::new(self.state.config(&self.maps)))),
            Request::Proc(file) => {
                let idle = Idle::read(&self.maps, &self.state);
                let zero = self.files.zero();
                let text = procfs::text(*file, &self.maps, &self.state, &idle, zero);
                Ok(Response::Text(text))
            }
            Request::Maps => {
                let usage = usage::usage(&self.maps, &self.state, self.files.pins())?;
                Ok(Response::Maps(usage))
            }
            Request::Status => Ok(Response::Status(Box::new(self.status()))),
            _ => bail!("lvx: the daemon is not running: {START}"),
        }
    }

    /// The connections that `filter` asks for, one by one as they are read. A
    /// daemon, if one runs, is not asked: millions of them would keep it busy.
    pub fn flows<'a>(&'a self, filter: &'a FlowFilter) -> impl Iterator<Item = Flow> + use<'a> {
        flows(&self.maps, &self.state, filter)
    }

    fn status(&self) -> Status {
        let attached = self.files.interfaces();
        Status {
            interfaces: attached.devices,
            places: attached.places,
            ..report::status(&self.maps, &self.state, self.files.netns(), None)
        }
    }

    fn connections(&self) -> u64 {
        report::connections(&Tables::from(&self.maps), &self.state)
    }
}

/// Detaches and removes the data plane of this namespace, of whatever layout.
/// The caller holds the lock. Returns whether there was anything.
///
/// # Errors
/// When there are live connections and `force` is not given, or a pin cannot
/// be removed.
pub fn down(files: &Files, force: bool) -> Result<bool> {
    let all = files.all_pins()?;
    if !force && files.has_pins() {
        // What cannot be counted must be forced too.
        let connections = match Offline::open(files.clone()) {
            Ok(offline) => offline.connections(),
            Err(error) => {
                bail!("{error:#}; 'lvx down --force' removes the data plane nevertheless")
            }
        };
        if connections > 0 {
            bail!(refuse_down(connections));
        }
    }
    for pins in &all {
        remove(pins)?;
    }
    offloads::restore_all(files);
    files.clear();
    Ok(!all.is_empty())
}
