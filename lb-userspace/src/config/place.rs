use std::{collections::HashMap, fmt};

use crate::model::{Chain, DestId, Request, RuleChange, ServiceId};

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub text: String,
}

/// A text whose places are found fast: a file may have a hundred thousand
/// servers.
#[derive(Clone, Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(newlines).collect(),
        }
    }

    /// Line and column of a byte.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        (line, self.text[start..offset].chars().count() + 1)
    }

    /// Something wrong at a byte.
    pub(super) fn fault(&self, offset: usize, text: impl Into<String>) -> Fault {
        let (line, column) = self.place(offset);
        Fault {
            line,
            column,
            text: text.into(),
        }
    }
}

impl fmt::Display for Fault {
    /// `LINE:COLUMN: TEXT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// Line and column of what a file says, for what is found to be wrong later.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub(super) services: HashMap<ServiceId, (usize, usize)>,
    pub(super) dests: HashMap<(ServiceId, DestId), (usize, usize)>,
    pub(super) pools: HashMap<Option<ServiceId>, (usize, usize)>,
    pub(super) sysctls: HashMap<String, (usize, usize)>,
    pub(super) timeouts: Option<(usize, usize)>,
    pub(super) sets: HashMap<String, (usize, usize)>,
    pub(super) chains: HashMap<Chain, (usize, usize)>,
}

impl Places {
    /// Where the file says what this change comes from; what it no longer says
    /// has no place but its beginning.
    pub fn of(&self, change: &Request) -> (usize, usize) {
        let found = match change {
            Request::AddService(id, _) | Request::EditService(id, _) | Request::SetCheck(id, _) => {
                self.services.get(id)
            }
            Request::AddDest(id, dest) | Request::EditDest(id, dest) => {
                self.dests.get(&(*id, dest.id))
            }
            Request::DeleteDest(id, _) => self.services.get(id),
            Request::AddLocal(owner, _) | Request::DeleteLocal(owner, _) => self.pools.get(owner),
            Request::SetSysctl(name, _) => self.sysctls.get(name),
            Request::SetTimeouts(_) => self.timeouts.as_ref(),
            Request::Rules(
                RuleChange::FillSet(name, ..)
                | RuleChange::DestroySet(name)
                | RuleChange::CreateSet(name, _),
            ) => self.sets.get(name),
            Request::Rules(RuleChange::Replace(chain, _) | RuleChange::Flush(chain, _)) => {
                self.chains.get(chain)
            }
            _ => None,
        };
        found.copied().unwrap_or((1, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_and_columns() {
        let lines = Lines::of("ab\n\nñx\n");
        let places: Vec<_> = (0..9).map(|offset| lines.place(offset)).collect();
        let ends = [(1, 3), (2, 1), (3, 1), (3, 1), (3, 2), (3, 3), (4, 1)];
        assert_eq!(places[..2], [(1, 1), (1, 2)]);
        assert_eq!(places[2..], ends);
        assert_eq!(lines.place(99), (4, 1), "behind the end");
        assert_eq!(Lines::of("").place(0), (1, 1));
    }
}
