use crate::{
    checksum,
    conn::Protocol,
    facts::Facts,
    packet::Packet,
    reason::Reason,
    wire::{IPV4_LEN, TCP_LEN, UDP_LEN},
};

/// Longest run of option words: 40 bytes.
const OPTION_WORDS: u32 = 10;
/// More fragments, or an offset, as loaded (big-endian 0x3fff).
const FRAGMENT: u16 = 0x3fff_u16.to_be();

/// The fixed part of an IPv4 header as loaded.
#[derive(Clone, Copy)]
pub struct Ipv4 {
    words: [u32; 5],
    l3: u32,
}

/// Reads the fixed part of an IPv4 header.
///
/// # Errors
/// [`Reason::PassedMalformed`] when it is cut off or of another version.
#[inline(always)]
pub fn ipv4<P: Packet>(packet: &P, l3: u32) -> Result<Ipv4, Reason> {
    let words: [u32; 5] = packet.read(l3).ok_or(Reason::PassedMalformed)?;
    if words[0] as u8 >> 4 != 4 {
        return Err(Reason::PassedMalformed);
    }
    Ok(Ipv4 { words, l3 })
}

impl Ipv4 {
    /// Source address in network byte order.
    #[inline(always)]
    pub fn source(&self) -> u32 {
        self.words[3]
    }

    /// Destination address in network byte order.
    #[inline(always)]
    pub fn destination(&self) -> u32 {
        self.words[4]
    }

    #[inline(always)]
    fn header_len(&self) -> u32 {
        (self.words[0] & 0x0f) * 4
    }

    #[inline(always)]
    fn total_len(&self) -> u32 {
        u32::from(u16::from_be((self.words[0] >> 16) as u16))
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        (self.words[2] >> 8) as u8
    }

    #[inline(always)]
    fn is_fragment(&self) -> bool {
        (self.words[1] >> 16) as u16 & FRAGMENT != 0
    }

    /// Whether the header's checksum is right. The stack drops packets with a
    /// wrong one before IPVS sees them.
    #[inline(always)]
    fn is_intact<P: Packet>(&self, packet: &P) -> bool {
        let mut sum = checksum::ipv4_sum(&self.words);
        let options = (self.header_len() - IPV4_LEN) / 4;
        let mut word = 0;
        while word < OPTION_WORDS {
            if word >= options {
                break;
            }
            match packet.read::<u32>(self.l3 + IPV4_LEN + word * 4) {
                Some(value) => sum += u64::from(value),
                None => return false,
            }
            word += 1;
        }
        checksum::fold(sum) == 0xffff
    }
}

/// Checks the header, reads the transport header, and fills in the facts.
///
/// # Errors
/// Why the packet is the stack's.
#[inline(always)]
pub fn transport<P: Packet>(packet: &P, ip: &Ipv4, facts: &mut Facts) -> Result<Protocol, Reason> {
    let (header, total) = (ip.header_len(), ip.total_len());
    if header < IPV4_LEN || total < header || !packet.reaches(ip.l3 + total) {
        return Err(Reason::PassedMalformed);
    }
    if !ip.is_intact(packet) {
        return Err(Reason::PassedMalformed);
    }
    if ip.is_fragment() {
        return Err(Reason::PassedFragment);
    }
    let protocol = Protocol::from_number(ip.protocol()).ok_or(Reason::PassedProtocol)?;
    let l4 = ip.l3 + header;
    facts.l4 = l4.into();
    let needed = match protocol {
        Protocol::Tcp => TCP_LEN,
        Protocol::Udp => UDP_LEN,
    };
    if total < header + needed {
        return Err(Reason::PassedMalformed);
    }
    let ports = match protocol {
        Protocol::Tcp => {
            let words: [u32; 5] = packet.read(l4).ok_or(Reason::PassedMalformed)?;
            facts.tcp_flags = u64::from(words[3] >> 8 & 0xff);
            words[0]
        }
        Protocol::Udp => {
            let words: [u32; 2] = packet.read(l4).ok_or(Reason::PassedMalformed)?;
            facts.tcp_flags = 0;
            words[0]
        }
    };
    facts.ports = u64::from(ports) | u64::from(ip.protocol()) << 32;
    facts.src = [ip.source().into(), 0];
    facts.dst = [ip.destination().into(), 0];
    facts.l3 = ip.l3.into();
    facts.l3_len = total.into();
    facts.family = 4;
    facts.ttl = u64::from(ip.words[2] & 0xff);
    Ok(protocol)
}
