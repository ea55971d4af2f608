//! Real sockets: connections a second, and how long a small HTTP request takes.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use lvx_tests::{
    director::{Director, Start},
    http,
    lab::{Namespace, nginx},
    xdp,
};
use nix::sys::prctl;
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use super::scene::{CLIENTS, DIRECT_VIP, PORT, SERVERS, Scene, Steering, VIP};
use crate::stop::Signals;

/// How much of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Plan {
    /// Turns of every way.
    pub(super) rounds: usize,
    /// How long a turn asks as fast as it can, and then as long at a steady rate.
    pub(super) seconds: f64,
    /// Requests at once, as fast as they are answered.
    pub(super) clients: u32,
    /// Requests a second at the steady rate.
    pub(super) rate: u32,
}

/// Threads that ask at the steady rate, one after the other.
const STEADY: u32 = 4;
/// Connecting, and each read.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest time that is told apart, in microseconds.
const LONGEST: u64 = 10_000_000;

/// The way that others are compared with.
pub(super) const PLAIN: &str = "no balancer (kernel forwarding)";

/// What one way gave, in order of rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Connections a second, as fast as it goes.
    pub(super) connections: Vec<f64>,
    /// Microseconds of a request at the steady rate, connecting included.
    pub(super) p50: Vec<f64>,
    pub(super) p99: Vec<f64>,
    /// Requests that were not answered, of all.
    pub(super) failed: u64,
    pub(super) requests: u64,
}

/// Measures all ways in turns.
pub(super) fn measure(
    plan: Plan,
    wanted: impl Fn(&str) -> bool,
    signals: &Signals,
) -> Result<Vec<Row>> {
    let [plain, nftables, balanced] = [(); 3].map(|()| Scene::new(Steering::ByFlow));
    let (plain, nftables, balanced) = (plain?, nftables?, balanced?);
    let _servers = [&plain, &nftables, &balanced]
        .map(|scene| nginx(&scene.server, "server", &[PORT]))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    nftables.nftables()?;
    let _haproxy = plain.haproxy()?;

    // What takes frames that lvx redirects needs a program of its own.
    xdp::pass(&balanced.client, "eth0")?;
    xdp::pass(&balanced.server, "eth0")?;
    let start = Start::default()
        .interfaces(&["eth0", "eth1"])
        .mode("native")
        .connections(Some(1 << 18));
    let director = Director::start_with(&balanced.director, start)?;
    for (vip, options) in [(DIRECT_VIP, "-g"), (VIP, "-m")] {
        director.configure(&format!("-A -t {vip}:{PORT} -s rr"));
        for address in SERVERS {
            director.configure(&format!("-a -t {vip}:{PORT} -r {address}:{PORT} {options}"));
        }
    }
    director.wait_for_ways()?;

    let mut ways = vec![
        (PLAIN, &plain, SERVERS[0]),
        ("HAProxy, TCP mode", &plain, VIP),
        ("nftables DNAT", &nftables, VIP),
        ("lvx DR", &balanced, DIRECT_VIP),
        ("lvx NAT", &balanced, VIP),
    ];
    ways.retain(|(name, ..)| wanted(name));
    let mut rows: Vec<Row> = ways
        .iter()
        .map(|(name, ..)| Row {
            name,
            connections: Vec::new(),
            p50: Vec::new(),
            p99: Vec::new(),
            failed: 0,
            requests: 0,
        })
        .collect();
    for (name, scene, address) in &ways {
        http::wait_for_answer(&scene.client, (*address, PORT), PATIENCE)
            .with_context(|| format!("{name} does not work"))?;
    }
    let time = Duration::from_secs_f64(plan.seconds);
    for round in 0..=plan.rounds {
        for ((_, scene, address), row) in ways.iter().zip(&mut rows) {
            signals.check()?;
            let to = SocketAddr::from((*address, PORT));
            let began = Instant::now();
            let fast = ask(&scene.client, to, plan.clients, None, time)?;
            let rate = fast.answered() as f64 / began.elapsed().as_secs_f64();
            let steady = ask(&scene.client, to, STEADY, Some(plan.rate), time)?;
            // The first round warms up.
            if round > 0 {
                row.connections.push(rate);
                row.p50.push(steady.times.value_at_quantile(0.5) as f64);
                row.p99.push(steady.times.value_at_quantile(0.99) as f64);
                row.failed += fast.failed + steady.failed;
                row.requests += fast.answered() + steady.answered() + fast.failed + steady.failed;
            }
        }
    }
    for row in &rows {
        ensure!(
            row.failed * 100 <= row.requests,
            "{}: {} of {} requests were not answered",
            row.name,
            row.failed,
            row.requests
        );
    }
    Ok(rows)
}

/// What a client saw.
struct Answers {
    /// Microseconds.
    times: Histogram<u64>,
    failed: u64,
}

impl Answers {
    fn new() -> Result<Self> {
        Ok(Self {
            times: Histogram::new_with_bounds(1, LONGEST, 3)?,
            failed: 0,
        })
    }

    fn answered(&self) -> u64 {
        self.times.len()
    }
}

/// Asks by so many threads for some time: at `rate` requests a second together, else
/// each as soon as it is answered. At a rate, a request begins when it was due, so
/// that one that waits behind a slow one is slow itself.
fn ask(
    from: &Namespace,
    to: SocketAddr,
    threads: u32,
    rate: Option<u32>,
    time: Duration,
) -> Result<Answers> {
    let began = Instant::now();
    let interval = rate.map(|rate| Duration::from_secs(1) * threads / rate);
    let parts: Vec<Result<Answers>> = thread::scope(|scope| {
        let asking: Vec<_> = (0..threads)
            .map(|number| {
                let door = from.door();
                scope.spawn(move || {
                    door.enter_thread()?;
                    // Sleeps end when they should, not 50 microseconds later.
                    prctl::set_timerslack(1)?;
                    let mut answers = Answers::new()?;
                    let mut due = began + interval.unwrap_or_default() * number / threads;
                    while due < began + time {
                        let start = match interval {
                            Some(interval) => {
                                thread::sleep(due.saturating_duration_since(Instant::now()));
                                due += interval;
                                due - interval
                            }
                            None => Instant::now(),
                        };
                        match request(to) {
                            Ok(()) => {
                                let micros = start.elapsed().as_micros() as u64;
                                answers.times.saturating_record(micros.max(1));
                            }
                            Err(_) => answers.failed += 1,
                        }
                        if interval.is_none() {
                            due = Instant::now();
                        }
                    }
                    Ok(answers)
                })
            })
            .collect();
        let join = |asking: thread::ScopedJoinHandle<'_, _>| {
            asking
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        asking.into_iter().map(join).collect()
    });
    let mut all = Answers::new()?;
    for part in parts {
        let part = part?;
        all.times.add(&part.times)?;
        all.failed += part.failed;
    }
    Ok(all)
}

/// One request on a connection of its own, from an address and port that come again
/// only after all others.
fn request(to: SocketAddr) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: std::ops::Range<u32> = 2_000..65_000;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let port = PORTS.start + number % PORTS.len() as u32;
    let address: Ipv4Addr = CLIENTS[(number / PORTS.len() as u32) as usize % CLIENTS.len()];
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Also how long connecting may take.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.bind(&SocketAddrV4::new(address, port as u16).into())?;
    socket.connect(&to.into())?;
    let mut socket = std::net::TcpStream::from(socket);
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 1024];
    let mut length = 0;
    loop {
        match socket.read(&mut answer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    ensure!(
        answer[..length].starts_with(b"HTTP/1.1 200 "),
        "not an answer"
    );
    Ok(())
}
