//! Tables, keys and a check of all counts.

use std::collections::HashSet;

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    conn::Counted,
    family::Family,
    flow::{self, BLOCK, FlowCell, Found, HomeWord, Inserted, NewFlow, word},
    host::{HostCell, HostTables},
    layout::{DestLoad, ForwardMethod},
    tables::{Cell, Params, Table, Tables},
};

/// A time-out in ticks.
pub(super) const TIMEOUT: u32 = 100;
/// Server slots.
pub(super) const SLOTS: u32 = 4;

/// A table of `cells` without its stash, with secrets drawn from `seed`.
pub(super) fn tables<F: Family>(cells: u32, seed: u64) -> HostTables {
    let mut random = StdRng::seed_from_u64(seed);
    let params = Params {
        hash: random.random(),
        multiplier: random.random::<u64>() | 1,
        ..Params::default()
    };
    sized::<F>(cells, params)
}

/// A table in which all keys have one home cell and one stash window.
pub(super) fn one_home<F: Family>(cells: u32) -> HostTables {
    // The stash is placed by the multiplier with a constant mixed in; a sum of
    // 0 has stash window 0, too.
    sized::<F>(cells, Params::default())
}

fn sized<F: Family>(cells: u32, params: Params) -> HostTables {
    let (four, six) = if F::VERSION == 4 {
        (cells, 0)
    } else {
        (0, cells)
    };
    let params = Params {
        flow4_cells: four,
        flow6_cells: six,
        ..params
    };
    HostTables::new(params, SLOTS, 1)
}

/// Keys that differ only in the word before the last. With hash secrets of 0
/// their sum is 0, because the high half of each word is.
pub(super) fn key<F: Family>(number: u64) -> F::Key {
    F::key_from(|word| if word + 2 == F::KEY_WORDS { number } else { 0 })
}

pub(super) fn random_key<F: Family>(random: &mut StdRng) -> F::Key {
    let words: [u64; 8] = random.random();
    F::key_from(|word| words[word])
}

pub(super) fn flow(slot: u32) -> NewFlow {
    NewFlow {
        tells_client: false,
        slot,
        method: ForwardMethod::Route,
        state: 3,
        counted: Counted::Active,
        timeout: TIMEOUT,
        template: 0,
    }
}

/// Inserts a flow of server 0.
pub(super) fn insert<F: Family>(tables: &HostTables, key: &F::Key, now: u32) -> Inserted {
    flow::insert::<F, _>(tables, key, now, &flow(0).prepare(now))
}

/// Inserts a flow that is not there and for which there is room.
pub(super) fn insert_new<F: Family>(tables: &HostTables, key: &F::Key, now: u32) {
    assert!(
        matches!(insert::<F>(tables, key, now), Inserted::New(_)),
        "{key:?}"
    );
}

pub(super) fn find<'a, F: Family>(
    tables: &'a HostTables,
    key: &F::Key,
) -> Option<Found<HostCell<'a>>> {
    flow::find::<F, _>(tables, key)
}

pub(super) fn release<F: Family>(tables: &HostTables, key: &F::Key) -> bool {
    let found = find::<F>(tables, key).expect("is there");
    flow::release::<F, _>(tables, found.cell, found.index, found.state)
}

pub(super) fn load(tables: &HostTables, slot: u32) -> (u32, u32) {
    let load: DestLoad = tables.get(Table::DestLoad, slot);
    (load.active(), load.inactive())
}

/// Number of flows, after a check that every count says the same as the cells:
/// blocks, servers, spills; that no lock is held and no key is there twice.
pub(super) fn audit<F: Family>(tables: &HostTables) -> usize {
    let main = tables.param(F::CELLS) as u32;
    let total = flow::total_cells(main);
    let mut blocks = vec![0; total.div_ceil(BLOCK) as usize];
    let mut spills = vec![0; main as usize];
    let mut loads = [(0, 0); SLOTS as usize];
    let mut keys = HashSet::new();
    for index in 0..total {
        let cell = FlowCell(tables.cell(F::FLOW, index).expect("exists"));
        if cell.state().is_free() {
            continue;
        }
        assert!(cell.state().is_live(), "cell {index} was left busy");
        let key = cell.key::<F>();
        assert!(keys.insert(format!("{key:?}")), "{key:?} is there twice");
        let found = find::<F>(tables, &key).expect("its key is found");
        assert_eq!(found.index, index);
        blocks[(index / BLOCK) as usize] += 1;
        if index >= main {
            spills[flow::home::<F, _>(tables, &key) as usize] += 1;
        }
        if cell.state().is_reverse() {
            continue;
        }
        let load = &mut loads[found.slot() as usize];
        match cell.state().counted() {
            2 => load.0 += 1,
            1 => load.1 += 1,
            _ => {}
        }
    }
    for (index, count) in (0..).zip(blocks) {
        assert_eq!(tables.get::<u64>(F::BLOCKS, index), count, "block {index}");
    }
    for (index, count) in (0..).zip(spills) {
        let home = tables.cell(F::FLOW, index).expect("exists");
        let home = HomeWord(home.load(word::HOME));
        assert!(!home.is_locked(), "lock of home {index}");
        assert_eq!(home.spilled(), count, "spill of home {index}");
    }
    for (slot, wanted) in (0..).zip(loads) {
        assert_eq!(load(tables, slot), wanted, "load of server {slot}");
    }
    keys.len()
}

/// Runs a check for both families.
macro_rules! both_families {
    ($($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            super::$name::<$crate::family::V4>();
            super::$name::<$crate::family::V6>();
        }
    )+};
}
pub(super) use both_families;
