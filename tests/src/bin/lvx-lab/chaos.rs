//! `lvx-lab chaos`.

use std::time::Duration;

use anyhow::{Result, bail};
use lvx_tests::chaos::{Plan, run as play};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 5)]
    minutes: u64,
    /// After how many kills at the latest
    #[arg(long, value_name = "N", default_value_t = u32::MAX)]
    kills: u32,
    /// Of the random choices: the same seed makes the same ones [default: random]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Requests a second meanwhile
    #[arg(long, value_name = "N", default_value_t = 500)]
    rate: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let plan = Plan {
        seed: arguments.seed.unwrap_or_else(rand::random),
        kills: arguments.kills,
        length: Duration::from_secs(60 * arguments.minutes),
        rate: arguments.rate,
    };
    println!("seed {}, {} requests a second", plan.seed, plan.rate);
    let report = play(&plan, &mut |report| {
        println!(
            "{} kills, {} requests, {} found",
            report.all_kills(),
            report.requests,
            report.found.len()
        );
    })?;
    print!("{}", report.text());
    if !report.found.is_empty() {
        bail!(
            "something was lost; --seed {} does the same again",
            plan.seed
        );
    }
    Ok(())
}
