//! Packets a second through a director on one CPU, way by way in turns.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lvx_tests::director::{Director, Start};
use serde::Serialize;

use super::{
    super::{
        measure::median,
        template::{Segment, Template},
    },
    generator::{Flood, Generator, Then, Turn},
    scene::{PORT, SERVERS, Scene, Steering, VIP},
};
use crate::stop::Signals;

/// How much of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    /// Turns of every way.
    pub(crate) rounds: usize,
    /// Packets a turn.
    pub(crate) packets: u32,
    /// Flows that they are spread over, a power of two.
    pub(crate) flows: u32,
}

/// What one way cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// CPU time for each packet that arrived, in order of rounds; ns.
    pub(crate) nanos: Vec<f64>,
    /// Packets that arrived, of each that was sent.
    pub(crate) arrived: f64,
}

impl Row {
    /// Its quickest turn.
    pub(crate) fn least(&self) -> f64 {
        self.nanos.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn median(&self) -> f64 {
        median(self.nanos.clone())
    }
}

pub(crate) const ALONE: &str = "generator alone";
pub(crate) const REDIRECT: &str = "bare XDP redirect";
/// F1 of the other benchmarks, which is sent back by `XDP_TX`: a redirect, too.
pub(crate) const FLOOR: &str = "F1";
pub(crate) const FORWARDING: &str = "kernel forwarding";
pub(crate) const NFTABLES: &str = "nftables DNAT";
pub(crate) const DIRECT: &str = "lvx DR";
pub(crate) const NAT: &str = "lvx NAT";

/// lvx's methods: name, port, options of ipvsadm, and the port of its servers.
const METHODS: [(&str, u16, &str, u16); 4] = [
    (DIRECT, 9001, "-g", 9001),
    (NAT, 9002, "-m", PORT),
    ("lvx FULLNAT", 9003, "--fullnat", PORT),
    ("lvx IPIP", 9004, "-i --tun-type ipip", 9004),
];

/// A way from generator to far end.
struct Way<'a> {
    name: &'static str,
    scene: &'a Scene,
    then: Then,
    to: SocketAddr,
}

/// A scene each, so that none's programs and rules stand in another's way.
pub(crate) struct Scenes {
    plain: Scene,
    nftables: Scene,
    lvx: Scene,
}

impl Scenes {
    pub(crate) fn new() -> Result<Self> {
        let scenes = Self {
            plain: Scene::new(Steering::Stay)?,
            nftables: Scene::new(Steering::Stay)?,
            lvx: Scene::new(Steering::Stay)?,
        };
        scenes.nftables.nftables()?;
        Ok(scenes)
    }

    fn ways(&self) -> Vec<Way<'_>> {
        let itself = Scene::server_itself();
        let way = |name, scene, then, to| Way {
            name,
            scene,
            then,
            to,
        };
        let mut ways = vec![
            way(ALONE, &self.plain, Then::Drop, itself),
            way(REDIRECT, &self.plain, Then::Redirect, itself),
            way(FLOOR, &self.plain, Then::Floor, itself),
            way(FORWARDING, &self.plain, Then::Kernel, itself),
            way(NFTABLES, &self.nftables, Then::Kernel, (VIP, PORT).into()),
        ];
        ways.extend(
            METHODS.map(|(name, port, ..)| way(name, &self.lvx, Then::Lvx, (VIP, port).into())),
        );
        ways
    }
}

/// Measures the ways that are `wanted` on each of these sets of CPUs, whose turns
/// alternate; the rows of each set.
pub(crate) fn measure(
    scenes: &Scenes,
    plan: Plan,
    sets: &[&[usize]],
    wanted: impl Fn(&str) -> bool,
    signals: &Signals,
) -> Result<Vec<Vec<Row>>> {
    let start = Start::default()
        .interfaces(&["eth0", "eth1"])
        .mode("native")
        .connections(Some(u64::from(room(plan))));
    let director = Director::start_with(&scenes.lvx.director, start)?;
    for (_, port, options, server) in METHODS {
        director.configure(&format!("-A -u {VIP}:{port} -s rr"));
        for address in SERVERS {
            director.configure(&format!(
                "-a -u {VIP}:{port} -r {address}:{server} {options}"
            ));
        }
    }
    director.wait_for_ways()?;

    let mut generator = Generator::load(room(plan))?;
    for scene in [&scenes.plain, &scenes.nftables, &scenes.lvx] {
        generator.count_at(&scene.server, "eth0")?;
    }
    generator.count_at(&scenes.plain.client, "eth0")?;
    generator.call_program_on(&scenes.lvx.director)?;

    let mut ways = scenes.ways();
    ways.retain(|way| wanted(way.name));
    ensure!(!ways.is_empty(), "no way is called so");
    let row = |way: &Way<'_>| Row {
        name: way.name,
        nanos: Vec::new(),
        arrived: 0.0,
    };
    let mut all: Vec<Vec<Row>> = sets
        .iter()
        .map(|_| ways.iter().map(row).collect())
        .collect();
    let mut sent_to_lvx = 0;
    for round in 0..=plan.rounds {
        for (at, way) in ways.iter().enumerate() {
            for (cpus, rows) in sets.iter().zip(&mut all) {
                signals.check()?;
                let flood = Flood {
                    director: &way.scene.director,
                    then: way.then,
                    frame: &Template::to(way.to, Segment::Datagram),
                    flows: plan.flows,
                    count: plan.packets,
                };
                let turns = generator
                    .send(&flood, cpus)
                    .with_context(|| format!("cannot measure {}", way.name))?;
                let arrived: u64 = turns.iter().map(|turn| turn.arrived).sum();
                ensure!(arrived > 0, "{}: nothing arrived", way.name);
                let sent = u64::from(plan.packets) * cpus.len() as u64;
                if way.then == Then::Lvx {
                    sent_to_lvx += sent;
                }
                // The first round makes the flows.
                if round > 0 {
                    let row = &mut rows[at];
                    row.nanos.push(nanos(&turns));
                    row.arrived += arrived as f64 / sent as f64 / plan.rounds as f64;
                }
            }
        }
    }
    check(&director, sent_to_lvx)?;
    Ok(all)
}

/// The time between two packets of all CPUs together.
fn nanos(turns: &[Turn]) -> f64 {
    let rates = turns
        .iter()
        .map(|turn| turn.arrived as f64 / turn.time.as_secs_f64());
    1e9 / rates.sum::<f64>()
}

/// Connections that tables are made for: those of every method and CPU.
fn room(plan: Plan) -> u32 {
    (plan.flows * 16).max(1 << 12)
}

/// lvx must have sent every packet on.
fn check(director: &Director<'_>, sent: u64) -> Result<()> {
    let reasons = director.status()?.reasons;
    let redirected = reasons
        .iter()
        .find_map(|(name, packets)| (name == "forwarded-redirect").then_some(*packets));
    ensure!(
        redirected.unwrap_or(0) == sent,
        "lvx did not send {sent} packets on: {reasons:?}"
    );
    Ok(())
}
