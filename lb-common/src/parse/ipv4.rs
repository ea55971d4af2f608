use super::Header;
use crate::{
    checksum, facts::Facts, forward::Part, packet::Packet, reason::Reason, wire::IPV4_LEN,
};

/// Longest run of option words: 40 bytes.
const OPTION_WORDS: u32 = 10;
/// More fragments, or an offset, as loaded (big-endian 0x3fff).
const FRAGMENT: u16 = 0x3fff_u16.to_be();
/// An offset.
const OFFSET: u16 = 0x1fff_u16.to_be();

/// The fixed part of an IPv4 header as loaded.
#[derive(Clone, Copy)]
pub struct Ipv4 {
    words: [u32; 5],
    l3: u32,
}

impl Ipv4 {
    #[inline(always)]
    fn header_len(&self) -> u32 {
        (self.words[0] & 0x0f) * 4
    }

    #[inline(always)]
    fn total_len(&self) -> u32 {
        u32::from(u16::from_be((self.words[0] >> 16) as u16))
    }

    #[inline(always)]
    fn part(&self) -> Part {
        let fragment = (self.words[1] >> 16) as u16;
        if fragment & FRAGMENT == 0 {
            Part::Whole
        } else if fragment & OFFSET == 0 {
            Part::First
        } else {
            Part::Later
        }
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

impl Header for Ipv4 {
    #[inline(always)]
    fn read<P: Packet>(packet: &P, l3: u32) -> Result<Self, Reason> {
        let words: [u32; 5] = packet.read(l3).ok_or(Reason::PassedMalformed)?;
        if words[0] as u8 >> 4 != 4 {
            return Err(Reason::PassedMalformed);
        }
        Ok(Self { words, l3 })
    }

    #[inline(always)]
    fn source(&self) -> u32 {
        self.words[3]
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        self.words[4]
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        (self.words[2] >> 8) as u8
    }

    #[inline(always)]
    fn check<P: Packet>(&self, packet: &P, facts: &mut Facts) -> Result<u8, Reason> {
        let (header, total) = (self.header_len(), self.total_len());
        if header < IPV4_LEN || total < header || !packet.reaches(self.l3 + total) {
            return Err(Reason::PassedMalformed);
        }
        if !self.is_intact(packet) {
            return Err(Reason::PassedMalformed);
        }
        facts.src = [self.words[3].into(), 0];
        facts.dst = [self.words[4].into(), 0];
        facts.l3 = self.l3.into();
        facts.l4 = (self.l3 + header).into();
        facts.l3_len = total.into();
        facts.family = 4;
        facts.ttl = u64::from(self.words[2] & 0xff);
        facts.part = self.part() as u64;
        facts.fragment = (self.words[1] & 0xffff).into();
        Ok(self.protocol())
    }
}
