//! Servers' loads: connections and templates counted on a server, and the
//! thresholds that follow from the first.
//!
//! The flag that a server is full is set when a connection is bound and cleared
//! when one is unbound, by the kernel's rules. Packets on several CPUs and the
//! sweep may do both at once: whoever stores the flag looks at the count again
//! afterwards, so that the flag agrees with the last count.

use crate::{
    layout::{DestFlags, DestLoad, DestView},
    tables::{Cell, Table, Tables},
};

/// Word of [`DestLoad::conns`].
const CONNS: usize = 0;
/// Word of [`DestLoad::templates`].
const TEMPLATES: usize = 1;

/// Counts a connection on the server in `slot`: `load` is one of
/// [`DestLoad::ACTIVE`] and [`DestLoad::INACTIVE`], or 0.
#[inline(always)]
pub fn bind<T: Tables>(tables: T, slot: u32, load: u64) {
    if load == 0 {
        return;
    }
    let Some(counts) = tables.cell(Table::DestLoad, slot) else {
        return;
    };
    counts.add(CONNS, load);
    let Some(dest) = tables.cell(Table::Dest, slot) else {
        return;
    };
    let dest = DestView(dest);
    let limits = dest.thresholds();
    if limits.is_reached(DestLoad::total(counts.load(CONNS))) {
        dest.set_overloaded(true);
        // Somebody may have unbound meanwhile, and cleared before this was set.
        if limits.is_relieved(DestLoad::total(counts.load(CONNS))) {
            dest.set_overloaded(false);
        }
    }
}

/// Takes a connection off the counts of its server.
#[inline(always)]
pub fn unbind<T: Tables>(tables: T, slot: u32, load: u64) {
    if load == 0 {
        return;
    }
    let Some(counts) = tables.cell(Table::DestLoad, slot) else {
        return;
    };
    counts.add(CONNS, load.wrapping_neg());
    let Some(dest) = tables.cell(Table::Dest, slot) else {
        return;
    };
    let dest = DestView(dest);
    let limits = dest.thresholds();
    let is_full = dest.word().has(DestFlags::OVERLOAD);
    if is_full && limits.is_relieved(DestLoad::total(counts.load(CONNS))) {
        dest.set_overloaded(false);
        if limits.is_reached(DestLoad::total(counts.load(CONNS))) {
            dest.set_overloaded(true);
        }
    }
}

/// Counts a template on its server.
#[inline(always)]
pub fn bind_template<T: Tables>(tables: T, slot: u32) {
    if let Some(counts) = tables.cell(Table::DestLoad, slot) {
        counts.add(TEMPLATES, 1);
    }
}

/// Takes a template off the count of its server.
#[inline(always)]
pub fn unbind_template<T: Tables>(tables: T, slot: u32) {
    if let Some(counts) = tables.cell(Table::DestLoad, slot) {
        counts.add(TEMPLATES, 1u64.wrapping_neg());
    }
}
