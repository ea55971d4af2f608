//! A service's servers as a scheduler sees them.

use crate::{
    layout::{DestFlags, DestView, ListView, ServiceView},
    tables::{Cell, Param, Table, Tables},
};

/// A service's server list. Words only, because it lies on the BPF stack.
#[derive(Clone, Copy)]
pub struct List {
    first: u64,
    /// Number of servers.
    pub len: u64,
}

impl List {
    /// The list of `service` in half `side`.
    #[inline(always)]
    pub fn of<T: Tables>(tables: T, side: u32, service: ServiceView<T::Cell>) -> Self {
        let start = tables.param(Param::ListEntries).wrapping_mul(side.into());
        let first = start.wrapping_add(service.list_start().into());
        Self {
            first,
            len: service.list_len().into(),
        }
    }

    /// The server at `position`.
    #[inline(always)]
    pub fn entry<T: Tables>(self, tables: T, position: u64) -> Option<ListView<T::Cell>> {
        let index = self.first.wrapping_add(position) as u32;
        tables.cell(Table::List, index).map(ListView)
    }

    /// The position, if the server there may be given a new connection.
    #[inline(always)]
    pub fn usable<T: Tables>(self, tables: T, position: u64) -> u64 {
        if position >= self.len {
            return super::NOBODY;
        }
        let Some(entry) = self.entry(tables, position) else {
            return super::NOBODY;
        };
        if entry.weight() > 0 && takes_more(tables, entry.slot()) {
            position
        } else {
            super::NOBODY
        }
    }
}

/// Whether the server in a slot is not overloaded (`-x`).
#[inline(always)]
pub fn takes_more<T: Tables>(tables: T, slot: u32) -> bool {
    match tables.cell(Table::Dest, slot) {
        Some(dest) => !DestView(dest).word().has(DestFlags::OVERLOAD),
        None => false,
    }
}

/// A server's connections.
#[derive(Clone, Copy)]
pub struct Conns(u64);

impl Conns {
    /// Of the server in a slot.
    #[inline(always)]
    pub fn of<T: Tables>(tables: T, slot: u32) -> Self {
        match tables.cell(Table::DestLoad, slot) {
            Some(load) => Self(load.load(0)),
            None => Self(0),
        }
    }

    /// Active ones.
    #[inline(always)]
    pub const fn active(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    /// What the server has to do: an active connection is worth 256 inactive ones.
    #[inline(always)]
    pub const fn overhead(self) -> u64 {
        (self.active() << 8).wrapping_add(self.0 >> 32)
    }
}
