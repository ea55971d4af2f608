//! The daemon dies at random moments while requests pass: between commands, in
//! the middle of them, in the middle of its own start.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    director::{Director, Start},
    http::{self, Load},
    lab::OneArm,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);
/// A request that loses its first packet fails: TCP sends it again after a second.
const NO_RETRY: Duration = Duration::from_millis(900);
/// Kills under one load, whose failures are then known.
const ROUND: u32 = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the random choices.
    pub seed: u64,
    /// Ends after so many kills,
    pub kills: u32,
    /// or after this time.
    pub length: Duration,
    /// Requests a second.
    pub rate: u32,
}

/// What the daemon is doing when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Nothing but its own business.
    Idle,
    /// `ipvsadm -R` of the other table.
    Restore,
    /// `lvx apply` of the other table.
    Apply,
    /// One command: a server's weight.
    Edit,
    /// Its own start; it was killed before that.
    Start,
}

impl Moment {
    const ALL: [Self; 5] = [
        Self::Idle,
        Self::Restore,
        Self::Apply,
        Self::Edit,
        Self::Start,
    ];
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// `kill -9`, by what the daemon was doing: nothing, a restore, an apply, one
    /// command, its start.
    pub kills: [u32; 5],
    /// Commands that said that they failed.
    pub failed: u32,
    /// Changes that were there after the kill, and that were not.
    pub made: [u32; 2],
    /// Requests.
    pub requests: u64,
    /// Requests that failed, and everything else that must not be.
    pub found: Vec<String>,
    /// The slowest request.
    pub slowest: Duration,
}

impl Report {
    /// Of all kinds.
    pub fn all_kills(&self) -> u32 {
        self.kills.iter().sum()
    }

    /// For people.
    pub fn text(&self) -> String {
        let [idle, restore, apply, edit, start] = self.kills;
        let [made, not] = self.made;
        let mut text = format!(
            "{} kills: {idle} idle, {restore} in a restore, {apply} in an apply, {edit} in one command, {start} in a start\n\
             {} commands failed; {made} changes were made, {not} were not\n\
             {} requests, the slowest {:.0?}\n",
            self.all_kills(),
            self.failed,
            self.requests,
            self.slowest,
        );
        if self.found.is_empty() {
            text.push_str("nothing was lost: no request failed, no change was half made, every table was the same after the restart\n");
        }
        for line in &self.found {
            let _ = writeln!(text, "FOUND: {line}");
        }
        text
    }
}

/// A table: the service under traffic and others, whose servers' weights tell
/// the tables apart.
fn table(services: u32, weight: u32) -> String {
    let mut text = String::from("-A -t 192.168.0.200:80 -s rr\n");
    for server in [10, 20] {
        let _ = writeln!(
            text,
            "-a -t 192.168.0.200:80 -r 192.168.0.{server}:80 -g -w {weight}"
        );
    }
    for service in 0..services {
        let vip = SocketAddrV4::new(Ipv4Addr::from(0x0a01_0000 + service), 80);
        let _ = writeln!(text, "-A -t {vip} -s wlc");
        let _ = writeln!(text, "-a -t {vip} -r 192.168.0.10:80 -m -w {weight}");
    }
    text
}

struct Trial<'lab> {
    lab: &'lab OneArm,
    director: Director<'lab>,
    files: [PathBuf; 2],
    /// What each file comes to, as it is listed.
    tables: [String; 2],
    /// How long a replacement takes without load, one command, and a start.
    times: [Duration; 3],
    /// What is configured.
    now: String,
    /// Which table that was made of.
    side: usize,
    rng: StdRng,
    report: Report,
}

/// Runs until the plan's end, and says after each round how far it is.
///
/// # Errors
/// When the lab cannot be made, or the daemon does not come back.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&Report)) -> Result<Report> {
    let lab = OneArm::new()?;
    let mut trial = Trial::new(&lab, plan.seed)?;
    let end = Instant::now() + plan.length;
    while trial.report.all_kills() < plan.kills && Instant::now() < end {
        let load = Load::start(&lab.client.ns, SERVICE, plan.rate, NO_RETRY);
        for _ in 0..ROUND.min(plan.kills - trial.report.all_kills()) {
            trial.once()?;
        }
        let tally = load.stop();
        trial.report.requests += tally.requests();
        trial.report.slowest = trial.report.slowest.max(tally.slowest);
        let failed = tally.failures.iter();
        let failed = failed.map(|failure| format!("a request failed: {failure}"));
        trial.report.found.extend(failed);
        tell(&trial.report);
    }
    Ok(trial.report)
}

impl<'lab> Trial<'lab> {
    fn new(lab: &'lab OneArm, seed: u64) -> Result<Self> {
        // Connections of more requests than there are in the time-out of a FIN.
        let start = Start::default()
            .room(2_048, 8_192)
            .connections(Some(1 << 17));
        let begun = Instant::now();
        let director = Director::start_with(&lab.director.ns, start)?;
        let start = begun.elapsed();
        let texts = [table(250, 1), table(600, 3)];
        let files = [0, 1].map(|side| lab.lab.dir().join(format!("chaos{side}")));
        for (file, text) in files.iter().zip(&texts) {
            fs::write(file, format!("-C\n{text}"))?;
        }
        let mut trial = Self {
            lab,
            director,
            files,
            tables: texts,
            times: [Duration::ZERO, Duration::ZERO, start],
            now: String::new(),
            side: 0,
            rng: StdRng::seed_from_u64(seed),
            report: Report::default(),
        };
        for side in [1, 0] {
            let begun = Instant::now();
            succeed(trial.command(Moment::Restore, side)?)?;
            trial.times[0] = begun.elapsed();
            trial.tables[side] = trial.listed()?;
        }
        let begun = Instant::now();
        succeed(trial.command(Moment::Edit, 0)?)?;
        trial.times[1] = begun.elapsed();
        trial.now = trial.listed()?;
        http::wait_for_answer(&lab.client.ns, SERVICE, Duration::from_secs(5))?;
        Ok(trial)
    }

    /// What is configured, asked of the daemon or of its pins.
    fn listed(&self) -> Result<String> {
        let answer = self.director.ipvsadm(&["-Sn"]);
        ensure!(
            answer.code == 0 && answer.stderr.is_empty(),
            "no listing: {answer}"
        );
        Ok(answer.stdout)
    }

    /// A command that changes something.
    fn command(&mut self, moment: Moment, side: usize) -> Result<Command> {
        let mut command = self.director.command(match moment {
            Moment::Restore => &["ipvsadm", "-R"],
            Moment::Apply => &["apply", "-f"],
            _ => &[
                "ipvsadm",
                "-e",
                "-t",
                "192.168.0.200:80",
                "-r",
                "192.168.0.20:80",
                "-g",
                "-w",
            ],
        });
        match moment {
            Moment::Restore => {
                command.stdin(File::open(&self.files[side])?);
            }
            Moment::Apply => {
                command.arg(&self.files[side]).stdin(Stdio::null());
            }
            _ => {
                let weight: u32 = self.rng.random_range(1..60_000);
                command.arg(weight.to_string()).stdin(Stdio::null());
            }
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }

    /// One kill, and what must be true after it.
    fn once(&mut self) -> Result<()> {
        // Half of them in the middle of a change.
        let moment = *Moment::ALL
            .choose(&mut self.rng)
            .context("there are moments")?;
        let moment = if self.rng.random_bool(0.2) {
            Moment::Edit
        } else {
            moment
        };
        self.report.kills[moment as usize] += 1;
        let wanted = 1 - self.side;
        let mut told = None;
        match moment {
            Moment::Idle => {
                sleep(Duration::from_millis(self.rng.random_range(0..500)));
                self.director.kill();
            }
            Moment::Restore | Moment::Apply | Moment::Edit => {
                let whole = self.times[usize::from(moment == Moment::Edit)];
                let delay = whole.mul_f64(self.rng.random_range(0.0..2.5));
                let client = self.command(moment, wanted)?.spawn()?;
                sleep(delay);
                self.director.kill();
                let output = client.wait_with_output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                if !output.status.success() && !said.contains("lvx run") {
                    self.report
                        .found
                        .push(format!("a client of {moment:?} said: {said}"));
                }
                told = Some(output.status.success());
                self.report.failed += u32::from(!output.status.success());
            }
            Moment::Start => {
                self.director.kill();
                let words = self.director.arguments();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let mut command = self.director.command(&words);
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                let mut starting = command.spawn()?;
                sleep(self.times[2].mul_f64(self.rng.random_range(0.0..1.2)));
                starting.kill()?;
                starting.wait()?;
            }
        }
        let frozen = self.listed()?;
        let made = frozen != self.now;
        let problem = match moment {
            Moment::Idle | Moment::Start if made => Some("the table is another one".into()),
            Moment::Restore | Moment::Apply if made && !self.is_table(&frozen, wanted) => {
                Some(format!("{} lines of neither table", frozen.lines().count()))
            }
            Moment::Edit if made && differing(&frozen, &self.now) != 1 => {
                Some("one command changed more than one line".into())
            }
            _ if told == Some(true) && !made => Some("success, and nothing was changed".into()),
            _ => None,
        };
        let problems = problem.map(|problem: String| format!("killed in {moment:?}: {problem}"));
        self.report.found.extend(problems);
        if told.is_some() {
            self.report.made[usize::from(!made)] += 1;
        }
        self.director.restart()?;
        if self.listed()? != frozen {
            let line = format!("killed in {moment:?}: another table after the restart");
            self.report.found.push(line);
        }
        if made && matches!(moment, Moment::Restore | Moment::Apply) {
            self.side = wanted;
        }
        self.now = frozen;
        let answer = self.lab.client.ns.enter(|| http::get(SERVICE, NO_RETRY));
        if let Err(error) = answer {
            self.report
                .found
                .push(format!("after {moment:?}: {error:#}"));
        }
        Ok(())
    }

    /// Whether this is one of the tables. What an edit gave a server is gone by
    /// then, but `apply` leaves servers where they are in the listing.
    fn is_table(&self, text: &str, side: usize) -> bool {
        sorted(text) == sorted(&self.tables[side])
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// How many lines differ, of texts with as many.
fn differing(one: &str, other: &str) -> usize {
    if one.lines().count() != other.lines().count() {
        return usize::MAX;
    }
    one.lines()
        .zip(other.lines())
        .filter(|(a, b)| a != b)
        .count()
}

fn succeed(mut command: Command) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
