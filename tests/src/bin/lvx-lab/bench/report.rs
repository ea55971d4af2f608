//! The figures as tables and as JSON.

use std::fs;

use anyhow::Result;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::measure::{Net, Plan, Row};

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

    /// Shows both tables.
    pub(super) fn print(&self) {
        println!(
            "{}, {} CPUs, Linux {}; on CPU {}, {} rounds of {} packets for each program, in turns.",
            self.processor,
            self.cpus,
            self.kernel,
            self.measured_on_cpu,
            self.plan.rounds,
            self.plan.packets,
        );
        println!("Nanoseconds are this machine's, net of the harness: least (median).\n");
        println!("Flow table, look-up and touch, room for 1,048,576 connections:");
        let mut table = Table::new();
        table.set_header([
            "flows",
            "BPF hash ns",
            "lvx cells ns",
            "cells / hash",
            "one load of a cell ns",
        ]);
        for row in &self.rows {
            table.add_row([
                row.flows.to_string(),
                shown(row.hash),
                shown(row.cells),
                ratio(row.cells, row.hash),
                shown(row.line),
            ]);
        }
        println!("{}\n", aligned(table));

        println!("The whole program, DR by XDP_TX, established UDP flows:");
        let mut table = Table::new();
        table.set_header([
            "flows",
            "lvx ns",
            "lvx / hash",
            "not for a service ns",
            "not for a service / hash",
        ]);
        for row in &self.rows {
            table.add_row([
                row.flows.to_string(),
                shown(row.lvx),
                ratio(row.lvx, row.hash),
                shown(row.not_for_service),
                ratio(row.not_for_service, row.hash),
            ]);
        }
        println!("{}", aligned(table));
    }
}

fn aligned(mut table: Table) -> Table {
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
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
