//! Frames for tests, put together field by field, with right checksums.

use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6};

use crate::{
    checksum::fold,
    host::sums::crc32c,
    wire::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP},
};

/// An Ethernet frame with an IPv4 packet.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination and source station address.
    pub stations: [[u8; 6]; 2],
    /// VLAN tags, outermost first: tag protocol (0x8100, 0x88a8) and tag
    /// control (priority, DEI, identifier).
    pub tags: Vec<(u16, u16)>,
    /// Source of the packet.
    pub source: SocketAddrV4,
    /// Destination of the packet.
    pub destination: SocketAddrV4,
    /// IP protocol number; ports are written for TCP, UDP and SCTP only.
    pub protocol: u8,
    /// TCP flags.
    pub flags: u8,
    /// Time to live.
    pub ttl: u8,
    /// Type of service, identification, fragment word.
    pub misc: (u8, u16, u16),
    /// IP options: a multiple of 4 bytes, at most 40.
    pub options: Vec<u8>,
    /// Options of a TCP header: a multiple of 4 bytes, at most 40.
    pub tcp_options: Vec<u8>,
    /// What the transport header carries.
    pub payload: Vec<u8>,
    /// Bytes behind the packet (Ethernet padding).
    pub padding: usize,
}

impl Frame {
    /// A TCP segment with these flags.
    pub fn tcp(source: SocketAddrV4, destination: SocketAddrV4, flags: u8) -> Self {
        Self {
            stations: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            tags: Vec::new(),
            source,
            destination,
            protocol: IPPROTO_TCP,
            flags,
            ttl: 64,
            misc: (0, 0x1234, 0x4000),
            options: Vec::new(),
            tcp_options: Vec::new(),
            payload: Vec::new(),
            padding: 0,
        }
    }

    /// A UDP datagram of four bytes.
    pub fn udp(source: SocketAddrV4, destination: SocketAddrV4) -> Self {
        let payload = b"ping".to_vec();
        Self {
            protocol: IPPROTO_UDP,
            payload,
            ..Self::tcp(source, destination, 0)
        }
    }

    /// An SCTP packet of these chunks.
    pub fn sctp(source: SocketAddrV4, destination: SocketAddrV4, chunks: Vec<u8>) -> Self {
        Self {
            protocol: IPPROTO_SCTP,
            payload: chunks,
            ..Self::tcp(source, destination, 0)
        }
    }

    /// The whole frame.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.stations.concat();
        for (protocol, control) in &self.tags {
            bytes.extend(protocol.to_be_bytes());
            bytes.extend(control.to_be_bytes());
        }
        bytes.extend([0x08, 0x00]);
        bytes.extend(self.packet());
        bytes.extend(vec![0; self.padding]);
        bytes
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let transport = self.transport();
        let header_len = 20 + self.options.len();
        let total = (header_len + transport.len()) as u16;
        let (service_type, id, fragment) = self.misc;
        let mut header = vec![0x40 | (header_len / 4) as u8, service_type];
        for field in [total, id, fragment] {
            header.extend(field.to_be_bytes());
        }
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(self.source.ip().octets());
        header.extend(self.destination.ip().octets());
        header.extend(&self.options);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        header.extend(transport);
        header
    }

    fn transport(&self) -> Vec<u8> {
        let [source, destination]: [&Ipv4Addr; 2] = [self.source.ip(), self.destination.ip()];
        Transport {
            protocol: self.protocol,
            flags: self.flags,
            ports: [self.source.port(), self.destination.port()],
            options: &self.tcp_options,
            payload: &self.payload,
        }
        .build(&[source.octets(), destination.octets()].concat())
    }
}

/// What stands behind an IP header.
struct Transport<'a> {
    protocol: u8,
    flags: u8,
    ports: [u16; 2],
    options: &'a [u8],
    payload: &'a [u8],
}

impl Transport<'_> {
    /// The bytes, with a checksum: between `addresses` for TCP and UDP, of the
    /// bytes alone for SCTP.
    fn build(&self, addresses: &[u8]) -> Vec<u8> {
        if self.protocol == IPPROTO_SCTP {
            return self.sctp();
        }
        if ![IPPROTO_TCP, IPPROTO_UDP].contains(&self.protocol) {
            return self.payload.to_vec();
        }
        let mut bytes: Vec<u8> = self.ports.iter().flat_map(|p| p.to_be_bytes()).collect();
        let at = if self.protocol == IPPROTO_TCP {
            let offset = 0x50 + (self.options.len() as u8 / 4) * 0x10;
            bytes.extend([
                0, 0, 0, 1, 0, 0, 0, 0, offset, self.flags, 0xff, 0xff, 0, 0, 0, 0,
            ]);
            bytes.extend(self.options);
            16
        } else {
            bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            6
        };
        bytes.extend(self.payload);
        let length = (bytes.len() as u32).to_be_bytes();
        let protocol = [0, 0, 0, self.protocol];
        let pseudo = [addresses, &length, &protocol].concat();
        let mut sum = checksum(&[pseudo, bytes.clone()].concat());
        if self.protocol == IPPROTO_UDP && sum == [0, 0] {
            sum = [0xff, 0xff];
        }
        bytes[at..at + 2].copy_from_slice(&sum);
        bytes
    }

    fn sctp(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.ports.iter().flat_map(|p| p.to_be_bytes()).collect();
        // Verification tag, checksum.
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 0]);
        bytes.extend(self.payload);
        let sum = crc32c(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&sum);
        bytes
    }
}

/// An SCTP chunk with its padding.
pub fn sctp_chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, flags];
    bytes.extend((4 + value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An Ethernet frame with an IPv6 packet.
#[derive(Clone, Debug)]
pub struct Frame6 {
    /// Destination and source station address.
    pub stations: [[u8; 6]; 2],
    /// VLAN tags, as in [`Frame`].
    pub tags: Vec<(u16, u16)>,
    /// Source of the packet.
    pub source: SocketAddrV6,
    /// Destination of the packet.
    pub destination: SocketAddrV6,
    /// Protocol behind the extension headers; ports are written for TCP, UDP and SCTP only.
    pub protocol: u8,
    /// TCP flags.
    pub flags: u8,
    /// Hop limit.
    pub ttl: u8,
    /// Traffic class and flow label.
    pub class: (u8, u32),
    /// Extension headers: the number of each and its bytes from the third on
    /// (multiples of 8, less 2). A fragment header's second byte is reserved
    /// and written as its length, 0, as for one of 8 bytes.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Options of a TCP header: a multiple of 4 bytes, at most 40.
    pub tcp_options: Vec<u8>,
    /// What the transport header carries.
    pub payload: Vec<u8>,
    /// Bytes behind the packet (Ethernet padding).
    pub padding: usize,
}

impl Frame6 {
    /// A TCP segment with these flags.
    pub fn tcp(source: SocketAddrV6, destination: SocketAddrV6, flags: u8) -> Self {
        Self {
            stations: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            tags: Vec::new(),
            source,
            destination,
            protocol: IPPROTO_TCP,
            flags,
            ttl: 64,
            class: (0, 0),
            extensions: Vec::new(),
            tcp_options: Vec::new(),
            payload: Vec::new(),
            padding: 0,
        }
    }

    /// A UDP datagram of four bytes.
    pub fn udp(source: SocketAddrV6, destination: SocketAddrV6) -> Self {
        Self {
            protocol: IPPROTO_UDP,
            payload: b"ping".to_vec(),
            ..Self::tcp(source, destination, 0)
        }
    }

    /// An SCTP packet of these chunks.
    pub fn sctp(source: SocketAddrV6, destination: SocketAddrV6, chunks: Vec<u8>) -> Self {
        Self {
            protocol: IPPROTO_SCTP,
            payload: chunks,
            ..Self::tcp(source, destination, 0)
        }
    }

    /// The whole frame.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.stations.concat();
        for (protocol, control) in &self.tags {
            bytes.extend(protocol.to_be_bytes());
            bytes.extend(control.to_be_bytes());
        }
        bytes.extend([0x86, 0xdd]);
        bytes.extend(self.packet());
        bytes.extend(vec![0; self.padding]);
        bytes
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let addresses = [self.source.ip().octets(), self.destination.ip().octets()].concat();
        let mut behind = Vec::new();
        for (i, (_, bytes)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(i + 1).map_or(self.protocol, |e| e.0);
            behind.extend([next, (bytes.len() / 8) as u8]);
            behind.extend(bytes);
        }
        let transport = Transport {
            protocol: self.protocol,
            flags: self.flags,
            ports: [self.source.port(), self.destination.port()],
            options: &self.tcp_options,
            payload: &self.payload,
        };
        behind.extend(transport.build(&addresses));
        let (class, label) = self.class;
        let mut packet = (6 << 28 | u32::from(class) << 20 | label)
            .to_be_bytes()
            .to_vec();
        packet.extend((behind.len() as u16).to_be_bytes());
        let next = self.extensions.first().map_or(self.protocol, |e| e.0);
        packet.extend([next, self.ttl]);
        packet.extend(addresses);
        packet.extend(behind);
        packet
    }
}

/// The Internet checksum of `bytes` whose own field is zero, as on the wire.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| {
        u64::from(u16::from_ne_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    });
    (!fold(words.sum())).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_byte_by_byte() {
        let at = |text: &str| text.parse().expect("an address");
        let frame = Frame::tcp(at("1.2.3.4:1000"), at("10.9.9.1:80"), 2);
        let packet = frame.packet();
        // The same header with a TTL of 63 and without DF is in a recording of
        // a real kernel: 45000028 12340000 3f06528d.
        assert_eq!(
            packet[..12],
            [0x45, 0, 0, 0x28, 0x12, 0x34, 0x40, 0, 64, 6, 0x11, 0x8d]
        );
        assert_eq!(packet.len(), 40);
        assert_eq!(frame.build().len(), 54);
        let recorded = Frame {
            ttl: 63,
            misc: (0, 0x1234, 0),
            ..frame
        };
        assert_eq!(recorded.packet()[8..12], [0x3f, 6, 0x52, 0x8d]);
    }
}
