use rand::{Rng, SeedableRng, rngs::StdRng};

use super::support::{
    SLOTS, TIMEOUT, audit, both_families, find, flow, insert, insert_new, load, one_home,
    random_key, release, tables,
};
use crate::{
    family::Family,
    flow::{
        self, BLOCK, Inserted, Link, NewFlow, NewReverse, SWEEP_DELAY, WINDOW, linked,
        read_reverse,
        sweep::{SweepState, run},
        total_cells,
    },
    host::HostTables,
    layout::ForwardMethod,
};

const CELLS: u32 = 8192;
const WAY: [u64; 3] = [0x1234_5678_9abc_def0, u64::MAX, 1500];

/// Inserts a NAT connection; answers the link to it.
fn connect<F: Family>(tables: &HostTables, key: &F::Key, slot: u32, now: u32) -> Link {
    let new = NewFlow {
        method: ForwardMethod::Masq,
        ..flow(slot)
    };
    match flow::insert::<F, _>(tables, key, now, &new.prepare(now)) {
        Inserted::New(link) => link,
        _ => panic!("{key:?} is there"),
    }
}

fn pair<F: Family>(
    tables: &HostTables,
    key: &F::Key,
    link: Link,
    takes_over: bool,
    now: u32,
) -> Inserted {
    let new = NewReverse {
        link,
        way: WAY,
        takes_over,
    };
    flow::insert::<F, _>(tables, key, now, &new.prepare())
}

fn sweep<F: Family>(tables: &HostTables, now: u32) -> u64 {
    tables.set_now(now);
    let mut state = SweepState::default();
    for _ in 0..2 * total_cells(CELLS) / BLOCK {
        run::<F, _>(tables, &mut state);
    }
    state.status.freed
}

fn a_reverse_cell_leads_to_its_connection<F: Family>() {
    let tables = tables::<F>(CELLS, 51);
    let mut random = StdRng::seed_from_u64(52);
    let (key, back) = (random_key::<F>(&mut random), random_key::<F>(&mut random));
    let link = connect::<F>(&tables, &key, 2, 10);
    let Inserted::New(own) = pair::<F>(&tables, &back, link, true, 10) else {
        panic!("there is room");
    };
    let reverse = find::<F>(&tables, &back).expect("was inserted");
    assert!(reverse.state.is_reverse() && reverse.state.counted() == 0);
    assert_eq!(own, Link::new(reverse.index, reverse.state.generation()));
    assert_eq!(read_reverse::<F, _>(reverse.cell), Some((link, WAY)));
    let conn = linked::<F, _>(&tables, link).expect("lives");
    assert_eq!((conn.slot(), conn.cell.key::<F>()), (2, key));
    assert_eq!(
        read_reverse::<F, _>(conn.cell),
        None,
        "a connection has no way"
    );
    assert!(
        linked::<F, _>(&tables, own).is_none(),
        "no link leads to one"
    );
    assert!(linked::<F, _>(&tables, Link::NONE).is_none());
    assert_eq!((audit::<F>(&tables), load(&tables, 2)), (2, (1, 0)));

    // The next flow in the connection's cell is another one.
    assert!(release::<F>(&tables, &key));
    assert!(linked::<F, _>(&tables, link).is_none());
    let again = connect::<F>(&tables, &key, 1, 11);
    assert_eq!(
        (again.index(), again.generation()),
        (link.index(), link.generation() + 1)
    );
    assert!(linked::<F, _>(&tables, link).is_none());
    assert!(linked::<F, _>(&tables, again).is_some());
}

fn which_reverse_cell_makes_way<F: Family>() {
    let tables = tables::<F>(CELLS, 53);
    let mut random = StdRng::seed_from_u64(54);
    let mut key = || random_key::<F>(&mut random);
    let (one, two, back) = (key(), key(), key());
    let older = connect::<F>(&tables, &one, 0, 10);
    assert!(matches!(
        pair::<F>(&tables, &back, older, true, 10),
        Inserted::New(_)
    ));
    let newer = connect::<F>(&tables, &two, 1, 10);
    let owner = |tables: &HostTables| find::<F>(tables, &back).expect("there").cell.link::<F>();
    // Only a connection that is new takes it over,
    assert!(matches!(
        pair::<F>(&tables, &back, newer, false, 10),
        Inserted::Exists
    ));
    assert_eq!(owner(&tables), older);
    assert!(matches!(
        pair::<F>(&tables, &back, newer, true, 10),
        Inserted::New(_)
    ));
    assert_eq!(owner(&tables), newer);
    assert!(matches!(
        pair::<F>(&tables, &back, older, false, 10),
        Inserted::Exists
    ));
    // one with another way,
    assert!(matches!(
        pair::<F>(&tables, &back, newer, false, 10),
        Inserted::New(_)
    ));
    assert_eq!(audit::<F>(&tables), 3);
    // or one when the other is dead, freed or not.
    assert!(matches!(
        pair::<F>(&tables, &back, older, false, 10 + TIMEOUT),
        Inserted::New(_)
    ));
    assert_eq!(owner(&tables), older);
    assert!(release::<F>(&tables, &one));
    assert!(matches!(
        pair::<F>(&tables, &back, newer, false, 10),
        Inserted::New(_)
    ));
    assert_eq!((audit::<F>(&tables), owner(&tables)), (2, newer));
}

fn a_connection_and_a_reverse_cell_of_one_key<F: Family>() {
    let tables = tables::<F>(CELLS, 55);
    let mut random = StdRng::seed_from_u64(56);
    let (key, back) = (random_key::<F>(&mut random), random_key::<F>(&mut random));
    let link = connect::<F>(&tables, &key, 0, 10);
    assert!(matches!(
        pair::<F>(&tables, &back, link, true, 10),
        Inserted::New(_)
    ));
    // A client's flow does not take the place of a reverse cell in use,
    assert!(matches!(insert::<F>(&tables, &back, 10), Inserted::Exists));
    assert!(release::<F>(&tables, &key));
    // but of one that leads nowhere; and nobody the place of a live client's.
    insert_new::<F>(&tables, &back, 10);
    let link = connect::<F>(&tables, &key, 1, 10);
    assert!(matches!(
        pair::<F>(&tables, &back, link, true, 10),
        Inserted::Exists
    ));
    assert!(matches!(
        pair::<F>(&tables, &back, link, true, 10 + TIMEOUT),
        Inserted::New(_)
    ));
    assert_eq!((audit::<F>(&tables), load(&tables, 0)), (2, (0, 0)));
}

fn the_sweep_frees_reverse_cells_that_lead_nowhere<F: Family>() {
    let tables = tables::<F>(CELLS, 57);
    let mut random = StdRng::seed_from_u64(58);
    let count = if cfg!(miri) { 20 } else { 1000 };
    let mut keys = Vec::new();
    for number in 0..count {
        let (key, back) = (random_key::<F>(&mut random), random_key::<F>(&mut random));
        let now = if number % 2 == 0 { 10 } else { 20 };
        let link = connect::<F>(&tables, &key, number % SLOTS, now);
        assert!(matches!(
            pair::<F>(&tables, &back, link, true, now),
            Inserted::New(_)
        ));
        keys.push((key, back));
    }
    let half = u64::from(count / 2);
    assert_eq!(sweep::<F>(&tables, 10 + TIMEOUT + SWEEP_DELAY - 1), 0);
    assert_eq!(sweep::<F>(&tables, 10 + TIMEOUT + SWEEP_DELAY), 2 * half);
    for (number, (key, back)) in keys.iter().enumerate() {
        let lives = number % 2 == 1;
        assert_eq!(find::<F>(&tables, key).is_some(), lives);
        assert_eq!(find::<F>(&tables, back).is_some(), lives);
    }
    assert_eq!(audit::<F>(&tables) as u64, 2 * half);
    assert_eq!(sweep::<F>(&tables, 20 + TIMEOUT + SWEEP_DELAY), 2 * half);
    assert_eq!(audit::<F>(&tables), 0);
    assert!((0..SLOTS).all(|slot| load(&tables, slot) == (0, 0)));
}

fn reverse_cells_in_the_stash_are_counted<F: Family>() {
    let tables = one_home::<F>(CELLS);
    let mut random = StdRng::seed_from_u64(59);
    let mut cells = 0;
    for slot in 0..SLOTS {
        let link = connect::<F>(&tables, &super::support::key::<F>(slot.into()), slot, 1);
        let mut key = || super::support::key::<F>(random.random_range(100..u64::from(u32::MAX)));
        // Two of them for one connection: the second stands for a stale one.
        for _ in 0..2 {
            assert!(matches!(
                pair::<F>(&tables, &key(), link, true, 1),
                Inserted::New(_)
            ));
        }
        cells += 3;
    }
    assert!(cells > WINDOW as usize);
    assert_eq!(audit::<F>(&tables), cells, "spills are counted");
    sweep::<F>(&tables, 1 + TIMEOUT + SWEEP_DELAY);
    assert_eq!(audit::<F>(&tables), 0);
}

mod run_both {
    super::both_families!(
        a_reverse_cell_leads_to_its_connection,
        which_reverse_cell_makes_way,
        a_connection_and_a_reverse_cell_of_one_key,
        the_sweep_frees_reverse_cells_that_lead_nowhere,
        reverse_cells_in_the_stash_are_counted,
    );
}
