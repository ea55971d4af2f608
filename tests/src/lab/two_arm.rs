use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Lab, Node, Segment, Server};

/// The director between two segments: packets come in by `eth0` and go out by
/// `eth1` (redirect). Replies go through a router beside it, never through the
/// director.
///
/// ```text
/// 172.25.254.0/24   client .200   director eth0 .50 + VIP .100   router eth0 .1
/// 192.168.0.0/24    rs1 .10  rs2 .20   director eth1 .50         router eth1 .1
/// ```
#[derive(Debug)]
pub struct TwoArm {
    /// Who asks.
    pub client: Node,
    /// Where lvx runs; `eth0` to the client, `eth1` to the servers.
    pub director: Node,
    /// `rs1` at .10 and `rs2` at .20, with the VIP on `lo`.
    pub servers: Vec<Server>,
    /// The servers' way out.
    pub router: Node,
    /// The client's segment.
    pub outside: Segment,
    /// The servers' segment.
    pub inside: Segment,
    /// The lab.
    pub lab: Lab,
}

impl TwoArm {
    /// The virtual address.
    pub const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 254, 100);
    /// The director's address towards the servers.
    pub const DIP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 50);

    /// Two servers.
    ///
    /// # Errors
    /// Without root, iproute2 or nginx.
    pub fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let outside = Segment::new(&lab, "outside", 24)?;
        let inside = Segment::new(&lab, "inside", 24)?;

        let director = Node::new(&lab, "director", &outside, Ipv4Addr::new(172, 25, 254, 50))?;
        inside.plug(&director.ns, "eth1", "director", Self::DIP)?;
        outside.take_xdp("director")?;
        inside.take_xdp("director")?;
        director.add_address(Self::VIP, "eth0")?;

        let router = Node::new(&lab, "router", &outside, Ipv4Addr::new(172, 25, 254, 1))?;
        let gateway = Ipv4Addr::new(192, 168, 0, 1);
        inside.plug(&router.ns, "eth1", "router", gateway)?;
        router.ns.sysctl("net/ipv4/ip_forward", "1")?;

        let servers = (1..=2)
            .map(|number| {
                let addr = Ipv4Addr::new(192, 168, 0, number * 10);
                let server = Server::new(&lab, &format!("rs{number}"), &inside, addr)?;
                server.direct_routing(Self::VIP)?;
                server.node.default_route(gateway)?;
                Ok(server)
            })
            .collect::<Result<Vec<_>>>()?;
        let client = Node::new(&lab, "client", &outside, Ipv4Addr::new(172, 25, 254, 200))?;
        Ok(Self {
            client,
            director,
            servers,
            router,
            outside,
            inside,
            lab,
        })
    }
}
