//! The walk of the schedulers that compare servers: from the first of the list
//! on, one replaces the best so far only if it is better.

use core::marker::PhantomData;

use super::{
    List, NOBODY, Pick,
    list::{Conns, takes_more},
};
use crate::tables::{Step, Tables};

/// What a scheduler looks at. Servers without a weight, and those that are
/// overloaded, never come before it.
pub trait Rule: Copy + 'static {
    /// Whether the server may be chosen at all.
    #[inline(always)]
    fn admits(_: Conns, _weight: u64) -> bool {
        true
    }

    /// Whether the server is chosen without a look at those behind it.
    #[inline(always)]
    fn settles(_: Conns) -> bool {
        false
    }

    /// What the server has to do.
    fn load(conns: Conns) -> u64;

    /// Whether a server is better than the best so far.
    fn beats(server: Burden, best: Burden) -> bool;
}

/// What is compared of a server.
#[derive(Clone, Copy)]
pub struct Burden {
    /// By [`Rule::load`].
    pub load: u64,
    /// Weight.
    pub weight: u64,
}

impl Burden {
    /// Whether it has less to do for its weight than `other`.
    #[inline(always)]
    pub const fn is_less(self, other: Self) -> bool {
        other.load.wrapping_mul(self.weight) > self.load.wrapping_mul(other.weight)
    }
}

#[derive(Clone, Copy)]
struct Walk<R> {
    list: List,
    chosen: u64,
    best: Burden,
    rule: PhantomData<R>,
}

impl<R: Rule, T: Tables> Step<T> for Walk<R> {
    #[inline(always)]
    fn step(&mut self, tables: T, position: u32) -> bool {
        let Some(entry) = self.list.entry(tables, position.into()) else {
            return false;
        };
        let weight = u64::from(entry.weight());
        if weight == 0 || !takes_more(tables, entry.slot()) {
            return true;
        }
        let conns = Conns::of(tables, entry.slot());
        if R::settles(conns) {
            self.chosen = position.into();
            return false;
        }
        let server = Burden {
            load: R::load(conns),
            weight,
        };
        if R::admits(conns, weight) && (self.chosen == NOBODY || R::beats(server, self.best)) {
            self.chosen = position.into();
            self.best = server;
        }
        true
    }
}

/// The best server by a rule.
#[inline(always)]
pub fn choose<R: Rule, T: Tables>(pick: Pick<'_, T>) -> u64 {
    let mut walk = Walk::<R> {
        list: pick.list,
        chosen: NOBODY,
        best: Burden { load: 0, weight: 0 },
        rule: PhantomData,
    };
    pick.tables.repeat(pick.list.len as u32, &mut walk);
    walk.chosen
}
