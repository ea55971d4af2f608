//! How long large tables take, in the machine: the real ipvsadm with the kernel's
//! IPVS, and lvx. Both do the same in turn, on one processor whose clock counts
//! instructions and skips idle time, so that a busy host does not show.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lvx_tests::{
    director::{Director, Start, binary},
    lab::{Lab, Namespace},
};

use crate::vm::{self, Clock, Job, Kernel};

/// Servers of a service.
const SERVERS: u32 = 10;

/// Numbers of services, unless others are wanted.
pub const SIZES: [u32; 3] = [100, 1_000, 10_000];

/// What is timed: its name, the words of ipvsadm, and whether the table is its input.
const WORK: [(&str, &str, bool); 5] = [
    ("restore", "-R", true),
    ("list", "-Ln", false),
    ("list with counters", "-Ln --stats", false),
    ("save", "-Sn", false),
    ("clear", "-C", false),
];

/// Boots the machine and measures there; a table in Markdown.
///
/// # Errors
/// When the machine fails, or one of both answers otherwise than it should.
pub fn in_guest(kernel: Kernel, rounds: u32, sizes: &[u32]) -> Result<String> {
    let lvx = binary()?;
    let mut command = vec![
        "/usr/bin/lvx-oracle".to_owned(),
        "guest-times".to_owned(),
        rounds.to_string(),
    ];
    command.extend(sizes.iter().map(u32::to_string));
    let job = Job {
        command,
        files: Vec::new(),
        programs: vec![&lvx],
        modules: &[],
        limit: Duration::from_secs(3600),
        clock: Clock::Virtual,
    };
    let outcome = vm::run(kernel, &job)?;
    let said = outcome.files.get("stdout").cloned().unwrap_or_default();
    ensure!(
        outcome.status == 0,
        "the measurement in the machine failed; its console:\n{}",
        outcome.console
    );
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// In the machine: measures and prints the table.
///
/// # Errors
/// When a command fails or a table is not the one that was asked for.
pub fn guest(rounds: u32, sizes: &[u32]) -> Result<()> {
    let mut out = String::from(
        "| services | | real ipvsadm, ms | lvx, ms | lvx / real |\n| ---: | --- | ---: | ---: | ---: |\n",
    );
    for services in sizes {
        for (work, [real, lvx]) in measure(*services, rounds)? {
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            // A string takes every write.
            let _ = writeln!(
                out,
                "| {services} | {work} | {:.1} | {:.1} | **{:.2}** |",
                ms(real),
                ms(lvx),
                ms(lvx) / ms(real)
            );
        }
    }
    print!("{out}");
    Ok(())
}

/// Medians of each work, of the real one and of lvx.
fn measure(services: u32, rounds: u32) -> Result<Vec<(&'static str, [Duration; 2])>> {
    let lab = Lab::new()?;
    let real = lab.namespace("real")?;
    let inside = lab.namespace("lvx")?;
    let outside = lab.namespace("outside")?;
    // Every server is behind a gateway that is known: nobody waits for it.
    outside.ip(&format!(
        "link add out type veth peer name eth0 netns {}\nlink set out up",
        inside.name()
    ))?;
    inside.ip("link set eth0 up\n\
         addr add 10.99.0.1/24 dev eth0\n\
         neigh replace 10.99.0.254 lladdr 02:00:00:00:00:fe dev eth0 nud permanent\n\
         route add default via 10.99.0.254")?;
    let start = Start::default().room(2 * services, 3 * SERVERS * services);
    let director = Director::start_with(&inside, start)?;
    let text = table(services);
    let path = lab.dir().join("rules");
    fs::write(&path, &text)?;
    let mut times = vec![[Vec::new(), Vec::new()]; WORK.len()];
    for _ in 0..rounds {
        for (kind, (name, words, fed)) in WORK.iter().enumerate() {
            for (side, times) in times[kind].iter_mut().enumerate() {
                let command = if side == 0 {
                    real_command(&real)
                } else {
                    director.command(&["ipvsadm"])
                };
                let input = if *fed { Some(path.as_path()) } else { None };
                let output = lab.dir().join("answer");
                let took = run(command, words, input, &output)
                    .with_context(|| format!("{name}, {services} services"))?;
                times.push(took);
                if *words == "-Sn" {
                    let saved = fs::read_to_string(&output)?;
                    ensure!(sorted(&saved) == sorted(&text), "another table is saved");
                }
            }
        }
    }
    let medians = WORK.iter().zip(times).map(|((name, ..), sides)| {
        let middle = |mut all: Vec<Duration>| {
            all.sort_unstable();
            all[all.len() / 2]
        };
        (*name, sides.map(middle))
    });
    Ok(medians.collect())
}

fn real_command(ns: &Namespace) -> Command {
    ns.command("/usr/sbin/ipvsadm")
}

/// Runs a command to its end; how long it took.
fn run(mut command: Command, words: &str, input: Option<&Path>, output: &Path) -> Result<Duration> {
    let input = match input {
        Some(path) => Stdio::from(File::open(path)?),
        None => Stdio::null(),
    };
    command
        .args(words.split(' '))
        .stdin(input)
        .stdout(File::create(output)?);
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed();
    if !status.success() {
        bail!("ipvsadm {words}: {status}");
    }
    Ok(took)
}

/// A saved table. Services share servers, of which there are as many as services.
fn table(services: u32) -> String {
    let mut text = String::new();
    for service in 0..services {
        let vip = format!("10.1.{}.{}:80", service / 200, 1 + service % 200);
        let _ = writeln!(text, "-A -t {vip} -s wlc");
        for server in 0..SERVERS {
            let server = (service + server * 7) % services;
            let address = format!("192.168.{}.{}", 1 + server / 200, 1 + server % 200);
            let _ = writeln!(text, "-a -t {vip} -r {address}:80 -g -w {}", 1 + server % 9);
        }
    }
    text
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}
