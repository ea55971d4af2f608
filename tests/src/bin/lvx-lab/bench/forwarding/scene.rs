//! A client, a director and a server, joined by veth pairs without a bridge between.
//!
//! ```text
//! client .200 to .207 ── 172.25.254.0/24 ── eth0 .50 director eth1 .50 ── 192.168.0.0/24 ── server .10 to .13
//! client .1 ─────────────────────────────────── 172.26.0.0/24 ──────────────────────────────── server .2
//! ```
//!
//! The server answers by the director, and by the lower way what came to it by
//! direct routing.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context, Result};
use lvx_tests::{
    kernel::scene::OUR_MAC,
    lab::{Background, Lab, Namespace, Offload, run, tool},
};

/// The service by any method that rewrites addresses.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 254, 100);
/// The service by direct routing, which the server has on `lo`.
pub(crate) const DIRECT_VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 254, 101);
/// The port that the server listens on.
pub(crate) const PORT: u16 = 80;
/// Addresses of the server.
pub(crate) const SERVERS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(192, 168, 0, 10),
    Ipv4Addr::new(192, 168, 0, 11),
    Ipv4Addr::new(192, 168, 0, 12),
    Ipv4Addr::new(192, 168, 0, 13),
];

/// Addresses of the client.
pub(crate) const CLIENTS: [Ipv4Addr; 8] = {
    let mut clients = [Ipv4Addr::new(172, 25, 254, 200); 8];
    let mut i = 1;
    while i < clients.len() {
        clients[i] = Ipv4Addr::new(172, 25, 254, 200 + i as u8);
        i += 1;
    }
    clients
};

/// Which processor takes a packet over behind a veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    /// The one that brought it.
    Stay,
    /// One for each flow, as a network card does it.
    ByFlow,
}

/// The namespaces.
pub(crate) struct Scene {
    pub(crate) client: Namespace,
    pub(crate) director: Namespace,
    pub(crate) server: Namespace,
    lab: Lab,
}

impl Scene {
    /// Makes them; the director forwards.
    pub(crate) fn new(steering: Steering) -> Result<Self> {
        let lab = Lab::new()?;
        let scene = Self {
            client: lab.namespace("client")?,
            director: lab.namespace("director")?,
            server: lab.namespace("server")?,
            lab,
        };
        let all = [&scene.client, &scene.director, &scene.server];
        for ns in all {
            if steering == Steering::Stay {
                ns.sysctl("net/core/rps_default_mask", "0")?;
            }
            ns.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        }
        scene.join()?;
        // The whole frame goes over a veth as it would over a wire.
        for ns in all {
            for interface in ["eth0", "eth1"] {
                for feature in [
                    Offload::TransmitChecksum,
                    Offload::TcpSegmentation,
                    Offload::GenericSegmentation,
                ] {
                    ns.offload(interface, feature, false)?;
                }
            }
        }
        Ok(scene)
    }

    fn join(&self) -> Result<()> {
        let queues = std::thread::available_parallelism()?.get();
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        let pair = |from: &Namespace, name: &str, to: &Namespace, peer: &str| {
            from.ip(&format!(
                "link add {name} {queues} type veth peer name {peer} {queues} netns {}",
                to.name()
            ))
        };
        pair(&self.director, "eth0", &self.client, "eth0")?;
        pair(&self.director, "eth1", &self.server, "eth0")?;
        pair(&self.client, "eth1", &self.server, "eth1")?;
        let mac = OUR_MAC.map(|byte| format!("{byte:02x}")).join(":");
        self.director.ip(&format!(
            "link set eth0 address {mac} up
             link set eth1 up
             addr add 172.25.254.50/24 dev eth0
             addr add {VIP}/32 dev eth0
             addr add {DIRECT_VIP}/32 dev eth0
             addr add 192.168.0.50/24 dev eth1"
        ))?;
        self.director.sysctl("net/ipv4/ip_forward", "1")?;
        self.server.ip("link set eth0 up
             link set eth1 up")?;
        for which in ["all", "lo"] {
            self.server
                .sysctl(&format!("net/ipv4/conf/{which}/arp_ignore"), "1")?;
            self.server
                .sysctl(&format!("net/ipv4/conf/{which}/arp_announce"), "2")?;
        }
        for address in SERVERS {
            self.server.ip(&format!("addr add {address}/24 dev eth0"))?;
        }
        self.server.ip(&format!(
            "addr add {DIRECT_VIP}/32 dev lo
             addr add 172.26.0.2/24 dev eth1
             route add default via 192.168.0.50
             route add default via 172.26.0.1 table 100
             rule add from {DIRECT_VIP} lookup 100"
        ))?;
        self.client.ip("link set eth0 up
             link set eth1 up
             addr add 172.26.0.1/24 dev eth1")?;
        for address in CLIENTS {
            self.client.ip(&format!("addr add {address}/24 dev eth0"))?;
        }
        self.client
            .ip("route add 192.168.0.0/24 via 172.25.254.50")?;
        self.director.ip("route add default via 172.25.254.200")
    }

    /// Balances by nftables: each connection to the VIP to the next server.
    pub(crate) fn nftables(&self) -> Result<()> {
        let servers: Vec<String> = (0..)
            .zip(SERVERS)
            .map(|(i, at)| format!("{i} : {at}"))
            .collect();
        let rules = format!(
            "table ip bench {{
                chain prerouting {{
                    type nat hook prerouting priority dstnat;
                    ip daddr {VIP} meta l4proto {{ tcp, udp }} th dport {PORT} dnat to numgen inc mod {} map {{ {} }}
                }}
            }}\n",
            servers.len(),
            servers.join(", ")
        );
        let file = self.lab.dir().join("bench.nft");
        fs::write(&file, rules)?;
        run(self.director.command(tool("nft")).arg("-f").arg(&file))
            .context("cannot set up nftables' DNAT")?;
        Ok(())
    }

    /// Starts HAProxy in TCP mode on the VIP, with a thread a CPU, its default.
    pub(crate) fn haproxy(&self) -> Result<Background> {
        let servers: String = (1..)
            .zip(SERVERS)
            .map(|(i, at)| format!("    server s{i} {at}:{PORT}\n"))
            .collect();
        let file = self.lab.dir().join("haproxy.cfg");
        fs::write(
            &file,
            format!(
                "global
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen web
    bind {VIP}:{PORT}
    balance roundrobin
{servers}"
            ),
        )?;
        let mut command = self.director.command(tool("haproxy"));
        command.arg("-db").arg("-f").arg(&file);
        self.director
            .spawn("haproxy", command)
            .context("cannot start HAProxy: install the package haproxy")
    }

    /// The server's address without a balancer.
    pub(crate) fn server_itself() -> SocketAddr {
        (SERVERS[0], PORT).into()
    }
}
