//! Numbers that stay with their owner for life and are then handed on.

/// The slots of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    len: u32,
    /// Slots from here on were never used.
    fresh: u32,
    /// Free slots below `fresh`.
    free: Vec<u32>,
    /// Given back since the last [`Slots::settle`].
    recent: Vec<u32>,
}

impl Slots {
    /// `len` slots of which `used` are taken.
    pub(super) fn new(len: u32, used: impl IntoIterator<Item = u32>) -> Self {
        let mut used: Vec<u32> = used.into_iter().collect();
        used.sort_unstable();
        let fresh = used.last().map_or(0, |last| last + 1);
        let free = (0..fresh)
            .rev()
            .filter(|slot| used.binary_search(slot).is_err())
            .collect();
        Self {
            len,
            fresh,
            free,
            recent: Vec::new(),
        }
    }

    /// Takes a slot; `None` when all are taken.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let slot = self.fresh;
            (slot < self.len).then(|| {
                self.fresh += 1;
                slot
            })
        })
    }

    /// Gives a slot back. It is handed on only after [`Slots::settle`].
    pub(super) fn give(&mut self, slot: u32) {
        self.recent.push(slot);
    }

    /// Slots from here on were not used since this was made.
    pub(super) fn ever_used(&self) -> u32 {
        self.fresh
    }

    /// Says that no packet can still be using what was given back.
    pub(super) fn settle(&mut self) {
        self.free.append(&mut self.recent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_handed_on_only_when_settled() {
        let mut slots = Slots::new(3, [1]);
        assert_eq!(
            (slots.take(), slots.take(), slots.take()),
            (Some(0), Some(2), None)
        );
        slots.give(2);
        assert_eq!(slots.take(), None);
        slots.settle();
        assert_eq!((slots.take(), slots.take()), (Some(2), None));
    }
}
