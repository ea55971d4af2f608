//! Weighted round robin: rounds with a falling threshold of weight.

#[cfg(any(test, feature = "compile"))]
use super::{Compiled, Server};
use super::{
    Cursor, List, NOBODY, Pick, Scheduler,
    cursor::{self, Round},
    list::takes_more,
};
use crate::tables::{Step, Tables};

/// Weighted round robin.
pub struct Wrr;

impl Scheduler for Wrr {
    const COMPILES: bool = true;

    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        cursor::go::<Self, T>(pick)
    }

    #[cfg(any(test, feature = "compile"))]
    fn compile(servers: &[Server]) -> Compiled {
        Compiled {
            hints: next_heavier(servers),
            ..Compiled::default()
        }
    }
}

/// For each server the position of the first behind it that is heavier: those
/// between need not be looked at where it is too light. None is the greatest
/// number.
#[cfg(any(test, feature = "compile"))]
fn next_heavier(servers: &[Server]) -> Vec<u16> {
    let mut hints = vec![u16::MAX; servers.len()];
    let mut lighter: Vec<usize> = Vec::new();
    for (position, server) in servers.iter().enumerate() {
        while let Some(last) = lighter.pop_if(|last| servers[*last].weight < server.weight) {
            hints[last] = position as u16;
        }
        lighter.push(position);
    }
    hints
}

impl Round for Wrr {
    #[inline(always)]
    fn carry<T: Tables>(pick: Pick<'_, T>, cursor: Cursor) -> Cursor {
        carry(cursor, pick.service.max_weight(), pick.service.gcd())
    }

    #[inline(always)]
    fn next<T: Tables>(pick: Pick<'_, T>, cursor: Cursor) -> (Cursor, u64) {
        next(pick, cursor)
    }
}

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
    /// Greatest weight that this pass met of a server that is not overloaded;
    /// [`PARTLY`] in a pass that began in the middle.
    met: i64,
    /// Result: the cursor, and whether its server was chosen.
    at: u64,
    chosen: u64,
}

/// [`Walk::met`] of a pass that does not see the whole list.
const PARTLY: i64 = i64::MAX;

impl Walk {
    /// At the list's end: lower the threshold; `false` when there is nobody.
    #[inline(always)]
    fn next_pass(&mut self) -> bool {
        self.weight = self.weight.wrapping_sub(self.gcd);
        if self.weight > self.met {
            // The heaviest servers are overloaded. The kernel passes through the
            // list at every threshold; nobody is met before the first that is
            // low enough, or the last.
            let low = if self.met > 0 { self.met } else { 1 };
            let excess = self.weight.wrapping_sub(low) as u64;
            let gcd = self.gcd as u64;
            let mut steps = excess.checked_div(gcd).unwrap_or(0);
            let reached = self.weight.wrapping_sub(steps.wrapping_mul(gcd) as i64);
            if reached > low && reached > self.gcd {
                steps = steps.wrapping_add(1);
            }
            self.weight = self.weight.wrapping_sub(steps.wrapping_mul(gcd) as i64);
        }
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
        self.met = 0;
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
        let looked_at = self.position;
        self.position = looked_at.wrapping_add(1);
        let weight = i64::from(entry.weight());
        let takes_more = takes_more(tables, entry.slot());
        if takes_more && weight > self.met {
            self.met = weight;
        }
        if takes_more && weight >= self.weight {
            self.at = self.position;
            self.chosen = 1;
            return false;
        }
        // Of those up to the next heavier one, none is heavy enough. (One that is
        // overloaded says nothing about those behind it.)
        if takes_more && entry.hint() > self.position {
            self.position = entry.hint();
        }
        if self.stop > looked_at && self.stop <= self.position {
            self.at = self.stop;
            return false;
        }
        true
    }
}

/// The cursor after the choice and the position chosen.
#[inline(always)]
fn next<T: Tables>(pick: Pick<'_, T>, cursor: Cursor) -> (Cursor, u64) {
    let Pick { list, service, .. } = pick;
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
        met: PARTLY,
        at: cursor.at.into(),
        chosen: 0,
    };
    // The rest of this pass; then, before and after the threshold starts anew, at
    // the most one pass that learns who is not overloaded and one at the
    // threshold that follows from it; and a first server.
    let steps = (list.len as u32).wrapping_mul(5).wrapping_add(1);
    pick.tables.repeat(steps, &mut walk);
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
