use crate::conn::Counted;

/// What a cell is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nobody's.
    Free = 0,
    /// Being filled by whoever claimed it.
    Busy = 1,
    /// A flow.
    Live = 2,
    /// A template that no look-up finds any more: its server was removed, or
    /// quiesced. It keeps its place, its time-out and its server's count.
    Retired = 3,
}

/// A cell's state word: everything that changes by compare-and-swap.
///
/// Bits 0–1 [`Phase`], 2–5 protocol state, 6–7 [`Counted`], 8 reverse cell, 9
/// replies are seen, 10 template, 11 assured, 16 the client's address is told, other
/// bits below 32 zero, 32–63 generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateWord(pub u64);

impl StateWord {
    const STATE_SHIFT: u32 = 2;
    const COUNTED_SHIFT: u32 = 6;
    const REVERSE: u64 = 1 << 8;
    const SEES_REPLIES: u64 = 1 << 9;
    const TEMPLATE: u64 = 1 << 10;
    const ASSURED: u64 = 1 << 11;
    const TELLS_CLIENT: u64 = 1 << 16;
    /// What stays while the protocol state changes.
    const KEPT: u64 = Self::SEES_REPLIES | Self::ASSURED | Self::TELLS_CLIENT;
    const GENERATION_SHIFT: u32 = 32;

    /// Whether the cell is free.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.0 & 3 == Phase::Free as u64
    }

    /// Whether the cell holds a flow.
    #[inline(always)]
    pub const fn is_live(self) -> bool {
        self.0 & 3 == Phase::Live as u64
    }

    /// Whether the cell is somebody's: a flow, or a template that was retired.
    #[inline(always)]
    pub const fn is_used(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether the cell holds a template: it is in no count of connections.
    #[inline(always)]
    pub const fn is_template(self) -> bool {
        self.0 & Self::TEMPLATE != 0
    }

    /// Whether this is a template that look-ups no longer find.
    #[inline(always)]
    pub const fn is_retired(self) -> bool {
        self.0 & 3 == Phase::Retired as u64
    }

    /// Of a template: a connection of it was established. Of a connection: a
    /// packet of its server was seen, and its template told.
    #[inline(always)]
    pub const fn is_assured(self) -> bool {
        self.0 & Self::ASSURED != 0
    }

    /// This template, assured.
    #[inline(always)]
    pub const fn assured(self) -> Self {
        Self(self.0 | Self::ASSURED)
    }

    /// This live template, out of every look-up's way.
    #[inline(always)]
    pub const fn retired(self) -> Self {
        Self(self.0 | Phase::Retired as u64)
    }

    /// A live template, of generation 0.
    #[inline(always)]
    pub const fn live_template() -> Self {
        Self(Self::with(0, Phase::Live, 0, Counted::No).0 | Self::TEMPLATE)
    }

    /// Protocol state.
    #[inline(always)]
    pub const fn protocol_state(self) -> u8 {
        (self.0 >> Self::STATE_SHIFT) as u8 & 15
    }

    /// [`Counted`] as a number.
    #[inline(always)]
    pub const fn counted(self) -> u8 {
        (self.0 >> Self::COUNTED_SHIFT) as u8 & 3
    }

    /// Whether the cell leads from a server's packets to the connection's own
    /// cell: it holds no state and is in no count.
    #[inline(always)]
    pub const fn is_reverse(self) -> bool {
        self.0 & Self::REVERSE != 0
    }

    /// Whether the server's packets pass this director (NAT, or one was seen):
    /// the client's packets alone do not tell the state then.
    #[inline(always)]
    pub const fn sees_replies(self) -> bool {
        self.0 & Self::SEES_REPLIES != 0
    }

    /// This cell, with the server's packets expected.
    #[inline(always)]
    pub const fn seeing_replies(self) -> Self {
        Self(self.0 | Self::SEES_REPLIES)
    }

    /// Whether the client's segments are to carry the client's address (FULLNAT):
    /// the server has not answered one beyond the SYN yet.
    #[inline(always)]
    pub const fn tells_client(self) -> bool {
        self.0 & Self::TELLS_CLIENT != 0
    }

    /// This cell; the client's segments are to carry the client's address.
    #[inline(always)]
    pub const fn telling_client(self) -> Self {
        Self(self.0 | Self::TELLS_CLIENT)
    }

    /// This cell; the server knows the client's address.
    #[inline(always)]
    pub const fn client_told(self) -> Self {
        Self(self.0 & !Self::TELLS_CLIENT)
    }

    /// This cell, with a packet of the server's seen.
    #[inline(always)]
    pub const fn answered(self) -> Self {
        Self(self.0 | Self::SEES_REPLIES | Self::ASSURED)
    }

    /// A live reverse cell, of generation 0.
    #[inline(always)]
    pub const fn live_reverse() -> Self {
        Self(Self::with(0, Phase::Live, 0, Counted::No).0 | Self::REVERSE)
    }

    /// This word of generation 0, of another generation.
    #[inline(always)]
    pub(super) const fn of_generation(self, generation: u32) -> Self {
        Self(self.0 | (generation as u64) << Self::GENERATION_SHIFT)
    }

    /// Generation of the cell.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> Self::GENERATION_SHIFT) as u32
    }

    /// This cell, claimed.
    #[inline(always)]
    pub const fn busy(self) -> Self {
        Self::with(self.generation(), Phase::Busy, 0, Counted::No)
    }

    /// This cell, live in a protocol state; whether replies are seen, and whether
    /// the client's address is told, stay.
    #[inline(always)]
    pub const fn live(self, state: u8, counted: Counted) -> Self {
        let word = Self::with(self.generation(), Phase::Live, state, counted);
        Self(word.0 | self.0 & Self::KEPT)
    }

    /// This cell, freed: of the next generation.
    #[inline(always)]
    pub const fn freed(self) -> Self {
        Self::with(
            self.generation().wrapping_add(1),
            Phase::Free,
            0,
            Counted::No,
        )
    }

    #[inline(always)]
    const fn with(generation: u32, phase: Phase, state: u8, counted: Counted) -> Self {
        Self(
            (generation as u64) << Self::GENERATION_SHIFT
                | (counted as u64) << Self::COUNTED_SHIFT
                | ((state & 15) as u64) << Self::STATE_SHIFT
                | phase as u64,
        )
    }
}

/// What a connection counted as `counted` adds to
/// [`DestLoad::conns`](crate::layout::DestLoad).
#[inline(always)]
pub const fn load_of(counted: u8) -> u64 {
    use crate::layout::DestLoad;
    if counted == Counted::Active as u8 {
        DestLoad::ACTIVE
    } else if counted == Counted::Inactive as u8 {
        DestLoad::INACTIVE
    } else {
        0
    }
}
