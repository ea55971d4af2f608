//! Words in map memory.

use core::arch::asm;

use lb_common::tables::Cell;

/// A record in a map: a pointer to its first word. Only `BpfTables` makes one,
/// after the null check, and the verifier checks every access against the
/// record's size.
#[derive(Clone, Copy)]
pub struct MapCell(*mut u64);

impl MapCell {
    /// A record that starts at `first`.
    #[inline(always)]
    pub fn new<T>(first: *mut T) -> Self {
        Self(first.cast())
    }

    #[inline(always)]
    fn word(self, word: usize) -> *mut u64 {
        self.0.wrapping_add(word)
    }
}

impl Cell for MapCell {
    #[inline(always)]
    fn load(self, word: usize) -> u64 {
        // SAFETY: verified: inside the record. Volatile, because other CPUs write.
        unsafe { self.word(word).read_volatile() }
    }

    #[inline(always)]
    fn store(self, word: usize, value: u64) {
        // SAFETY: as for load.
        unsafe { self.word(word).write_volatile(value) }
    }

    #[inline(always)]
    fn compare_exchange(self, word: usize, old: u64, new: u64) -> u64 {
        let mut was = old;
        // SAFETY: as for load. `core::sync::atomic` has no compare-and-swap on
        // this target; the instruction is a full barrier on every JIT.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({at} + 0, r0, {new})",
                at = in(reg) self.word(word),
                new = in(reg) new,
                inout("r0") was,
            );
        }
        was
    }

    #[inline(always)]
    fn add(self, word: usize, value: u64) {
        // SAFETY: as for compare_exchange. The fetching form is the one that
        // is a full barrier.
        unsafe {
            asm!(
                "{value} = atomic_fetch_add((u64 *)({at} + 0), {value})",
                at = in(reg) self.word(word),
                value = inout(reg) value => _,
            );
        }
    }

    #[inline(always)]
    fn set_bits(self, word: usize, bits: u64) {
        // SAFETY: as for add.
        unsafe {
            asm!(
                "{bits} = atomic_fetch_or((u64 *)({at} + 0), {bits})",
                at = in(reg) self.word(word),
                bits = inout(reg) bits => _,
            );
        }
    }

    #[inline(always)]
    fn clear_bits(self, word: usize, bits: u64) {
        // SAFETY: as for add.
        unsafe {
            asm!(
                "{bits} = atomic_fetch_and((u64 *)({at} + 0), {bits})",
                at = in(reg) self.word(word),
                bits = inout(reg) !bits => _,
            );
        }
    }
}
