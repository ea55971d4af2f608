//! `lvx-lab bench scale`: what large tables take, and what a second CPU gives.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use lb_common::{
    flow::{cells_for, total_cells},
    reason::Reason,
};
use lb_userspace::dataplane::{Sizes, pinned_maps, rule_words};
use lvx_tests::{
    director::{Director, Start},
    kernel::bpffs::Bpffs,
    lab::run as run_command,
    listing::saved_table,
};
use serde::Serialize;

use super::{
    cases::{self, Case, grouped},
    forwarding::{
        flood::{self, Scenes},
        scene::{Scene, Steering},
    },
    measure::median,
    pin,
    report::{Machine, drawn},
    stand::{Packets, Stand, Subject},
};
use crate::stop::Signals;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The smallest table alone, and fewer rounds
    #[arg(long)]
    quick: bool,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print tables as Markdown has them
    #[arg(long)]
    markdown: bool,
}

/// Connections of the tables that are filled.
const FILLS: [u32; 3] = [1 << 20, 1 << 22, 1 << 24];
/// A table that costs next to nothing.
const SMALL: u32 = 1 << 12;
const SERVICES: u32 = 10_000;
const SERVERS: u32 = 10;

/// A table, filled to the number of connections that it promises.
#[derive(Serialize)]
struct Fill {
    connections: u32,
    /// Bytes that the kernel accounts for the flow table, for each connection.
    accounted: f64,
    /// Bytes by which the kernel's own memory grew, for each connection.
    measured: f64,
    seconds: f64,
    /// The sweep's share of one CPU, table full.
    sweep: f64,
    /// Cells that the sweep looked at each second.
    cells_a_second: f64,
}

#[derive(Serialize)]
struct Daemon {
    services: u32,
    servers: u32,
    restore_seconds: f64,
    /// KiB resident before.
    empty: u64,
    /// KiB resident after, the tables that are mapped into its memory included.
    resident: u64,
    /// KiB of it that are the daemon's own.
    own: u64,
    /// KiB resident at most.
    most: u64,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    /// The sweep's share of one CPU, table empty.
    idle_sweep: f64,
    fills: Vec<Fill>,
    /// Tables for which there was too little memory.
    too_large: Vec<u32>,
    one_cpu: Vec<flood::Row>,
    all_cpus: Vec<flood::Row>,
    daemon: Daemon,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let signals = Signals::catch()?;
    let cpus = thread::available_parallelism()?.get();
    let (one_cpu, all_cpus) = queues(cpus, arguments.quick, &signals)?;
    signals.check()?;
    eprintln!("{SERVICES} services");
    let daemon = daemon()?;

    // From here on only this thread works, and the programs that it runs.
    pin(cpus - 1)?;
    let case = cases::all()
        .into_iter()
        .find(|case| case.name == "DR, UDP")
        .context("no path is called DR, UDP")?;
    let bpffs = Bpffs::new()?;
    let small = load(&bpffs, &case, SMALL)?;
    let mut stand = Stand::load(&small)?;
    let watch = Duration::from_secs(if arguments.quick { 1 } else { 3 });
    let (idle_sweep, _) = sweep(&small, watch)?;
    let (mut fills, mut too_large) = (Vec::new(), Vec::new());
    for connections in FILLS {
        if arguments.quick && connections > FILLS[0] {
            break;
        }
        signals.check()?;
        // A connection takes about 150 bytes, and others need memory, too.
        if memory("MemAvailable")? < u64::from(connections) * 200 {
            too_large.push(connections);
            continue;
        }
        eprintln!("{connections} connections");
        fills.push(fill(&mut stand, &case, connections, watch)?);
    }
    let report = Report {
        machine: Machine::here(cpus, cpus - 1)?,
        idle_sweep,
        fills,
        too_large,
        one_cpu,
        all_cpus,
        daemon,
    };
    report.print(arguments.markdown);
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn load(bpffs: &Bpffs, case: &Case, connections: u32) -> Result<Subject> {
    let sizes = Sizes {
        connections,
        connections6: SMALL,
        services: 16,
        dests: 64,
        mh_services: 16,
        rule_words: rule_words(1),
    };
    Subject::load(&bpffs.pins(), sizes, &case.services, &case.rules)
}

/// Makes a table and fills it.
fn fill(stand: &mut Stand, case: &Case, connections: u32, watch: Duration) -> Result<Fill> {
    let bpffs = Bpffs::new()?;
    let before = memory("VmallocUsed")?;
    let mut subject = load(&bpffs, case, connections)?;
    let grown = memory("VmallocUsed")?.saturating_sub(before);
    let flows = |name: &str| name == "FLOW4" || name == "BLOCKS4";
    let maps = pinned_maps(&bpffs.pins())?;
    let accounted: u64 = maps
        .iter()
        .filter(|map| flows(&map.name))
        .map(|map| map.bytes)
        .sum();
    let others: u64 = maps
        .iter()
        .filter(|map| !flows(&map.name))
        .map(|map| map.bytes)
        .sum();

    stand.call(&subject)?;
    let packets = Packets {
        frame: &case.frame,
        grows: false,
        first: 0,
        flows: connections,
        scrambled: false,
        count: connections,
    };
    let time = subject.run(stand, packets, Reason::ForwardedTx)?;
    subject.check(Reason::ForwardedTx)?;
    let made = subject.connections()?;
    ensure!(
        made == u64::from(connections),
        "{made} of {connections} connections were made"
    );
    // Only after a pass the sweep knows how many blocks it has to look at.
    let cells = total_cells(cells_for(connections));
    let limit = Instant::now() + Duration::from_secs(30);
    while subject.sweep()?.visited < u64::from(cells) && Instant::now() < limit {
        thread::sleep(Duration::from_millis(100));
    }
    let (share, cells_a_second) = sweep(&subject, watch)?;
    let each = |bytes: u64| bytes as f64 / f64::from(connections);
    Ok(Fill {
        connections,
        accounted: each(accounted),
        measured: each(grown.saturating_sub(others)),
        seconds: time.as_secs_f64(),
        sweep: share,
        cells_a_second,
    })
}

/// The sweep's share of one CPU, and cells that it looks at each second.
fn sweep(subject: &Subject, time: Duration) -> Result<(f64, f64)> {
    let before = subject.sweep()?;
    let began = Instant::now();
    thread::sleep(time);
    let after = subject.sweep()?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(after.runs > before.runs, "the sweep does not run");
    Ok((
        (after.busy - before.busy) as f64 / 1e9 / seconds,
        (after.visited - before.visited) as f64 / seconds,
    ))
}

/// A line of `/proc/meminfo`, in bytes.
fn memory(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = kib(&text, name).with_context(|| format!("/proc/meminfo has no {name}"))?;
    Ok(kib * 1024)
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Packets through the director on one CPU, and on all at once.
fn queues(
    cpus: usize,
    quick: bool,
    signals: &Signals,
) -> Result<(Vec<flood::Row>, Vec<flood::Row>)> {
    eprintln!("one CPU, and {cpus}");
    let plan = flood::Plan {
        rounds: if quick { 3 } else { 11 },
        packets: if quick { 200_000 } else { 400_000 },
        flows: 1 << 14,
    };
    let wanted = |name: &str| [flood::REDIRECT, flood::DIRECT, flood::NAT].contains(&name);
    let every: Vec<usize> = (0..cpus).collect();
    let scenes = Scenes::new()?;
    let mut rows = flood::measure(&scenes, plan, &[&[cpus - 1], &every], wanted, signals)?;
    let all = rows.pop().unwrap_or_default();
    Ok((rows.pop().unwrap_or_default(), all))
}

/// The daemon's memory with many services.
fn daemon() -> Result<Daemon> {
    let scene = Scene::new(Steering::Stay)?;
    let start = Start::default().room(2 * SERVICES, 3 * SERVERS * SERVICES);
    let director = Director::start_with(&scene.director, start)?;
    let pid = director.pid().context("the daemon has ended")?;
    let status = || fs::read_to_string(format!("/proc/{pid}/status"));
    let of = |text: &str, name| kib(text, name).with_context(|| format!("no {name} of the daemon"));
    let empty = of(&status()?, "VmRSS")?;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), saved_table(SERVICES, SERVERS))?;
    let mut restore = director.command(&["ipvsadm", "-R"]);
    restore.stdin(Stdio::from(File::open(file.path())?));
    let began = Instant::now();
    run_command(&mut restore)?;
    let restore_seconds = began.elapsed().as_secs_f64();
    // It goes on to tend neighbours and to give memory back.
    thread::sleep(Duration::from_secs(2));
    let after = status()?;
    Ok(Daemon {
        services: SERVICES,
        servers: SERVERS,
        restore_seconds,
        empty,
        resident: of(&after, "VmRSS")?,
        own: of(&after, "RssAnon")?,
        most: of(&after, "VmHWM")?,
    })
}

impl Report {
    fn print(&self, markdown: bool) {
        println!("{}.\n", self.machine);
        println!(
            "Tables filled to what they promise, UDP by direct routing; time of one CPU, packets made included. The sweep of an empty table takes {:.3} % of a CPU.",
            self.idle_sweep * 100.0
        );
        let mut table = Table::new();
        table.set_header([
            "connections",
            "bytes each, accounted",
            "bytes each, measured",
            "filled in s",
            "ns each",
            "sweep, % of a CPU",
            "million cells/s",
        ]);
        for fill in &self.fills {
            table.add_row([
                grouped(fill.connections),
                format!("{:.1}", fill.accounted),
                format!("{:.1}", fill.measured),
                format!("{:.2}", fill.seconds),
                format!("{:.0}", fill.seconds * 1e9 / f64::from(fill.connections)),
                format!("{:.2}", fill.sweep * 100.0),
                format!("{:.2}", fill.cells_a_second / 1e6),
            ]);
        }
        println!("{}", drawn(table, markdown));
        for connections in &self.too_large {
            println!("There is too little memory for {}.", grouped(*connections));
        }

        println!(
            "\nPackets through the director on one CPU and on {}, each with a queue and flows of its own; least, and the median of the ratios.",
            self.machine.cpus()
        );
        let mut table = Table::new();
        table.set_header(["way", "million/s, one", "million/s, all", "all / one"]);
        for (one, all) in self.one_cpu.iter().zip(&self.all_cpus) {
            let ratios = one.nanos.iter().zip(&all.nanos).map(|(one, all)| one / all);
            table.add_row([
                one.name.to_owned(),
                format!("{:.2}", 1e3 / one.least()),
                format!("{:.2}", 1e3 / all.least()),
                format!(
                    "{:.2} ({:.2})",
                    one.least() / all.least(),
                    median(ratios.collect())
                ),
            ]);
        }
        println!("{}", drawn(table, markdown));

        let daemon = &self.daemon;
        let mib = |kib: u64| kib as f64 / 1024.0;
        println!(
            "\nThe daemon with {} services of {} servers, restored in {:.1} s: {:.0} MiB resident, {:.0} of them its own and the others mapped tables ({:.0} before, {:.0} at most).",
            grouped(daemon.services),
            daemon.servers,
            daemon.restore_seconds,
            mib(daemon.resident),
            mib(daemon.own),
            mib(daemon.empty),
            mib(daemon.most)
        );
    }
}
