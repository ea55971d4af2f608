//! Questions and orders to the kernel, on a socket without subscriptions (a
//! burst of events cannot displace an answer).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    pin::pin,
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    },
    route::{RouteAttribute, RouteMessage, RouteProtocol},
};
use rtnetlink::{Error, Handle};
use tokio::time::timeout;

use super::{
    Link,
    forwarding::Bridges,
    neighbours::{Key, PROTOCOL, Table},
    parse,
    resolve::{self, Route},
};

/// The kernel answers in microseconds; this only guards against waiting forever.
const PATIENCE: Duration = Duration::from_secs(5);
/// Route questions under way at once: their answers must fit the socket's buffer.
const IN_FLIGHT: usize = 32;

#[derive(Clone)]
pub(super) struct Requests(pub(super) Handle);

impl Requests {
    pub(super) async fn links(&self) -> Result<BTreeMap<u32, Link>> {
        let messages = collect(self.0.link().get().execute())
            .await
            .context("cannot read the interfaces")?;
        Ok(messages
            .iter()
            .filter_map(parse::link)
            .map(|link| (link.index, link))
            .collect())
    }

    pub(super) async fn addresses(&self) -> Result<BTreeSet<(IpAddr, u32)>> {
        let messages = collect(self.0.address().get().execute())
            .await
            .context("cannot read the addresses")?;
        Ok(messages.iter().filter_map(parse::address).collect())
    }

    pub(super) async fn neighbours(&self) -> Result<Table> {
        let messages = collect(self.0.neighbours().get().execute())
            .await
            .context("cannot read the neighbours")?;
        Ok(messages.iter().filter_map(parse::neighbour).collect())
    }

    /// What the bridges have learned.
    pub(super) async fn bridges(&self) -> Result<Bridges> {
        let request = self.0.neighbours().get();
        let messages = collect(request.set_address_family(AddressFamily::Bridge).execute())
            .await
            .context("cannot read the forwarding tables of bridges")?;
        Ok(messages.iter().collect())
    }

    /// Asks for the routes to `targets`.
    pub(super) async fn routes(
        &self,
        targets: impl IntoIterator<Item = IpAddr>,
    ) -> Result<BTreeMap<IpAddr, Route>> {
        stream::iter(targets)
            .map(|target| async move { Ok((target, self.route(target).await?)) })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn route(&self, target: IpAddr) -> Result<Route> {
        let mut message = RouteMessage::default();
        (
            message.header.address_family,
            message.header.destination_prefix_length,
        ) = match target {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message
            .attributes
            .push(RouteAttribute::Destination(target.into()));
        let mut answers = pin!(self.0.route().get(message).execute());
        let answer = timeout(PATIENCE, answers.next()).await;
        match answer.with_context(|| format!("the kernel does not say how {target} is reached"))? {
            Some(Ok(message)) => Ok(resolve::read(target, &message)),
            Some(Err(Error::NetlinkError(error))) => Ok(resolve::refused(target, &error.to_io())),
            Some(Err(error)) => {
                Err(error).with_context(|| format!("cannot read the route to {target}"))
            }
            None => anyhow::bail!("the kernel gave no answer about the route to {target}"),
        }
    }

    /// Creates an entry, or changes one, and has the kernel resolve it at once;
    /// `managed` is what it is afterwards.
    pub(super) async fn use_neighbour(&self, key: Key, managed: bool) -> io::Result<()> {
        let mut message = neighbour(key);
        message.header.flags = NeighbourFlags::Use;
        if managed {
            message
                .attributes
                .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        }
        self.order(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
            .await
    }

    /// As [`use_neighbour`](Self::use_neighbour), managed and marked as ours.
    pub(super) async fn install_neighbour(&self, key: Key) -> io::Result<()> {
        let mut message = neighbour(key);
        message.header.flags = NeighbourFlags::Use;
        message
            .attributes
            .push(NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
        message
            .attributes
            .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        self.order(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
            .await
    }

    /// Whether the entry exists and is managed; `None` when there is none.
    pub(super) async fn is_managed(&self, key: Key) -> Option<bool> {
        Some(self.neighbours().await.ok()?.get(&key)?.managed)
    }

    pub(super) async fn remove_neighbour(&self, key: Key) -> io::Result<()> {
        self.order(RouteNetlinkMessage::DelNeighbour(neighbour(key)), 0)
            .await
    }

    async fn order(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = pin!(self.0.clone().request(request).map_err(io::Error::other)?);
        match timeout(PATIENCE, answers.next()).await? {
            // A success ends the stream without a message.
            Some(NetlinkMessage {
                payload:
                    NetlinkPayload::Error(ErrorMessage {
                        code: Some(code), ..
                    }),
                ..
            }) => Err(io::Error::from_raw_os_error(code.get().abs())),
            _ => Ok(()),
        }
    }
}

fn neighbour((ifindex, address): Key) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let (family, destination) = match address {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    message.header.family = family;
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    message
}

async fn collect<T>(answers: impl Stream<Item = Result<T, Error>>) -> Result<Vec<T>> {
    Ok(timeout(PATIENCE, answers.try_collect())
        .await
        .context("the kernel does not answer")??)
}
