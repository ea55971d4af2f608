//! An HTTP client that counts, and requests at a steady rate.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    ops::Range,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::lab::{Door, Namespace, run, tool};

/// Opens a connection from a port that no connection of this process has used.
/// Ports chosen by the kernel come again within a few hundred connections, and a
/// SYN from a known port belongs to the old connection: no new one is counted.
fn connect(to: SocketAddr, limit: Duration) -> Result<TcpStream> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: Range<u32> = 5_000..65_000;
    let port = PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u32;
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    socket
        .bind(&SocketAddr::new(any, port as u16).into())
        .with_context(|| format!("cannot use port {port}"))?;
    socket
        .connect_timeout(&to.into(), limit)
        .context("cannot connect")?;
    Ok(socket.into())
}

/// One request on a connection of its own, and its body without the line feed.
/// `limit` holds for connecting and for each read.
///
/// # Errors
/// When anything but a status 200 comes back in time.
pub fn get(to: impl Into<SocketAddr>, limit: Duration) -> Result<String> {
    let to = to.into();
    let mut stream = connect(to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream
        .write_all(format!("GET / HTTP/1.0\r\nHost: {to}\r\n\r\n").as_bytes())
        .context("cannot send")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("cannot read")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of header")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status == "200", "the server answered {status:?}");
    Ok(body.trim_end().to_owned())
}

/// A connection that is kept open between requests.
#[derive(Debug)]
pub struct KeptOpen {
    stream: TcpStream,
    to: SocketAddr,
}

impl KeptOpen {
    /// Connects from a namespace.
    ///
    /// # Errors
    /// When nobody answers within `limit`, which also holds for each request.
    pub fn open(from: &Namespace, to: impl Into<SocketAddr>, limit: Duration) -> Result<Self> {
        let to = to.into();
        let stream = from.enter(|| connect(to, limit))?;
        stream.set_read_timeout(Some(limit))?;
        Ok(Self { stream, to })
    }

    /// One request; the body without the line feed.
    ///
    /// # Errors
    /// When the connection is broken or the answer is not 200.
    pub fn get(&mut self) -> Result<String> {
        self.stream
            .write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.to).as_bytes())?;
        let mut answer = Vec::new();
        let mut part = [0; 1024];
        loop {
            let read = self
                .stream
                .read(&mut part)
                .context("the open connection gave no answer")?;
            ensure!(read > 0, "the server closed the connection");
            answer.extend_from_slice(&part[..read]);
            // The lab's pages are one short line.
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.ends_with('\n')
            {
                ensure!(head.contains(" 200 "), "the server answered {head:?}");
                return Ok(body.trim_end().to_owned());
            }
        }
    }
}

/// One request by the real curl.
///
/// # Errors
/// When curl is missing or fails; its message is in the error.
pub fn curl(from: &Namespace, url: &str) -> Result<String> {
    let program: PathBuf = tool("curl");
    let mut command: Command = from.command(program);
    command.args([
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "*",
        "--max-time",
        "5",
        url,
    ]);
    Ok(String::from_utf8_lossy(&run(&mut command)?.stdout)
        .trim_end()
        .to_owned())
}

/// What many requests came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers by body, which is the server's name.
    pub answers: BTreeMap<String, u64>,
    /// Why requests failed, each with the time since the start.
    pub failures: Vec<String>,
    /// The slowest request.
    pub slowest: Duration,
}

impl Tally {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.failures.len() as u64
    }

    fn add(&mut self, answer: Result<String>, started: Instant, asked: Instant) {
        self.slowest = self.slowest.max(asked.elapsed());
        match answer {
            Ok(body) => *self.answers.entry(body).or_default() += 1,
            Err(error) => self.failures.push(format!(
                "after {:.3} s: {error:#}",
                (asked - started).as_secs_f64()
            )),
        }
    }

    fn merge(&mut self, other: Self) {
        for (body, count) in other.answers {
            *self.answers.entry(body).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// `requests` requests one after the other from a namespace; the bodies in order.
///
/// # Errors
/// The first request that fails ends it.
pub fn sequence(
    from: &Namespace,
    to: impl Into<SocketAddr>,
    requests: usize,
) -> Result<Vec<String>> {
    let to = to.into();
    from.enter(|| {
        (1..=requests)
            .map(|number| {
                get(to, Duration::from_secs(5)).with_context(|| format!("request {number}"))
            })
            .collect()
    })
}

/// `requests` requests by `workers` threads, as fast as they come back.
pub fn volume(from: &Namespace, to: impl Into<SocketAddr>, requests: u64, workers: u64) -> Tally {
    let to = to.into();
    let mut tally = Tally::default();
    let started = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let door = from.door();
                let share = requests / workers + u64::from(worker < requests % workers);
                scope.spawn(move || {
                    door.enter_thread()
                        .expect("the namespace was made by this process");
                    let mut tally = Tally::default();
                    for _ in 0..share {
                        let asked = Instant::now();
                        tally.add(get(to, Duration::from_secs(5)), started, asked);
                    }
                    tally
                })
            })
            .collect();
        for thread in threads {
            tally.merge(
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
    });
    tally
}

/// Requests at a steady rate in the background, until told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Tally>>,
}

impl Load {
    const WORKERS: u32 = 4;

    /// Starts about `rate` requests a second, each on a new connection that may
    /// take `limit` to open and to answer.
    pub fn start(from: &Namespace, to: impl Into<SocketAddr>, rate: u32, limit: Duration) -> Self {
        let to = to.into();
        let stop = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs(1) * Self::WORKERS / rate;
        let started = Instant::now();
        let workers = (0..Self::WORKERS)
            .map(|worker| {
                let door: Door = from.door();
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    door.enter_thread()
                        .expect("the namespace was made by this process");
                    let mut tally = Tally::default();
                    let mut next = started + interval * worker / Self::WORKERS;
                    while !stop.load(Ordering::Relaxed) {
                        thread::sleep(next.saturating_duration_since(Instant::now()));
                        next += interval;
                        let asked = Instant::now();
                        tally.add(get(to, limit), started, asked);
                    }
                    tally
                })
            })
            .collect();
        Self { stop, workers }
    }

    /// Lets the requests on their way finish and returns the count.
    pub fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for worker in self.workers.drain(..) {
            tally.merge(
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        tally
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// Waits until a request from the namespace is answered.
///
/// # Errors
/// After `limit`, with the last failure.
pub fn wait_for_answer(
    from: &Namespace,
    to: impl Into<SocketAddr>,
    limit: Duration,
) -> Result<String> {
    let to = to.into();
    let end = Instant::now() + limit;
    loop {
        match from.enter(|| get(to, Duration::from_millis(300))) {
            Ok(body) => return Ok(body),
            Err(error) if Instant::now() > end => {
                bail!("no answer from {to} within {limit:?}: {error:#}")
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
