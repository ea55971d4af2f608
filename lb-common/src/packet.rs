//! How the engine reaches a packet.

use bytemuck::{AnyBitPattern, NoUninit};

use crate::{checksum, crc};

/// Looks at bytes, one after the other. Plain words, at most
/// [`LOOP_WORDS`](crate::tables::LOOP_WORDS) of them: see
/// [`Step`](crate::tables::Step).
pub trait Search: Copy + 'static {
    /// Looks at the byte at `index`; `false` ends the search.
    fn step(&mut self, byte: u8, index: u64) -> bool;
}

/// Bytes that are searched at most.
pub const SEARCHED: u32 = 2048;

/// A frame. Reads and writes are by value and checked against its end: nothing
/// keeps a pointer into it, and after [`Packet::grow_front`] offsets simply
/// count from the new start.
pub trait Packet {
    /// Whether the frame has at least `length` bytes (below 2^17). Not a length:
    /// the verifier lets packet pointers be compared, not subtracted.
    fn reaches(&self, length: u32) -> bool;
    /// Index of the interface it came in by.
    fn ingress(&self) -> u32;
    /// The value at `offset`, `None` beyond the end. Offsets are below 256.
    fn read<V: AnyBitPattern>(&self, offset: u32) -> Option<V>;
    /// Puts a value at `offset`; `None`, and nothing is written, beyond the end.
    fn write<V: NoUninit>(&mut self, offset: u32, value: V) -> Option<()>;
    /// Replaces the value at `offset`; `None` beyond the end. The end is looked for once.
    #[inline(always)]
    fn change<V: AnyBitPattern + NoUninit>(
        &mut self,
        offset: u32,
        change: impl FnOnce(V) -> V,
    ) -> Option<()> {
        let old = self.read::<V>(offset)?;
        self.write(offset, change(old))
    }
    /// Adds to the sum of a transport checksum at `offset`: `pseudo` is what the
    /// pseudo-header changed by, `rest` what the bytes behind it did. Where 0
    /// stands for "none" (UDP), a checksum of 0 becomes its other form. A checksum
    /// that is left to the hardware covers the pseudo-header alone so far: then
    /// `rest` is its business. `None` beyond the end.
    #[inline(always)]
    fn adjust_checksum(
        &mut self,
        offset: u32,
        pseudo: u64,
        rest: u64,
        zero_is_none: bool,
    ) -> Option<()> {
        self.change(offset, |old: u16| {
            let new = checksum::updated(old, pseudo.wrapping_add(rest));
            if zero_is_none && new == 0 {
                0xffff
            } else {
                new
            }
        })
    }
    /// `offset`, which is below 256. In the kernel the verifier knows no more of it
    /// afterwards: the rounds of a loop look alike to it.
    #[inline(always)]
    fn offset(&self, offset: u32) -> u32 {
        offset
    }
    /// Moves the start by `bytes` (positive makes the frame longer; the new
    /// bytes are undefined). `None`, and nothing changed, without room.
    fn grow_front(&mut self, bytes: i32) -> Option<()>;
    /// Cuts the frame off behind its first `length` bytes. `None`, and nothing
    /// changed, when it is shorter or would be shorter than an Ethernet header.
    fn cut(&mut self, length: u32) -> Option<()>;
    /// One's-complement sum of the 16-bit words of `length` bytes from `offset`
    /// on, as loaded, an odd last byte padded with zero; to be folded. `None`
    /// beyond the end. The offset is below 2^17, the length below 2^14.
    fn sum(&self, offset: u32, length: u32) -> Option<u64>;
    /// [`crc::change`]: here, because in the kernel it is a function of its own.
    #[inline(always)]
    fn crc_change(&self, change: u32, length: u32) -> u32 {
        crc::change(change, length)
    }
}

/// A frame whose text can be searched.
pub trait Searched: Packet {
    /// Has `search` look at `length` bytes from `offset` on, at most [`SEARCHED`].
    /// `None` beyond the end. The offset is below 2^17.
    fn search<S: Search>(&self, offset: u32, length: u32, search: &mut S) -> Option<()>;
    /// Keeps the text that starts `start` bytes into what was searched last, as the
    /// one that `key` stands for: for listings, so that it may be forgotten.
    fn keep_text(&self, key: [u64; 2], start: u64);
}
