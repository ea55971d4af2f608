//! Threads at one flow table: afterwards no key is there twice, none is lost,
//! and every count is what the cells say.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lb_common::{
    conn::Counted,
    family::{Family, V4},
    flow::{
        self, BLOCK, FlowCell, HomeWord, Inserted, NewFlow, StateWord,
        sweep::{self, SweepState},
        word,
    },
    host::HostTables,
    layout::{DestLoad, ForwardMethod},
    tables::{Cell, Params, Table, Tables},
};

const CELLS: u32 = if cfg!(miri) { 256 } else { 1 << 17 };
const KEYS: u64 = CELLS as u64 / 2;
const ROUNDS: u32 = 4;
const SLOTS: u32 = 3;
const TIMEOUT: u32 = 50;

type Key = [u64; 2];

fn key(number: u64) -> Key {
    [
        0x0100_000a | (0xc633_0000 + number) << 32,
        (number & 0xffff) << 16 | 6 << 32,
    ]
}

fn tables() -> HostTables {
    let params = Params {
        hash: [
            0x9e37_79b1,
            0x85eb_ca6b,
            0xc2b2_ae35,
            0x27d4_eb2f,
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            8,
        ],
        multiplier: 0xbf58_476d_1ce4_e5b9,
        flow4_cells: CELLS,
        ..Params::default()
    };
    HostTables::new(params, SLOTS, 1)
}

/// Inserts or expires every key, in an order of the thread's own. Answers how
/// many inserts found no room.
fn work(tables: &HostTables, step: u64, now: u32, expire: bool) -> u32 {
    let mut failed = 0;
    for i in 0..KEYS {
        let number = i.wrapping_mul(step) % KEYS;
        let flow = NewFlow {
            tells_client: false,
            slot: (number % u64::from(SLOTS)) as u32,
            method: ForwardMethod::Route,
            state: 3,
            counted: Counted::Active,
            timeout: TIMEOUT,
            template: 0,
        };
        // A thread may be put to sleep while it holds a lock; programs are not.
        let outcome = loop {
            let absent = match flow::find_or_home::<V4, _>(tables, &key(number)) {
                Err(home) if number % 2 == 0 => home,
                _ => HomeWord::NONE,
            };
            let flow = flow.prepare(now).absent_from(absent);
            match flow::insert::<V4, _>(tables, &key(number), now, &flow) {
                Inserted::Contended => thread::yield_now(),
                outcome => break outcome,
            }
        };
        match outcome {
            Inserted::New(_) => {}
            Inserted::Exists => match (number % 4, flow::find::<V4, _>(tables, &key(number))) {
                (0, Some(found)) if expire => {
                    flow::release::<V4, _>(tables, found.cell, found.index, found.state);
                }
                (1, Some(found)) => {
                    let (state, slot) = (found.state.protocol_state() ^ 5, found.slot());
                    let counted = if state == 3 {
                        Counted::Active
                    } else {
                        Counted::Inactive
                    };
                    let _ = flow::transition(
                        tables,
                        found.cell,
                        found.state,
                        slot,
                        found.state.live(state, counted),
                    );
                }
                _ => {}
            },
            Inserted::Full | Inserted::Contended => failed += 1,
        }
    }
    failed
}

/// Number of flows, after a check that counts and cells agree.
fn audit(tables: &HostTables) -> u64 {
    let total = flow::total_cells(CELLS);
    let mut keys = HashSet::new();
    let mut blocks = vec![0; total.div_ceil(BLOCK) as usize];
    let mut homes = vec![0; CELLS as usize];
    let mut loads = [0; SLOTS as usize];
    for index in 0..total {
        let cell = FlowCell(tables.cell(V4::FLOW, index).expect("exists"));
        let state = StateWord(cell.0.load(word::STATE));
        if state.is_free() {
            continue;
        }
        assert!(state.is_live(), "cell {index} was left busy");
        let key = cell.key::<V4>();
        assert!(keys.insert(key), "{key:x?} is there twice");
        blocks[(index / BLOCK) as usize] += 1;
        if index >= CELLS {
            homes[flow::home::<V4, _>(tables, &key) as usize] += 1;
        }
        loads[cell.dest() as u32 as usize] += if state.counted() == 2 {
            DestLoad::ACTIVE
        } else {
            DestLoad::INACTIVE
        };
    }
    for (index, count) in (0..).zip(blocks) {
        assert_eq!(tables.get::<u64>(V4::BLOCKS, index), count, "block {index}");
    }
    for (index, count) in (0..).zip(homes) {
        let cell = tables.cell(V4::FLOW, index).expect("exists");
        let home = HomeWord(cell.load(word::HOME));
        assert_eq!(
            (home.is_locked(), home.spilled()),
            (false, count),
            "lock and spill of home {index}"
        );
    }
    for (slot, wanted) in (0..).zip(loads) {
        assert_eq!(
            tables.get::<DestLoad>(Table::DestLoad, slot).conns,
            wanted,
            "server {slot}"
        );
    }
    keys.len() as u64
}

#[test]
fn two_threads_and_the_sweep_at_the_same_keys() {
    let tables = &tables();
    let done = AtomicBool::new(false);
    let (failed, freed) = thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let mut state = SweepState::default();
            while !done.load(Ordering::Relaxed) {
                sweep::run::<V4, _>(tables, &mut state);
                thread::yield_now();
            }
            state.status.freed
        });
        let mut failed = 0;
        for round in 0..ROUNDS {
            // Each round begins when the flows of the one before are dead to
            // look-ups, and, for every other round, to the sweep as well. The
            // second thread's clock is one tick behind.
            let now = 100 + round * (TIMEOUT + round % 2 * 3);
            tables.set_now(now);
            let one = scope.spawn(move || work(tables, 1, now, true));
            let two = scope.spawn(move || work(tables, 48_271, now - 1, true));
            failed += one.join().expect("no panic") + two.join().expect("no panic");
        }
        // At the end everything is inserted and nothing expires.
        let now = 100 + 2 * ROUNDS * TIMEOUT;
        tables.set_now(now);
        let one = scope.spawn(move || work(tables, 48_271, now, false));
        let two = scope.spawn(move || work(tables, 1, now, false));
        failed += one.join().expect("no panic") + two.join().expect("no panic");
        done.store(true, Ordering::Relaxed);
        (failed, sweeper.join().expect("no panic"))
    });
    assert_eq!(failed, 0, "a window and its stash were full");
    assert!(freed > 0 || cfg!(miri), "the sweep took no part");
    assert_eq!(audit(tables), KEYS);
    for number in 0..KEYS {
        let found = flow::find::<V4, _>(tables, &key(number)).expect("was inserted");
        assert_eq!(u64::from(found.slot()), number % u64::from(SLOTS));
    }
}
