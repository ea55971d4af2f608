//! Tells whether every checksum and length in a frame is right, reading it
//! from scratch: shares no code with what writes packets.

/// Checks an Ethernet frame with up to two tags: IPv4 header checksums, TCP,
/// UDP, SCTP and ICMP checksums, lengths, and the same of packets inside IPIP, GUE
/// and GRE. What an ICMP error quotes is not looked into, fragments behind the
/// IP header neither.
///
/// # Errors
/// What is wrong.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let mut at = 12;
    while matches!(word(frame, at)?, 0x8100 | 0x88a8) {
        at += 4;
    }
    let packet = &frame[at + 2..];
    match word(frame, at)? {
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        other => Err(format!("EtherType {other:04x}")),
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u16, String> {
    let pair = bytes.get(at..at + 2).ok_or("cut off")?;
    Ok(u16::from(pair[0]) << 8 | u16::from(pair[1]))
}

/// The sum with the end-around carry: 0xffff over anything with its checksum.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    sum as u16
}

/// Checks an IPv4 packet; bytes behind it are padding.
///
/// # Errors
/// What is wrong.
pub fn ipv4(packet: &[u8]) -> Result<(), String> {
    let first = *packet.first().ok_or("empty")?;
    let header = usize::from(first & 15) * 4;
    let total = usize::from(word(packet, 2)?);
    if first >> 4 != 4 || header < 20 || total < header || packet.len() < total {
        return Err(format!("IPv4: {first:02x}, {total} of {}", packet.len()));
    }
    if sum(&[&packet[..header]]) != 0xffff {
        return Err("IPv4 header checksum".into());
    }
    if word(packet, 6)? & 0x3fff != 0 {
        return Ok(());
    }
    transport(packet[9], &packet[12..20], &packet[header..total])
}

/// Checks an IPv6 packet; bytes behind it are padding.
///
/// # Errors
/// What is wrong.
pub fn ipv6(packet: &[u8]) -> Result<(), String> {
    let length = usize::from(word(packet, 4)?);
    if packet[0] >> 4 != 6 || packet.len() < 40 + length {
        return Err(format!("IPv6: {length} of {}", packet.len()));
    }
    let (mut next, mut rest) = (packet[6], &packet[40..40 + length]);
    while matches!(next, 0 | 43 | 60) {
        let header = rest.get(..2).ok_or("extension cut off")?;
        next = header[0];
        rest = rest
            .get(8 * (1 + usize::from(header[1]))..)
            .ok_or("extension cut off")?;
    }
    if next == 44 {
        return Ok(());
    }
    transport(next, &packet[8..40], rest)
}

fn transport(protocol: u8, addresses: &[u8], bytes: &[u8]) -> Result<(), String> {
    let length = (bytes.len() as u32).to_be_bytes();
    let pseudo = [addresses, &length, &[0, 0, 0, protocol]].concat();
    let right = |name: &str, sum: u16| {
        if sum == 0xffff {
            Ok(())
        } else {
            Err(format!("{name} checksum: {sum:04x}"))
        }
    };
    match protocol {
        1 => right("ICMP", sum(&[bytes])),
        4 => ipv4(bytes),
        6 => right("TCP", sum(&[&pseudo, bytes])),
        17 => {
            if usize::from(word(bytes, 4)?) != bytes.len() {
                return Err("UDP length".into());
            }
            if word(bytes, 6)? != 0 {
                right("UDP", sum(&[&pseudo, bytes]))?;
            }
            match bytes.get(8..12) {
                Some([0, 4, 0, 0]) => ipv4(&bytes[12..]),
                Some([0, 41, 0, 0]) => ipv6(&bytes[12..]),
                _ => Ok(()),
            }
        }
        41 => ipv6(bytes),
        47 => {
            let long = bytes[0] & 0x80 != 0;
            if long {
                right("GRE", sum(&[bytes]))?;
            }
            let inner = &bytes[if long { 8 } else { 4 }..];
            match word(bytes, 2)? {
                0x0800 => ipv4(inner),
                0x86dd => ipv6(inner),
                other => Err(format!("GRE of {other:04x}")),
            }
        }
        58 => right("ICMPv6", sum(&[&pseudo, bytes])),
        132 => {
            let field = bytes.get(8..12).ok_or("SCTP cut off")?;
            let blank = [&bytes[..8], &[0; 4], &bytes[12..]].concat();
            if crc32c(&blank).to_le_bytes() == field {
                Ok(())
            } else {
                Err("SCTP checksum".into())
            }
        }
        _ => Ok(()),
    }
}

/// The CRC32c of `bytes`, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for &byte in bytes {
        register ^= u32::from(byte);
        for _ in 0..8 {
            register = (register >> 1) ^ if register & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !register
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::frame::{Frame, Frame6, sctp_chunk};

    #[test]
    fn the_check_value_of_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn every_flipped_bit_of_a_checked_range_is_found() {
        let at4 = |text: &str| text.parse().expect("an address");
        let at6 = |text: &str| text.parse().expect("an address");
        let four = Frame::udp(at4("1.2.3.4:1000"), at4("10.9.9.1:80")).build();
        let six = Frame6 {
            extensions: vec![(0, vec![1, 4, 0, 0, 0, 0])],
            ..Frame6::tcp(at6("[2001:db8::1]:1000"), at6("[2001:db8::2]:80"), 2)
        }
        .build();
        let chunks = sctp_chunk(1, 0, &[7; 16]);
        let sctp = Frame::sctp(at4("1.2.3.4:1000"), at4("10.9.9.1:80"), chunks).build();
        for frame in [four, six, sctp] {
            check(&frame).expect("intact");
            // The destination address on: all of it is under some checksum.
            for bit in (frame.len() - 20) * 8..frame.len() * 8 {
                let mut broken = frame.clone();
                broken[bit / 8] ^= 1 << (bit % 8);
                assert!(check(&broken).is_err(), "bit {bit}");
            }
        }
    }
}
