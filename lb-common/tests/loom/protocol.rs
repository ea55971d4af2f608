use lb_common::{
    conn::Counted,
    family::{Family as _, V4},
    flow::{self, Found, HomeWord, Inserted, NewFlow, StateWord, word},
    layout::ForwardMethod,
    tables::{Cell, Table, Tables},
};
use loom::{sync::Arc, thread};

use crate::tables::{CELLS, LoomCell, LoomTables};

pub(crate) type Key = [u64; 2];
/// The flow under test and one that shares its home.
pub(crate) const KEY: Key = [7, 0];
pub(crate) const OTHER: Key = [9, 0];
pub(crate) const TIMEOUT: u32 = 100;
/// Where time begins, and when a flow inserted then is dead.
pub(crate) const START: u32 = 1000;
pub(crate) const DEAD: u32 = START + TIMEOUT;

/// Explores a test.
pub(crate) fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(test);
}

/// Runs two closures at the same time on tables with these cells, after
/// `before`; answers the tables and what the closures answered.
pub(crate) fn race<A: 'static, B: 'static>(
    cells: &[u32],
    before: fn(&LoomTables),
    first: fn(&LoomTables) -> A,
    second: fn(&LoomTables) -> B,
) -> (Arc<LoomTables>, A, B) {
    let tables = Arc::new(LoomTables::new(cells));
    before(&tables);
    let other = thread::spawn({
        let tables = tables.clone();
        move || first(&tables)
    });
    let second = second(&tables);
    let first = other.join().expect("no panic");
    (tables, first, second)
}

/// Inserts a flow whose server's slot says which key it is for.
pub(crate) fn insert<'a>(tables: &'a LoomTables, key: &Key, now: u32) -> Inserted {
    insert_absent(tables, key, now, HomeWord::NONE)
}

/// The same as the engine does it: after a look-up that finds nothing.
fn find_or_insert(tables: &LoomTables, key: &Key, now: u32) -> Inserted {
    match flow::find_or_home::<V4, _>(tables, key) {
        Ok(_) => Inserted::Exists,
        Err(home) => insert_absent(tables, key, now, home),
    }
}

fn insert_absent(tables: &LoomTables, key: &Key, now: u32, home: HomeWord) -> Inserted {
    let flow = NewFlow {
        tells_client: false,
        slot: u32::from(*key == OTHER),
        method: ForwardMethod::Route,
        state: 3,
        counted: Counted::Active,
        timeout: TIMEOUT,
        template: 0,
    };
    let flow = flow.prepare(now).absent_from(home);
    flow::insert::<V4, _>(tables, key, now, &flow)
}

pub(crate) fn find<'a>(tables: &'a LoomTables, key: &Key) -> Option<Found<LoomCell<'a>>> {
    flow::find::<V4, _>(tables, key)
}

pub(crate) fn release(tables: &LoomTables, found: &Found<LoomCell<'_>>) -> bool {
    flow::release::<V4, _>(tables, found.cell, found.index, found.state)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    New,
    Exists,
    Full,
    Contended,
}

fn outcome(inserted: Inserted) -> Outcome {
    match inserted {
        Inserted::New(_) => Outcome::New,
        Inserted::Exists => Outcome::Exists,
        Inserted::Full => Outcome::Full,
        Inserted::Contended => Outcome::Contended,
    }
}

/// Live cells of a key, after a check that the counts are those of the cells
/// and no lock is held.
pub(crate) fn audit(tables: &LoomTables, key: &Key) -> usize {
    let mut of_key = 0;
    let mut occupied = 0;
    let mut spilled = 0;
    let mut loads = [(0, 0); 2];
    for index in 0..flow::total_cells(CELLS) {
        let Some(cell) = tables.cell(Table::Flow4, index) else {
            continue;
        };
        let state = StateWord(cell.load(word::STATE));
        if state.is_free() {
            continue;
        }
        assert!(state.is_live(), "cell {index} was left busy");
        occupied += 1;
        spilled += u64::from(index >= CELLS);
        of_key += usize::from(flow::FlowCell(cell).key::<V4>() == *key);
        if state.is_reverse() {
            continue;
        }
        let load = &mut loads[cell.load(word::DEST) as u32 as usize];
        match state.counted() {
            2 => load.0 += 1,
            1 => load.1 += 1,
            _ => {}
        }
    }
    assert_eq!(tables.occupied(), occupied);
    assert_eq!([tables.load(0), tables.load(1)], loads);
    let home = tables.cell(Table::Flow4, 0).expect("exists");
    let home = HomeWord(home.load(V4::HOME));
    assert!(!home.is_locked());
    assert_eq!(home.spilled(), spilled);
    of_key
}

/// Two CPUs see the first packets of one connection.
#[test]
fn one_key_is_inserted_once() {
    explore(|| {
        let insert_it = |tables: &LoomTables| outcome(insert(tables, &KEY, START));
        let (tables, first, second) = race(&[0, 1], |_| {}, insert_it, insert_it);
        match (first, second) {
            (Outcome::New, Outcome::Exists | Outcome::Contended)
            | (Outcome::Exists | Outcome::Contended, Outcome::New) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(audit(&tables, &KEY), 1);
    });
}

/// The same when each has looked for it before.
#[test]
fn one_key_is_inserted_once_by_those_who_missed_it() {
    explore(|| {
        let insert_it = |tables: &LoomTables| outcome(find_or_insert(tables, &KEY, START));
        let (tables, first, second) = race(&[0, 1], |_| {}, insert_it, insert_it);
        match (first, second) {
            (Outcome::New, Outcome::Exists | Outcome::Contended)
            | (Outcome::Exists | Outcome::Contended, Outcome::New) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(audit(&tables, &KEY), 1);
    });
}

/// Two connections with one home: both get a cell.
#[test]
fn two_keys_of_one_home_get_two_cells() {
    explore(|| {
        let (tables, first, second) = race(
            &[0, 1],
            |_| {},
            |tables| outcome(insert(tables, &KEY, START)),
            |tables| outcome(insert(tables, &OTHER, START)),
        );
        for (key, outcome) in [(KEY, first), (OTHER, second)] {
            let wanted = usize::from(outcome == Outcome::New);
            assert!(
                matches!(outcome, Outcome::New | Outcome::Contended),
                "{outcome:?}"
            );
            assert_eq!(audit(&tables, &key), wanted);
        }
        assert!(first == Outcome::New || second == Outcome::New);
    });
}

/// The sweep frees a dead flow while a packet starts the connection anew.
#[test]
fn insert_against_the_sweep() {
    explore(|| {
        let (tables, inserted, _) = race(
            &[0, 1],
            |tables| assert_eq!(outcome(insert(tables, &KEY, START)), Outcome::New),
            |tables| outcome(insert(tables, &KEY, DEAD)),
            |tables| {
                let cell = flow::FlowCell(tables.cell(Table::Flow4, 0).expect("exists"));
                let state = cell.state();
                if state.is_live() && cell.times().is_dead(DEAD) {
                    flow::release::<V4, _>(tables, cell, 0, state);
                }
            },
        );
        assert_eq!(inserted, Outcome::New);
        assert_eq!(audit(&tables, &KEY), 1);
        let found = find(&tables, &KEY).expect("was inserted");
        assert_eq!(found.times, flow::Times::new(DEAD, TIMEOUT));
    });
}

/// A late packet, for which the connection still lives, changes its state
/// while another, a tick later, takes it for dead and starts it anew.
#[test]
fn insert_against_a_late_packet() {
    explore(|| {
        let (tables, inserted, moved) = race(
            &[0, 1],
            |tables| assert_eq!(outcome(insert(tables, &KEY, START)), Outcome::New),
            |tables| outcome(insert(tables, &KEY, DEAD)),
            |tables| {
                let found = find(tables, &KEY)?;
                if found.times.is_dead(DEAD - 1) {
                    return None;
                }
                let moved = flow::transition(
                    tables,
                    found.cell,
                    found.state,
                    0,
                    found.state.live(1, Counted::Active),
                );
                found
                    .cell
                    .touch(found.times, flow::Times::new(DEAD - 1, TIMEOUT));
                Some(moved.is_ok())
            },
        );
        assert!(
            matches!(inserted, Outcome::New | Outcome::Exists),
            "{inserted:?}, {moved:?}"
        );
        assert_eq!(audit(&tables, &KEY), 1, "{inserted:?}, {moved:?}");
    });
}

/// Two packets of one connection change its state: one of them does, and the
/// counts follow it.
#[test]
fn two_transitions() {
    explore(|| {
        let (tables, closed, established) = race(
            &[0],
            |tables| assert_eq!(outcome(insert(tables, &KEY, START)), Outcome::New),
            |tables| {
                let found = find(tables, &KEY).expect("is there");
                flow::transition(
                    tables,
                    found.cell,
                    found.state,
                    0,
                    found.state.live(6, Counted::Inactive),
                )
                .is_ok()
            },
            |tables| {
                let found = find(tables, &KEY).expect("is there");
                flow::transition(
                    tables,
                    found.cell,
                    found.state,
                    0,
                    found.state.live(1, Counted::Active),
                )
                .is_ok()
            },
        );
        assert!(closed || established);
        assert_eq!(audit(&tables, &KEY), 1);
    });
}

/// A change of state against a release: if both happen, the counts say so.
#[test]
fn transition_against_release() {
    explore(|| {
        let (tables, moved, freed) = race(
            &[0],
            |tables| assert_eq!(outcome(insert(tables, &KEY, START)), Outcome::New),
            |tables| {
                find(tables, &KEY).is_some_and(|found| {
                    flow::transition(
                        tables,
                        found.cell,
                        found.state,
                        0,
                        found.state.live(4, Counted::Inactive),
                    )
                    .is_ok()
                })
            },
            |tables| release(tables, &find(tables, &KEY).expect("is there")),
        );
        assert!(moved || freed);
        assert_eq!(audit(&tables, &KEY), usize::from(!freed));
    });
}

/// Two releases: one counts.
#[test]
fn two_releases() {
    explore(|| {
        let release_it =
            |tables: &LoomTables| find(tables, &KEY).is_some_and(|found| release(tables, &found));
        let (tables, first, second) = race(
            &[0],
            |tables| assert_eq!(outcome(insert(tables, &KEY, START)), Outcome::New),
            release_it,
            release_it,
        );
        assert!(first != second);
        assert_eq!(audit(&tables, &KEY), 0);
    });
}

/// A cell gets another key while it is looked at: what is found is of the key
/// that was asked for.
#[test]
fn find_never_answers_another_flow() {
    explore(|| {
        let (tables, (), ()) = race(
            &[0],
            |tables| assert_eq!(outcome(insert(tables, &KEY, START)), Outcome::New),
            |tables| {
                assert!(release(tables, &find(tables, &KEY).expect("is there")));
                assert_eq!(outcome(insert(tables, &OTHER, START + 1)), Outcome::New);
            },
            |tables| {
                for (key, slot, now) in [(KEY, 0, START), (OTHER, 1, START + 1)] {
                    if let Some(found) = find(tables, &key) {
                        assert_eq!(found.slot(), slot);
                        assert_eq!(found.times, flow::Times::new(now, TIMEOUT));
                    }
                }
            },
        );
        assert_eq!((audit(&tables, &KEY), audit(&tables, &OTHER)), (0, 1));
    });
}

/// The spill count and the lock share a word: a flow leaves the stash while
/// another one's insert holds the lock.
#[test]
fn release_from_the_stash_against_insert() {
    explore(|| {
        let (tables, inserted, freed) = race(
            // One cell at home, two in the stash.
            &[0, CELLS, CELLS + 1],
            |tables| {
                assert_eq!(outcome(insert(tables, &OTHER, START)), Outcome::New);
                assert_eq!(outcome(insert(tables, &[8, 0], START)), Outcome::New);
            },
            |tables| outcome(insert(tables, &KEY, START)),
            |tables| release(tables, &find(tables, &[8, 0]).expect("in the stash")),
        );
        assert_eq!((inserted, freed), (Outcome::New, true));
        assert_eq!(audit(&tables, &KEY), 1);
        assert!(find(&tables, &KEY).is_some());
    });
}
