//! twos is random: its distribution against the one that follows from its
//! definition.

use super::harness::Lab;
use crate::layout::SchedulerKind::Twos;

const DRAWS: u32 = if cfg!(miri) { 40 } else { 40_000 };

/// The probability of each server, in list order, for given loads: two draws of
/// 0 to W, each server in turn takes its weight off, and the first at which
/// nothing is left is drawn; the second is taken if it has strictly less to do.
fn expected(servers: &[(u32, u32)]) -> Vec<f64> {
    let total: u32 = servers.iter().map(|server| server.0).sum();
    let mut drawn = Vec::new();
    for number in 0..=total {
        let mut left = i64::from(number);
        let place = servers.iter().position(|server| {
            left -= i64::from(server.0);
            server.0 > 0 && left <= 0
        });
        drawn.push(place.expect("somebody has it"));
    }
    let mut chances = vec![0.0; servers.len()];
    let each = 1.0 / (drawn.len() as f64).powi(2);
    for &one in &drawn {
        for &two in &drawn {
            let product = |a: usize, b: usize| servers[a].0 * 256 * servers[b].1;
            let chosen = if product(two, one) > product(one, two) {
                two
            } else {
                one
            };
            chances[chosen] += each;
        }
    }
    chances
}

#[test]
fn shares_are_those_of_the_definition() {
    // Weights and active connections, in the order in which servers are added.
    for servers in [
        &[(1, 0), (1, 0), (1, 0)][..],
        &[(3, 0), (1, 0), (2, 0)],
        &[(1, 4), (1, 2), (1, 0)],
        &[(5, 3), (0, 0), (1, 9), (2, 1)],
    ] {
        let weights: Vec<u32> = servers.iter().map(|server| server.0).collect();
        let lab = Lab::with(Twos, &weights);
        for (name, server) in ('A'..).zip(servers) {
            lab.load(name, server.1, 0);
        }
        let picks = lab.picks(DRAWS as usize);
        let list: Vec<(u32, u32)> = servers.iter().rev().copied().collect();
        let names: Vec<char> = ('A'..).take(list.len()).collect();
        let mut deviation = 0.0;
        for (chance, name) in expected(&list).into_iter().zip(names.into_iter().rev()) {
            let count = picks.chars().filter(|it| *it == name).count() as f64;
            let wanted = chance * f64::from(DRAWS);
            if wanted == 0.0 {
                assert_eq!(count, 0.0, "{name} of {servers:?}");
            } else {
                deviation += (count - wanted).powi(2) / wanted;
            }
        }
        // Chi-square with three degrees of freedom: above 21.1 once in 10,000.
        assert!(deviation < 21.1, "{servers:?}: {deviation}");
    }
}

#[test]
fn nobody() {
    assert_eq!(Lab::with(Twos, &[]).picks(2), "--");
    assert_eq!(Lab::with(Twos, &[0, 0]).picks(2), "--");
    let lab = Lab::with(Twos, &[1, 1]);
    lab.overload('A', true);
    assert_eq!(lab.picks(20), "B".repeat(20));
}
