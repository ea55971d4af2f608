/// Bits of the VIP filter, one half (8 KiB: it stays in the first-level cache).
pub const FILTER_BITS: u32 = 1 << 16;
/// 64-bit words of one half.
pub const FILTER_WORDS: u32 = FILTER_BITS / 64;

/// The filter bit of an address, given as its 32-bit words folded by
/// exclusive or, in network byte order. The seed is chosen at load, so that
/// nobody can aim addresses at one bit.
#[inline(always)]
pub const fn filter_bit(folded: u32, seed: u32) -> u32 {
    bit(folded ^ seed)
}

/// As [`filter_bit`], in the same bits, of an address whose packets may be
/// replies that need translation: a NAT server's.
#[inline(always)]
pub const fn reply_bit(folded: u32, seed: u32) -> u32 {
    bit(folded ^ !seed.rotate_left(16))
}

#[inline(always)]
const fn bit(word: u32) -> u32 {
    let mixed = word.wrapping_mul(0x9e37_79b1);
    mixed >> 16
}
