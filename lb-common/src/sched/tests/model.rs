//! rr and wrr as the specification puts them: a cursor that names a server.

use std::collections::BTreeSet;

use super::harness::{Change, Server};
use crate::layout::SchedulerKind;

pub(super) struct Model {
    kind: SchedulerKind,
    list: Vec<Server>,
    /// The server chosen last; `None` is the list's head.
    cursor: Option<char>,
    weight: i64,
    overloaded: BTreeSet<char>,
}

impl Model {
    pub(super) fn new(kind: SchedulerKind) -> Self {
        Self {
            kind,
            list: Vec::new(),
            cursor: None,
            weight: 0,
            overloaded: BTreeSet::new(),
        }
    }

    pub(super) fn names(&self) -> Vec<char> {
        self.list.iter().map(|server| server.name).collect()
    }

    pub(super) fn apply(&mut self, change: Change) {
        if self.kind == SchedulerKind::Rr {
            if let Change::Delete(name) = change
                && self.cursor == Some(name)
            {
                let at = self.place(name);
                self.cursor = at.checked_sub(1).map(|before| self.list[before].name);
            }
            change.make(&mut self.list);
            return;
        }
        change.make(&mut self.list);
        self.cursor = None;
        let (max, step) = (self.max(), self.step());
        if self.weight > max || self.weight == 0 {
            self.weight = max;
        } else if step > 1 {
            self.weight = self.weight / step * step + 1;
        }
    }

    pub(super) fn overload(&mut self, name: char, overloaded: bool) {
        if overloaded {
            self.overloaded.insert(name);
        } else {
            self.overloaded.remove(&name);
        }
    }

    pub(super) fn picks(&mut self, count: usize) -> String {
        (0..count).map(|_| self.pick().unwrap_or('-')).collect()
    }

    fn pick(&mut self) -> Option<char> {
        match self.kind {
            SchedulerKind::Rr => self.round_robin(),
            SchedulerKind::Wrr => self.weighted(),
            _ => None,
        }
    }

    fn place(&self, name: char) -> usize {
        self.list
            .iter()
            .position(|server| server.name == name)
            .expect("in the list")
    }

    fn behind_cursor(&self) -> usize {
        self.cursor.map_or(0, |name| self.place(name) + 1)
    }

    fn round_robin(&mut self) -> Option<char> {
        let behind = self.behind_cursor();
        let (front, back) = self.list.split_at(behind);
        let chosen = back
            .iter()
            .chain(front)
            .find(|server| server.weight > 0 && !self.overloaded.contains(&server.name))?
            .name;
        self.cursor = Some(chosen);
        Some(chosen)
    }

    /// Greatest common divisor by trial.
    fn step(&self) -> i64 {
        let weights: Vec<u32> = self
            .list
            .iter()
            .map(|server| server.weight)
            .filter(|&weight| weight > 0)
            .collect();
        let Some(&least) = weights.iter().min() else {
            return 1;
        };
        (1..=least)
            .rev()
            .find(|divisor| weights.iter().all(|weight| weight % divisor == 0))
            .map_or(1, i64::from)
    }

    fn max(&self) -> i64 {
        let max = self
            .list
            .iter()
            .map(|server| i64::from(server.weight))
            .max()
            .unwrap_or(0);
        if max == 0 { 0 } else { max - (self.step() - 1) }
    }

    fn weighted(&mut self) -> Option<char> {
        let (max, step) = (self.max(), self.step());
        if max == 0 {
            return None;
        }
        let start = self.cursor;
        let mut stop = None;
        let (mut restarted, mut last_pass) = (false, false);
        let mut at = self.behind_cursor();
        loop {
            while at < self.list.len() {
                let Server { name, weight, .. } = self.list[at];
                if i64::from(weight) >= self.weight && !self.overloaded.contains(&name) {
                    self.cursor = Some(name);
                    return Some(name);
                }
                if stop == Some(name) {
                    self.cursor = Some(name);
                    return None;
                }
                at += 1;
            }
            self.weight -= step;
            if self.weight <= 0 {
                self.weight = max;
                if last_pass || start.is_none() {
                    self.cursor = None;
                    return None;
                }
                restarted = true;
            }
            last_pass = self.weight <= step;
            if last_pass && restarted {
                stop = start;
            }
            at = 0;
        }
    }
}
