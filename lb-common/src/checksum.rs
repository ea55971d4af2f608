//! Internet checksums (RFC 1071), by increments where a packet is changed
//! (RFC 1624). One's-complement sums do not depend on byte order, so words are
//! added as they are loaded.

/// Folds a sum of 16- or 32-bit words to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// What it adds to a sum that the word `old` became `new` (RFC 1624, equation 3).
/// Either is two 32-bit words, or fewer with the rest zero. At most 2^34, so
/// that a few of them can be added before folding.
#[inline(always)]
pub const fn replaced(old: u64, new: u64) -> u64 {
    let gone = !old;
    (gone & 0xffff_ffff) + (gone >> 32) + (new & 0xffff_ffff) + (new >> 32)
}

/// A checksum after its sum changed by `sum`.
#[inline(always)]
pub const fn updated(check: u16, sum: u64) -> u16 {
    !fold(!check as u64 + sum)
}

/// Sum of the five words of an IPv4 header without options. The header is
/// intact when the folded sum of all its words is 0xffff.
#[inline(always)]
pub const fn ipv4_sum(words: &[u32; 5]) -> u64 {
    words[0] as u64 + words[1] as u64 + words[2] as u64 + words[3] as u64 + words[4] as u64
}

/// The header checksum after the time to live was decremented by one, as
/// loaded. The word that holds it (TTL, protocol) decreases by 0x0100.
#[inline(always)]
pub const fn after_ttl_decrement(checksum: u16) -> u16 {
    let sum = checksum as u32 + 0x0100_u16.to_be() as u32;
    (sum + (sum >= 0xffff) as u32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(ttl: u8, id: u16) -> [u8; 20] {
        let mut bytes = [
            0x45, 0, 0, 40, 0, 0, 0x40, 0, ttl, 6, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1,
        ];
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
        let checksum = !fold(ipv4_sum(&bytemuck::cast(bytes)));
        bytes[10..12].copy_from_slice(&checksum.to_ne_bytes());
        bytes
    }

    #[test]
    fn known_header() {
        // By hand: 4500 + 0028 + 4000 + 4006 + 0a00 + 0009 + 0a00 + 0001 = d938.
        assert_eq!(header(64, 0)[10..12], [0x26, 0xc7]);
        assert_eq!(fold(ipv4_sum(&bytemuck::cast(header(64, 0)))), 0xffff);
    }

    #[test]
    fn ttl_decrement_equals_a_full_sum() {
        for id in 0..=u16::MAX {
            for ttl in [2, 3, 64, 128, 255] {
                let before = header(ttl, id);
                let checksum = u16::from_ne_bytes([before[10], before[11]]);
                let after = header(ttl - 1, id);
                let wanted = u16::from_ne_bytes([after[10], after[11]]);
                assert_eq!(after_ttl_decrement(checksum), wanted, "id {id} ttl {ttl}");
            }
        }
    }
}
