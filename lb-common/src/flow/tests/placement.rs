//! The figure the table's size rests on: no failed insert at half load.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::support::{audit, both_families, find, insert, random_key, release, tables};
use crate::{
    family::Family,
    flow::{self, Inserted},
    tables::{Param, Tables},
};

const CELLS: u32 = if cfg!(miri) { 256 } else { 1 << 14 };
const CHURN: usize = if cfg!(miri) { 200 } else { 150_000 };

fn no_insert_fails_at_half_load<F: Family>() {
    let tables = tables::<F>(CELLS, 21);
    let mut random = StdRng::seed_from_u64(22);
    let live = CELLS as usize / 2;
    let mut keys: Vec<F::Key> = Vec::new();
    for _ in 0..live + CHURN {
        if keys.len() == live {
            let leaving = keys.swap_remove(random.random_range(0..live));
            assert!(release::<F>(&tables, &leaving));
        }
        let key = random_key::<F>(&mut random);
        assert!(matches!(insert::<F>(&tables, &key, 1), Inserted::New(_)));
        keys.push(key);
    }
    assert_eq!(audit::<F>(&tables), live);

    // How far a look-up has to go on average.
    let main = (&tables).param(F::CELLS) as u32;
    let mut steps = 0;
    for key in &keys {
        let found = find::<F>(&tables, key).expect("is there");
        let home = flow::home::<F, _>(&tables, key);
        steps += match found.index {
            index if index < main => index.wrapping_sub(home) & (main - 1),
            _ => flow::WINDOW,
        };
    }
    let average = 1.0 + f64::from(steps) / live as f64;
    println!(
        "IPv{}: {average:.2} cells read a hit at half load",
        F::VERSION
    );
    assert!(average < 2.5, "{average}");
}

fn whatever_keys_someone_aims_they_spread<F: Family>() {
    // Half a table of flows that differ in few bits: one client counting its
    // ports, one prefix of clients, bits 31 and 63 of several words.
    let tables = tables::<F>(CELLS, 23);
    let shapes: [fn(u64, usize) -> u64; 4] = [
        |number, word| if word == 0 { 0 } else { number & 0xffff },
        |number, word| {
            if word == 0 {
                number.swap_bytes() >> 8
            } else {
                0x11_3500_0035
            }
        },
        |number, word| {
            if word == 0 {
                number << 40
            } else {
                number << 16
            }
        },
        |number, _| number,
    ];
    for shape in shapes {
        let keys: Vec<F::Key> = (0..u64::from(CELLS) / 2)
            .map(|number| F::key_from(|word| shape(number, word)))
            .collect();
        for key in &keys {
            assert!(
                matches!(insert::<F>(&tables, key, 1), Inserted::New(_)),
                "{key:?}"
            );
        }
        for key in &keys {
            assert!(release::<F>(&tables, key));
        }
    }
    assert_eq!(audit::<F>(&tables), 0);
}

mod run {
    super::both_families!(
        no_insert_fails_at_half_load,
        whatever_keys_someone_aims_they_spread
    );
}

#[test]
fn the_sizes_come_from_the_parameters() {
    assert_eq!(
        (&tables::<crate::family::V6>(64, 1)).param(Param::Flow6Cells),
        64
    );
}
