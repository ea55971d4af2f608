//! A scenario's flows from two processors at once, on lvx: which server a flow
//! gets then depends on the moment, totals do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    net::SocketAddr,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lvx_tests::{lab::mac_of, packet::Tap};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{
    Engine, Pace, frame, listing,
    stage::{CLIENT_SIDE, Directing, GATEWAY, Stage},
};
use crate::{
    results::{Results, StepResult},
    scenario::{Action, Packet, Scenario},
};

/// Frames that both threads send together before what came out is collected: a
/// socket holds a few hundred.
const TOGETHER: u16 = 50;

/// So long without a frame means that there will be none.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Debug)]
pub struct Raced {
    /// The steps in order; those of packets have no lines.
    pub results: Results,
    /// Packets that were sent.
    pub sent: usize,
    /// Packets that came to a server, with those that came twice.
    pub arrived: usize,
    /// The servers of each flow, by its two ends.
    pub servers: BTreeMap<(SocketAddr, SocketAddr), BTreeSet<String>>,
}

/// Plays a scenario of two legs on lvx, on this machine's clock. Flows with even
/// ports come in by the clients' leg on the first processor, the others by the
/// servers' leg on the second: an interface's packets are one processor's at a time.
///
/// # Errors
/// Without root or two processors; when the scenario has one leg or packets that are
/// not `flows`; when the topology cannot be made.
pub fn race(scenario: &Scenario) -> Result<Raced> {
    let stage = Stage::new(scenario, Engine::Lvx)?;
    let directing = stage.direct(Engine::Lvx)?;
    let taps = stage.taps()?;
    let [(_, clients), (_, servers)] = &taps[..] else {
        bail!("{}: a race needs two legs", scenario.name);
    };
    let lanes = [(clients, CLIENT_SIDE), (servers, stage.server_leg())];
    let mut raced = Raced {
        results: Results::default(),
        sent: 0,
        arrived: 0,
        servers: BTreeMap::new(),
    };
    for step in &scenario.steps {
        let mut lines = Vec::new();
        match &step.action {
            Action::Ipvsadm(words) => lines = listing(&directing.ipvsadm(words)?),
            Action::Rules(chain, words) => lines = listing(&directing.rules(*chain, words)?),
            Action::Flows(count, packet) => {
                // The third is who collects.
                let barrier = Barrier::new(lanes.len() + 1);
                thread::scope(|scope| {
                    let threads = [0, 1].map(|lane| {
                        let (barrier, (tap, leg)) = (&barrier, lanes[lane]);
                        let macs = (mac_of(GATEWAY), mac_of(leg));
                        scope.spawn(move || send(lane, tap, macs, *count, packet, barrier))
                    });
                    let mut outcome = Ok(());
                    for begin in (0..*count).step_by(usize::from(TOGETHER)) {
                        barrier.wait();
                        let some = usize::from(TOGETHER.min(count - begin));
                        raced.sent += some;
                        outcome = outcome.and_then(|()| raced.collect(scenario, &taps, some));
                    }
                    for thread in threads {
                        let sent = thread.join();
                        sent.unwrap_or_else(|_| bail!("a thread panicked"))?;
                    }
                    outcome
                })?;
            }
            Action::Wait(time) => thread::sleep(*time),
            Action::Packet(_) | Action::Clients(..) => {
                bail!("{}:{}: not `flows`", scenario.name, step.line)
            }
        }
        raced.results.steps.push(StepResult {
            text: step.text.clone(),
            lines,
            instead: None,
        });
    }
    if let (Directing::Lvx(director), true) = (&directing, env::var_os("LVX_LOG").is_some()) {
        eprintln!("{}", director.lvx(&["status"]).stdout);
    }
    Ok(raced)
}

/// One thread's part: every other port.
fn send(
    lane: usize,
    tap: &Tap,
    macs: ([u8; 6], [u8; 6]),
    count: u16,
    packet: &Packet,
    barrier: &Barrier,
) -> Result<()> {
    let mut cpus = CpuSet::new();
    let pinned = cpus
        .set(lane)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
        .context("a race needs two processors");
    let mut outcome = pinned;
    for number in 0..count {
        // Both come here equally often, whatever fails.
        if number % TOGETHER == 0 {
            barrier.wait();
        }
        if usize::from(number % 2) == lane && outcome.is_ok() {
            let mut packet = packet.clone();
            packet.from.set_port(packet.from.port() + number);
            outcome = tap.send(&frame::build(&packet, number + 1, macs));
        }
    }
    outcome
}

impl Raced {
    /// Takes what came to a server, until all did or nothing more comes.
    fn collect(
        &mut self,
        scenario: &Scenario,
        taps: &[(&'static str, Tap)],
        expected: usize,
    ) -> Result<()> {
        let (mut here, mut last) = (0, Instant::now());
        while here < expected && last.elapsed() < PATIENCE {
            for (_, tap) in taps {
                while let Some(frame) = tap.next(Pace::REAL.quiet, |_| true)? {
                    let ends = frame::ends(&frame).context("a frame without ports came out")?;
                    let server = frame::receiver(&frame, &scenario.servers, GATEWAY);
                    ensure!(
                        scenario.servers.contains_key(&server),
                        "a packet of {} went to {server}",
                        ends.0
                    );
                    self.servers.entry(ends).or_default().insert(server);
                    (here, last) = (here + 1, Instant::now());
                }
            }
        }
        self.arrived += here;
        Ok(())
    }
}
