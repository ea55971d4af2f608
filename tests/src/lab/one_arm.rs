use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Lab, Node, Segment, Server};

/// Client, director and servers on one segment: the director sends back out of
/// the interface a packet came in by (`XDP_TX`).
///
/// ```text
/// client .100   director .50 + VIP .200   rs1 .10   rs2 .20   … on 192.168.0.0/24
/// ```
///
/// Behind a router, the client is 172.25.254.200 and reaches the segment
/// through 172.25.254.100/192.168.0.100.
#[derive(Debug)]
pub struct OneArm {
    /// Who asks.
    pub client: Node,
    /// Where lvx runs; one interface, `eth0`.
    pub director: Node,
    /// `rs1` at .10, `rs2` at .20, …, with the VIP on `lo`.
    pub servers: Vec<Server>,
    /// Between client and segment, if asked for.
    pub router: Option<Node>,
    /// The bridge, with the ports `client`, `director`, `rs1`, …
    pub segment: Segment,
    /// The client's side of the router.
    pub outside: Option<Segment>,
    /// The lab.
    pub lab: Lab,
}

/// How a [`OneArm`] is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of real servers, at most 9.
    pub servers: u8,
    /// The client is not on the segment, but behind a router.
    pub router: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: 2,
            router: false,
        }
    }
}

impl OneArm {
    /// The virtual address.
    pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 200);
    /// The router's inner address.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 100);

    /// Two servers, the client on the same segment.
    ///
    /// # Errors
    /// Without root, iproute2 or nginx.
    pub fn new() -> Result<Self> {
        Self::with(Options::default())
    }

    /// As told.
    ///
    /// # Errors
    /// Without root, iproute2 or nginx.
    pub fn with(options: Options) -> Result<Self> {
        let lab = Lab::new()?;
        let segment = Segment::new(&lab, "segment", 24)?;
        let director = Node::new(&lab, "director", &segment, Ipv4Addr::new(192, 168, 0, 50))?;
        segment.take_xdp("director")?;
        director.add_address(Self::VIP, "eth0")?;
        let servers = (1..=options.servers)
            .map(|number| {
                let addr = Ipv4Addr::new(192, 168, 0, number * 10);
                let server = Server::new(&lab, &format!("rs{number}"), &segment, addr)?;
                server.direct_routing(Self::VIP)?;
                Ok(server)
            })
            .collect::<Result<Vec<_>>>()?;

        if !options.router {
            let client = Node::new(&lab, "client", &segment, Ipv4Addr::new(192, 168, 0, 100))?;
            return Ok(Self {
                client,
                director,
                servers,
                router: None,
                segment,
                outside: None,
                lab,
            });
        }
        let outside = Segment::new(&lab, "outside", 24)?;
        let client = Node::new(&lab, "client", &outside, Ipv4Addr::new(172, 25, 254, 200))?;
        let router = Node::new(&lab, "router", &outside, Ipv4Addr::new(172, 25, 254, 100))?;
        segment.plug(&router.ns, "eth1", "router", Self::GATEWAY)?;
        router.ns.sysctl("net/ipv4/ip_forward", "1")?;
        client.default_route(router.addr)?;
        for host in servers.iter().map(|server| &server.node).chain([&director]) {
            host.default_route(Self::GATEWAY)?;
        }
        Ok(Self {
            client,
            director,
            servers,
            router: Some(router),
            segment,
            outside: Some(outside),
            lab,
        })
    }

    /// The server of that name's address, `rs1` and so on.
    pub fn rip(&self, number: usize) -> Ipv4Addr {
        self.servers[number - 1].node.addr
    }
}
