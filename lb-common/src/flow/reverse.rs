use super::{Content, FlowCell, Found, Link, StateWord, linked, word};
use crate::{
    family::Family,
    tables::{Cell, Tables},
    time::Tick,
};

/// A reverse cell to be inserted. One of another connection makes way: of two
/// connections of one client port to one server port the newer gets the
/// replies, as in the kernel, whose buckets hold the newest first.
#[derive(Clone, Copy, Debug)]
pub struct NewReverse {
    /// The connection.
    pub link: Link,
    /// The way back to its client, learnt from a packet of his so that a reply
    /// needs no route look-up: [`Learned::words`](crate::forward::Learned::words).
    pub way: [u64; 3],
    /// Whether another connection's makes way although that lives. FULLNAT tries
    /// another local port instead.
    pub takes_over: bool,
}

/// [`NewReverse::way`] in a reverse cell.
#[inline(always)]
pub fn way_of<C: Cell>(cell: FlowCell<C>) -> [u64; 3] {
    let word = |word| cell.0.load(word);
    [word(word::TIMES), word(word::DEST), word(word::SPARE)]
}

/// Link and way of a live reverse cell, both of one connection and one time:
/// words of a cell that is filled anew meanwhile are not mixed.
#[inline(always)]
pub fn read_reverse<C: Cell>(cell: FlowCell<C>) -> Option<(Link, [u64; 3])> {
    let before = cell.state();
    let (link, way) = (cell.link(), way_of(cell));
    let unchanged = cell.state() == before && before.is_live() && before.is_reverse();
    unchanged.then_some((link, way))
}

impl<F: Family> Content<F> for NewReverse {
    #[inline(always)]
    fn replaces<T: Tables>(&self, tables: T, found: &Found<T::Cell>, now: Tick) -> bool {
        if !found.state.is_reverse() {
            return found.times.is_dead(now);
        }
        let link = found.cell.link();
        self.takes_over
            || link == self.link
            || linked::<F, T>(tables, link).is_none_or(|conn| conn.times.is_dead(now))
    }

    #[inline(always)]
    fn fill<C: Cell>(&self, cell: FlowCell<C>, _: Tick) {
        cell.0.store(word::TIMES, self.way[0]);
        cell.0.store(word::DEST, self.way[1]);
        cell.0.store(word::LINK, self.link.0);
        cell.0.store(word::SPARE, self.way[2]);
    }

    #[inline(always)]
    fn bind<T: Tables>(&self, _: T) {}

    #[inline(always)]
    fn live(&self, busy: StateWord) -> StateWord {
        busy.live_reverse()
    }
}
