//! `lvx capture`: tcpdump in front of netfilter and behind lvx.

use std::{
    fs,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args as ClapArgs;
use nix::{
    net::if_::{if_indextoname, if_nametoindex},
    time::{ClockId, clock_gettime},
};
use tokio::{
    io::{AsyncReadExt as _, Interest, unix::AsyncFd},
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::{
    capture::{File, filter, line},
    daemon::{client::Client, files::Files},
    dataplane::Capture,
};

/// Arguments of `lvx capture`.
#[derive(ClapArgs)]
#[command(after_help = "\
FILTER, all of whose conditions must hold ('and' may stand between them):
  host ADDRESS, net ADDRESS/LENGTH, port N      of either end
  ip, ip6, tcp, udp, sctp, icmp, icmp6
  forwarded, passed, dropped                    one of those that are named
  reason NAME                                   as 'lvx status' names them

A packet is shown as it came, with the reason for which it ended as it did, and as
lvx sent it on. Packets are copied only while this runs.")]
pub(super) struct Args {
    /// Write a pcapng file ('-': standard output) instead of lines
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Only packets that came in by this interface
    #[arg(short, long, value_name = "NAME")]
    interface: Option<String>,
    /// Keep so many bytes of a packet
    #[arg(short, long, value_name = "BYTES", default_value_t = 2048,
          value_parser = clap::value_parser!(u32).range(64..=2048))]
    snaplen: u32,
    /// Which packets
    filter: Vec<String>,
}

/// How long nothing may come of what is captured before it is written out.
const FLUSH: Duration = Duration::from_millis(200);

pub(super) fn main(args: &Args) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "permission denied: capturing needs root"
    );
    let mut wanted = filter(&args.filter)?;
    wanted.snap = args.snaplen;
    if let Some(name) = &args.interface {
        wanted.ingress = if_nametoindex(name.as_str())
            .with_context(|| format!("there is no interface {name}"))?;
    }
    let output = Output::new(args)?;
    let files = Files::here()?;
    let mut capture = Capture::load(files.pins(), &wanted)?;
    let daemon = Client::default().capture(capture.facts().id)?;
    capture.handed_over();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(args, capture, daemon, output))
}

/// Where frames go.
enum Output {
    Lines(io::BufWriter<io::Stdout>),
    File(Box<File<io::BufWriter<Box<dyn Write>>>>),
}

impl Output {
    fn new(args: &Args) -> Result<Self> {
        let Some(path) = &args.write else {
            return Ok(Self::Lines(io::BufWriter::new(io::stdout())));
        };
        let to: Box<dyn Write> = if path.as_os_str() == "-" {
            ensure!(
                !io::stdout().is_terminal(),
                "-w - writes a pcapng file to standard output: not to a terminal"
            );
            Box::new(io::stdout())
        } else {
            let file = fs::File::create(path);
            Box::new(file.with_context(|| format!("cannot write {}", path.display()))?)
        };
        Ok(Self::File(Box::new(File::new(io::BufWriter::new(to))?)))
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Lines(lines) => lines.flush(),
            Self::File(file) => file.inner().flush(),
        }
    }
}

async fn run(
    args: &Args,
    capture: Capture,
    daemon: std::os::unix::net::UnixStream,
    mut output: Output,
) -> Result<()> {
    daemon.set_nonblocking(true)?;
    let mut daemon = UnixStream::from_std(daemon)?;
    // SAFETY: the capture keeps its ring's descriptor until it is dropped.
    let mut frames = unsafe { AsyncFd::register_with_interest(capture, Interest::READABLE)? };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let end = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let offset = epoch_of_the_clock()?;
    eprintln!("capturing; Ctrl-C ends it");
    let mut packets = 0;
    let mut gone = [0];
    loop {
        tokio::select! {
            ready = frames.readable_mut() => {
                let mut ready = ready?;
                let capture = ready.get_inner_mut();
                match drain(capture, &mut output, args.count, &mut packets, offset) {
                    Ok(false) => {}
                    Ok(true) => break,
                    // Who read our lines has gone away: 'lvx capture | head'.
                    Err(error) if is_broken_pipe(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
                ready.clear_ready();
            }
            // Nothing of what is captured waits in a buffer for long.
            () = tokio::time::sleep(FLUSH) => match output.flush() {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                flushed => flushed?,
            },
            _ = daemon.read(&mut gone) => {
                output.flush()?;
                anyhow::bail!("the daemon went away, and with it the capture");
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = until(end) => break,
        }
    }
    output.flush()?;
    let lost = frames.get_ref().lost()?;
    eprintln!("{packets} packets captured, {lost} frames lost for want of room");
    Ok(())
}

/// Writes what is there; whether that was all that is wanted.
fn drain(
    capture: &mut Capture,
    output: &mut Output,
    most: Option<u64>,
    packets: &mut u64,
    offset: u64,
) -> Result<bool> {
    let mut result = Ok(false);
    loop {
        let more = capture.next(|head, bytes| {
            let since_epoch = head.time.wrapping_add(offset);
            if head.after == 0 {
                // How the last one left still belongs to it.
                if most == Some(*packets) {
                    result = Ok(true);
                    return;
                }
                *packets += 1;
            }
            let written = match output {
                Output::Lines(lines) => {
                    writeln!(lines, "{}", line(head, bytes, since_epoch, name)).map_err(Into::into)
                }
                Output::File(file) => file.write(head, bytes, since_epoch, name),
            };
            if let Err(error) = written {
                result = Err(error);
            } else if most == Some(*packets) && (head.after != 0 || !leaves(head.reason)) {
                result = Ok(true);
            }
        });
        if !more || !matches!(result, Ok(false)) {
            return result;
        }
    }
}

/// Whether a packet that ended for this reason is shown a second time.
fn leaves(reason: u32) -> bool {
    use lb_common::reason::{Class, Reason};
    Reason::class_of(reason) == Class::Forwarded || reason == Reason::PassedLocalServer as u32
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Name of an interface, or its number when it has gone.
fn name(index: u32) -> String {
    match if_indextoname(index) {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => index.to_string(),
    }
}

/// What is added to the kernel's clock to have nanoseconds since 1970.
fn epoch_of_the_clock() -> Result<u64> {
    let nanos = |clock| -> Result<u64> {
        let time = clock_gettime(clock)?;
        Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    };
    Ok(nanos(ClockId::CLOCK_REALTIME)?.wrapping_sub(nanos(ClockId::CLOCK_MONOTONIC)?))
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
