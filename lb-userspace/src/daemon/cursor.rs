//! A scheduler's cursor across changes of its list.
//!
//! Packets advance the cursor; the kernel moves it when a server is added,
//! removed or edited. A transaction may hold many such edits: each is recorded
//! as a [`Step`] in the order it was asked for, and [`carry`] replays them on
//! the cursor as it stood when the new list became current.

use lb_common::sched::wrr;
pub use lb_common::sched::{Cursor, MAX_LIST};

/// What one edit does to the cursor, by the scheduler in force at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A scheduler was bound: head of the list; wrr starts at its greatest weight.
    Bind {
        /// wrr: greatest weight less (gcd − 1); 0 for others.
        weight: i32,
    },
    /// rr: a server was put at the head.
    Insert,
    /// rr: the server at this position was taken out.
    Remove(usize),
    /// wrr: a server was added, removed or edited.
    Reweigh(Wrr),
}

/// What wrr keeps of a list's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrr {
    /// Greatest common divisor of the weights above 0, or 1.
    pub gcd: u32,
    /// Greatest weight less (gcd − 1); 0 if no server has a weight.
    pub max: u32,
}

impl Wrr {
    /// Of the weights of a list.
    pub fn of(weights: impl IntoIterator<Item = u32>) -> Self {
        let (max, gcd) = wrr::thresholds(weights.into_iter());
        Self { gcd, max }
    }
}

/// The cursor after `steps`, as one of list generation `generation`.
pub fn carry(cursor: Cursor, steps: &[Step], generation: u32) -> Cursor {
    let carried = steps
        .iter()
        .fold(cursor, |cursor, step| apply(cursor, *step));
    Cursor {
        generation: generation as u16,
        ..carried
    }
}

fn apply(cursor: Cursor, step: Step) -> Cursor {
    let at = cursor.at;
    match step {
        Step::Bind { weight } => Cursor {
            at: 0,
            weight,
            ..cursor
        },
        Step::Insert if at > 0 => Cursor {
            at: at + 1,
            ..cursor
        },
        Step::Insert => cursor,
        // The predecessor of position p has cursor p; that of the first is the head.
        Step::Remove(removed) if at as usize > removed => Cursor {
            at: at - 1,
            ..cursor
        },
        Step::Remove(_) => cursor,
        Step::Reweigh(Wrr { gcd, max }) => wrr::carry(cursor, max, gcd),
    }
}

/// Whether `steps` make the cursor anew, whatever it was.
pub fn is_bound(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Bind { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that schedules as the kernel does; servers by letter, newest first.
    struct Model {
        list: Vec<(char, u32)>,
        cursor: Cursor,
        wrr: bool,
    }

    impl Model {
        fn new(wrr: bool, weights: &[u32]) -> Self {
            let mut model = Self {
                list: Vec::new(),
                cursor: Cursor::default(),
                wrr,
            };
            for (name, weight) in ('A'..).zip(weights) {
                model.add(name, *weight);
            }
            model
        }

        fn step(&mut self, rr: &[Step]) {
            let weights = self.list.iter().map(|server| server.1);
            let wrr = [Step::Reweigh(Wrr::of(weights))];
            self.cursor = carry(self.cursor, if self.wrr { &wrr } else { rr }, 1);
        }

        fn add(&mut self, name: char, weight: u32) {
            self.list.insert(0, (name, weight));
            self.step(&[Step::Insert]);
        }

        fn edit(&mut self, name: char, weight: u32) {
            self.list
                .iter_mut()
                .find(|server| server.0 == name)
                .unwrap()
                .1 = weight;
            self.step(&[]);
        }

        fn delete(&mut self, name: char) {
            let position = self
                .list
                .iter()
                .position(|server| server.0 == name)
                .unwrap();
            self.list.remove(position);
            self.step(&[Step::Remove(position)]);
        }

        fn picks(&mut self, count: usize) -> String {
            (0..count)
                .map(|_| {
                    if self.wrr {
                        self.pick_wrr()
                    } else {
                        self.pick_rr()
                    }
                })
                .collect()
        }

        fn pick_rr(&mut self) -> char {
            let start = self.cursor.at as usize;
            let order = (start..self.list.len()).chain(0..start);
            let Some(found) = order.into_iter().find(|i| self.list[*i].1 > 0) else {
                return '-';
            };
            self.cursor.at = found as u32 + 1;
            self.list[found].0
        }

        fn pick_wrr(&mut self) -> char {
            let Wrr { gcd, max } = Wrr::of(self.list.iter().map(|server| server.1));
            if max == 0 {
                return '-';
            }
            let start = self.cursor.at as usize;
            let (mut next, mut stop, mut last_pass) = (start, None, false);
            loop {
                while next < self.list.len() {
                    if self.list[next].1 as i32 >= self.cursor.weight {
                        self.cursor.at = next as u32 + 1;
                        return self.list[next].0;
                    }
                    if stop == Some(next + 1) {
                        self.cursor.at = next as u32 + 1;
                        return '-';
                    }
                    next += 1;
                }
                self.cursor.weight -= gcd as i32;
                if self.cursor.weight <= 0 {
                    self.cursor.weight = max as i32;
                    if last_pass || start == 0 {
                        self.cursor.at = 0;
                        return '-';
                    }
                }
                last_pass = self.cursor.weight <= gcd as i32;
                if last_pass && start != 0 {
                    stop = Some(start);
                }
                next = 0;
            }
        }
    }

    #[test]
    fn rr_edits_as_in_the_kernel() {
        let mut service = Model::new(false, &[1, 1, 1]);
        assert_eq!(service.picks(7), "CBACBAC");
        service.add('D', 1);
        assert_eq!(service.picks(7), "BADCBAD");
        service.delete('D');
        assert_eq!(service.picks(5), "CBACB");
        service.edit('B', 0);
        assert_eq!(service.picks(5), "ACACA");
        service.delete('A');
        assert_eq!(service.picks(3), "CCC");
        service.edit('B', 1);
        assert_eq!(service.picks(4), "BCBC");
    }

    #[test]
    fn wrr_starts_as_in_the_kernel() {
        for (weights, picks) in [
            (&[1, 1, 1][..], "CBACBA"),
            (&[4, 3, 2], "CBAABACBACBAABACBA"),
            (&[5, 1, 1], "CBAAAAACBAAAAA"),
            (&[10, 5], "BAABAABAA"),
            (&[3, 3, 1], "CBABABACBA"),
            (&[2, 0, 4], "CACCAC"),
            (&[100, 50, 25], "CBAAABACBAAABA"),
            (&[7, 3], "BAAAAABABABAAAAABABA"),
        ] {
            assert_eq!(
                Model::new(true, weights).picks(picks.len()),
                picks,
                "{weights:?}"
            );
        }
    }

    #[test]
    fn wrr_edits_as_in_the_kernel() {
        let mut service = Model::new(true, &[4, 3, 2]);
        assert_eq!(service.picks(4), "CBAA");
        service.edit('A', 6);
        assert_eq!(service.picks(15), "ABACBACBAAAABAC");
        service.edit('B', 0);
        assert_eq!(service.picks(12), "ACAAACAAACAA");
        service.delete('C');
        assert_eq!(service.picks(4), "AAAA");
        service.edit('A', 0);
        assert_eq!(service.picks(3), "---");
        service.edit('B', 3);
        assert_eq!(service.picks(4), "BBBB");
    }

    #[test]
    fn removing_the_first_server_leads_to_the_head() {
        let at = |at| Cursor {
            at,
            ..Cursor::default()
        };
        assert_eq!(carry(at(1), &[Step::Remove(0)], 0), at(0));
        assert_eq!(carry(at(3), &[Step::Remove(2)], 0), at(2));
        assert_eq!(carry(at(3), &[Step::Remove(0)], 0), at(2));
        assert_eq!(carry(at(1), &[Step::Remove(2)], 0), at(1));
        assert_eq!(carry(at(0), &[Step::Insert], 0), at(0));
    }
}
