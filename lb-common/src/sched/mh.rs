//! Maglev hashing: a table of 4,093 slots that servers fill in turn, each along
//! a permutation of its own, so that few clients move when a server comes or
//! goes.
//!
//! User space fills the table. It counts with a server's latest weight that was
//! not 0: a quiesced server keeps its slots.

#[cfg(any(test, feature = "compile"))]
use super::{Compiled, Server};
use super::{NOBODY, Pick, Scheduler, hash};
use crate::{
    layout::ServiceFlags,
    tables::{Cell, Step, Table, Tables},
};

/// Slots of a service's table (the kernel's default).
pub const SLOTS: u32 = 4093;
/// 64-bit words of a table: four slots each.
pub const WORDS: u32 = SLOTS.div_ceil(4);
/// A slot without a server.
#[cfg(any(test, feature = "compile"))]
pub const EMPTY: u16 = u16::MAX;

/// Key of the hash of clients and of servers' offsets.
const FIRST: u64 = 2_654_435_761;
/// Key of the hash of servers' skips.
#[cfg(any(test, feature = "compile"))]
const SECOND: u64 = 2_654_446_892;
/// Bits of the greatest number of slots that a server takes in turn.
#[cfg(any(test, feature = "compile"))]
const TURN_BITS: u32 = 6;

/// Maglev hashing.
pub struct Mh;

impl Scheduler for Mh {
    const COMPILES: bool = true;
    const HAS_TABLE: bool = true;

    #[inline(always)]
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64 {
        // Nobody has a weight: spares the walk through all slots.
        if pick.service.max_weight() == 0 || pick.service.sched_table() == 0 {
            return NOBODY;
        }
        let client = hash::fold(pick.facts.src).wrapping_add(hash::source_port(pick));
        let mut slots = Slots {
            list: pick.list,
            first: pick.service.sched_table().wrapping_sub(1),
            client: client.into(),
            start: 0,
            chosen: NOBODY,
        };
        let slot = slots.slot(0);
        slots.chosen = slots.usable(pick.tables, slot);
        if slots.chosen != NOBODY || pick.service.flags().0 & ServiceFlags::SCHED_1 == 0 {
            return slots.chosen;
        }
        slots.start = slot;
        pick.tables.repeat(SLOTS, &mut slots);
        slots.chosen
    }

    #[cfg(any(test, feature = "compile"))]
    fn compile(servers: &[Server]) -> Compiled {
        Compiled {
            table: fill(servers),
            ..Compiled::default()
        }
    }
}

/// A client's way through the table.
#[derive(Clone, Copy)]
struct Slots {
    list: super::List,
    first: u64,
    client: u64,
    start: u64,
    chosen: u64,
}

impl Slots {
    /// The client's slot, at an offset.
    #[inline(always)]
    fn slot(self, offset: u32) -> u64 {
        let hash = hash::sip((self.client as u32).wrapping_add(offset), FIRST);
        (hash % SLOTS).into()
    }

    /// The server in a slot, if it may be given a new connection.
    #[inline(always)]
    fn usable<T: Tables>(self, tables: T, slot: u64) -> u64 {
        let index = self.first.wrapping_add(slot >> 2) as u32;
        let Some(word) = tables.cell(Table::SchedTable, index) else {
            return NOBODY;
        };
        let position = word.load(0) >> ((slot & 3) << 4) & 0xffff;
        self.list.usable(tables, position)
    }
}

impl<T: Tables> Step<T> for Slots {
    #[inline(always)]
    fn step(&mut self, tables: T, index: u32) -> bool {
        let offset = (index.wrapping_add(self.start as u32)) % SLOTS;
        self.chosen = self.usable(tables, self.slot(offset));
        self.chosen == NOBODY
    }
}

/// A server on its way along its permutation.
#[cfg(any(test, feature = "compile"))]
struct Filler {
    position: u16,
    at: u32,
    skip: u32,
    turns: u32,
}

#[cfg(any(test, feature = "compile"))]
fn fill(servers: &[Server]) -> Vec<u16> {
    let mut table = vec![EMPTY; SLOTS as usize];
    let weights = || servers.iter().map(|server| server.last_weight);
    let Some(greatest) = weights().max().filter(|greatest| *greatest > 0) else {
        return table;
    };
    let gcd = super::wrr::thresholds(weights()).1;
    let bits = u32::BITS - (greatest / gcd).leading_zeros();
    let shift = bits.saturating_sub(TURN_BITS);
    let fillers = servers.iter().zip(0..).map(|(server, position)| {
        let [a, b, c, d] = server.addr;
        let name = (a ^ b ^ c ^ d)
            .swap_bytes()
            .wrapping_add(server.port.into());
        Filler {
            position,
            at: hash::sip(name, FIRST) % SLOTS,
            skip: hash::sip(name, SECOND) % (SLOTS - 1) + 1,
            turns: u32::max((server.last_weight / gcd) >> shift, 1),
        }
    });
    // One without a weight has no turn.
    let mut fillers: Vec<Filler> = fillers
        .filter(|filler| servers[usize::from(filler.position)].last_weight > 0)
        .collect();
    let mut free = SLOTS;
    loop {
        for filler in &mut fillers {
            for _ in 0..filler.turns {
                while table[filler.at as usize] != EMPTY {
                    filler.at = (filler.at + filler.skip) % SLOTS;
                }
                table[filler.at as usize] = filler.position;
                free -= 1;
                if free == 0 {
                    return table;
                }
            }
        }
    }
}
