//! `lvx-lab verify`: what the verifier says of the programs, against the budget.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table};
use lb_common::capture::Filter;
use lb_userspace::dataplane::{Capture, Decap, Plane, Sizes, Wanted};
use lvx_tests::kernel::bpffs::Bpffs;
use serde::Deserialize;

/// Kept beside the programs.
const BUDGET: &str = include_str!("../../../../lb-ebpf/budget.toml");

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// On an emulated processor: one try, and load times are only printed
    #[arg(long)]
    emulated: bool,
}

/// What a program may cost.
#[derive(Deserialize)]
struct Budget {
    /// Instructions the verifier walks.
    verified: u32,
    /// Milliseconds a load takes, at the most of three tries' least.
    load_ms: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let budgets: BTreeMap<String, Budget> =
        toml::from_str(BUDGET).context("cannot read lb-ebpf/budget.toml")?;
    let mut tries = Vec::new();
    for _ in 0..if arguments.emulated { 1 } else { 3 } {
        let bpffs = Bpffs::new()?;
        let mut facts = Plane::load(&bpffs.pins(), Sizes::default())?
            .facts()
            .to_vec();
        let capture = Capture::load(&bpffs.pins(), &Filter::EVERY)?;
        facts.push(capture.facts().clone());
        let wanted = Wanted {
            own: Vec::new(),
            vips: Vec::new(),
            gue_port: 6080,
        };
        let pins = bpffs.pins().with_file_name("decap");
        facts.push(Decap::load(&pins, &wanted)?.facts()?);
        tries.push(facts);
    }
    let mut table = Table::new();
    table.set_header([
        "program",
        "verified",
        "budget",
        "translated B",
        "jited B",
        "load ms",
        "budget ms",
    ]);
    let mut over = Vec::new();
    for (i, facts) in tries[0].iter().enumerate() {
        let name = facts.name.as_str();
        let budget = budgets
            .get(name)
            .with_context(|| format!("no budget for {name}"))?;
        let load = tries
            .iter()
            .map(|facts| facts[i].load_time)
            .min()
            .unwrap_or_default();
        if facts.verified > budget.verified {
            over.push(format!(
                "{name}: {} verified instructions, {} allowed",
                facts.verified, budget.verified
            ));
        }
        if !arguments.emulated && load.as_millis() > u128::from(budget.load_ms) {
            over.push(format!(
                "{name}: loads in {load:.0?}, {} ms allowed",
                budget.load_ms
            ));
        }
        table.add_row([
            name.to_owned(),
            facts.verified.to_string(),
            budget.verified.to_string(),
            facts.translated.to_string(),
            facts.jited.to_string(),
            format!("{:.1}", load.as_secs_f64() * 1e3),
            budget.load_ms.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    if !over.is_empty() {
        bail!("over budget: {}", over.join("; "));
    }
    Ok(())
}
