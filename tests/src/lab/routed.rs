use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::{Lab, Node, Segment, Server};

/// A director between its clients' router and its servers, in both families.
///
/// ```text
/// client .2 ── far 10.1.0.0/24 ── .1 gate .1 ── outside 172.25.254.0/24 ── .50 director
///                                    gate .1 ── inside 192.168.0.0/24 ── .50 director, .10 rs1, .20 rs2
/// ```
///
/// IPv6 is alike: `fd01::`, `fd02::` and `fd03::` with the last number of the
/// IPv4 address, written in hexadecimal digits that look the same.
#[derive(Debug)]
pub struct Routed {
    /// Who asks, behind `gate`.
    pub client: Node,
    /// A router: `eth0` to the client, `eth1` to the director, `eth2` to the servers.
    pub gate: Node,
    /// Where lvx runs: `eth0` to the gate, `eth1` to the servers.
    pub director: Node,
    /// `rs1` and `rs2`.
    pub servers: Vec<Server>,
    /// The client's segment.
    pub far: Segment,
    /// Between gate and director.
    pub outside: Segment,
    /// The servers' segment.
    pub inside: Segment,
    /// The lab.
    pub lab: Lab,
}

/// By whom servers answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// By the director, as NAT needs it. No server has the VIP.
    ByDirector,
    /// By the gate, straight to the client. Every server has the VIP on `lo`.
    ByGate,
}

impl Routed {
    /// The virtual address.
    pub const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 254, 100);
    /// The virtual address in IPv6.
    pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 0x100);

    /// Two servers.
    ///
    /// # Errors
    /// Without root, iproute2 or nginx.
    pub fn new(answers: Answers) -> Result<Self> {
        let lab = Lab::new()?;
        let far = Segment::new(&lab, "far", 24)?;
        let outside = Segment::new(&lab, "outside", 24)?;
        let inside = Segment::new(&lab, "inside", 24)?;

        let gate = Node::new(&lab, "gate", &far, Ipv4Addr::new(10, 1, 0, 1))?;
        outside.plug(&gate.ns, "eth1", "gate", Ipv4Addr::new(172, 25, 254, 1))?;
        inside.plug(&gate.ns, "eth2", "gate", Ipv4Addr::new(192, 168, 0, 1))?;
        gate.ns.sysctl("net/ipv4/ip_forward", "1")?;
        // Else it would tell the client's SYN to take a shorter way.
        gate.ns.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        gate.ns.enable_ipv6()?;
        gate.ns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        gate.ns.ip("addr add fd01::1/64 dev eth0 nodad
             addr add fd02::1/64 dev eth1 nodad
             addr add fd03::1/64 dev eth2 nodad")?;

        let director = Node::new(&lab, "director", &outside, Ipv4Addr::new(172, 25, 254, 50))?;
        inside.plug(
            &director.ns,
            "eth1",
            "director",
            Ipv4Addr::new(192, 168, 0, 50),
        )?;
        outside.take_xdp("director")?;
        inside.take_xdp("director")?;
        director.ns.enable_ipv6()?;
        director.ns.ip(&format!(
            "addr add fd02::50/64 dev eth0 nodad
             addr add fd03::50/64 dev eth1 nodad
             addr add {}/32 dev eth0
             addr add {}/128 dev eth0 nodad
             route add default via 172.25.254.1
             route add default via fd02::1",
            Self::VIP,
            Self::VIP6
        ))?;

        let last = match answers {
            Answers::ByDirector => 50,
            Answers::ByGate => 1,
        };
        let servers = (1..=2)
            .map(|number| {
                let addr = Ipv4Addr::new(192, 168, 0, number * 10);
                let server = Server::new(&lab, &format!("rs{number}"), &inside, addr)?;
                let ns = &server.node.ns;
                ns.enable_ipv6()?;
                ns.ip(&format!(
                    "addr add fd03::{number}0/64 dev eth0 nodad
                     route add default via 192.168.0.{last}
                     route add default via fd03::{last}"
                ))?;
                if answers == Answers::ByGate {
                    server.direct_routing(Self::VIP)?;
                    ns.ip(&format!("addr add {}/128 dev lo nodad", Self::VIP6))?;
                }
                Ok(server)
            })
            .collect::<Result<Vec<_>>>()?;

        let client = Node::new(&lab, "client", &far, Ipv4Addr::new(10, 1, 0, 2))?;
        client.ns.enable_ipv6()?;
        client.ns.ip("addr add fd01::2/64 dev eth0 nodad
             route add default via 10.1.0.1
             route add default via fd01::1")?;
        gate.ns.wait_for_ipv6(3)?;
        director.ns.wait_for_ipv6(2)?;
        for node in servers.iter().map(|server| &server.node).chain([&client]) {
            node.ns.wait_for_ipv6(1)?;
        }
        Ok(Self {
            client,
            gate,
            director,
            servers,
            far,
            outside,
            inside,
            lab,
        })
    }

    /// Gives every interface this MTU.
    ///
    /// # Errors
    /// When one does not take it.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        let segments = [&self.far.ns, &self.outside.ns, &self.inside.ns];
        let servers = self.servers.iter().map(|server| &server.node.ns);
        let hosts = [&self.client.ns, &self.gate.ns, &self.director.ns];
        // A bridge takes the MTU of its ports.
        for ns in hosts.into_iter().chain(servers).chain(segments) {
            let links: Vec<serde_json::Value> =
                serde_json::from_str(&ns.ip_show(&["-j", "link", "show"])?)?;
            let names = links.iter().filter_map(|link| link["ifname"].as_str());
            let lines: String = names
                .filter(|name| *name != "lo")
                .map(|name| format!("link set {name} mtu {mtu}\n"))
                .collect();
            ns.ip(&lines)?;
        }
        Ok(())
    }

    /// Lets no packet above `mtu` bytes from the gate to the client.
    ///
    /// # Errors
    /// When the kernel refuses the value.
    pub fn narrow_the_clients_link(&self, mtu: u32) -> Result<()> {
        self.gate.ns.ip(&format!("link set eth0 mtu {mtu}"))
    }

    /// Lets no packet above `mtu` bytes from the director to the servers.
    ///
    /// # Errors
    /// When the kernel refuses the value.
    pub fn narrow_the_servers_link(&self, mtu: u32) -> Result<()> {
        self.director.ns.ip(&format!("link set eth1 mtu {mtu}"))
    }
}
