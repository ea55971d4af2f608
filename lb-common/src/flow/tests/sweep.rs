use super::support::{
    TIMEOUT, audit, both_families, find, insert_new, load, one_home, random_key, tables,
};
use rand::{SeedableRng, rngs::StdRng};

use crate::{
    family::{Family, V4},
    flow::{
        BLOCK, SWEEP_DELAY, WINDOW,
        sweep::{SweepState, run},
        total_cells,
    },
    host::HostTables,
};

const CELLS: u32 = 8192;
const BLOCKS: u64 = (total_cells(CELLS) / BLOCK) as u64;
const IDLE: u64 = 100_000_000;

fn fill<F: Family>(tables: &HostTables, random: &mut StdRng, count: u32, now: u32) -> Vec<F::Key> {
    (0..count)
        .map(|_| {
            let key = random_key::<F>(random);
            insert_new::<F>(tables, &key, now);
            key
        })
        .collect()
}

fn a_pass_frees_the_dead_and_nobody_else<F: Family>() {
    let tables = tables::<F>(CELLS, 41);
    let mut random = StdRng::seed_from_u64(42);
    let each = if cfg!(miri) { 40 } else { 1500 };
    let dead = fill::<F>(&tables, &mut random, each, 10);
    let alive = fill::<F>(&tables, &mut random, each, 10 + SWEEP_DELAY + 1);
    let mut state = SweepState::default();

    // Dead to look-ups, but not for long enough to be freed.
    tables.set_now(10 + TIMEOUT + SWEEP_DELAY - 1);
    for _ in 0..BLOCKS {
        run::<F, _>(&tables, &mut state);
    }
    assert_eq!(audit::<F>(&tables), dead.len() + alive.len());

    tables.set_now(10 + TIMEOUT + SWEEP_DELAY);
    for _ in 0..BLOCKS {
        run::<F, _>(&tables, &mut state);
    }
    assert_eq!(audit::<F>(&tables), alive.len());
    assert!(dead.iter().all(|key| find::<F>(&tables, key).is_none()));
    assert!(alive.iter().all(|key| find::<F>(&tables, key).is_some()));
    assert_eq!(state.status.freed, dead.len() as u64);

    tables.set_now(10 + TIMEOUT + 2 * SWEEP_DELAY + 1);
    for _ in 0..BLOCKS {
        run::<F, _>(&tables, &mut state);
    }
    assert_eq!((audit::<F>(&tables), load(&tables, 0)), (0, (0, 0)));
    assert_eq!(state.status.freed, (dead.len() + alive.len()) as u64);
    assert_eq!(run::<F, _>(&tables, &mut state), IDLE);
}

fn the_stash_is_swept_and_its_spill_counted_down<F: Family>() {
    let tables = one_home::<F>(CELLS);
    for number in 0..u64::from(2 * WINDOW) {
        insert_new::<F>(&tables, &super::support::key::<F>(number), 1);
    }
    tables.set_now(1 + TIMEOUT + SWEEP_DELAY);
    let mut state = SweepState::default();
    // Two blocks are occupied: two runs do.
    run::<F, _>(&tables, &mut state);
    assert_eq!(audit::<F>(&tables), WINDOW as usize);
    run::<F, _>(&tables, &mut state);
    assert_eq!(audit::<F>(&tables), 0);
    assert_eq!(state.status.visited, 2 * u64::from(BLOCK));
}

mod run_both {
    super::both_families!(
        a_pass_frees_the_dead_and_nobody_else,
        the_stash_is_swept_and_its_spill_counted_down,
    );
}

#[test]
fn how_long_to_the_next_run() {
    let tables = tables::<V4>(CELLS, 43);
    tables.set_now(9);
    let mut state = SweepState::default();
    assert_eq!(run::<V4, _>(&tables, &mut state), IDLE, "an empty table");
    assert_eq!(
        (
            state.status.runs,
            state.status.last_tick,
            state.status.visited
        ),
        (1, 9, 0)
    );
    assert_eq!(state.status.interval, IDLE);

    insert_new::<V4>(&tables, &[1, 2], 9);
    assert_eq!(run::<V4, _>(&tables, &mut state), 4_000_000, "one flow");
    assert_eq!(
        (state.status.runs, state.status.visited),
        (2, u64::from(BLOCK))
    );
    for _ in 0..5 {
        assert_eq!(run::<V4, _>(&tables, &mut state), 4_000_000);
    }
    assert_eq!(state.status.occupied_blocks, 1);
}

#[test]
fn a_large_empty_table_is_idle_too() {
    if cfg!(miri) {
        return;
    }
    // More blocks than a run looks at.
    let tables = tables::<V4>(1 << 22, 44);
    let mut state = SweepState::default();
    let intervals: Vec<u64> = (0..8).map(|_| run::<V4, _>(&tables, &mut state)).collect();
    assert!(
        intervals
            .iter()
            .filter(|&&interval| interval == IDLE)
            .count()
            >= 3,
        "{intervals:?}"
    );
    // One flow in it is swept all the same.
    insert_new::<V4>(&tables, &[5, 6], 1);
    tables.set_now(1 + TIMEOUT + SWEEP_DELAY);
    for _ in 0..4 {
        run::<V4, _>(&tables, &mut state);
    }
    assert_eq!(state.status.freed, 1);
}
