//! One case: all programs in turns, and what is left of the times.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lb_common::reason::Reason;
use lb_userspace::dataplane::Sizes;
use lvx_tests::kernel::bpffs::Bpffs;
use serde::Serialize;

use super::{
    cases::{Case, Kind},
    stand::{Packets, Program, Stand, Subject},
    template::{Segment, Template},
};

/// How long to measure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Plan {
    /// Turns of every program.
    pub(super) rounds: usize,
    /// Packets a turn.
    pub(super) packets: u32,
    /// New connections a turn.
    pub(super) connections: u32,
    /// Flows that packets are spread over: the columns.
    pub(super) flows: Vec<u32>,
}

/// Nanoseconds a packet, net. Others use the machine too: the least is nearest
/// to the truth, the median tells how far the rest was from it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Net {
    /// The least turn less the empty program's least turn.
    pub(super) least: f64,
    /// The median of a turn less the empty program's turn of the same round.
    pub(super) median: f64,
}

/// The figures for one number of flows.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Point {
    /// Flows that the packets were spread over; new connections: that the floors'
    /// were.
    pub(super) flows: u32,
    /// F0.
    pub(super) tx: Net,
    /// F1.
    pub(super) floor: Net,
    /// F2.
    pub(super) hash_floor: Net,
    /// F1 with one load for a look-up.
    pub(super) line: Net,
    /// The data plane.
    pub(super) lvx: Net,
    /// The empty program with the harness, gross, the least turn.
    pub(super) empty: f64,
}

/// The figures of a case.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
}

/// Connections that the smallest table promises, and that fill it to its last cell.
const FEW: u32 = 1 << 12;
const FILLING: u32 = 1 << 18;

/// Measures a case.
pub(super) fn row(stands: &mut Vec<(u32, Stand)>, case: &Case, plan: &Plan) -> Result<Row> {
    let most = case.most.unwrap_or(u32::MAX);
    let mut columns: Vec<u32> = plan
        .flows
        .iter()
        .copied()
        .filter(|&flows| flows <= most)
        .collect();
    let largest = columns.iter().copied().max().unwrap_or(1);
    if case.kind != Kind::Established {
        // Whatever the flows were, a new one is none of them.
        columns.retain(|&flows| flows == largest || case.kind == Kind::NotOurs);
    }
    let bpffs = Bpffs::new()?;
    let mut subject = Subject::load(
        &bpffs.pins(),
        sizes(case, largest, plan),
        &case.services,
        &case.rules,
    )?;
    let floors = largest.max(FEW);
    let place = match stands.iter().position(|(size, _)| *size == floors) {
        Some(place) => place,
        None => {
            stands.push((floors, empty_stand(floors)?));
            stands.len() - 1
        }
    };
    let stand = &mut stands[place].1;
    stand.call(&subject)?;

    let mut case = case.clone();
    if case.kind == Kind::NotOurs {
        case.frame = subject.frame_for_nobody()?;
    }
    prepare(stand, &mut subject, &case, largest)?;
    let mut next = 1 << 22;
    let points = columns
        .into_iter()
        .map(|flows| point(stand, &mut subject, &case, plan, flows, &mut next))
        .collect::<Result<_>>()?;
    subject.check(case.reason)?;
    Ok(Row {
        name: case.name.clone(),
        points,
    })
}

/// The floors, with tables for so many flows.
pub(super) fn empty_stand(flows: u32) -> Result<Stand> {
    let bpffs = Bpffs::new()?;
    let empty = Subject::load(&bpffs.pins(), plain_sizes(flows), &[], &[])?;
    Stand::load(&empty)
}

fn plain_sizes(connections: u32) -> Sizes {
    Sizes {
        connections,
        connections6: FEW,
        services: 16,
        dests: 64,
        mh_services: 16,
        ..Sizes::default()
    }
}

/// Room for a case with so many flows, and for its new connections.
fn sizes(case: &Case, flows: u32, plan: &Plan) -> Sizes {
    let new = match case.kind {
        Kind::New => plan.connections * plan.rounds as u32 + case.templates,
        Kind::Established | Kind::NotOurs => 0,
    };
    let connections = if case.full {
        FEW
    } else {
        flows.max(new).max(FEW) * case.cells
    };
    let is_v6 = case.services.first().is_some_and(|it| it.vip.is_ipv6());
    let services = (case.services.len() as u32).next_power_of_two().max(16) * 2;
    let servers: usize = case.services.iter().map(|it| it.servers.len()).sum();
    Sizes {
        connections: if is_v6 { FEW } else { connections },
        connections6: if is_v6 { connections } else { FEW },
        services,
        dests: (servers as u32).next_power_of_two().max(64),
        mh_services: 16,
        ..Sizes::default()
    }
}

/// Has the floors know all flows, and the data plane what it needs.
fn prepare(stand: &mut Stand, subject: &mut Subject, case: &Case, flows: u32) -> Result<()> {
    let all = |frame| Packets {
        frame,
        grows: case.grows,
        first: 0,
        flows,
        scrambled: false,
        count: flows,
    };
    let floors = floor_frame();
    for program in [Program::Floor, Program::HashFloor] {
        // The first time they learn the flows, and then know them.
        stand.run(program, all(&floors), 0)?;
        let (_, misses) = stand.run(program, all(&floors), 0)?;
        ensure!(
            misses == 0,
            "{program:?} found no place for {misses} of {flows} flows"
        );
    }
    for frame in &case.before {
        subject.run(stand, all(frame), Reason::ForwardedTx)?;
    }
    if case.templates != 0 {
        let packets = Packets {
            flows: case.templates,
            count: case.templates,
            ..all(&case.frame)
        };
        subject.run(stand, packets, Reason::ForwardedTx)?;
    }
    if case.full {
        let packets = Packets {
            flows: FILLING,
            count: FILLING,
            ..all(&case.frame)
        };
        // The last one found no place any more.
        subject.run(stand, packets, case.reason)?;
    }
    subject.check(case.reason)?;
    if case.kind == Kind::Established {
        let made = subject.connections()?;
        ensure!(
            made == u64::from(flows),
            "{}: {made} connections for {flows} flows",
            case.name
        );
    }
    Ok(())
}

/// The floors know IPv4 alone, and have flows of their own.
fn floor_frame() -> Template {
    let service = SocketAddr::from(([192, 0, 2, 1], 80));
    Template::to(service, Segment::Ack)
}

/// Which packets the programs of [`TURNS`] get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// The floors' own.
    Floors,
    /// The case's.
    Case,
}

/// All programs in turn. The empty one twice: to make a case's packets may cost more.
const TURNS: [(Program, Gets); 7] = [
    (Program::Empty, Gets::Floors),
    (Program::Tx, Gets::Floors),
    (Program::Floor, Gets::Floors),
    (Program::HashFloor, Gets::Floors),
    (Program::Line, Gets::Floors),
    (Program::Empty, Gets::Case),
    (Program::Lvx, Gets::Case),
];

fn point(
    stand: &mut Stand,
    subject: &mut Subject,
    case: &Case,
    plan: &Plan,
    flows: u32,
    next: &mut u32,
) -> Result<Point> {
    let floors = floor_frame();
    let mut turns = [const { Vec::new() }; TURNS.len()];
    let ended = subject.ended(case.reason)?;
    let mut sent = 0;
    for _ in 0..plan.rounds {
        for ((program, gets), times) in TURNS.into_iter().zip(&mut turns) {
            let known = Packets {
                frame: if gets == Gets::Case {
                    &case.frame
                } else {
                    &floors
                },
                grows: gets == Gets::Case && case.grows,
                first: 0,
                flows,
                scrambled: true,
                count: plan.packets,
            };
            let is_new = gets == Gets::Case && case.kind == Kind::New;
            let packets = if is_new {
                Packets {
                    first: *next,
                    flows: 1 << 24,
                    scrambled: false,
                    count: plan.connections,
                    ..known
                }
            } else {
                known
            };
            let mut run = |packets: Packets<'_>| {
                if program == Program::Lvx {
                    sent += u64::from(packets.count);
                    return subject.run(stand, packets, case.reason);
                }
                Ok(stand.run(program, packets, 0)?.0)
            };
            if !is_new {
                // The others have had the caches.
                let warm = flows.min(plan.packets / 4).max(1000);
                run(Packets {
                    count: warm,
                    ..known
                })?;
            }
            let time = run(packets)?;
            times.push(time.as_secs_f64() * 1e9 / f64::from(packets.count));
        }
        if case.kind == Kind::New {
            *next += plan.connections;
        }
    }
    let ended = subject.ended(case.reason)? - ended;
    ensure!(
        ended == sent,
        "{}: {ended} of {sent} packets ended as {}",
        case.name,
        case.reason.name()
    );
    let [empty, tx, floor, hash_floor, line, before, lvx] = &turns;
    Ok(Point {
        flows,
        tx: net(tx, empty),
        floor: net(floor, empty),
        hash_floor: net(hash_floor, empty),
        line: net(line, empty),
        lvx: net(lvx, before),
        empty: least(empty),
    })
}

fn net(program: &[f64], harness: &[f64]) -> Net {
    let differences = program.iter().zip(harness).map(|(all, base)| all - base);
    Net {
        least: least(program) - least(harness),
        median: median(differences.collect()),
    }
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The middle one.
pub(super) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len() % 2 == 1 {
        times[middle]
    } else {
        (times[middle - 1] + times[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_round_changes_neither_figure() {
        let net = net(&[50.0, 900.0, 51.0], &[20.0, 21.0, 20.0]);
        assert_eq!((net.least, net.median), (30.0, 31.0));
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
