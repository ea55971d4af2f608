//! Many scenarios: in the guest, and on this machine.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Barrier, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    commands::agent,
    play::{Engine, Late, Pace, play},
    results::Results,
    scenario::{self, Scenario},
    vm::{self, Clock, Job, Kernel, Outcome},
};

/// Scenarios longer than this share their waits in the guest, and are not
/// played on a real clock.
pub const LONG: Duration = Duration::from_secs(20);

/// Where scenarios are in the guest.
const SCENARIOS: &str = "/scenarios";

/// How often the guest plays a crowded scenario again that was late.
const AGAIN: usize = 2;

/// What came of each scenario on one director; an error is the player's.
pub type Played = BTreeMap<String, Result<Results, Unplayed>>;

/// Why there is no result, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplayed {
    /// A time was missed; playing it again may help.
    Late(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for Unplayed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Late(why) | Self::Failed(why)) = self;
        out.write_str(why)
    }
}

/// What a boot gave.
#[derive(Debug)]
pub struct Live {
    /// The kernel's release.
    pub release: String,
    /// What the kernel's IPVS did.
    pub kernel: Played,
    /// What lvx did.
    pub lvx: Played,
    /// How often something crowded was late and was played again.
    pub again: usize,
    /// How long the machine ran.
    pub took: Duration,
}

/// The root of this checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir).to_owned()
}

/// The scenarios' directory in this checkout.
#[must_use]
pub fn directory() -> PathBuf {
    checkout().join("tests/oracle")
}

/// Plays files in the guest, on the kernel's IPVS and, where a binary is given,
/// on lvx.
///
/// # Errors
/// When the guest fails, or there is no result.
pub fn in_guest(kernel: Kernel, files: &[PathBuf], lvx: Option<&Path>) -> Result<Live> {
    let engines = if lvx.is_some() {
        &[Engine::Kernel, Engine::Lvx][..]
    } else {
        &[Engine::Kernel]
    };
    boot(kernel, files, engines, lvx)
}

/// Plays files in the guest on lvx alone.
///
/// # Errors
/// When the guest fails, or there is no result.
pub fn lvx_in_guest(kernel: Kernel, files: &[PathBuf], lvx: &Path) -> Result<Played> {
    boot(kernel, files, &[Engine::Lvx], Some(lvx)).map(|live| live.lvx)
}

fn boot(kernel: Kernel, files: &[PathBuf], engines: &[Engine], lvx: Option<&Path>) -> Result<Live> {
    // Names in listings.
    let names = agent::NAMES.iter();
    let mut sources: Vec<_> = names
        .map(|(name, content)| (format!("/etc/{name}"), content.as_bytes().to_vec()))
        .collect();
    for path in files {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sources.push((format!("{SCENARIOS}/{name}"), content));
    }
    let mut command = vec!["/usr/bin/lvx-oracle".to_owned(), "guest".to_owned()];
    command.extend(engines.iter().map(|engine| engine.name().to_owned()));
    let job = Job {
        command,
        files: sources,
        programs: lvx.into_iter().collect(),
        modules: &[],
        limit: Duration::from_secs(900 + 300 * files.len() as u64),
        clock: Clock::Virtual,
    };
    let outcome = vm::run(kernel, &job)?;
    ensure!(
        outcome.status == 0,
        "the guest's player failed; its console:\n{}",
        outcome.console
    );
    let release = outcome.files.get("release").cloned().unwrap_or_default();
    Ok(Live {
        release: String::from_utf8_lossy(&release).trim().to_owned(),
        kernel: played(&outcome, Engine::Kernel)?,
        lvx: played(&outcome, Engine::Lvx)?,
        again: (outcome.files.keys())
            .filter(|path| path.starts_with("again/"))
            .count(),
        took: outcome.took,
    })
}

fn played(outcome: &Outcome, engine: Engine) -> Result<Played> {
    let mut played = Played::new();
    for (path, content) in &outcome.files {
        let text = String::from_utf8_lossy(content);
        let mut parts = path.split('/');
        if parts.next() != Some(engine.name()) {
            continue;
        }
        let file = parts.next().unwrap_or_default();
        if let Some(name) = file.strip_suffix(".txt") {
            played.insert(name.to_owned(), Ok(Results::read(&text)?));
        } else if let Some(name) = file.strip_suffix(".error") {
            played.insert(name.to_owned(), Err(Unplayed::Failed(text.into_owned())));
        } else if let Some(name) = file.strip_suffix(".late") {
            played.insert(name.to_owned(), Err(Unplayed::Late(text.into_owned())));
        }
    }
    Ok(played)
}

/// The guest's side of [`in_guest`].
///
/// # Errors
/// When a scenario cannot be read or a result not be written.
pub fn guest(engines: &[Engine]) -> Result<()> {
    fs::copy("/proc/sys/kernel/osrelease", "/out/release")?;
    let scenarios = scenario::all(Path::new(SCENARIOS))?;
    for engine in engines {
        fs::create_dir_all(Path::new("/out").join(engine.name()))?;
    }
    let all: Vec<_> = scenarios
        .iter()
        .flat_map(|scenario| engines.iter().map(move |engine| (scenario, *engine)))
        .collect();
    let (crowded, all): (Vec<_>, Vec<_>) =
        (all.into_iter()).partition(|(scenario, _)| scenario.crowded);
    let (long, short): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|(scenario, _)| scenario.duration() > LONG);
    for (scenario, engine) in short {
        let result = play(scenario, engine, Pace::VIRTUAL, None, Instant::now);
        write(scenario, engine, result)?;
    }
    eprintln!("short: {}", usage());
    for (scenario, engine) in crowded {
        alone(scenario, engine)?;
        eprintln!("{} {}: {}", scenario.name, engine.name(), usage());
    }
    side_by_side(&long)?;
    eprintln!("end: {}", usage());
    Ok(())
}

/// What the guest has done so far: uptime, and how it was spent.
fn usage() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/stat");
    format!(
        "uptime {}, {}",
        read("/proc/uptime").trim(),
        stat.lines().next().unwrap_or_default()
    )
}

/// Plays a crowded scenario while nothing else happens: its bursts leave no time
/// for another's. If it was late all the same, it is played again.
fn alone(scenario: &Scenario, engine: Engine) -> Result<()> {
    for again in 0.. {
        let result = play(scenario, engine, Pace::VIRTUAL, None, Instant::now);
        match result {
            Err(error) if again < AGAIN && error.is::<Late>() => {
                let told = format!("{} {}: {error:#}", scenario.name, engine.name());
                eprintln!("{told}; once more");
                fs::create_dir_all("/out/again")?;
                let name = format!("{}-{}-{again}", scenario.name, engine.name());
                fs::write(Path::new("/out/again").join(name), told)?;
            }
            result => return write(scenario, engine, result),
        }
    }
    Ok(())
}

/// Plays scenarios at the same time, each a little later than the one before it,
/// so that they do not all work in the same moment.
fn side_by_side(all: &[(&Scenario, Engine)]) -> Result<()> {
    let barrier = Barrier::new(all.len());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (number, (scenario, engine)) in all.iter().enumerate() {
            let (barrier, failed) = (&barrier, &failed);
            scope.spawn(move || {
                let mut waited = false;
                let result = play(scenario, *engine, Pace::VIRTUAL, None, || {
                    eprintln!("ready {} {}: {}", scenario.name, engine.name(), usage());
                    barrier.wait();
                    waited = true;
                    Instant::now()
                        + Duration::from_secs(1)
                        + Duration::from_millis(37) * number as u32
                });
                if !waited {
                    // It failed before its beginning; the others wait for it.
                    barrier.wait();
                }
                if let Err(error) = write(scenario, *engine, result)
                    && let Ok(mut failed) = failed.lock()
                {
                    failed.push(format!("{error:#}"));
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

fn write(scenario: &Scenario, engine: Engine, result: Result<Results>) -> Result<()> {
    let path = |ending: &str| {
        Path::new("/out")
            .join(engine.name())
            .join(format!("{}.{ending}", scenario.name))
    };
    match result {
        Ok(results) => fs::write(path("txt"), results.render())?,
        Err(error) if error.is::<Late>() => fs::write(path("late"), format!("{error:#}"))?,
        Err(error) => fs::write(path("error"), format!("{error:#}"))?,
    }
    Ok(())
}

/// The recorded results of the kernel, with the release that they are from.
///
/// # Errors
/// When there are none; the text says how to make them.
pub fn recording(directory: &Path, name: &str) -> Result<(String, Results)> {
    let path = directory.join("recorded").join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}; record it: cargo xtask oracle --record {name}",
            path.display()
        )
    })?;
    let release = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# kernel "))
        .with_context(|| format!("{}: expected `# kernel RELEASE` in line 1", path.display()))?;
    let results = Results::read(&text).with_context(|| path.display().to_string())?;
    Ok((release.to_owned(), results))
}

/// Writes what [`recording`] reads.
///
/// # Errors
/// When it cannot be written.
pub fn record(directory: &Path, name: &str, release: &str, results: &Results) -> Result<()> {
    let directory = directory.join("recorded");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{name}.txt"));
    fs::write(&path, format!("# kernel {release}\n{}", results.render()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Plays a scenario on lvx in namespaces of this machine.
///
/// # Errors
/// Without root, or when the topology cannot be made.
pub fn on_this_machine(scenario: &Scenario, expected: &Results) -> Result<Results> {
    play(
        scenario,
        Engine::Lvx,
        Pace::REAL,
        Some(expected),
        Instant::now,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_late_is_told_from_what_failed() {
        let file = |path: &str| (path.to_owned(), b"why".to_vec());
        let outcome = Outcome {
            files: [
                file("lvx/a.late"),
                file("lvx/b.error"),
                file("kernel/c.late"),
            ]
            .into(),
            status: 0,
            console: String::new(),
            took: Duration::ZERO,
        };
        let played = played(&outcome, Engine::Lvx).expect("it is read");
        let why = || "why".to_owned();
        assert_eq!(
            played,
            Played::from([
                ("a".to_owned(), Err(Unplayed::Late(why()))),
                ("b".to_owned(), Err(Unplayed::Failed(why()))),
            ])
        );
    }
}
