use super::support::{
    SLOTS, TIMEOUT, audit, both_families, find, flow, insert, insert_new, key, load, release,
    tables,
};
use crate::{
    conn::Counted,
    family::{Family, V4},
    flow::{
        self, FlowCell, Inserted, LOCK_TRIES, Link, NewFlow, StateWord, Times, cells_for,
        total_cells, word,
    },
    layout::ForwardMethod,
    tables::{Cell, Tables},
    time::seconds,
};

const CELLS: u32 = if cfg!(miri) { 16 } else { 64 };

fn from_insert_to_release<F: Family>() {
    let tables = tables::<F>(CELLS, 1);
    let key = key::<F>(7);
    assert!(find::<F>(&tables, &key).is_none());
    let new = NewFlow {
        tells_client: false,
        slot: 2,
        method: ForwardMethod::Tunnel,
        state: 3,
        counted: Counted::Active,
        timeout: TIMEOUT,
        template: 0,
    };
    assert!(matches!(
        flow::insert::<F, _>(&tables, &key, 50, &new.prepare(50)),
        Inserted::New(_)
    ));
    let found = find::<F>(&tables, &key).expect("was inserted");
    assert_eq!(
        (found.slot(), found.method()),
        (2, ForwardMethod::Tunnel as u8)
    );
    assert_eq!(
        (found.state.protocol_state(), found.state.counted()),
        (3, 2)
    );
    assert_eq!(found.times, Times::new(50, TIMEOUT));
    assert_eq!(found.cell.link(), Link::NONE);
    assert_eq!((audit::<F>(&tables), load(&tables, 2)), (1, (1, 0)));

    // Another CPU inserts it once more: the flow that is there stays.
    let again = flow::insert::<F, _>(&tables, &key, 60, &flow(1).prepare(60));
    assert!(matches!(again, Inserted::Exists));
    let there = find::<F>(&tables, &key).expect("is there");
    assert_eq!((there.index, there.slot()), (found.index, 2));

    let generation = found.state.generation();
    assert!(release::<F>(&tables, &key));
    assert!(
        !flow::release::<F, _>(&tables, found.cell, found.index, found.state),
        "once only"
    );
    assert!(find::<F>(&tables, &key).is_none());
    assert_eq!(found.cell.state().generation(), generation + 1);
    assert_eq!((audit::<F>(&tables), load(&tables, 2)), (0, (0, 0)));
}

fn transitions_move_the_counts<F: Family>() {
    let tables = tables::<F>(CELLS, 2);
    let key = key::<F>(1);
    insert_new::<F>(&tables, &key, 1);
    let first = find::<F>(&tables, &key).expect("is there");
    let go = |seen: StateWord, state, counted| {
        flow::transition(&tables, first.cell, seen, 0, seen.live(state, counted))
    };

    assert_eq!(go(first.state, 4, Counted::Inactive), Ok(()));
    assert_eq!(load(&tables, 0), (0, 1));
    let second = find::<F>(&tables, &key).expect("is there").state;
    assert_eq!((second.protocol_state(), second.counted()), (4, 1));
    assert_eq!(
        go(first.state, 6, Counted::Inactive),
        Err(second),
        "the state seen is history"
    );
    assert_eq!(load(&tables, 0), (0, 1));

    assert_eq!(go(second, 5, Counted::Inactive), Ok(()), "within one side");
    assert_eq!(load(&tables, 0), (0, 1));
    let third = find::<F>(&tables, &key).expect("is there").state;
    assert_eq!(go(third, 1, Counted::No), Ok(()));
    assert_eq!(load(&tables, 0), (0, 0));
    let fourth = find::<F>(&tables, &key).expect("is there").state;
    assert_eq!(go(fourth, 1, Counted::No), Ok(()), "to the same state");
    assert_eq!(go(fourth, 1, Counted::Active), Ok(()));
    assert_eq!(load(&tables, 0), (1, 0));
    assert!(release::<F>(&tables, &key));
    assert_eq!((audit::<F>(&tables), load(&tables, 0)), (0, (0, 0)));
}

fn what_was_not_found_is_searched_for_again_once_its_home_has_changed<F: Family>() {
    let tables = tables::<F>(CELLS, 1);
    let key = key::<F>(7);
    let seen = || match flow::find_or_home::<F, _>(&tables, &key) {
        Ok(found) => panic!("{} is there", found.index),
        Err(home) => home,
    };
    let insert_absent = |home| {
        let flow = flow(1).prepare(50).absent_from(home);
        flow::insert::<F, _>(&tables, &key, 50, &flow)
    };
    let before = seen();
    assert!(matches!(insert_absent(before), Inserted::New(_)));
    assert!(matches!(insert_absent(before), Inserted::Exists));
    assert!(release::<F>(&tables, &key));
    // The home remembers that it was there.
    assert_ne!(seen(), before);
    assert!(matches!(insert_absent(before), Inserted::New(_)));
    assert_eq!(audit::<F>(&tables), 1);
}

fn a_dead_flow_is_replaced<F: Family>() {
    let tables = tables::<F>(CELLS, 3);
    let key = key::<F>(5);
    insert_new::<F>(&tables, &key, 1000);
    let old = find::<F>(&tables, &key).expect("is there");
    assert!(!old.times.is_dead(1000 + TIMEOUT - 1));
    assert!(matches!(
        insert::<F>(&tables, &key, 1000 + TIMEOUT - 1),
        Inserted::Exists
    ));
    assert!(old.times.is_dead(1000 + TIMEOUT));
    assert!(
        !old.times
            .is_releasable(1000 + TIMEOUT + flow::SWEEP_DELAY - 1)
    );
    assert!(old.times.is_releasable(1000 + TIMEOUT + flow::SWEEP_DELAY));

    let again = flow::insert::<F, _>(
        &tables,
        &key,
        1000 + TIMEOUT,
        &flow(SLOTS - 1).prepare(1000 + TIMEOUT),
    );
    assert!(matches!(again, Inserted::New(_)));
    let new = find::<F>(&tables, &key).expect("is there");
    assert_eq!((new.slot(), new.index), (SLOTS - 1, old.index));
    assert_eq!(new.state.generation(), old.state.generation() + 1);
    assert_eq!(audit::<F>(&tables), 1);
    assert_eq!(
        (load(&tables, 0), load(&tables, SLOTS - 1)),
        ((0, 0), (1, 0))
    );

    // Whoever still holds the old flow cannot do anything to the new one.
    assert!(!flow::release::<F, _>(
        &tables, old.cell, old.index, old.state
    ));
    let moved = flow::transition(
        &tables,
        old.cell,
        old.state,
        0,
        old.state.live(6, Counted::Inactive),
    );
    assert_eq!(moved, Err(new.state));
    assert_eq!(audit::<F>(&tables), 1);
}

fn deadlines_survive_the_wrap_of_the_clock<F: Family>() {
    let tables = tables::<F>(CELLS, 4);
    let now = u32::MAX - TIMEOUT / 2;
    insert_new::<F>(&tables, &key::<F>(1), now);
    let times = find::<F>(&tables, &key::<F>(1)).expect("is there").times;
    assert!(!times.is_dead(now.wrapping_add(TIMEOUT - 1)));
    assert!(times.is_dead(now.wrapping_add(TIMEOUT)));
}

fn a_busy_or_stale_lock<F: Family>() {
    let tables = tables::<F>(CELLS, 5);
    let key = key::<F>(9);
    let home = flow::home::<F, _>(&tables, &key);
    let home = (&tables).cell(F::FLOW, home).expect("exists");
    // Also while the clock stands at 0, where the ticket would say "unlocked".
    for now in [0, 1, 5000] {
        let held = u64::from(u32::max(now, 1)) << 32;
        home.store(word::HOME, held);
        assert!(matches!(
            insert::<F>(&tables, &key, now),
            Inserted::Contended
        ));
        let late = u32::max(now, 1) + seconds(2);
        assert!(matches!(
            insert::<F>(&tables, &key, late),
            Inserted::Contended
        ));
        assert_eq!(home.load(word::HOME), held);
        insert_new::<F>(&tables, &key, late + 1);
        assert!(release::<F>(&tables, &key));
        assert_eq!(audit::<F>(&tables), 0, "and the lock is free again");
    }
    insert_new::<F>(&tables, &key, 0);
    assert_eq!(
        audit::<F>(&tables),
        1,
        "a lock taken at tick 0 is given back"
    );
    const { assert!(LOCK_TRIES == 32) };
}

fn touching_within_a_tick_only_reads<F: Family>() {
    let tables = tables::<F>(CELLS, 6);
    insert_new::<F>(&tables, &key::<F>(1), 10);
    let found = find::<F>(&tables, &key::<F>(1)).expect("is there");
    // A value that nobody wrote stays: the times did not change.
    found.cell.0.store(word::TIMES, 77);
    found.cell.touch(found.times, Times::new(10, TIMEOUT));
    assert_eq!(found.cell.times(), Times(77));
    // What another packet wrote meanwhile stays, too.
    found.cell.touch(found.times, Times::new(11, TIMEOUT));
    assert_eq!(found.cell.times(), Times(77));
    found.cell.touch(Times(77), Times::new(11, TIMEOUT));
    assert_eq!(found.cell.times().deadline(), 11 + TIMEOUT);
}

fn a_key_is_all_its_words<F: Family>() {
    let tables = super::support::one_home::<F>(CELLS);
    insert_new::<F>(&tables, &F::key_from(|_| 0), 1);
    for word in 0..F::KEY_WORDS {
        for bit in [0, 31, 32, 63] {
            let other = F::key_from(|i| if i == word { 1 << bit } else { 0 });
            assert!(
                find::<F>(&tables, &other).is_none(),
                "word {word} bit {bit}"
            );
        }
    }
}

mod run {
    super::both_families!(
        from_insert_to_release,
        transitions_move_the_counts,
        what_was_not_found_is_searched_for_again_once_its_home_has_changed,
        a_dead_flow_is_replaced,
        deadlines_survive_the_wrap_of_the_clock,
        a_busy_or_stale_lock,
        touching_within_a_tick_only_reads,
        a_key_is_all_its_words,
    );
}

#[test]
fn the_families_do_not_share_a_table() {
    let tables = tables::<V4>(CELLS, 7);
    insert_new::<V4>(&tables, &key::<V4>(0), 1);
    assert!(find::<crate::family::V6>(&tables, &[0; 5]).is_none());
}

#[test]
fn sizes() {
    assert_eq!(cells_for(1), 8192);
    assert_eq!(cells_for(4096), 8192);
    assert_eq!(cells_for(4097), 16384);
    assert_eq!(cells_for(1 << 18), 1 << 19);
    assert_eq!(cells_for(1 << 29), 1 << 30);
    assert_eq!(cells_for(u32::MAX), 1 << 30);
    assert_eq!(total_cells(cells_for(1)) % flow::BLOCK, 0);
}

#[test]
fn a_cell_out_of_range_is_nobody() {
    let tables = tables::<V4>(CELLS, 8);
    assert!((&tables).cell(V4::FLOW, total_cells(CELLS)).is_none());
    assert!(
        (&tables)
            .cell(V4::FLOW, total_cells(CELLS) - 1)
            .map(FlowCell)
            .is_some()
    );
}
