//! Many clients, told in one line.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Client `number` of a step whose first is `first`: addresses ascend by one (in
/// the last 32 bits), ports too, and begin again after a thousand.
#[must_use]
pub fn client(first: SocketAddr, number: u32) -> SocketAddr {
    let ip = match first.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).wrapping_add(number)).into(),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip).wrapping_add(number.into()))),
    };
    let port = first.port().wrapping_add((number % 1000) as u16);
    SocketAddr::new(ip, port)
}

/// Source address and port of an untagged frame without options or extension
/// headers.
#[must_use]
pub fn source(frame: &[u8]) -> Option<SocketAddr> {
    let (ip, ports): (IpAddr, _) = match frame.get(12..14)? {
        [8, 0] => {
            let bytes: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
            (bytes.into(), 34)
        }
        [0x86, 0xdd] => {
            let bytes: [u8; 16] = frame.get(22..38)?.try_into().ok()?;
            (bytes.into(), 54)
        }
        _ => return None,
    };
    let port = frame.get(ports..ports + 2)?.try_into().ok()?;
    Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

/// `A 33 B 34 C 33 in order 0123456789abcdef`: who got how many, and a hash (FNV-1a)
/// of the receivers' names, one after the other, a blank behind each.
#[must_use]
pub fn summary(receivers: &[String]) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for name in receivers {
        *counts.entry(name).or_default() += 1;
        for byte in name.bytes().chain([b' ']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    format!("{} in order {hash:016x}", counts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_ascend() {
        let first: SocketAddr = "1.2.255.255:60000".parse().unwrap();
        assert_eq!(client(first, 1), "1.3.0.0:60001".parse().unwrap());
        assert_eq!(client(first, 1000), "1.3.3.231:60000".parse().unwrap());
        let first: SocketAddr = "[2001:db8::ffff]:9".parse().unwrap();
        assert_eq!(client(first, 1), "[2001:db8::1:0]:10".parse().unwrap());
    }

    #[test]
    fn the_hash_tells_the_order() {
        let names = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let (one, other) = (summary(&names("AAB-")), summary(&names("ABA-")));
        assert!(one.starts_with("- 1 A 2 B 1 in order "), "{one}");
        assert_ne!(one, other);
    }
}
