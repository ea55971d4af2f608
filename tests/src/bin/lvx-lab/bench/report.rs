//! The figures as tables and as JSON.

use std::fs;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use super::{
    cases::{Case, Kind, grouped},
    measure::{Net, Plan, Point, Row},
};

/// Everything that was measured, and where.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    kernel: String,
    processor: String,
    cpus: usize,
    measured_on_cpu: usize,
    plan: Plan,
    rows: Vec<Row>,
}

impl Report {
    /// The figures with this machine's description.
    pub(super) fn new(cpus: usize, cpu: usize, plan: Plan, rows: Vec<Row>) -> Result<Self> {
        let uname = nix::sys::utsname::uname()?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        Ok(Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            processor: model.to_owned(),
            cpus,
            measured_on_cpu: cpu,
            plan,
            rows,
        })
    }

    /// What was measured.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Shows the floors and the paths, which were measured in the order of `cases`.
    pub(super) fn print(&self, cases: &[Case], markdown: bool) {
        println!(
            "{}, {} CPUs, Linux {}; on CPU {}, {} rounds of {} packets (new: {}) for each program, in turns.",
            self.processor,
            self.cpus,
            self.kernel,
            self.measured_on_cpu,
            self.plan.rounds,
            self.plan.packets,
            self.plan.connections,
        );
        println!("Nanoseconds are this machine's, net of an empty program: least (median).\n");
        self.print_floors(markdown);
        println!("\nThe whole program: nanoseconds, and the ratio to F1 in the same rounds:");
        let mut table = Table::new();
        let flows = self.plan.flows.iter().map(|flows| grouped(*flows));
        let heading = flows.map(|flows| format!("{flows} flows"));
        table.set_header(["path".to_owned()].into_iter().chain(heading));
        for (row, case) in self.rows.iter().zip(cases) {
            let cell = |flows: &u32| {
                let point = row.points.iter().find(|point| point.flows == *flows);
                point.map_or_else(String::new, |point| self.cell(case, point))
            };
            let cells = self.plan.flows.iter().map(cell);
            table.add_row([row.name.clone()].into_iter().chain(cells));
        }
        println!("{}", drawn(table, markdown));
        println!("A target that was missed is shown behind \">\".");
    }

    /// The floors, as measured with the first path that has all columns.
    fn print_floors(&self, markdown: bool) {
        println!("Floors: F0 returns XDP_TX; F1 parses, looks a flow up, counts, writes MAC");
        println!("addresses; F2 is F1 with a BPF_MAP_TYPE_HASH; \"line\" is F1 with one load.");
        let Some(row) = self.rows.iter().max_by_key(|row| row.points.len()) else {
            return;
        };
        let mut table = Table::new();
        table.set_header(["flows", "F0 ns", "F1 ns", "F2 ns", "F1 / F2", "line ns"]);
        for point in &row.points {
            table.add_row([
                grouped(point.flows),
                shown(point.tx),
                shown(point.floor),
                shown(point.hash_floor),
                ratio(point.floor, point.hash_floor),
                shown(point.line),
            ]);
        }
        println!("{}", drawn(table, markdown));
    }

    fn cell(&self, case: &Case, point: &Point) -> String {
        let most = self.plan.flows.iter().copied().filter(|&it| it <= 1 << 20);
        let target = if point.flows == 1 {
            case.target.one
        } else if Some(point.flows) == most.max() {
            case.target.many
        } else {
            None
        };
        let reached = point.lvx.least / point.floor.least;
        let missed = match target {
            Some(target) if reached > target => format!(" > {target}"),
            _ => String::new(),
        };
        // A new connection is none of the floors' flows, however many there are.
        if case.kind == Kind::New && point.flows < 1 << 18 {
            return shown(point.lvx);
        }
        format!("{}, {reached:.2}{missed}", shown(point.lvx))
    }
}

/// The table as text, or as Markdown has it.
pub(super) fn drawn(mut table: Table, markdown: bool) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if !markdown {
        return table.to_string();
    }
    table.load_style(ASCII_MARKDOWN);
    let text = table.to_string();
    // The line below the heading says how columns are aligned.
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(line) = lines.get_mut(1) {
        let columns = line.matches('|').count().saturating_sub(2);
        *line = format!("| --- |{}", " ---: |".repeat(columns));
    }
    format!("\n{}\n", lines.join("\n"))
}

fn shown(net: Net) -> String {
    format!("{:.1} ({:.1})", net.least, net.median)
}

fn ratio(one: Net, other: Net) -> String {
    format!(
        "{:.2} ({:.2})",
        one.least / other.least,
        one.median / other.median
    )
}
