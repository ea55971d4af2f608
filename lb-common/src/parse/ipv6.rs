use super::Header;
use crate::{facts::Facts, forward::Part, packet::Packet, reason::Reason, wire::IPV6_LEN};

/// The IPv6 header as loaded.
#[derive(Clone, Copy)]
pub struct Ipv6 {
    words: [u64; 5],
    l3: u32,
}

/// An address folded by exclusive or to 32 bits.
#[inline(always)]
const fn fold(high: u64, low: u64) -> u32 {
    let both = high ^ low;
    both as u32 ^ (both >> 32) as u32
}

impl Header for Ipv6 {
    #[inline(always)]
    fn read<P: Packet>(packet: &P, l3: u32) -> Result<Self, Reason> {
        let words: [u64; 5] = packet.read(l3).ok_or(Reason::PassedMalformed)?;
        if words[0] as u8 >> 4 != 6 {
            return Err(Reason::PassedMalformed);
        }
        Ok(Self { words, l3 })
    }

    #[inline(always)]
    fn source(&self) -> u32 {
        fold(self.words[1], self.words[2])
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        fold(self.words[3], self.words[4])
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        (self.words[0] >> 48) as u8
    }

    #[inline(always)]
    fn check<P: Packet>(&self, packet: &P, facts: &mut Facts) -> Result<u8, Reason> {
        let payload = u32::from(u16::from_be((self.words[0] >> 32) as u16));
        let total = IPV6_LEN + payload;
        if !packet.reaches(self.l3 + total) {
            return Err(Reason::PassedMalformed);
        }
        facts.src = [self.words[1], self.words[2]];
        facts.dst = [self.words[3], self.words[4]];
        facts.l3 = self.l3.into();
        facts.l4 = (self.l3 + IPV6_LEN).into();
        facts.l3_len = total.into();
        facts.family = 6;
        facts.part = Part::Whole as u64;
        facts.ttl = self.words[0] >> 56;
        Ok(self.protocol())
    }
}
