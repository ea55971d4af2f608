//! Connections with a reverse cell: two cells, made and freed one after the other.

use lb_common::{
    conn::Counted,
    family::V4,
    flow::{self, FlowCell, Inserted, Link, NewFlow, NewReverse, SWEEP_DELAY, StateWord, word},
    layout::ForwardMethod,
    tables::{Cell, Table, Tables},
};

use crate::{
    protocol::{DEAD, KEY, Key, START, TIMEOUT, audit, explore, find, race, release},
    tables::{LoomCell, LoomTables},
};

/// The key of the server's packets.
const BACK: Key = [11, 0];

/// A NAT connection to the server in `slot`; the way back says which.
fn connect(tables: &LoomTables, slot: u32, now: u32) -> Option<Link> {
    let new = NewFlow {
        tells_client: false,
        slot,
        method: ForwardMethod::Masq,
        state: 3,
        counted: Counted::Active,
        timeout: TIMEOUT,
        template: 0,
    };
    match flow::insert::<V4, _>(tables, &KEY, now, &new.prepare(now)) {
        Inserted::New(link) => Some(link),
        _ => None,
    }
}

fn pair(tables: &LoomTables, link: Link, way: u32, takes_over: bool) -> bool {
    let new = NewReverse {
        link,
        way: [way.into(); 3],
        takes_over,
    };
    let inserted = flow::insert::<V4, _>(tables, &BACK, START, &new.prepare());
    matches!(inserted, Inserted::New(_))
}

fn make(tables: &LoomTables) {
    let link = connect(tables, 0, START).expect("there is room");
    assert!(pair(tables, link, 0, true));
}

/// The sweep's step on some cells, long after the connection's deadline.
fn sweep(tables: &LoomTables, cells: &[u32]) {
    for &index in cells {
        let cell = FlowCell(tables.cell(Table::Flow4, index).expect("exists"));
        let state = cell.state();
        let over = if state.is_reverse() {
            let link = cell.link::<V4>();
            let held = tables.cell(Table::Flow4, link.index());
            held.is_none_or(|it| FlowCell(it).state().generation() != link.generation())
        } else {
            cell.times().is_releasable(DEAD + SWEEP_DELAY)
        };
        if state.is_live() && over {
            flow::release::<V4, _>(tables, cell, index, state);
        }
    }
}

/// What a reply does: the server that it counts for, and the way it takes.
fn reply(tables: &LoomTables) -> Option<(u32, [u64; 3])> {
    let reverse = find(tables, &BACK)?;
    assert!(reverse.state.is_reverse());
    let conn = flow::linked::<V4, _>(tables, reverse.cell.link::<V4>())?;
    let (link, way) = flow::read_reverse::<V4, _>(reverse.cell)?;
    // As the engine does before it writes: the way is that of this connection.
    (link == Link::new(conn.index, conn.state.generation())).then_some((conn.slot(), way))
}

/// Live cells of the server's packets, and that the connection's is the only one.
fn reverse_cells(tables: &LoomTables) -> Vec<LoomCell<'_>> {
    let cells = (0..4).filter_map(|index| tables.cell(Table::Flow4, index));
    cells
        .filter(|cell| {
            let state = StateWord(cell.load(word::STATE));
            state.is_live() && state.is_reverse() && FlowCell(*cell).key::<V4>()[0] == BACK[0]
        })
        .collect()
}

/// A reply comes while its connection is swept away: it finds it or nothing.
#[test]
fn a_reply_against_the_sweep() {
    explore(|| {
        let (tables, found, ()) = race(&[0, 1], make, reply, |tables| sweep(tables, &[0, 1]));
        assert!(matches!(found, None | Some((0, [0, 0, 0]))), "{found:?}");
        assert_eq!(audit(&tables, &KEY) + audit(&tables, &BACK), 0);
    });
}

/// A reply comes while the client starts a new connection of the same keys to
/// another server: server and way are those of one of the two.
#[test]
fn a_reply_against_a_new_connection() {
    explore(|| {
        let (tables, found, ()) = race(&[0, 1], make, reply, |tables| {
            assert!(release(tables, &find(tables, &KEY).expect("is there")));
            let link = connect(tables, 1, START).expect("there is room");
            assert!(pair(tables, link, 1, true));
        });
        if let Some((slot, way)) = found {
            assert_eq!(way, [slot.into(); 3]);
        }
        assert_eq!((audit(&tables, &KEY), audit(&tables, &BACK)), (1, 1));
        assert_eq!(reply(&tables), Some((1, [1; 3])));
    });
}

/// The sweep meets a dead connection and its reverse cell while the client
/// starts a new one of the same keys: that one has both its cells afterwards.
#[test]
fn a_new_connection_against_the_sweep() {
    explore(|| {
        let (tables, paired, ()) = race(
            &[0, 1, 2],
            make,
            |tables| {
                let link = connect(tables, 1, DEAD + SWEEP_DELAY).expect("the old one is dead");
                pair(tables, link, 1, true)
            },
            |tables| sweep(tables, &[0, 1]),
        );
        assert!(paired);
        assert_eq!((audit(&tables, &KEY), audit(&tables, &BACK)), (1, 1));
        assert_eq!(reply(&tables), Some((1, [1; 3])));
    });
}

/// Two of the client's packets learn another way back at the same time.
#[test]
fn two_ways_are_learnt() {
    explore(|| {
        let (tables, first, second) = race(
            &[0, 1],
            make,
            |tables| {
                let conn = find(tables, &KEY).expect("lives");
                pair(
                    tables,
                    Link::new(conn.index, conn.state.generation()),
                    1,
                    false,
                )
            },
            |tables| {
                let conn = find(tables, &KEY).expect("lives");
                pair(
                    tables,
                    Link::new(conn.index, conn.state.generation()),
                    2,
                    false,
                )
            },
        );
        assert!(first || second);
        assert_eq!((audit(&tables, &KEY), audit(&tables, &BACK)), (1, 1));
        assert_eq!(reverse_cells(&tables).len(), 1);
        let (_, way) = reply(&tables).expect("one of them");
        assert!(way == [1; 3] || way == [2; 3], "{way:?}");
    });
}

/// A packet notes down the time on a connection whose cell becomes a reverse
/// cell meanwhile: the way in it stays what it is.
#[test]
fn a_late_touch_against_a_reverse_cell() {
    explore(|| {
        let (tables, (), ()) = race(
            &[0],
            |tables| {
                connect(tables, 0, START).expect("there is room");
            },
            |tables| {
                if let Some(found) = find(tables, &KEY).filter(|it| !it.state.is_reverse()) {
                    let later = flow::Times::new(START + 1, TIMEOUT);
                    found.cell.touch(found.times, later);
                }
            },
            |tables| {
                assert!(release(tables, &find(tables, &KEY).expect("is there")));
                assert!(pair(tables, Link::new(3, 0), 7, true));
            },
        );
        let cells = reverse_cells(&tables);
        assert_eq!(cells.len(), 1);
        assert_eq!(flow::way_of::<V4, _>(FlowCell(cells[0])), [7; 3]);
    });
}
