use super::{
    BLOCK, FlowCell, HomeWord, StateWord, TEMPLATE_SHIFT, home, let_go, state::load_of, word,
};
use crate::{
    family::Family,
    load,
    tables::{Cell, Table, Tables},
};

/// Moves a live cell from the state it was seen in to the live state `new`, and
/// its server's counts with it. Whoever loses the race changes nothing and
/// is told what the state is now.
///
/// # Errors
/// The state word found instead.
#[inline(always)]
pub fn transition<T: Tables>(
    tables: T,
    cell: FlowCell<T::Cell>,
    seen: StateWord,
    slot: u32,
    new: StateWord,
) -> Result<(), StateWord> {
    if new == seen {
        return Ok(());
    }
    let was = cell.0.compare_exchange(word::STATE, seen.0, new.0);
    if was != seen.0 {
        return Err(StateWord(was));
    }
    let moved = load_of(new.counted()).wrapping_sub(load_of(seen.counted()));
    if moved != 0
        && let Some(load) = tables.cell(Table::DestLoad, slot)
    {
        load.add(0, moved);
    }
    Ok(())
}

/// Frees a cell in use that was seen in `seen`, and takes it off every count:
/// its server's, its template's, its block's, its home's spill. Whether this
/// caller did it.
#[inline(always)]
pub fn release<F: Family, T: Tables>(
    tables: T,
    cell: FlowCell<T::Cell>,
    index: u32,
    seen: StateWord,
) -> bool {
    free::<F, T, false>(tables, cell, index, seen)
}

/// As [`release`], but leaves a connection counted on its server.
#[inline(always)]
pub fn vacate<F: Family, T: Tables>(
    tables: T,
    cell: FlowCell<T::Cell>,
    index: u32,
    seen: StateWord,
) -> bool {
    free::<F, T, true>(tables, cell, index, seen)
}

#[inline(always)]
fn free<F: Family, T: Tables, const STAYS_COUNTED: bool>(
    tables: T,
    cell: FlowCell<T::Cell>,
    index: u32,
    seen: StateWord,
) -> bool {
    // Read before the swap: afterwards the cell is anybody's. If the swap
    // succeeds, generation and so key and server were these all the time.
    let dest = cell.dest();
    let key = cell.key::<F>();
    if !cell.set_state(seen, seen.freed()) {
        return false;
    }
    if seen.is_template() {
        load::unbind_template(tables, dest as u32);
    } else if !seen.is_reverse() {
        if !STAYS_COUNTED {
            load::unbind(tables, dest as u32, load_of(seen.counted()));
        }
        let_go::<F, T>(tables, dest >> TEMPLATE_SHIFT);
    }
    if let Some(block) = tables.cell(F::BLOCKS, index / BLOCK) {
        block.add(0, 1u64.wrapping_neg());
    }
    if index >= tables.param(F::CELLS) as u32
        && let Some(home) = tables.cell(F::FLOW, home::<F, T>(tables, &key))
    {
        home.add(word::HOME, HomeWord::SPILL.wrapping_neg());
    }
    true
}
