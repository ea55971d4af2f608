//! Addresses as the tables of the data plane hold them.

use std::net::IpAddr;

/// The words of an address in network byte order (IPv4 uses the first), and the
/// number of its family.
pub(crate) fn words(addr: IpAddr) -> ([u32; 4], u8) {
    match addr {
        IpAddr::V4(addr) => ([u32::from_ne_bytes(addr.octets()), 0, 0, 0], 4),
        IpAddr::V6(addr) => {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(addr.octets().chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            (words, 6)
        }
    }
}
