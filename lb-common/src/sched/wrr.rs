//! Weighted round robin: rounds with a falling threshold of weight.

use super::{Cursor, List};
use crate::{
    layout::ServiceView,
    tables::{Step, Tables},
};

/// The cursor after any change of a server: back to the head, the current
/// weight fitted to the new thresholds. A service therefore starts with one
/// plain round: its first server alone has the threshold 1.
pub const fn carry(cursor: Cursor, max_weight: u32, gcd: u32) -> Cursor {
    let (max, step) = (max_weight as i32, gcd as i32);
    let weight = if cursor.weight > max || cursor.weight == 0 {
        max
    } else if step > 1 {
        // A weight below 0 is never stored.
        (cursor.weight as u32 / gcd * gcd) as i32 + 1
    } else {
        cursor.weight
    };
    Cursor { at: 0, weight, ..cursor }
}

/// The cursor of a service that was just given this scheduler.
pub const fn bind(generation: u16, max_weight: u32) -> Cursor {
    Cursor { at: 0, weight: max_weight as i32, generation }
}

/// The thresholds of a list of weights: (greatest − (gcd − 1), gcd of those above 0).
pub fn thresholds(weights: impl Iterator<Item = u32>) -> (u32, u32) {
    let (mut max, mut gcd) = (0, 0);
    for weight in weights {
        max = weight.max(max);
        gcd = greatest_common_divisor(weight, gcd);
    }
    if max == 0 { (0, 1) } else { (max - (gcd - 1), gcd) }
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

struct Walk<T> {
    list: List<T>,
    /// Next position to look at.
    position: u32,
    weight: i32,
    max: i32,
    step: i32,
    /// Cursor at the start; 0 is the head.
    start: u32,
    /// Cursor at which to give up; 0 is not set.
    stop: u32,
    restarted: bool,
    last_pass: bool,
    /// Result: cursor, and whether its server was chosen.
    at: u32,
    chosen: bool,
}

impl<T: Tables> Walk<T> {
    /// At the list's end: lower the threshold; `false` when there is nobody.
    #[inline(always)]
    fn next_pass(&mut self) -> bool {
        self.weight = self.weight.wrapping_sub(self.step);
        if self.weight <= 0 {
            self.weight = self.max;
            if self.last_pass || self.start == 0 {
                self.at = 0;
                return false;
            }
            self.restarted = true;
        }
        self.last_pass = self.weight <= self.step;
        if self.last_pass && self.restarted && self.start != 0 {
            self.stop = self.start;
        }
        self.position = 0;
        true
    }
}

impl<T: Tables> Step<T> for Walk<T> {
    #[inline(always)]
    fn step(&mut self, _: T, _: u32) -> bool {
        if self.position >= self.list.len && !self.next_pass() {
            return false;
        }
        let Some(entry) = self.list.entry(self.position) else { return false };
        self.position = self.position.wrapping_add(1);
        if entry.weight() as i32 >= self.weight {
            self.at = self.position;
            self.chosen = true;
            return false;
        }
        if self.stop != 0 && self.position == self.stop {
            self.at = self.position;
            return false;
        }
        true
    }
}

/// The cursor after the choice and the position chosen.
#[inline(always)]
pub(super) fn choose<T: Tables>(
    tables: T,
    cursor: Cursor,
    list: List<T>,
    service: ServiceView<T::Cell>,
) -> (Cursor, Option<u32>) {
    let max = service.max_weight() as i32;
    if max == 0 || list.len == 0 {
        return (cursor, None);
    }
    let mut walk = Walk {
        list,
        position: cursor.at,
        weight: cursor.weight,
        max,
        step: service.gcd() as i32,
        start: cursor.at,
        stop: 0,
        restarted: false,
        last_pass: false,
        at: cursor.at,
        chosen: false,
    };
    if walk.step(tables, 0) {
        // The rest of this pass, and at the lowest two more whole ones: the
        // heaviest server is eligible in each.
        tables.repeat(list.len.wrapping_mul(3), &mut walk);
    }
    let next = Cursor { at: walk.at, weight: walk.weight, ..cursor };
    (next, walk.chosen.then_some(walk.at.wrapping_sub(1)))
}
