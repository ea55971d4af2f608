//! A client, a director and a server in the machine, without a segment between.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvx_tests::{
    lab::{Lab, Namespace, Offload, set_features},
    xdp,
};

pub(super) const VIP4: &str = "10.9.9.1";
pub(super) const VIP6: &str = "2001:db8:9::1";
pub(super) const SERVER4: &str = "10.8.0.1";
pub(super) const SERVER6: &str = "fd00:8::1";

/// Bytes of each connection, each way: many segments of full length.
pub(super) const LENGTH: usize = 200_000;
/// No connection takes longer.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// What is between the director and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// `eth0` to the client, `eth1` to the server.
    Plain,
    /// To the client a bond `bond0` of `e0` and `e1`, active and backup; the
    /// client has a bridge of `p0` and `p1`.
    Bonded,
    /// As `Bonded`, and a VLAN `bond0.100` on it.
    BondedVlan,
    /// VLANs: `eth0.100` to the client, `eth1.200` to the server.
    Vlan,
    /// As `Vlan`, and to the client `eth0.100.7` on it, `eth0.100` by 802.1ad.
    TwoVlans,
    /// To the client a bridge `br0` of `eth0`, to the server `br1` of `eth1`.
    Bridged,
}

impl Links {
    fn bonded(self) -> bool {
        matches!(self, Self::Bonded | Self::BondedVlan)
    }

    /// The director's device towards the client.
    fn to_client(self) -> &'static str {
        match self {
            Self::Plain => "eth0",
            Self::Bonded => "bond0",
            Self::BondedVlan => "bond0.100",
            Self::Vlan => "eth0.100",
            Self::TwoVlans => "eth0.100.7",
            Self::Bridged => "br0",
        }
    }

    /// The director's device towards the server.
    fn to_server(self) -> &'static str {
        match self {
            Self::Vlan | Self::TwoVlans => "eth1.200",
            Self::Bridged => "br1",
            _ => "eth1",
        }
    }

    /// The client's device.
    fn of_client(self) -> &'static str {
        match self {
            Self::BondedVlan | Self::Vlan => "eth0.100",
            Self::TwoVlans => "eth0.100.7",
            _ => "eth0",
        }
    }

    /// The server's device.
    fn of_server(self) -> &'static str {
        match self {
            Self::Vlan | Self::TwoVlans => "eth0.200",
            _ => "eth0",
        }
    }
}

pub(super) struct Stage {
    // In the order of dropping.
    pub(super) client: Namespace,
    pub(super) director: Namespace,
    pub(super) server: Namespace,
    _lab: Lab,
}

impl Stage {
    pub(super) fn new(links: Links) -> Result<Self> {
        let lab = Lab::new()?;
        let client = lab.namespace("client")?;
        let director = lab.namespace("director")?;
        let server = lab.namespace("server")?;
        for ns in [&client, &director, &server] {
            for key in ["all", "default"] {
                ns.sysctl(&format!("net/ipv6/conf/{key}/disable_ipv6"), "0")?;
                ns.sysctl(&format!("net/ipv6/conf/{key}/accept_dad"), "0")?;
            }
        }
        let stage = Self {
            client,
            director,
            server,
            _lab: lab,
        };
        stage.plug(links)?;
        stage.stack(links)?;
        stage.give_addresses(links)?;
        Ok(stage)
    }

    /// The veths. XDP sees the bytes alone: checksums must be finished, segments
    /// single, and VLAN tags in the frames.
    fn plug(&self, links: Links) -> Result<()> {
        let Self {
            client,
            director,
            server,
            ..
        } = self;
        let pairs: &[(&str, &str)] = if links.bonded() {
            &[("p0", "e0"), ("p1", "e1")]
        } else {
            &[("eth0", "eth0")]
        };
        for (theirs, ours) in pairs {
            client.ip(&format!(
                "link add {theirs} type veth peer name {ours} netns {}",
                director.name()
            ))?;
        }
        director.ip(&format!(
            "link add eth1 type veth peer name eth0 netns {}",
            server.name()
        ))?;
        let ours = pairs.iter().map(|(_, ours)| (director, *ours));
        let theirs = pairs.iter().map(|(theirs, _)| (client, *theirs));
        let others: Vec<_> = theirs.chain([(server, "eth0")]).collect();
        for (ns, interface) in ours.chain([(director, "eth1")]).chain(others.clone()) {
            for feature in [
                Offload::TransmitChecksum,
                Offload::TcpSegmentation,
                Offload::GenericSegmentation,
            ] {
                ns.offload(interface, feature, false)?;
            }
        }
        for (ns, interface) in others {
            let tags = [
                ("tx-vlan-hw-insert", false),
                ("tx-vlan-stag-hw-insert", false),
            ];
            ns.enter(|| set_features(interface, &tags))?;
            // What XDP sends, a veth takes only with a program of its own.
            xdp::pass(ns, interface)?;
        }
        Ok(())
    }

    /// Bonds, VLANs and bridges on the veths.
    fn stack(&self, links: Links) -> Result<()> {
        let Self {
            client,
            director,
            server,
            ..
        } = self;
        if links.bonded() {
            client.ip("link add eth0 type bridge forward_delay 0\n\
                       link set p0 master eth0 up\nlink set p1 master eth0 up")?;
            director.ip("link add bond0 type bond mode active-backup miimon 100\n\
                         link set e0 master bond0\nlink set e1 master bond0\nlink set bond0 up")?;
        }
        match links {
            Links::Plain | Links::Bonded => {}
            Links::BondedVlan => {
                client.ip("link set eth0 up\nlink add link eth0 name eth0.100 type vlan id 100")?;
                director.ip("link add link bond0 name bond0.100 type vlan id 100")?;
            }
            Links::Vlan | Links::TwoVlans => {
                let outer = if links == Links::Vlan {
                    ""
                } else {
                    "proto 802.1ad "
                };
                for ns in [client, director] {
                    ns.ip(&format!(
                        "link set eth0 up\nlink add link eth0 name eth0.100 type vlan {outer}id 100\nlink set eth0.100 up"
                    ))?;
                    if links == Links::TwoVlans {
                        // A frame with two tags and 1500 bytes is too long for a veth.
                        ns.ip("link add link eth0.100 name eth0.100.7 mtu 1496 type vlan id 7")?;
                    }
                }
                director
                    .ip("link set eth1 up\nlink add link eth1 name eth1.200 type vlan id 200")?;
                server.ip("link set eth0 up\nlink add link eth0 name eth0.200 type vlan id 200")?;
            }
            Links::Bridged => director.ip("link add br0 type bridge forward_delay 0\n\
                 link set eth0 master br0 up\n\
                 link add br1 type bridge forward_delay 0\n\
                 link set eth1 master br1 up")?,
        }
        Ok(())
    }

    fn give_addresses(&self, links: Links) -> Result<()> {
        let (here, there) = (links.to_client(), links.to_server());
        let (client, server) = (links.of_client(), links.of_server());
        self.client.ip(&format!("addr add 10.0.0.2/24 dev {client}\naddr add fd00::2/64 dev {client} nodad\nlink set {client} up\nroute add default via 10.0.0.1\nroute add ::/0 via fd00::1"))?;
        self.server.ip(&format!("addr add {SERVER4}/24 dev {server}\naddr add {SERVER6}/64 dev {server} nodad\nlink set {server} up\naddr add {VIP4}/32 dev lo\naddr add {VIP6}/128 dev lo nodad\nroute add default via 10.8.0.254\nroute add ::/0 via fd00:8::fe"))?;
        self.director.ip(&format!("addr add 10.0.0.1/24 dev {here}\naddr add fd00::1/64 dev {here} nodad\nlink set {here} up\naddr add 10.8.0.254/24 dev {there}\naddr add fd00:8::fe/64 dev {there} nodad\nlink set {there} up\naddr add {VIP4}/32 dev lo\naddr add {VIP6}/128 dev lo nodad"))?;
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // The servers' replies come by: they are from the VIP.
            ("net/ipv4/conf/all/accept_local", "1"),
        ] {
            self.director.sysctl(key, value)?;
        }
        Ok(())
    }

    /// A connection to the service: what the client sends comes back to it. The
    /// server listens on `port`.
    pub(super) fn connect(&self, service: SocketAddr, port: u16) -> Result<()> {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let listener = self.server.enter(|| TcpListener::bind(any))?;
        thread::spawn(move || {
            // What goes wrong here, the client tells.
            if let Ok((mut stream, _)) = listener.accept() {
                let mut data = Vec::new();
                let _ = stream.read_to_end(&mut data);
                let _ = stream.write_all(&data);
            }
        });
        let mut stream = self
            .client
            .enter(|| TcpStream::connect_timeout(&service, LIMIT))
            .context("no connection")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let data: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
        stream.write_all(&data).context("cannot send")?;
        stream.shutdown(Shutdown::Write)?;
        let mut back = Vec::new();
        stream
            .read_to_end(&mut back)
            .with_context(|| format!("only {} bytes came back", back.len()))?;
        ensure!(back == data, "other bytes came back");
        Ok(())
    }
}
