//! More keys at one home than its window holds.

use super::support::{
    TIMEOUT, audit, both_families, find, insert, insert_new, key, one_home, release,
};
use crate::{
    family::Family,
    flow::{HomeWord, Inserted, WINDOW, word},
    tables::{Cell, Tables},
};

const CELLS: u32 = if cfg!(miri) { 64 } else { 128 };

fn spilled<F: Family>(tables: &crate::host::HostTables) -> u64 {
    HomeWord(tables.cell(F::FLOW, 0).expect("exists").load(word::HOME)).spilled()
}

fn window_then_stash_then_full<F: Family>() {
    let tables = one_home::<F>(CELLS);
    for number in 0..u64::from(2 * WINDOW) {
        insert_new::<F>(&tables, &key::<F>(number), 1);
        let found = find::<F>(&tables, &key::<F>(number)).expect("was inserted");
        let place = number as u32 % WINDOW;
        let stash = if number < u64::from(WINDOW) { 0 } else { CELLS };
        assert_eq!(found.index, stash + place, "flow {number}");
        assert_eq!(
            spilled::<F>(&tables),
            number.saturating_sub(u64::from(WINDOW) - 1)
        );
    }
    let one_more = key::<F>(99);
    assert!(matches!(insert::<F>(&tables, &one_more, 1), Inserted::Full));
    assert!(find::<F>(&tables, &one_more).is_none());
    assert!(matches!(
        insert::<F>(&tables, &key::<F>(12), 1),
        Inserted::Exists
    ));
    assert_eq!(
        audit::<F>(&tables),
        2 * WINDOW as usize,
        "and the lock is free"
    );

    // Room in the window is taken before room in the stash.
    assert!(release::<F>(&tables, &key::<F>(10)));
    assert!(release::<F>(&tables, &key::<F>(5)));
    assert_eq!(spilled::<F>(&tables), 7);
    insert_new::<F>(&tables, &one_more, 1);
    assert_eq!(
        find::<F>(&tables, &one_more).map(|found| found.index),
        Some(5)
    );
    assert_eq!(audit::<F>(&tables), 15);

    for number in (0..u64::from(2 * WINDOW))
        .filter(|number| ![5, 10].contains(number))
        .chain([99])
    {
        assert!(release::<F>(&tables, &key::<F>(number)));
    }
    assert_eq!((spilled::<F>(&tables), audit::<F>(&tables)), (0, 0));
}

fn a_dead_flow_in_the_stash_moves_home<F: Family>() {
    let tables = one_home::<F>(CELLS);
    for number in 0..=u64::from(WINDOW) {
        insert_new::<F>(&tables, &key::<F>(number), 1);
    }
    assert!(release::<F>(&tables, &key::<F>(3)));
    let spilled_key = key::<F>(WINDOW.into());
    insert_new::<F>(&tables, &spilled_key, 1 + TIMEOUT);
    assert_eq!(
        find::<F>(&tables, &spilled_key).map(|found| found.index),
        Some(3)
    );
    assert_eq!(
        (spilled::<F>(&tables), audit::<F>(&tables)),
        (0, WINDOW as usize)
    );
}

fn the_windows_wrap_around<F: Family>() {
    // With one bit in the low half of the last word and secrets of 1 in its
    // place, homes are spread; some window reaches over the end.
    let tables = super::support::tables::<F>(CELLS, 11);
    let mut wrapped = 0;
    for number in 0..2000 {
        let key = key::<F>(number);
        if crate::flow::home::<F, _>(&tables, &key) == CELLS - 1
            && matches!(insert::<F>(&tables, &key, 1), Inserted::New(_))
        {
            let index = find::<F>(&tables, &key).expect("was inserted").index;
            wrapped += u32::from(index < WINDOW - 1);
        }
    }
    assert_eq!(wrapped, WINDOW - 1);
    audit::<F>(&tables);
}

mod run {
    super::both_families!(
        window_then_stash_then_full,
        a_dead_flow_in_the_stash_moves_home,
        the_windows_wrap_around,
    );
}
