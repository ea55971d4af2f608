//! Two servers at random, each as likely as its weight says, and the better of
//! them. As in the kernel the first of the list is a little likelier, and the
//! products that are compared have 32 bits.

use super::{
    List, NOBODY, Pick, Scheduler,
    list::{Conns, takes_more},
};
use crate::tables::{Step, Tables};

/// The better of two at random.
pub struct Twos;

impl Scheduler for Twos {
    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        let Pick { tables, list, .. } = pick;
        let mut sum = Sum { list, weight: 0 };
        tables.repeat(list.len as u32, &mut sum);
        if sum.weight == 0 {
            return NOBODY;
        }
        let mut draw = Draw {
            list,
            left: [up_to(tables, sum.weight), up_to(tables, sum.weight)],
            chosen: [NOBODY; 2],
            overhead: [0; 2],
            weight: [0; 2],
        };
        tables.repeat(list.len as u32, &mut draw);
        let product = |weight: u64, overhead: u64| (weight as i32).wrapping_mul(overhead as i32);
        let second = product(draw.weight[1], draw.overhead[0]);
        if second > product(draw.weight[0], draw.overhead[1]) {
            draw.chosen[1]
        } else {
            draw.chosen[0]
        }
    }
}

/// A random number from 0 to `most`.
#[inline(always)]
fn up_to<T: Tables>(tables: T, most: u64) -> i64 {
    let most = if most > 0xffff_fffe {
        0xffff_fffe
    } else {
        most
    };
    (u64::from(tables.random()).wrapping_mul(most.wrapping_add(1)) >> 32) as i64
}

/// The weight of the server at a position; 0 if it takes no new connection.
#[inline(always)]
fn weight<T: Tables>(tables: T, list: List, position: u32) -> u64 {
    match list.entry(tables, position.into()) {
        Some(entry) if takes_more(tables, entry.slot()) => entry.weight().into(),
        _ => 0,
    }
}

#[derive(Clone, Copy)]
struct Sum {
    list: List,
    weight: u64,
}

impl<T: Tables> Step<T> for Sum {
    #[inline(always)]
    fn step(&mut self, tables: T, position: u32) -> bool {
        self.weight = self
            .weight
            .wrapping_add(weight(tables, self.list, position));
        true
    }
}

#[derive(Clone, Copy)]
struct Draw {
    list: List,
    /// What is left of the numbers drawn.
    left: [i64; 2],
    chosen: [u64; 2],
    overhead: [u64; 2],
    weight: [u64; 2],
}

impl Draw {
    #[inline(always)]
    fn pass(&mut self, which: usize, position: u32, weight: u64, overhead: u64) {
        self.left[which] = self.left[which].wrapping_sub(weight as i64);
        if self.left[which] <= 0 && self.chosen[which] == NOBODY {
            self.chosen[which] = position.into();
            self.overhead[which] = overhead;
            self.weight[which] = weight;
        }
    }
}

impl<T: Tables> Step<T> for Draw {
    #[inline(always)]
    fn step(&mut self, tables: T, position: u32) -> bool {
        let weight = weight(tables, self.list, position);
        if weight == 0 {
            return true;
        }
        let Some(entry) = self.list.entry(tables, position.into()) else {
            return false;
        };
        let overhead = Conns::of(tables, entry.slot()).overhead();
        self.pass(0, position, weight, overhead);
        self.pass(1, position, weight, overhead);
        self.chosen[0] == NOBODY || self.chosen[1] == NOBODY
    }
}
