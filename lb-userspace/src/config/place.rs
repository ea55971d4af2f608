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

impl Fault {
    /// At a byte of a text.
    pub(super) fn at(text: &str, offset: usize, what: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            text: what.into(),
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
            Request::AddService(id, _) | Request::EditService(id, _) => self.services.get(id),
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
