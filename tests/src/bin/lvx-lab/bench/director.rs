//! The director's share of a packet, on its way from a client to a server or back:
//! the kernel's IPVS, its plain forwarding, and lvx.
//!
//! ```text
//! client: eth0 <-> in :director: out <-> eth0 :server
//! ```
//!
//! Threads poll the director's interfaces (threaded NAPI). All that it does for a
//! packet is done by them: receiving it, the stack or the XDP program, sending it.
//! Nothing else is, so their processor time is the director's share, and nobody's is
//! to be taken off. Packets come as frames, 64 at a time, as from a network card with
//! work to do; the rest of the time is idle.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use lvx_tests::{
    director::{Director, Start},
    lab::{Lab, Namespace, run, set_features, tool},
    listing,
    xdp::{Foreign, Verdict},
};
use nix::net::if_::if_nametoindex;

use super::{
    stand::{Packets, Stand},
    template::{Segment, Template},
};

/// The server, and the port that it has by NAT.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const PORT: u16 = 80;
const SERVER_PORT: u16 = 8080;
/// Clients have addresses of 10.0.0.0/8; that is the programs' choice.
const CLIENTS: &str = "10.0.0.0/8";

/// Packets that come at once: what a poll takes.
const BATCH: u32 = 64;
/// Long enough for a batch to be dealt with, in virtual time, of which idle one is
/// skipped.
const PAUSE: Duration = Duration::from_millis(3);

/// Who directs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// The kernel: IPVS, or its forwarding.
    Kernel,
    /// lvx by native XDP.
    Lvx,
}

/// A way of packets through the director.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) name: &'static str,
    /// How the server is reached, as ipvsadm says it; `None`: for no service.
    method: Option<&'static str>,
    segment: Segment,
    /// Whether the server sends the packets.
    is_reply: bool,
    /// At most so many times IPVS's.
    pub(super) target: Option<f64>,
}

const fn way(name: &'static str, method: &'static str, segment: Segment) -> Way {
    Way {
        name,
        method: Some(method),
        segment,
        is_reply: false,
        target: None,
    }
}

/// Everything, in the order of the report. Each has a VIP of its own, so that no
/// connection of another is met.
pub(super) const WAYS: [Way; 9] = [
    Way {
        target: Some(0.25),
        ..way("DR", "-g", Segment::Ack)
    },
    way("DR, UDP", "-g", Segment::Datagram),
    way("TUN, IPIP", "-i", Segment::Ack),
    way("NAT, to the server", "-m", Segment::Ack),
    Way {
        is_reply: true,
        ..way("NAT, to the client", "-m", Segment::Ack)
    },
    way("new, DR", "-g", Segment::Syn),
    way("new, TUN, IPIP", "-i", Segment::Syn),
    way("new, NAT", "-m", Segment::Syn),
    Way {
        method: None,
        ..way("not for a service, forwarded", "", Segment::Ack)
    },
];

/// The address of the service that a way has.
fn vip(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number as u8 + 1)
}

impl Way {
    /// What clients send to: the VIP that the way with this number has, or the server.
    fn service(&self, number: usize) -> SocketAddr {
        let address = if self.method.is_some() {
            vip(number)
        } else {
            SERVER
        };
        SocketAddr::from((address, PORT))
    }

    /// The lines of ipvsadm that make the service.
    fn lines(&self, number: usize) -> Vec<String> {
        let Some(method) = self.method else {
            return Vec::new();
        };
        let protocol = if self.segment == Segment::Datagram {
            "-u"
        } else {
            "-t"
        };
        let service = self.service(number);
        let port = if method == "-m" { SERVER_PORT } else { PORT };
        vec![
            format!("-A {protocol} {service} -s rr"),
            format!("-a {protocol} {service} -r {SERVER}:{port} {method}"),
        ]
    }
}

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    /// Established connections that packets are spread over: whole batches.
    pub(super) flows: u32,
    /// Packets of each in a round.
    pub(super) times: u32,
    /// New connections of a round: whole batches.
    pub(super) new: u32,
}

/// Instructions a packet, in each of two rounds.
pub(super) type Share = [f64; 2];

/// Measures the ways that are wanted, in their order.
pub(super) fn measure(
    stage: &Stage,
    stand: &mut Stand,
    engine: Engine,
    amount: Amount,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Share>> {
    let lvx = match engine {
        Engine::Kernel => None,
        Engine::Lvx => {
            eprintln!("starting lvx");
            let start = Start::default().interfaces(&["in", "out"]).mode("native");
            // Nothing ends while this runs.
            let start = start.connections(Some(1 << 16));
            Some(Director::start_with(&stage.director, start)?)
        }
    };
    let ipvsadm = |line: &str| -> Result<String> {
        let mut command = match &lvx {
            Some(director) => director.command(&["ipvsadm"]),
            None => stage.director.command(tool("ipvsadm")),
        };
        let output = run(command.args(line.split(' ')))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let ways = || (0..).zip(&WAYS).filter(|(_, way)| wanted(way.name));
    for (number, way) in ways() {
        for line in way.lines(number) {
            ipvsadm(&line)?;
        }
    }
    if let Some(director) = &lvx {
        director.wait_for_ways()?;
    }
    let shares = ways()
        .map(|(number, way)| {
            eprintln!("measuring {}, {engine:?}", way.name);
            let share = stage.share(stand, number, way, amount);
            share.with_context(|| format!("{}, {engine:?}", way.name))
        })
        .collect::<Result<_>>()?;
    // The kernel sums its counters up every two seconds.
    thread::sleep(Duration::from_secs(3));
    let counted = ipvsadm("-Ln --stats --exact")?;
    for (number, way) in ways().filter(|(_, way)| way.method.is_some()) {
        let numbers = listing::numbers(&counted, &way.service(number).to_string())?;
        let sent = way.counters(amount);
        ensure!(
            numbers.starts_with(&sent),
            "{}, {engine:?}: connections, packets in and out are {sent:?}, counted were {numbers:?}",
            way.name
        );
    }
    ipvsadm("-C")?;
    Ok(shares)
}

/// What an XDP program costs that sends every packet back: the driver's part.
pub(super) fn driver(stage: &Stage, stand: &mut Stand, amount: Amount) -> Result<Share> {
    eprintln!("measuring the driver");
    let _back = Foreign::attach(&stage.director, "in", Verdict::Transmit)?;
    let frame = Template::to(WAYS[0].service(0), Segment::Ack);
    let mut round = || {
        stage.send(
            stand,
            &stage.client,
            &stage.client,
            &frame,
            0..amount.flows,
            amount.times,
        )
    };
    Ok([round()?, round()?])
}

/// Client, director and server.
pub(super) struct Stage {
    // In the order of dropping.
    _sinks: [Foreign; 2],
    client: Namespace,
    director: Namespace,
    server: Namespace,
    _lab: Lab,
}

impl Stage {
    pub(super) fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let client = lab.namespace("client")?;
        let director = lab.namespace("director")?;
        let server = lab.namespace("server")?;
        for (ns, interface) in [(&client, "in"), (&server, "out")] {
            ns.ip(&format!(
                "link add eth0 type veth peer name {interface} netns {}\nlink set eth0 up",
                director.name()
            ))?;
            // A network card's default, and what makes the kernel poll a veth.
            director.enter(|| set_features(interface, &[("rx-gro", true)]))?;
        }
        // Where the frames of the templates go to and come from.
        director.ip(&format!(
            "link set in address 02:00:00:00:00:01 up
             link set out address 02:00:00:00:00:01 up
             addr add 172.16.0.254/24 dev in
             addr add 198.18.0.254/24 dev out
             neigh replace 172.16.0.1 lladdr 02:00:00:00:00:02 dev in nud permanent
             neigh replace {SERVER} lladdr 02:00:00:00:00:02 dev out nud permanent
             route add {CLIENTS} via 172.16.0.1"
        ))?;
        for interface in ["in", "out"] {
            poll_by_thread(&director, interface)?;
        }
        for number in 0..WAYS.len() {
            director.ip(&format!("addr add {}/32 dev lo", vip(number)))?;
        }
        director.sysctl("net/ipv4/ip_forward", "1")?;
        Ok(Self {
            _sinks: [
                Foreign::attach(&client, "eth0", Verdict::Drop)?,
                Foreign::attach(&server, "eth0", Verdict::Drop)?,
            ],
            client,
            director,
            server,
            _lab: lab,
        })
    }

    fn share(&self, stand: &mut Stand, number: usize, way: &Way, amount: Amount) -> Result<Share> {
        let service = way.service(number);
        for frame in way.before(service) {
            self.send(
                stand,
                &self.client,
                &self.server,
                &frame,
                0..amount.flows,
                1,
            )?;
        }
        let mut round = |round: u32| {
            if way.segment == Segment::Syn {
                let frame = Template::to(service, Segment::Syn);
                let flows = round * amount.new..(round + 1) * amount.new;
                return self.send(stand, &self.client, &self.server, &frame, flows, 1);
            }
            let flows = 0..amount.flows;
            if way.is_reply {
                let server = SocketAddr::from((SERVER, SERVER_PORT));
                let frame = Template::from(server, way.segment);
                return self.send(
                    stand,
                    &self.server,
                    &self.client,
                    &frame,
                    flows,
                    amount.times,
                );
            }
            let frame = Template::to(service, way.segment);
            self.send(
                stand,
                &self.client,
                &self.server,
                &frame,
                flows,
                amount.times,
            )
        };
        Ok([round(0)?, round(1)?])
    }

    /// Sends each flow's packet so often; every one must arrive. The director's
    /// instructions a packet.
    fn send(
        &self,
        stand: &mut Stand,
        from: &Namespace,
        to: &Namespace,
        frame: &Template,
        flows: Range<u32>,
        times: u32,
    ) -> Result<f64> {
        let count = flows.len() as u32 * times;
        let (used, received) = (polling_time()?, to.received("eth0")?);
        from.enter(|| -> Result<()> {
            let interface = if_nametoindex("eth0")?;
            for first in (0..times).flat_map(|_| flows.clone().step_by(BATCH as usize)) {
                let packets = Packets {
                    frame,
                    grows: false,
                    first,
                    flows: BATCH,
                    scrambled: false,
                    count: BATCH,
                };
                stand.send(packets, interface)?;
                thread::sleep(PAUSE);
            }
            Ok(())
        })?;
        let (used, received) = (polling_time()? - used, to.received("eth0")? - received);
        ensure!(
            received == u64::from(count),
            "{received} of {count} packets arrived"
        );
        Ok(used.as_nanos() as f64 / f64::from(count))
    }
}

impl Way {
    /// What every flow sends before.
    fn before(&self, service: SocketAddr) -> Vec<Template> {
        let segments: &[_] = match (self.method, self.segment) {
            (None, _) | (_, Segment::Syn) => &[],
            (_, Segment::Datagram) => &[Segment::Datagram],
            (_, Segment::Ack) => &[Segment::Syn, Segment::Ack],
        };
        let frames = segments.iter().map(|&it| Template::to(service, it));
        frames.collect()
    }

    /// Connections, packets in and packets out that the service must have counted.
    fn counters(&self, amount: Amount) -> [u64; 3] {
        if self.segment == Segment::Syn {
            let new = 2 * u64::from(amount.new);
            return [new, new, 0];
        }
        let flows = u64::from(amount.flows);
        let before = if self.segment == Segment::Datagram {
            flows
        } else {
            2 * flows
        };
        let measured = 2 * flows * u64::from(amount.times);
        if self.is_reply {
            [flows, before, measured]
        } else {
            [flows, before + measured, 0]
        }
    }
}

/// Has a thread poll an interface, `napi/NAME-NUMBER`.
fn poll_by_thread(ns: &Namespace, interface: &str) -> Result<()> {
    // `/sys` shows the interfaces of the namespace in which it was mounted; this mounts it.
    let mut command = Command::new(tool("ip"));
    command.args(["netns", "exec", ns.name(), "sh", "-c"]);
    run(command.arg(format!("echo 1 > /sys/class/net/{interface}/threaded")))?;
    Ok(())
}

/// Processor time of all threads that poll the director's interfaces.
fn polling_time() -> Result<Duration> {
    let mut sum = 0;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // Not a process, or one that has just ended.
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        if name.starts_with("napi/in-") || name.starts_with("napi/out-") {
            let text = fs::read_to_string(process.join("schedstat"))?;
            let time = text
                .split(' ')
                .next()
                .and_then(|time| time.parse::<u64>().ok());
            sum += time.with_context(|| format!("no time in {text}"))?;
        }
    }
    Ok(Duration::from_nanos(sum))
}
