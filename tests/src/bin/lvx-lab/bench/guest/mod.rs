//! `lvx-lab bench guest`: instructions a packet, in the virtual machine, whose clock
//! counts them: there, a nanosecond of processor time is an instruction.

mod director;
mod ways;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use serde::Serialize;

use self::{
    director::{Engine, Share, Stage},
    ways::{Amount, WAYS, Way},
};
use super::{
    cases::{self, Case},
    measure::{self, Net, Plan, Point, Row},
    report::drawn,
    stand::Stand,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fewer packets: less exact
    #[arg(long)]
    quick: bool,
    /// Only paths with this in their name [may be given several times]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write the figures to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print tables as Markdown has them
    #[arg(long)]
    markdown: bool,
}

/// The paths through the program that are measured here, and the most instructions
/// net that one may take.
const PROGRAMS: [(&str, Option<f64>); 10] = [
    ("DR", Some(350.0)),
    ("DR, UDP", Some(350.0)),
    ("TUN, IPIP", Some(420.0)),
    ("NAT, to the server", Some(480.0)),
    ("NAT, to the client", Some(480.0)),
    ("FULLNAT", None),
    ("DR, IPv6", None),
    ("new, rr", None),
    ("new, rr, NAT", None),
    ("not for a service", None),
];

/// Flows that the programs' packets are spread over: columns.
const FLOWS: [u32; 2] = [1, 1 << 14];

/// All figures, as `--json` writes them.
#[derive(Serialize)]
struct Figures {
    kernel: String,
    /// Net of an empty program; nanoseconds are instructions.
    programs: Vec<Row>,
    /// The director's share.
    director: Vec<Shared>,
    /// The director's share when an XDP program sends every packet back.
    driver: Option<Share>,
}

#[derive(Serialize)]
struct Shared {
    name: &'static str,
    kernel: Share,
    lvx: Share,
    /// Of lvx's to the kernel's, at most.
    target: Option<f64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |name: &str| {
        let only = &arguments.only;
        only.is_empty() || only.iter().any(|part| name.contains(part))
    };
    let quick = arguments.quick;
    let cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| budget(&case.name).is_some() && wanted(&case.name))
        .collect();
    let ways: Vec<Way> = WAYS.into_iter().filter(|way| wanted(way.name)).collect();
    ensure!(
        !cases.is_empty() || !ways.is_empty(),
        "no path is called so"
    );
    // All of the programs' tables have room for as many: it takes long to load them.
    let most = FLOWS[FLOWS.len() - 1];
    let mut stands = vec![(most, measure::empty_stand(most)?)];
    let (director, driver) = shares(&mut stands[0].1, &ways, quick)?;
    let figures = Figures {
        kernel: nix::sys::utsname::uname()?
            .release()
            .to_string_lossy()
            .into_owned(),
        programs: programs(&mut stands, &cases, quick)?,
        director,
        driver,
    };
    figures.print(arguments.markdown);
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_vec_pretty(&figures)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What the path of that name may take; `None` when it is not measured here.
fn budget(name: &str) -> Option<Option<f64>> {
    let found = PROGRAMS.iter().find(|(path, _)| *path == name);
    found.map(|(_, budget)| *budget)
}

fn programs(stands: &mut Vec<(u32, Stand)>, cases: &[Case], quick: bool) -> Result<Vec<Row>> {
    let plan = Plan {
        rounds: 2,
        packets: if quick { 4_000 } else { 20_000 },
        connections: if quick { 1_000 } else { 4_000 },
        flows: FLOWS.to_vec(),
    };
    let mut row = |case: &Case| {
        eprintln!("measuring {}", case.name);
        measure::row(stands, case, &plan)
    };
    let rows = cases
        .iter()
        .map(|case| row(case).with_context(|| format!("cannot measure {}", case.name)));
    rows.collect()
}

fn shares(stand: &mut Stand, ways: &[Way], quick: bool) -> Result<(Vec<Shared>, Option<Share>)> {
    if ways.is_empty() {
        return Ok((Vec::new(), None));
    }
    let (flows, times, new) = if quick {
        (256, 8, 512)
    } else {
        (1024, 32, 2048)
    };
    let amount = Amount { flows, times, new };
    let stage = Stage::new()?;
    let kernel = stage.shares(stand, Engine::Kernel, ways, amount)?;
    let driver = stage.driver(stand, amount)?;
    let lvx = stage.shares(stand, Engine::Lvx, ways, amount)?;
    let both = ways.iter().zip(kernel.into_iter().zip(lvx));
    let rows = both.map(|(way, (kernel, lvx))| Shared {
        name: way.name,
        kernel,
        lvx,
        target: way.target,
    });
    Ok((rows.collect(), Some(driver)))
}

impl Figures {
    fn print(&self, markdown: bool) {
        println!(
            "Linux {} in the virtual machine, instructions a packet.",
            self.kernel
        );
        if let Some(driver) = self.driver {
            println!("\nThe director's share, from its driver to its driver:");
            let rows = self.director.iter().map(|row| {
                let (kernel, lvx) = (mean(row.kernel), mean(row.lvx));
                [
                    row.name.to_owned(),
                    format!("{kernel:.0}"),
                    format!("{lvx:.0}"),
                    format!("{:.2}", lvx / kernel),
                    shown(row.target),
                ]
            });
            let heading = ["path", "kernel", "lvx", "lvx / kernel", "target"];
            println!("{}", table(heading, rows, markdown));
            let shares = self.director.iter().flat_map(|row| [row.kernel, row.lvx]);
            println!(
                "An XDP program that sends every packet back, the driver alone: {:.0}. Two rounds \
                 differ by at most {:.1} %.",
                mean(driver),
                100.0 * spread(shares.chain([driver]))
            );
        }
        let Some(first) = self.programs.first() else {
            return;
        };
        println!("\nThe programs alone, net of an empty one:");
        let floors = [
            cells("F0", first, |point| point.tx, None),
            cells("F1", first, |point| point.floor, None),
            cells("F2", first, |point| point.hash_floor, None),
        ];
        let paths = self.programs.iter().map(|row| {
            let target = budget(&row.name).flatten();
            cells(&row.name, row, |point| point.lvx, target)
        });
        let heading = ["path", "1 flow", "16,384 flows", "target"];
        println!(
            "{}",
            table(heading, floors.into_iter().chain(paths), markdown)
        );
    }
}

/// A row of the programs' table.
fn cells(name: &str, row: &Row, net: fn(&Point) -> Net, target: Option<f64>) -> [String; 4] {
    let [one, many] = FLOWS.map(|flows| {
        let point = row.points.iter().find(|point| point.flows == flows);
        point.map_or_else(String::new, |point| format!("{:.0}", net(point).least))
    });
    [name.to_owned(), one, many, shown(target)]
}

fn table<const N: usize>(
    heading: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    markdown: bool,
) -> String {
    let mut table = Table::new();
    table.set_header(heading).add_rows(rows);
    drawn(table, markdown)
}

fn shown(target: Option<f64>) -> String {
    target.map_or_else(String::new, |target| format!("≤ {target}"))
}

fn mean([one, other]: Share) -> f64 {
    (one + other) / 2.0
}

/// The largest difference of two rounds, as a part of the smaller.
fn spread(shares: impl Iterator<Item = Share>) -> f64 {
    shares
        .map(|[one, other]| one.max(other) / one.min(other) - 1.0)
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_one_that_the_bench_has() {
        let cases = cases::all();
        for (name, _) in PROGRAMS {
            assert!(cases.iter().any(|case| case.name == name), "{name}");
        }
    }

    #[test]
    fn the_spread_is_that_of_the_worst_row() {
        let worst = spread([[100.0, 101.0], [220.0, 200.0]].into_iter());
        assert!((worst - 0.1).abs() < 1e-9, "{worst}");
    }
}
