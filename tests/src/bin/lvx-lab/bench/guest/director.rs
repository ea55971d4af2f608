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

use std::{fs, ops::Range, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use lvx_tests::{
    director::{Director, Start},
    lab::{Lab, Namespace, run, set_features, tool},
    listing,
    xdp::{Foreign, Verdict},
};
use nix::net::if_::if_nametoindex;

use super::{
    super::{
        stand::{Packets, Stand},
        template::Template,
    },
    ways::{Amount, SERVER, WAYS, Way},
};

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

/// Instructions a packet, in each of two rounds.
pub(super) type Share = [f64; 2];

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
        // The stations of the templates; their clients are in 10.0.0.0/8.
        director.ip(&format!(
            "link set in address 02:00:00:00:00:01 up
             link set out address 02:00:00:00:00:01 up
             addr add 172.16.0.254/24 dev in
             addr add 198.18.0.254/24 dev out
             neigh replace 172.16.0.1 lladdr 02:00:00:00:00:02 dev in nud permanent
             neigh replace {SERVER} lladdr 02:00:00:00:00:02 dev out nud permanent
             route add 10.0.0.0/8 via 172.16.0.1"
        ))?;
        for way in WAYS {
            director.ip(&format!("addr add {}/32 dev lo", way.vip))?;
        }
        director.sysctl("net/ipv4/ip_forward", "1")?;
        for interface in ["in", "out"] {
            poll_by_thread(&director, interface)?;
        }
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

    /// Measures these ways, in their order.
    pub(super) fn shares(
        &self,
        stand: &mut Stand,
        engine: Engine,
        ways: &[Way],
        amount: Amount,
    ) -> Result<Vec<Share>> {
        let lvx = match engine {
            Engine::Kernel => None,
            Engine::Lvx => {
                eprintln!("starting lvx");
                let start = Start::default().interfaces(&["in", "out"]).mode("native");
                // Nothing ends while this runs.
                let start = start.connections(Some(1 << 16));
                Some(Director::start_with(&self.director, start)?)
            }
        };
        let ipvsadm = |line: &str| -> Result<String> {
            let mut command = match &lvx {
                Some(director) => director.command(&["ipvsadm"]),
                None => self.director.command(tool("ipvsadm")),
            };
            let output = run(command.args(line.split(' ')))?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        for line in ways.iter().flat_map(Way::lines) {
            ipvsadm(&line)?;
        }
        if let Some(director) = &lvx {
            director.wait_for_ways()?;
        }
        let mut shares = Vec::new();
        for way in ways {
            eprintln!("measuring {}, {engine:?}", way.name);
            let share = self.share(stand, way, amount);
            shares.push(share.with_context(|| format!("{}, {engine:?}", way.name))?);
        }
        // The kernel sums its counters up every two seconds.
        thread::sleep(Duration::from_secs(3));
        let counted = ipvsadm("-Ln --stats --exact")?;
        for way in ways.iter().filter(|way| way.method.is_some()) {
            let numbers = listing::numbers(&counted, &way.service().to_string())?;
            let sent = way.counters(amount);
            ensure!(
                numbers.starts_with(&sent),
                "{}, {engine:?}: sent were {sent:?} connections, packets in and out; counted {numbers:?}",
                way.name
            );
        }
        ipvsadm("-C")?;
        Ok(shares)
    }

    fn share(&self, stand: &mut Stand, way: &Way, amount: Amount) -> Result<Share> {
        let there = (&self.client, &self.server);
        for frame in way.before() {
            send(stand, there, &frame, 0..amount.flows, 1)?;
        }
        let mut round = |round: u32| {
            let frame = way.frame();
            if way.is_new() {
                let flows = round * amount.new..(round + 1) * amount.new;
                return send(stand, there, &frame, flows, 1);
            }
            let back = (&self.server, &self.client);
            let ends = if way.is_reply { back } else { there };
            send(stand, ends, &frame, 0..amount.flows, amount.times)
        };
        Ok([round(0)?, round(1)?])
    }

    /// What the driver alone costs, with an XDP program that sends every packet back.
    pub(super) fn driver(&self, stand: &mut Stand, amount: Amount) -> Result<Share> {
        eprintln!("measuring the driver");
        let _back = Foreign::attach(&self.director, "in", Verdict::Transmit)?;
        let frame = WAYS[0].frame();
        let mut round = || {
            let ends = (&self.client, &self.client);
            send(stand, ends, &frame, 0..amount.flows, amount.times)
        };
        Ok([round()?, round()?])
    }
}

/// Sends each flow's packet so often from one end to another, where every one must
/// arrive. The director's instructions a packet.
fn send(
    stand: &mut Stand,
    (from, to): (&Namespace, &Namespace),
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

/// Has a thread poll an interface that is up: `napi/NAME-NUMBER`.
fn poll_by_thread(ns: &Namespace, interface: &str) -> Result<()> {
    // `/sys` shows the interfaces of the namespace that it was mounted in; this mounts it.
    let mut command = Command::new(tool("ip"));
    command.args(["netns", "exec", ns.name(), "sh", "-c"]);
    run(command.arg(format!("echo 1 > /sys/class/net/{interface}/threaded")))?;
    Ok(())
}

/// Processor time of the threads that poll the director's interfaces.
fn polling_time() -> Result<Duration> {
    let mut sum = 0;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // Without a name: not a process, or one that has just ended.
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        if name.starts_with("napi/in-") || name.starts_with("napi/out-") {
            let text = fs::read_to_string(process.join("schedstat"))?;
            let time = text.split(' ').next().and_then(|it| it.parse::<u64>().ok());
            sum += time.with_context(|| format!("no time in {text}"))?;
        }
    }
    Ok(Duration::from_nanos(sum))
}
