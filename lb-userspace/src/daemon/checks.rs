//! Health checks and the daemon: who is to be checked, and what came of it.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};

use super::{state::State, writer::Job};
use crate::{
    health::{Plan, Target, source},
    model::{Check, Request, ServiceId, Verdict},
    netlink::View,
};

/// Verdicts that may wait for the writer before checks wait to hand theirs over.
pub const QUEUE: usize = 1024;

/// Who is to be checked, and from where.
pub fn plan(state: &State, view: &View) -> Plan {
    let checked = || {
        state
            .services()
            .filter(|(_, service)| service.health.is_some())
    };
    if checked().next().is_none() {
        return Plan::default();
    }
    let vips: BTreeSet<_> = state
        .services()
        .filter_map(|(id, _)| match id {
            ServiceId::Address { addr, .. } => Some(*addr),
            ServiceId::Mark { .. } => None,
        })
        .collect();
    let mut targets = Vec::new();
    for (id, service) in checked() {
        let Some(health) = &service.health else {
            continue;
        };
        let settings = &health.check;
        if matches!(settings.check, Check::On | Check::Off) {
            continue;
        }
        for record in &health.servers {
            let check = settings.of(record.id);
            let own = settings.own(record.id).and_then(|own| own.port);
            let port = own.or(settings.port).unwrap_or(match record.id.port {
                0 => check.usual_port(),
                port => port,
            });
            targets.push(Target {
                service: *id,
                dest: record.id,
                port: match check {
                    Check::Ping { .. } => 0,
                    // A program is told the server's own.
                    Check::Command { .. } => record.id.port,
                    _ => port,
                },
                check,
                timing: settings.timing,
                condition: record.condition,
                source: match settings.source {
                    Some(address) => Ok(Some(address)),
                    None => source(view, &vips, record.id.addr),
                },
            });
        }
    }
    Plan { targets }
}

/// Hands verdicts to the writer; those that came meanwhile go together.
pub async fn forward(mut verdicts: mpsc::Receiver<Verdict>, jobs: mpsc::Sender<Job>) {
    while let Some(first) = verdicts.recv().await {
        let mut all = vec![first];
        while let Ok(next) = verdicts.try_recv() {
            all.push(next);
        }
        let (answer, answered) = oneshot::channel();
        let request = Request::Report(all);
        if jobs.send(Job { request, answer }).await.is_err() {
            return;
        }
        // What is refused is told again by the next check.
        let _ = answered.await;
    }
}
