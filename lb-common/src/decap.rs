//! The other end of a tunnel: a real server's program, which takes the packet
//! out of one that a director addressed to the server, and hands it to the stack.

use crate::{
    checksum::{fold, replaced},
    facts::Facts,
    family::{Family, V4, V6},
    forward::{Part, checksum_tail, halves},
    packet::Packet,
    parse::{self, Header as _},
    wire::{
        ETHERNET_LEN, GRE_LEN, GUE_LEN, IPPROTO_GRE, IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_UDP,
        TAG_LEN, UDP_LEN,
    },
};

/// What an address is to the program.
pub type Role = u64;
/// The outer destination of tunnels.
pub const OWN: Role = 1;
/// An inner destination, where only some are taken.
pub const VIP: Role = 2;

/// An address as it is looked up: two words as in [`Facts`], and the family.
pub type Address = [u64; 3];

/// What the operator has said.
pub trait Config: Copy {
    /// The roles of an address, or 0.
    fn roles(self, address: &Address) -> Role;
    /// The settings.
    fn settings(self) -> Settings;
}

/// UDP port of GUE, and what is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Settings {
    /// GUE's destination port, in network byte order.
    pub gue_port: u64,
    /// Not 0: only packets to an address with the role [`VIP`].
    pub vips_only: u64,
}

macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// What became of a frame; each has a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Outcome { $($(#[doc = $doc])+ $variant,)+ }

        impl Outcome {
            /// All, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that is shown.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

outcomes! {
    /// Taken out of IPIP.
    Ipip = "unwrapped-ipip";
    /// Taken out of GUE.
    Gue = "unwrapped-gue";
    /// Taken out of GRE.
    Gre = "unwrapped-gre";
    /// No tunnel to an address of the interface: to the stack as it came.
    PassedOther = "passed-other";
    /// A tunnel whose headers are cut off, wrong, or hold what lvx and IPVS do
    /// not send (keys, options, control messages): to the stack as it came.
    PassedMalformed = "passed-malformed";
    /// A fragment of a tunnel's packet: to the stack as it came. What the stack
    /// puts together does not come back here.
    PassedFragment = "passed-fragment";
    /// A tunnel with a packet to another address: to the stack as it came.
    PassedNotVip = "passed-not-vip";
    /// The tunnel's checksum is wrong.
    DroppedChecksum = "dropped-checksum";
    /// The way was congested, and the packet's ends could not be told (RFC 6040).
    DroppedCongestion = "dropped-congestion";
    /// The frame could not be shortened.
    DroppedInternal = "dropped-internal";
}

impl Outcome {
    /// Whether the frame ends here.
    #[inline(always)]
    pub const fn is_dropped(self) -> bool {
        self as u32 >= Self::DroppedChecksum as u32
    }
}

/// Longest range that [`Packet::sum`] takes, and one more.
const MOST_SUMMED: u32 = 1 << 14;
/// "Checksum present" of GRE, as loaded.
const GRE_CHECKSUM: u16 = 0x8000_u16.to_be();

/// A packet inside another.
#[derive(Clone, Copy)]
struct Inner {
    /// Where it starts.
    at: u32,
    version: u8,
    outcome: Outcome,
}

/// Takes the packet out, if there is one for this server.
#[inline(always)]
pub fn unwrap<P: Packet, C: Config>(packet: &mut P, config: C, facts: &mut Facts) -> Outcome {
    let Some(ethernet) = parse::ethernet(packet) else {
        return Outcome::PassedOther;
    };
    let found = if ethernet.ethertype == V4::ETHERTYPE {
        find::<V4, P, C>(packet, config, facts, ethernet.l3)
    } else if ethernet.ethertype == V6::ETHERTYPE {
        find::<V6, P, C>(packet, config, facts, ethernet.l3)
    } else {
        return Outcome::PassedOther;
    };
    match found {
        Ok(inner) => match strip(packet, ethernet.l3, inner) {
            Some(()) => inner.outcome,
            None => Outcome::DroppedInternal,
        },
        Err(outcome) => outcome,
    }
}

/// The packet inside one of family `F`, with what the outer one says about
/// congestion.
#[inline(always)]
fn find<F: Family, P: Packet, C: Config>(
    packet: &mut P,
    config: C,
    facts: &mut Facts,
    l3: u32,
) -> Result<Inner, Outcome> {
    let ip = F::Header::read(packet, l3).map_err(|_| Outcome::PassedOther)?;
    let protocol = ip.protocol();
    if !matches!(
        protocol,
        IPPROTO_IPIP | IPPROTO_IPV6 | IPPROTO_GRE | IPPROTO_UDP
    ) {
        return Err(Outcome::PassedOther);
    }
    ip.check(packet, facts)
        .map_err(|_| Outcome::PassedMalformed)?;
    let to = [facts.dst[0], facts.dst[1], F::VERSION.into()];
    if config.roles(&to) & OWN == 0 {
        return Err(Outcome::PassedOther);
    }
    let settings = config.settings();
    if facts.part != Part::Whole as u64 {
        // UDP of others comes in fragments too, but only the first has ports.
        return Err(match protocol {
            IPPROTO_UDP => Outcome::PassedOther,
            _ => Outcome::PassedFragment,
        });
    }
    let inner = match protocol {
        IPPROTO_UDP => gue::<F, P>(packet, facts, settings)?,
        IPPROTO_GRE => gre(packet, facts)?,
        _ => Inner {
            at: facts.l4 as u32,
            version: version_of(protocol)?,
            outcome: Outcome::Ipip,
        },
    };
    let start: u16 = packet.read(inner.at).ok_or(Outcome::PassedMalformed)?;
    if start as u8 >> 4 != inner.version {
        return Err(Outcome::PassedMalformed);
    }
    let to = destination(packet, inner).ok_or(Outcome::PassedMalformed)?;
    if settings.vips_only != 0 && config.roles(&to) & VIP == 0 {
        return Err(Outcome::PassedNotVip);
    }
    if is_congested::<F, P>(packet, l3).ok_or(Outcome::PassedMalformed)? {
        mark(packet, inner)?;
    }
    Ok(inner)
}

#[inline(always)]
fn version_of(protocol: u8) -> Result<u8, Outcome> {
    match protocol {
        IPPROTO_IPIP => Ok(4),
        IPPROTO_IPV6 => Ok(6),
        _ => Err(Outcome::PassedMalformed),
    }
}

/// Where the outer packet ends.
#[inline(always)]
const fn end(facts: &Facts) -> u32 {
    (facts.l3 as u32).wrapping_add(facts.l3_len as u32)
}

#[inline(always)]
fn gue<F: Family, P: Packet>(
    packet: &P,
    facts: &Facts,
    settings: Settings,
) -> Result<Inner, Outcome> {
    let l4 = facts.l4 as u32;
    let [ports, rest]: [u32; 2] = packet.read(l4).ok_or(Outcome::PassedMalformed)?;
    if u64::from(ports >> 16) != settings.gue_port {
        return Err(Outcome::PassedOther);
    }
    let length = u32::from(u16::from_be(rest as u16));
    let gue: u32 = packet
        .read(l4.wrapping_add(UDP_LEN))
        .ok_or(Outcome::PassedMalformed)?;
    // Version 0, no control message, no options: the next byte is the protocol.
    if length < UDP_LEN + GUE_LEN
        || l4.wrapping_add(length) > end(facts)
        || gue & !0xff00 != 0
        || length >= MOST_SUMMED
    {
        return Err(Outcome::PassedMalformed);
    }
    let check = (rest >> 16) as u16;
    if check != 0 {
        let sum = packet.sum(l4, length).ok_or(Outcome::PassedMalformed)?;
        let sum = sum
            .wrapping_add(halves::<F>(facts.src))
            .wrapping_add(halves::<F>(facts.dst))
            .wrapping_add(checksum_tail(IPPROTO_UDP, length));
        if fold(sum) != 0xffff {
            return Err(Outcome::DroppedChecksum);
        }
    }
    Ok(Inner {
        at: l4.wrapping_add(UDP_LEN + GUE_LEN),
        version: version_of((gue >> 8) as u8)?,
        outcome: Outcome::Gue,
    })
}

#[inline(always)]
fn gre<P: Packet>(packet: &P, facts: &Facts) -> Result<Inner, Outcome> {
    let l4 = facts.l4 as u32;
    let [flags, carried]: [u16; 2] = packet.read(l4).ok_or(Outcome::PassedMalformed)?;
    let version = if carried == V4::ETHERTYPE {
        4
    } else if carried == V6::ETHERTYPE {
        6
    } else {
        return Err(Outcome::PassedMalformed);
    };
    let mut at = l4.wrapping_add(GRE_LEN);
    if flags == GRE_CHECKSUM {
        at = at.wrapping_add(GRE_LEN);
        let length = end(facts).wrapping_sub(l4);
        if length >= MOST_SUMMED {
            return Err(Outcome::PassedMalformed);
        }
        let sum = packet.sum(l4, length).ok_or(Outcome::PassedMalformed)?;
        if fold(sum) != 0xffff {
            return Err(Outcome::DroppedChecksum);
        }
    } else if flags != 0 {
        return Err(Outcome::PassedMalformed);
    }
    Ok(Inner {
        at,
        version,
        outcome: Outcome::Gre,
    })
}

#[inline(always)]
fn destination<P: Packet>(packet: &P, inner: Inner) -> Option<Address> {
    if inner.version == 4 {
        let to: u32 = packet.read(inner.at.wrapping_add(16))?;
        Some([to.into(), 0, 4])
    } else {
        let [high, low]: [u64; 2] = packet.read(inner.at.wrapping_add(24))?;
        Some([high, low, 6])
    }
}

/// The traffic class in the first two bytes of a packet, as loaded.
#[inline(always)]
const fn class(start: u16, version: u8) -> u8 {
    let start = u16::from_be(start);
    if version == 4 {
        start as u8
    } else {
        (start >> 4) as u8
    }
}

/// The two bits of a class that say that the way was congested.
const CONGESTED: u8 = 3;

#[inline(always)]
fn is_congested<F: Family, P: Packet>(packet: &P, l3: u32) -> Option<bool> {
    Some(class(packet.read(l3)?, F::VERSION) & CONGESTED == CONGESTED)
}

/// Hands congestion on to a packet whose ends can be told.
#[inline(always)]
fn mark<P: Packet>(packet: &mut P, inner: Inner) -> Result<(), Outcome> {
    const CUT: Outcome = Outcome::PassedMalformed;
    let start: u16 = packet.read(inner.at).ok_or(CUT)?;
    if class(start, inner.version) & CONGESTED == 0 {
        return Err(Outcome::DroppedCongestion);
    }
    let bits = u16::from(CONGESTED);
    let bits = if inner.version == 4 { bits } else { bits << 4 };
    let marked = start | bits.to_be();
    if inner.version == 4 {
        let at = inner.at.wrapping_add(10);
        let check: u16 = packet.read(at).ok_or(CUT)?;
        let sum = u64::from(!check).wrapping_add(replaced(start.into(), marked.into()));
        packet.write(at, !fold(sum)).ok_or(CUT)?;
    }
    packet.write(inner.at, marked).ok_or(CUT)
}

/// Moves the layer-2 header up to the inner packet.
#[inline(always)]
fn strip<P: Packet>(packet: &mut P, l3: u32, inner: Inner) -> Option<()> {
    let stations: u64 = packet.read(0)?;
    let rest: u32 = packet.read(8)?;
    let mut tags = [0; 2];
    if l3 > ETHERNET_LEN {
        tags[0] = packet.read::<u32>(12)?;
    }
    if l3 > ETHERNET_LEN + TAG_LEN {
        tags[1] = packet.read::<u32>(16)?;
    }
    let gone = inner.at.wrapping_sub(l3);
    packet.grow_front((gone as i32).wrapping_neg())?;
    packet.write(0, stations)?;
    packet.write(8, rest)?;
    let ethertype = if inner.version == 4 {
        V4::ETHERTYPE
    } else {
        V6::ETHERTYPE
    };
    if l3 > ETHERNET_LEN {
        packet.write(12, tags[0])?;
    }
    if l3 > ETHERNET_LEN + TAG_LEN {
        packet.write(16, tags[1])?;
    }
    packet.write(l3.wrapping_sub(2), ethertype)
}

#[cfg(test)]
mod tests;
