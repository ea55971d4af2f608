//! Weighted round robin: rounds with a falling threshold of weight.

use super::{Cursor, List, NOBODY, is_eligible};
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
    Cursor {
        at: 0,
        weight,
        ..cursor
    }
}

/// The cursor of a service that was just given this scheduler.
pub const fn bind(generation: u16, max_weight: u32) -> Cursor {
    Cursor {
        at: 0,
        weight: max_weight as i32,
        generation,
    }
}

/// The thresholds of a list of weights: (greatest − (gcd − 1), gcd of those above 0).
pub fn thresholds(weights: impl Iterator<Item = u32>) -> (u32, u32) {
    let (mut max, mut gcd) = (0, 0);
    for weight in weights {
        max = weight.max(max);
        gcd = greatest_common_divisor(weight, gcd);
    }
    if max == 0 {
        (0, 1)
    } else {
        (max - (gcd - 1), gcd)
    }
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Flags are 0 or 1.
#[derive(Clone, Copy)]
struct Walk {
    list: List,
    /// Next position to look at.
    position: u64,
    weight: i64,
    max: i64,
    gcd: i64,
    /// Cursor at the start; 0 is the head.
    start: u64,
    /// Cursor at which to give up; 0 is not set.
    stop: u64,
    restarted: u64,
    last_pass: u64,
    /// Result: the cursor, and whether its server was chosen.
    at: u64,
    chosen: u64,
}

impl Walk {
    /// At the list's end: lower the threshold; `false` when there is nobody.
    #[inline(always)]
    fn next_pass(&mut self) -> bool {
        self.weight = self.weight.wrapping_sub(self.gcd);
        if self.weight <= 0 {
            self.weight = self.max;
            if self.last_pass != 0 || self.start == 0 {
                self.at = 0;
                return false;
            }
            self.restarted = 1;
        }
        self.last_pass = u64::from(self.weight <= self.gcd);
        if self.last_pass != 0 && self.restarted != 0 {
            self.stop = self.start;
        }
        self.position = 0;
        true
    }
}

impl<T: Tables> Step<T> for Walk {
    #[inline(always)]
    fn step(&mut self, tables: T, _: u32) -> bool {
        if self.position >= self.list.len && !self.next_pass() {
            return false;
        }
        let Some(entry) = self.list.entry(tables, self.position) else {
            return false;
        };
        self.position = self.position.wrapping_add(1);
        if i64::from(entry.weight()) >= self.weight && is_eligible(tables, entry) {
            self.at = self.position;
            self.chosen = 1;
        } else if self.stop != 0 && self.position == self.stop {
            self.at = self.position;
        } else {
            return true;
        }
        false
    }
}

/// The cursor after the choice and the position chosen.
#[inline(always)]
pub(super) fn choose<T: Tables>(
    tables: T,
    cursor: Cursor,
    list: List,
    service: ServiceView<T::Cell>,
) -> (Cursor, u64) {
    if service.max_weight() == 0 {
        return (cursor, NOBODY);
    }
    let mut walk = Walk {
        list,
        position: cursor.at.into(),
        weight: cursor.weight.into(),
        max: service.max_weight().into(),
        gcd: service.gcd().into(),
        start: cursor.at.into(),
        stop: 0,
        restarted: 0,
        last_pass: 0,
        at: cursor.at.into(),
        chosen: 0,
    };
    // The rest of this pass, then at the most two whole ones and a first
    // server: the heaviest is eligible in each pass.
    let steps = (list.len as u32).wrapping_mul(3).wrapping_add(1);
    tables.repeat(steps, &mut walk);
    let next = Cursor {
        at: walk.at as u32,
        weight: walk.weight as i32,
        ..cursor
    };
    let position = if walk.chosen != 0 {
        walk.at.wrapping_sub(1)
    } else {
        NOBODY
    };
    (next, position)
}
