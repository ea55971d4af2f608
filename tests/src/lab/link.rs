use std::{fmt::Write as _, net::Ipv4Addr};

use anyhow::Result;

use super::{Lab, Namespace, Offload};
use crate::xdp;

/// The MAC address that interfaces of the lab have: `02:00` and the IPv4
/// address, so that a capture reads itself.
pub fn mac_of(addr: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = addr.octets();
    [2, 0, a, b, c, d]
}

fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A host with one address on `eth0`.
#[derive(Debug)]
pub struct Node {
    /// Its namespace.
    pub ns: Namespace,
    /// Its address on `eth0`.
    pub addr: Ipv4Addr,
}

impl Node {
    /// Makes a namespace and plugs its `eth0` into the segment.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn new(lab: &Lab, role: &str, segment: &Segment, addr: Ipv4Addr) -> Result<Self> {
        let ns = lab.namespace(role)?;
        segment.plug(&ns, "eth0", role, addr)?;
        Ok(Self { ns, addr })
    }

    /// Its MAC address on `eth0`.
    pub fn mac(&self) -> [u8; 6] {
        mac_of(self.addr)
    }

    /// Adds an address /32 to an interface, as a director has its VIP.
    ///
    /// # Errors
    /// When it is there already.
    pub fn add_address(&self, addr: Ipv4Addr, interface: &str) -> Result<()> {
        self.ns.ip(&format!("addr add {addr}/32 dev {interface}"))
    }

    /// Removes what [`Node::add_address`] added.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove_address(&self, addr: Ipv4Addr, interface: &str) -> Result<()> {
        self.ns.ip(&format!("addr del {addr}/32 dev {interface}"))
    }

    /// Sends what has no better route to `gateway`.
    ///
    /// # Errors
    /// When the gateway is on no segment of this node.
    pub fn default_route(&self, gateway: Ipv4Addr) -> Result<()> {
        self.ns.ip(&format!("route add default via {gateway}"))
    }

    /// Writes an address of the neighbour table down for good, so that a test
    /// does not depend on ARP.
    ///
    /// # Errors
    /// When `eth0` is gone.
    pub fn fixed_neighbour(&self, addr: Ipv4Addr, mac: [u8; 6]) -> Result<()> {
        self.ns.ip(&format!(
            "neigh replace {addr} lladdr {} dev eth0 nud permanent",
            show_mac(mac)
        ))
    }
}

/// An Ethernet segment: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Segment {
    /// The bridge's namespace; its ports carry the roles of what they lead to.
    pub ns: Namespace,
    prefix: u8,
}

impl Segment {
    /// Makes the bridge. Its hosts have addresses with this prefix length.
    ///
    /// # Errors
    /// When the kernel has no bridges.
    pub fn new(lab: &Lab, role: &str, prefix: u8) -> Result<Self> {
        let ns = lab.namespace(role)?;
        // Where the kernel shows bridged packets to netfilter, it also drops
        // malformed ones, which tests send. There is no such setting elsewhere.
        let _ = ns.sysctl("net/bridge/bridge-nf-call-iptables", "0");
        ns.ip("link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nlink set br0 up")?;
        Ok(Self { ns, prefix })
    }

    /// Joins a namespace to the segment by a veth pair: `interface` there, a
    /// bridge port `port` here.
    ///
    /// The interface hands out finished checksums and single segments, because
    /// an XDP program further on sees the bytes alone.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn plug(&self, ns: &Namespace, interface: &str, port: &str, addr: Ipv4Addr) -> Result<()> {
        self.ns.ip(&format!(
            "link add {port} mtu 1500 type veth peer name {interface} netns {}",
            ns.name()
        ))?;
        self.ns.ip(&format!("link set {port} master br0 up"))?;
        for feature in [
            Offload::TransmitChecksum,
            Offload::TcpSegmentation,
            Offload::GenericSegmentation,
        ] {
            ns.offload(interface, feature, false)?;
        }
        let mut lines = String::new();
        let _ = writeln!(
            lines,
            "link set {interface} address {} up",
            show_mac(mac_of(addr))
        );
        let _ = writeln!(
            lines,
            "addr add {addr}/{} brd + dev {interface}",
            self.prefix
        );
        ns.ip(&lines)
    }

    /// Lets a port take what the interface behind it sends by `XDP_TX` or by
    /// redirect; every port of a director needs it. See [`xdp::pass`].
    ///
    /// # Errors
    /// When there is no such port.
    pub fn take_xdp(&self, port: &str) -> Result<()> {
        xdp::pass(&self.ns, port)
    }
}
