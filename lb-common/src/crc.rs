//! CRC32c, SCTP's checksum (RFC 9260, appendix A), by increments where a packet
//! is changed: the sum is linear, so what a change adds to it depends on the
//! change and on the number of bytes from there to the end, not on the bytes.
//!
//! Numbers are polynomials over GF(2) with the coefficient of x^0 in bit 31, as
//! the register of the usual byte-wise algorithm. On a little-endian machine the
//! first four bytes of a packet and its checksum field, as loaded, are in that
//! order too.

/// The divisor without x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// 1.
const ONE: u32 = 1 << 31;
/// x^8: one byte more.
const BYTE: u32 = 1 << 23;

/// What a coefficient that leaves at x^31, 0 or 1, puts back.
const REDUCED: [u32; 2] = [0, POLYNOMIAL];
/// The same in memory: of a mask with constant bits newer verifiers follow both
/// values apart, through every step.
static REDUCED_IN_MEMORY: [u32; 2] = REDUCED;

/// The product of two polynomials, modulo the divisor.
#[inline(always)]
const fn times(a: u32, b: u32, reduced: &[u32; 2]) -> u32 {
    let (mut left, mut right, mut product) = (a, b, 0);
    let mut i = 0;
    while i < 32 {
        // All ones where the coefficient is 1: a branch would double the
        // verifier's work at every step.
        product ^= right & 0_u32.wrapping_sub(left >> 31);
        left <<= 1;
        right = right >> 1 ^ reduced[right as usize & 1];
        i += 1;
    }
    product
}

/// x to eight times each multiple, by a digit, of 16^0, 16^1, 16^2 and 16^3.
static POWERS: [[u32; 16]; 4] = powers();

const fn powers() -> [[u32; 16]; 4] {
    let mut powers = [[ONE; 16]; 4];
    let mut step = BYTE;
    let mut place = 0;
    while place < 4 {
        let mut digit = 1;
        while digit < 16 {
            powers[place][digit] = times(powers[place][digit - 1], step, &REDUCED);
            digit += 1;
        }
        step = times(powers[place][15], step, &REDUCED);
        place += 1;
    }
    powers
}

/// What it adds to the CRC32c of `length` bytes that the exclusive or of the
/// first four with what they were is `change`, as loaded on a little-endian
/// machine. Lengths are below 2^16.
#[inline(always)]
pub fn change(change: u32, length: u32) -> u32 {
    let mut sum = change;
    let mut rest = length;
    let mut place = 0;
    while place < 4 {
        sum = times(sum, POWERS[place][rest as usize & 15], &REDUCED_IN_MEMORY);
        rest >>= 4;
        place += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::sums::crc32c;

    #[test]
    fn the_identity_and_one_byte() {
        assert_eq!(times(ONE, 0xdead_beef, &REDUCED), 0xdead_beef);
        assert_eq!(times(0xdead_beef, ONE, &REDUCED), 0xdead_beef);
        assert_eq!(change(0xdead_beef, 0), 0xdead_beef);
        assert_eq!(POWERS[0][1], BYTE);
        assert_eq!(POWERS[1][0], ONE);
    }

    #[test]
    fn every_length() {
        // Zeros behind a change: the register after each of them.
        let mut register = 0x1234_5678_u32;
        let most = if cfg!(miri) { 0x111 } else { 0xffff };
        for length in 0..=most {
            assert_eq!(change(0x1234_5678, length), register, "{length}");
            for _ in 0..8 {
                let carry = register & 1;
                register = register >> 1 ^ if carry == 1 { POLYNOMIAL } else { 0 };
            }
        }
    }

    proptest! {
        #[test]
        fn a_change_equals_a_sum_from_scratch(
            bytes in prop::collection::vec(any::<u8>(), 4..300),
            first in any::<[u8; 4]>(),
        ) {
            let mut changed = bytes.clone();
            changed[..4].copy_from_slice(&first);
            let was: [u8; 4] = bytes[..4].try_into().unwrap();
            let difference = u32::from_le_bytes(was) ^ u32::from_le_bytes(first);
            prop_assert_eq!(
                crc32c(&bytes) ^ change(difference, bytes.len() as u32),
                crc32c(&changed)
            );
        }
    }
}
