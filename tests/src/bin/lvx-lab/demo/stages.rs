use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// The steps of the demo and how long each took.
#[derive(Default)]
pub(super) struct Stages(Vec<(String, Duration)>);

impl Stages {
    /// Announces and runs a step.
    pub(super) fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let began = Instant::now();
        let result = work().with_context(|| name.to_owned());
        self.0.push((name.to_owned(), began.elapsed()));
        result
    }

    /// Drops something, which takes its time.
    pub(super) fn remove<T>(&mut self, name: &str, thing: T) {
        let began = Instant::now();
        drop(thing);
        self.0.push((format!("{name} removed"), began.elapsed()));
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sum = Duration::ZERO;
        for (name, time) in &self.0 {
            writeln!(f, "{name:<24} {:>7.2} s", time.as_secs_f64())?;
            sum += *time;
        }
        write!(f, "{:<24} {:>7.2} s", "all", sum.as_secs_f64())
    }
}
