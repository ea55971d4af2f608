//! `--self-check`: defects, one after the other. The next is built while one is
//! played.

use std::{process::ExitCode, sync::mpsc, thread, time::Instant};

use anyhow::{Context as _, Result};
use lvx_oracle::{
    batch,
    self_check::{
        defects,
        outcome::{Outcome, Sum, line},
        scenarios::Scenarios,
        workshop::Workshop,
    },
};

use super::compare::Args;

/// Where the random scenarios begin.
const SEED: u64 = 1;

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let root = batch::checkout();
    let defects = defects::select(defects::read(&root)?, &args.scenarios)?;
    let workshop = Workshop::open(&root, &root.join("target/self-check"))?;
    let lvx = workshop.build(None).context("lvx without a defect")?;
    println!(
        "built without a defect: {:.0} s",
        start.elapsed().as_secs_f64()
    );
    thread::scope(|scope| {
        // One waits while one is built.
        let (done, built) = mpsc::sync_channel(1);
        let (workshop, list) = (&workshop, &defects);
        scope.spawn(move || {
            for defect in list {
                // Whoever plays them has given up.
                if done.send(workshop.build(Some(defect))).is_err() {
                    break;
                }
            }
        });
        let control = Instant::now();
        let (scenarios, differs) = Scenarios::new(args.kernel, args.seed.unwrap_or(SEED), &lvx)?;
        if let Some(found) = differs {
            println!("lvx differs without a defect, seed {}:", found.seed);
            print!("{}", found.differences);
            return Ok(ExitCode::from(1));
        }
        println!(
            "control: {} scenarios, no difference, {:.1} s",
            scenarios.count(),
            control.elapsed().as_secs_f64()
        );
        let mut sum = Sum::default();
        for (defect, lvx) in defects.iter().zip(built) {
            let begin = Instant::now();
            let outcome = match lvx.and_then(|lvx| scenarios.find(&lvx)) {
                Ok(Some(found)) => Outcome::Found(found),
                Ok(None) => Outcome::Missed(scenarios.count()),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            };
            println!("{}", line(defect, &outcome, begin.elapsed()));
            if let (Outcome::Found(found), true) = (&outcome, args.show) {
                print!("{}", found.differences);
            }
            sum.see(&outcome);
        }
        println!("{}, {:.0} s", sum.render(), start.elapsed().as_secs_f64());
        Ok(ExitCode::from(sum.status()))
    })
}
