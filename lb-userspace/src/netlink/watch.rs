//! Follows the network: a [`View`] that is published anew whenever it differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    MulticastGroup, new_connection, new_multicast_connection,
    sys::{AsyncSocket as _, SocketAddr},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until},
};

use super::{
    Resolution, View,
    forwarding::Bridges,
    neighbours::{Action, Keeper, Key, RETRY, Support, Table},
    parse,
    request::Requests,
    resolve::{self, Route},
};

/// Events closer together than this are handled together.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// The kernel tells of a link's change before it has withdrawn its routes, and
/// withdraws IPv4 routes silently: look once more after this time.
const SETTLE: Duration = Duration::from_millis(200);
/// Everything is read again this often, whatever was or was not heard.
const FULL_READ: Duration = Duration::from_secs(30);
/// Receive buffer of the event socket in bytes. The kernel may give less.
const EVENT_BUFFER: libc::c_int = 1 << 20;

/// A running watch. Dropping it ends the work; managed neighbours stay, so that
/// the data plane keeps forwarding.
#[derive(Debug)]
pub struct Watch {
    view: watch::Receiver<Arc<View>>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// A receiver of the newest view. Its `changed()` fails when the watch ended,
    /// which happens before a drop only if the netlink socket broke.
    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }
}

/// Watches the network namespace of the calling thread for the `targets` (RIPs
/// and VIPs) and keeps the next hops to them resolved. The first view is
/// complete when this returns; station addresses follow as they are learned.
///
/// # Errors
///
/// Netlink sockets cannot be opened or the kernel does not answer.
pub async fn watch(targets: watch::Receiver<BTreeSet<IpAddr>>) -> Result<Watch> {
    use MulticastGroup::{
        Ipv4Ifaddr, Ipv4Route, Ipv4Rule, Ipv6Ifaddr, Ipv6Route, Ipv6Rule, Link, Neigh,
    };
    let groups = [
        Link, Neigh, Ipv4Ifaddr, Ipv6Ifaddr, Ipv4Route, Ipv6Route, Ipv4Rule, Ipv6Rule,
    ];
    // Both sockets are opened before the first await: on the caller's thread,
    // in its namespace. Subscribing before reading loses nothing in between.
    let (mut listening, keep_open, events) =
        new_multicast_connection(&groups).context("cannot open a netlink socket for events")?;
    listening
        .socket_mut()
        .socket_mut()
        .set_rx_buf_sz(EVENT_BUFFER)
        .context("cannot size the netlink socket")?;
    let (asking, handle, _) = new_connection().context("cannot open a netlink socket")?;
    let mut tasks = JoinSet::new();
    tasks.spawn(listening);
    tasks.spawn(asking);

    let mut watcher = Watcher {
        requests: Requests(handle),
        view: View::default(),
        table: Table::new(),
        bridges: Bridges::default(),
        routes: BTreeMap::new(),
        wanted: BTreeSet::new(),
        keeper: Keeper::default(),
        complained: BTreeSet::new(),
        targets,
    };
    watcher.refresh(Dirty::ALL).await?;
    let (sender, view) = watch::channel(Arc::new(watcher.view.clone()));
    tasks.spawn(async move {
        watcher.run(events, sender).await;
        drop(keep_open);
    });
    Ok(Watch {
        view,
        _tasks: tasks,
    })
}

/// What must be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dirty {
    links: bool,
    addresses: bool,
    routes: bool,
    neighbours: bool,
    /// Nothing to read, but the view must be put together again.
    view: bool,
}

impl Dirty {
    const ALL: Self = Self {
        links: true,
        addresses: true,
        routes: true,
        neighbours: true,
        view: true,
    };

    fn add(&mut self, other: Self) {
        self.links |= other.links;
        self.addresses |= other.addresses;
        self.routes |= other.routes;
        self.neighbours |= other.neighbours;
        self.view |= other.view;
    }
}

struct Watcher {
    requests: Requests,
    view: View,
    table: Table,
    bridges: Bridges,
    routes: BTreeMap<IpAddr, Route>,
    /// Neighbours that the targets need.
    wanted: BTreeSet<Key>,
    keeper: Keeper,
    /// Neighbours whose trouble was logged.
    complained: BTreeSet<Key>,
    targets: watch::Receiver<BTreeSet<IpAddr>>,
}

impl Watcher {
    async fn run(
        mut self,
        mut events: impl Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Unpin,
        sender: watch::Sender<Arc<View>>,
    ) {
        let mut full = interval_at(Instant::now() + FULL_READ, FULL_READ);
        let mut retry = interval(RETRY);
        full.set_missed_tick_behavior(MissedTickBehavior::Delay);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut dirty = Dirty::default();
        let mut targets_open = true;
        // When to read what is dirty; when to look again after a link's change.
        let (mut due, mut settle) = (None, None);
        // Never busy for more than half the time, also while a router's table churns.
        let mut pause = DEBOUNCE;
        loop {
            tokio::select! {
                event = events.next() => {
                    let Some((message, _)) = event else {
                        tracing::error!("the netlink event socket broke: changes of the network are no longer seen; restart lvx run");
                        return;
                    };
                    let noted = self.note(&message);
                    if noted.links {
                        settle = Some(Instant::now() + SETTLE);
                    }
                    if noted != Dirty::default() {
                        dirty.add(noted);
                        due.get_or_insert_with(|| Instant::now() + pause);
                    }
                }
                changed = self.targets.changed(), if targets_open => {
                    targets_open = changed.is_ok();
                    dirty.view = true;
                    due = Some(Instant::now());
                }
                () = at(settle), if settle.is_some() => {
                    settle = None;
                    dirty.add(Dirty::ALL);
                    due = Some(Instant::now());
                }
                _ = full.tick() => {
                    dirty.add(Dirty::ALL);
                    due = Some(Instant::now());
                }
                _ = retry.tick() => self.tend(false).await,
                () = at(due), if due.is_some() => {
                    let start = Instant::now();
                    let work = std::mem::take(&mut dirty);
                    due = None;
                    if let Err(error) = self.refresh(work).await {
                        tracing::warn!("cannot read the network, trying again in a second: {error:#}");
                        dirty.add(Dirty::ALL);
                        due = Some(Instant::now() + RETRY);
                    }
                    self.publish(&sender);
                    self.tend(work == Dirty::ALL).await;
                    pause = DEBOUNCE.max(start.elapsed());
                }
            }
        }
    }

    /// Takes note of an event; says what must be read again because of it.
    fn note(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> Dirty {
        use RouteNetlinkMessage as M;
        let none = Dirty::default();
        match &message.payload {
            NetlinkPayload::InnerMessage(inner) => match inner {
                M::NewLink(_) | M::DelLink(_) => Dirty {
                    links: true,
                    routes: true,
                    view: true,
                    ..none
                },
                M::NewAddress(_) | M::DelAddress(_) => Dirty {
                    addresses: true,
                    routes: true,
                    view: true,
                    ..none
                },
                M::NewRoute(_) | M::DelRoute(_) | M::NewRule(_) | M::DelRule(_) => Dirty {
                    routes: true,
                    view: true,
                    ..none
                },
                M::NewNeighbour(message) | M::DelNeighbour(message)
                    if message.header.family == AddressFamily::Bridge =>
                {
                    let station = match inner {
                        M::NewNeighbour(_) => self.bridges.learn(message),
                        _ => self.bridges.forget(message),
                    };
                    Dirty {
                        view: station.is_some_and(|station| self.is_target(station)),
                        ..none
                    }
                }
                M::NewNeighbour(message) => match parse::neighbour(message) {
                    Some((key, entry)) => {
                        let entry = entry.after(self.table.get(&key));
                        let before = self.table.insert(key, entry);
                        Dirty {
                            view: before != Some(entry) && self.wanted.contains(&key),
                            ..none
                        }
                    }
                    None => none,
                },
                M::DelNeighbour(message) => match parse::neighbour(message) {
                    Some((key, _)) => {
                        self.table.remove(&key);
                        self.keeper.forget(&key);
                        Dirty {
                            view: self.wanted.contains(&key),
                            ..none
                        }
                    }
                    None => none,
                },
                _ => none,
            },
            // Events were lost (ENOBUFS).
            NetlinkPayload::Overrun(_) => Dirty::ALL,
            _ => none,
        }
    }

    /// Whether packets to a target go to this station.
    fn is_target(&self, station: [u8; 6]) -> bool {
        let targets = self.view.targets.values();
        targets
            .filter_map(|target| match target {
                Resolution::Via { mac, .. } => *mac,
                _ => None,
            })
            .any(|mac| mac == station)
    }

    /// Reads what is dirty, and the routes to new targets.
    async fn refresh(&mut self, dirty: Dirty) -> Result<()> {
        let targets = self.targets.borrow_and_update().clone();
        if dirty.links {
            self.view.links = self.requests.links().await?;
        }
        if dirty.addresses {
            self.view.addresses = self.requests.addresses().await?;
        }
        if dirty.neighbours {
            let now = self.requests.neighbours().await?;
            let known = std::mem::take(&mut self.table);
            self.table = now
                .into_iter()
                .map(|(key, entry)| (key, entry.after(known.get(&key))))
                .collect();
            self.bridges = self.requests.bridges().await?;
        }
        self.routes.retain(|target, _| targets.contains(target));
        let asked: Vec<IpAddr> = targets
            .iter()
            .copied()
            .filter(|t| dirty.routes || !self.routes.contains_key(t))
            .collect();
        self.routes.extend(self.requests.routes(asked).await?);

        let links = &self.view.links;
        self.wanted = self
            .routes
            .values()
            .filter_map(|route| resolve::wanted(route, links))
            .collect();
        self.view.targets = self
            .routes
            .iter()
            .map(|(target, route)| {
                (
                    *target,
                    resolve::resolve(route, links, &self.table, &self.bridges),
                )
            })
            .collect();
        Ok(())
    }

    fn publish(&self, sender: &watch::Sender<Arc<View>>) {
        sender.send_if_modified(|shown| {
            let differs = **shown != self.view;
            if differs {
                *shown = Arc::new(self.view.clone());
            }
            differs
        });
    }

    /// Has the kernel resolve what is wanted and forget what no longer is.
    async fn tend(&mut self, sweep: bool) {
        for action in self
            .keeper
            .plan(&self.wanted, &self.table, std::time::Instant::now(), sweep)
        {
            let (key, result) = match action {
                Action::Install(key) => (key, self.install(key).await),
                Action::Probe { key, managed } => {
                    (key, self.requests.use_neighbour(key, managed).await)
                }
                Action::Remove(key) => {
                    let result = self.requests.remove_neighbour(key).await;
                    // Whoever wants it again at once must not be shown an entry
                    // that is gone; the event comes later.
                    if result.is_ok() {
                        self.table.remove(&key);
                    }
                    (key, result)
                }
            };
            let Err(error) = result else {
                self.complained.remove(&key);
                continue;
            };
            let name = self
                .view
                .links
                .get(&key.0)
                .map_or("?", |link| link.name.as_str());
            if matches!(action, Action::Remove(_)) || !self.complained.insert(key) {
                tracing::debug!("{action:?}: {error}");
            } else {
                tracing::warn!(
                    "cannot have the kernel resolve {} on {name}, trying on: {error}",
                    key.1
                );
            }
        }
        self.complained.retain(|key| self.wanted.contains(key));
    }

    async fn install(&mut self, key: Key) -> io::Result<()> {
        let result = self.requests.install_neighbour(key).await;
        if self.keeper.support != Support::Unknown {
            return result;
        }
        // A kernel before 5.16 ignores the attribute without a word, or refuses it.
        let managed = match &result {
            Ok(()) => self.requests.is_managed(key).await,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                Some(false)
            }
            Err(_) => None,
        };
        match managed {
            Some(true) => self.keeper.support = Support::Managed,
            Some(false) => {
                self.keeper.support = Support::Absent;
                tracing::warn!(
                    "this kernel has no managed neighbours (Linux 5.16): lvx asks for the servers' station addresses \
                     itself, once a second while they are not confirmed"
                );
                return self.requests.use_neighbour(key, false).await;
            }
            None => {}
        }
        result
    }
}

/// Never, if there is no time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
