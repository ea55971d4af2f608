//! One row: all programs in turns, and what is left of the times.

use anyhow::Result;
use serde::Serialize;

use super::programs::{Program, Programs};

/// How long to measure.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Plan {
    /// Turns of every program.
    pub(super) rounds: usize,
    /// Packets a turn.
    pub(super) packets: u32,
}

/// Nanoseconds a packet, net. Others use the machine too: the least is nearest
/// to the truth, the median tells how far the rest was from it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Net {
    /// The least turn less the harness's least turn.
    pub(super) least: f64,
    /// The median of a turn less the harness's turn of the same round.
    pub(super) median: f64,
}

/// The figures for one number of flows.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Row {
    /// Flows that the packets were spread over.
    pub(super) flows: u32,
    /// `BPF_MAP_TYPE_HASH`.
    pub(super) hash: Net,
    /// One load from lvx's flow table.
    pub(super) line: Net,
    /// lvx's flow table.
    pub(super) cells: Net,
    /// The whole program.
    pub(super) lvx: Net,
    /// The whole program, for a packet that is none of its.
    pub(super) not_for_service: Net,
    /// The harness itself, gross, the least turn.
    pub(super) harness: f64,
}

/// Measures one row.
pub(super) fn row(programs: &mut Programs, flows: u32, plan: Plan) -> Result<Row> {
    programs.warm_up(flows)?;
    let mut turns = [const { Vec::new() }; Program::ALL.len()];
    for _ in 0..plan.rounds {
        for (program, times) in Program::ALL.into_iter().zip(&mut turns) {
            times.push(programs.measure(program, flows, plan.packets)?);
        }
    }
    let [harness, line, cells, hash, empty, lvx, not_for_service] = &turns;
    Ok(Row {
        flows,
        hash: net(hash, harness),
        line: net(line, harness),
        cells: net(cells, harness),
        lvx: net(lvx, empty),
        not_for_service: net(not_for_service, empty),
        harness: least(harness),
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
