//! The thread that checks. It has a runtime of its own, so that neither a slow
//! handshake delays the daemon's work nor that delays a check.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Board, Plan, Target,
    plan::NoSource,
    probe::{Pingers, Probe, Tls, Tools, Trouble, Whom},
};
use crate::model::{Check, Condition, DestId, LastCheck, ServiceId, Timing, Verdict};

/// How much earlier or later than its interval a check may begin, as a share:
/// checks that began together drift apart.
const JITTER: f64 = 0.05;
/// Between two checks of a server that takes longer than its interval.
const BREATH: Duration = Duration::from_millis(10);

/// The running checker; its thread ends when this is dropped.
#[derive(Debug)]
pub struct Checker {
    plan: watch::Sender<Arc<Plan>>,
}

impl Checker {
    /// Has these servers checked from now on. A server that was checked the same
    /// way before goes on as it was.
    pub fn follow(&self, plan: Plan) {
        self.plan.send_if_modified(|known| {
            let changed = **known != plan;
            if changed {
                *known = Arc::new(plan);
            }
            changed
        });
    }
}

/// Starts the thread, in the network namespace of the calling one.
///
/// # Errors
/// When it cannot be started.
pub fn start(board: Arc<Board>, verdicts: mpsc::Sender<Verdict>) -> Result<Checker> {
    raise_file_limit();
    let tls = Tls::new().context("cannot set up TLS for health checks")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (plan, plans) = watch::channel(Arc::new(Plan::default()));
    let tools = Tools {
        tls,
        pingers: Pingers::default(),
    };
    let work = Work {
        tools: Arc::new(tools),
        board,
        verdicts,
        tasks: HashMap::new(),
    };
    thread::Builder::new()
        .name("health".into())
        .spawn(move || {
            runtime.block_on(work.run(plans));
            runtime.shutdown_background();
        })
        .context("cannot start the thread of health checks")?;
    Ok(Checker { plan })
}

/// A check needs a descriptor, and thousands run at once: takes as many as the
/// machine allows.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // With fewer, checks that find none tell so and change nothing.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// What is asked of whom. Servers of several services that are asked the same
/// are asked once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    check: Check,
    at: SocketAddr,
    timing: Timing,
    source: Result<Option<IpAddr>, NoSource>,
    /// Of a program, which is told for whom it asks.
    whose: Option<(ServiceId, DestId)>,
}

/// A server that a question is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    service: ServiceId,
    dest: DestId,
    condition: Condition,
}

struct Task {
    members: watch::Sender<Vec<Member>>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

struct Work {
    tools: Arc<Tools>,
    board: Arc<Board>,
    verdicts: mpsc::Sender<Verdict>,
    tasks: HashMap<Question, Task>,
}

impl Work {
    async fn run(mut self, mut plans: watch::Receiver<Arc<Plan>>) {
        while plans.changed().await.is_ok() {
            let plan = plans.borrow_and_update().clone();
            self.follow(&plan);
        }
    }

    fn follow(&mut self, plan: &Plan) {
        let mut wanted: HashMap<Question, Vec<Member>> = HashMap::new();
        for target in &plan.targets {
            let member = Member {
                service: target.service,
                dest: target.dest,
                condition: target.condition,
            };
            wanted.entry(question(target)).or_default().push(member);
        }
        self.tasks
            .retain(|question, _| wanted.contains_key(question));
        let known: HashSet<(ServiceId, DestId)> = plan
            .targets
            .iter()
            .map(|target| (target.service, target.dest))
            .collect();
        self.board.retain(|server| known.contains(server));
        let new = wanted.len().saturating_sub(self.tasks.len());
        for (question, members) in wanted {
            if let Some(task) = self.tasks.get(&question) {
                task.members.send_if_modified(|known| {
                    let changed = *known != members;
                    *known = members;
                    changed
                });
                continue;
            }
            tracing::debug!(
                "{} check of {} from {:?}, every {} ms",
                question.check.name(),
                question.at,
                question.source,
                question.timing.interval
            );
            // Ten thousand new servers are not all asked within one millisecond.
            let spread = Duration::from_millis(new as u64);
            let spread = spread.min(Duration::from_millis(question.timing.interval.into()));
            let (sender, receiver) = watch::channel(members);
            let inquiry = Inquiry {
                question: question.clone(),
                members: receiver,
                tools: self.tools.clone(),
                board: self.board.clone(),
                verdicts: self.verdicts.clone(),
            };
            let first = spread.mul_f64(rand::random());
            let handle = tokio::spawn(async move {
                sleep(first).await;
                inquiry.run().await;
            });
            let task = Task {
                members: sender,
                handle,
            };
            self.tasks.insert(question, task);
        }
    }
}

fn question(target: &Target) -> Question {
    let whose = matches!(target.check, Check::Command { .. });
    Question {
        check: target.check.clone(),
        at: SocketAddr::new(target.dest.addr, target.port),
        timing: target.timing,
        source: target.source,
        whose: whose.then_some((target.service, target.dest)),
    }
}

/// One question, asked again and again.
struct Inquiry {
    question: Question,
    members: watch::Receiver<Vec<Member>>,
    tools: Arc<Tools>,
    board: Arc<Board>,
    verdicts: mpsc::Sender<Verdict>,
}

/// The checks behind a question.
enum Probes {
    One(Probe),
    /// Connections, and now and then the other.
    Mixed {
        connection: Probe,
        other: Probe,
        connections: u32,
        /// Connections left before the other's turn.
        left: u32,
    },
}

impl Probes {
    fn new(check: &Check) -> Result<Self, String> {
        Ok(match check {
            Check::Mixed { connections, other } => Self::Mixed {
                connection: Probe::new(&Check::Tcp)?,
                other: Probe::new(other)?,
                connections: *connections,
                left: 0,
            },
            check => Self::One(Probe::new(check)?),
        })
    }

    async fn run(&mut self, tools: &Tools, whom: Whom, limit: Duration) -> Result<(), Trouble> {
        match self {
            Self::One(probe) => probe.run(tools, whom, limit).await,
            Self::Mixed {
                connection,
                other,
                connections,
                left,
            } => {
                let end = if *left == 0 {
                    *left = *connections;
                    other.run(tools, whom, limit).await
                } else {
                    *left -= 1;
                    connection.run(tools, whom, limit).await
                };
                if end.is_err() {
                    *left = 0;
                }
                end
            }
        }
    }
}

impl Inquiry {
    async fn run(self) {
        let Question {
            check,
            at,
            timing,
            source,
            ..
        } = &self.question;
        let mut probes = match Probes::new(check) {
            Ok(probes) => probes,
            Err(why) => {
                // Files are read with the same eyes: this is no operator's mistake.
                tracing::error!("the check of {at} cannot be made: {why}");
                return;
            }
        };
        let limit = Duration::from_millis(timing.timeout.into());
        let interval = Duration::from_millis(timing.interval.into());
        let (mut failures, mut successes) = (0_u32, 0_u32);
        let mut complaint = None;
        let mut begin = Instant::now();
        loop {
            let started = Instant::now();
            let end = match (source, self.whom()) {
                (Ok(source), Some((service, dest))) => {
                    let whom = Whom {
                        at: *at,
                        source: *source,
                        service,
                        dest,
                    };
                    probes.run(&self.tools, whom, limit).await
                }
                (Err(NoSource), _) => Err(Trouble::Here(
                    "this director has no address but VIPs to check it from: add one, or set source"
                        .into(),
                )),
                (_, None) => return,
            };
            let took = started.elapsed();
            match &end {
                Ok(()) => {
                    failures = 0;
                    successes = successes.saturating_add(1);
                    complaint = None;
                }
                Err(Trouble::Server(_)) => {
                    failures = failures.saturating_add(1);
                    successes = 0;
                    complaint = None;
                }
                Err(Trouble::Here(why)) => {
                    if complaint.as_ref() != Some(why) {
                        tracing::warn!("the check of {at} cannot be made: {why}");
                        complaint = Some(why.clone());
                    }
                }
            }
            self.note(&end, took, failures);
            if let Some((up, reason)) = self.verdict(&end, took, failures, successes)
                && !self.tell(up, &reason).await
            {
                return;
            }
            let jitter = 1.0 + JITTER * (rand::random::<f64>() * 2.0 - 1.0);
            begin += interval.mul_f64(jitter);
            begin = begin.max(Instant::now() + BREATH);
            sleep_until(begin).await;
        }
    }

    /// One of those that it is asked for.
    fn whom(&self) -> Option<(ServiceId, DestId)> {
        let members = self.members.borrow();
        let first = members.first()?;
        let first = (first.service, first.dest);
        Some(self.question.whose.unwrap_or(first))
    }

    /// Whether it lives, if that can be said by now.
    fn verdict(
        &self,
        end: &Result<(), Trouble>,
        took: Duration,
        failures: u32,
        successes: u32,
    ) -> Option<(bool, String)> {
        let Timing {
            failures: most,
            successes: least,
            ..
        } = self.question.timing;
        match end {
            Ok(()) if successes >= least => {
                let name = self.question.check.name();
                Some((
                    true,
                    format!("{name} check good after {} ms", took.as_millis()),
                ))
            }
            Err(Trouble::Server(why)) if failures >= most => Some((false, why.clone())),
            _ => None,
        }
    }

    fn note(&self, end: &Result<(), Trouble>, took: Duration, failures: u32) {
        let error = match end {
            Ok(()) => None,
            Err(Trouble::Server(why) | Trouble::Here(why)) => Some(why.clone()),
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let last = LastCheck {
            at: since.map_or(0, |since| since.as_secs()),
            took: took.as_millis() as u64,
            failures,
            error,
        };
        for member in &*self.members.borrow() {
            self.board.note((member.service, member.dest), last.clone());
        }
    }

    /// Tells the daemon of all for whom this is news; false when it is gone.
    async fn tell(&self, up: bool, reason: &str) -> bool {
        let now = if up { Condition::Up } else { Condition::Down };
        let news: Vec<Verdict> = self
            .members
            .borrow()
            .iter()
            .filter(|member| member.condition != now)
            .map(|member| Verdict {
                service: member.service,
                dest: member.dest,
                up,
                reason: reason.to_owned(),
            })
            .collect();
        for verdict in news {
            if self.verdicts.send(verdict).await.is_err() {
                return false;
            }
        }
        true
    }
}
