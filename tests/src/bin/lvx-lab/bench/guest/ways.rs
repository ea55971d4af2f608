//! Ways of packets through the director, and what they leave in its counters.

use std::net::{Ipv4Addr, SocketAddr};

use super::super::template::{Segment, Template};

/// The server.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PORT: u16 = 80;
/// The server's port by NAT.
const SERVER_PORT: u16 = 8080;

/// A way of packets through the director.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) name: &'static str,
    /// The service's address.
    pub(super) vip: Ipv4Addr,
    /// How the server is reached, as ipvsadm says it; `None`: for no service.
    pub(super) method: Option<&'static str>,
    /// What is measured; each SYN is a new connection's.
    segment: Segment,
    /// Whether the server sends it.
    pub(super) is_reply: bool,
    /// At most so many times the kernel's.
    pub(super) target: Option<f64>,
}

/// The service is `192.0.2.N`.
const fn way(n: u8, name: &'static str, method: &'static str, segment: Segment) -> Way {
    Way {
        name,
        vip: Ipv4Addr::new(192, 0, 2, n),
        method: Some(method),
        segment,
        is_reply: false,
        target: None,
    }
}

/// Everything, in the order of the report. Each has a service of its own, so that no
/// connection of another is met.
pub(super) const WAYS: [Way; 9] = [
    Way {
        target: Some(0.25),
        ..way(1, "DR", "-g", Segment::Ack)
    },
    way(2, "DR, UDP", "-g", Segment::Datagram),
    way(3, "TUN, IPIP", "-i", Segment::Ack),
    way(4, "NAT, to the server", "-m", Segment::Ack),
    Way {
        is_reply: true,
        ..way(5, "NAT, to the client", "-m", Segment::Ack)
    },
    way(6, "new, DR", "-g", Segment::Syn),
    way(7, "new, TUN, IPIP", "-i", Segment::Syn),
    way(8, "new, NAT", "-m", Segment::Syn),
    Way {
        method: None,
        ..way(9, "not for a service, forwarded", "", Segment::Ack)
    },
];

/// How much to measure, twice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    /// Established connections that packets are spread over: whole batches.
    pub(super) flows: u32,
    /// Packets of each.
    pub(super) times: u32,
    /// New connections: whole batches.
    pub(super) new: u32,
}

impl Way {
    /// What clients send to.
    pub(super) fn service(&self) -> SocketAddr {
        let address = self.method.map_or(SERVER, |_| self.vip);
        SocketAddr::from((address, PORT))
    }

    /// The words of ipvsadm that make the service, if there is one.
    pub(super) fn lines(&self) -> Vec<String> {
        let Some(method) = self.method else {
            return Vec::new();
        };
        let is_udp = self.segment == Segment::Datagram;
        let service = format!("{} {}", if is_udp { "-u" } else { "-t" }, self.service());
        let port = if method == "-m" { SERVER_PORT } else { PORT };
        vec![
            format!("-A {service} -s rr"),
            format!("-a {service} -r {SERVER}:{port} {method}"),
        ]
    }

    /// What every flow sends before.
    pub(super) fn before(&self) -> Vec<Template> {
        let segments: &[_] = match (self.method, self.segment) {
            (None, _) | (_, Segment::Syn) => &[],
            (_, Segment::Datagram) => &[Segment::Datagram],
            (_, Segment::Ack) => &[Segment::Syn, Segment::Ack],
        };
        let frames = segments.iter().map(|&it| Template::to(self.service(), it));
        frames.collect()
    }

    /// What is measured.
    pub(super) fn frame(&self) -> Template {
        if self.is_reply {
            return Template::from((SERVER, SERVER_PORT).into(), self.segment);
        }
        Template::to(self.service(), self.segment)
    }

    /// Whether each packet starts a connection.
    pub(super) fn is_new(&self) -> bool {
        self.segment == Segment::Syn
    }

    /// Connections, packets in and packets out that the service must have counted.
    pub(super) fn counters(&self, amount: Amount) -> [u64; 3] {
        let [flows, times, new] = [amount.flows, amount.times, amount.new].map(u64::from);
        if self.is_new() {
            return [2 * new, 2 * new, 0];
        }
        let before = flows * self.before().len() as u64;
        let measured = 2 * flows * times;
        if self.is_reply {
            [flows, before, measured]
        } else {
            [flows, before + measured, 0]
        }
    }
}
