use super::{FlowCell, HomeWord, Link, Prepared, StateWord, word};
use crate::tables::Cell;

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

impl NewReverse {
    /// What its cell will hold.
    #[inline(always)]
    pub fn prepare(&self) -> Prepared {
        let [times, dest, spare] = self.way;
        Prepared {
            live: StateWord::live_reverse(),
            times,
            dest,
            link: self.link.0,
            spare,
            load: 0,
            takes_over: self.takes_over.into(),
            service: [0; 3],
            absent: HomeWord::NONE,
        }
    }
}
