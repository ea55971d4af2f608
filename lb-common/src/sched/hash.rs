//! The kernel's hash functions, bit for bit: a client keeps its server when a
//! service moves from there.

use crate::{facts::Facts, layout::ServiceFlags, tables::Tables};

use super::Pick;

/// An address as the kernel folds it: the XOR of its 32-bit words, in host
/// order. The words are as loaded, IPv4 in the low half of the first.
#[inline(always)]
pub const fn fold(address: [u64; 2]) -> u32 {
    let both = address[0] ^ address[1];
    (both as u32 ^ (both >> 32) as u32).swap_bytes()
}

/// Bits of dh's and sh's tables.
const BITS: u32 = 8;
/// Buckets of dh and sh.
pub const BUCKETS: u64 = 1 << BITS;

/// A bucket by the golden ratio.
#[inline(always)]
pub const fn golden(value: u32) -> u64 {
    (value.wrapping_mul(0x61c8_8647) >> (32 - BITS)) as u64
}

/// The client's port, host order, if it is hashed too; else 0.
#[inline(always)]
pub fn source_port<T: Tables>(pick: Pick<'_, T>) -> u32 {
    if pick.service.flags().0 & ServiceFlags::SCHED_2 != 0 {
        client_port(pick.facts)
    } else {
        0
    }
}

#[inline(always)]
fn client_port(facts: &Facts) -> u32 {
    u16::from_be(facts.src_port()).into()
}

/// SipHash-1-3 of four bytes, both halves of the key alike: the low 32 bits.
#[inline(always)]
pub const fn sip(value: u32, key: u64) -> u32 {
    let mut state = [
        key ^ 0x736f_6d65_7073_6575,
        key ^ 0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        key ^ 0x7465_6462_7974_6573,
    ];
    let block = value as u64 | 4 << 56;
    state[3] ^= block;
    state = round(state);
    state[0] ^= block;
    state[2] ^= 0xff;
    state = round(round(round(state)));
    (state[0] ^ state[1] ^ state[2] ^ state[3]) as u32
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}
