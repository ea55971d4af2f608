//! Which packets `lvx capture` takes, and the form of what it is handed.
//!
//! The capturing program is another entry into the same engine: the ordinary one
//! knows nothing of all this.

use bytemuck::{Pod, Zeroable};

use crate::{
    family::{Family, V4, V6},
    packet::Packet,
    parse,
    reason::{Class, Reason},
    wire::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP},
};

/// Most bytes of a frame that are kept.
pub const SNAP: u32 = 2048;

/// Which packets are taken. A field of 0 asks for nothing. Constant while the
/// program is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Filter {
    /// Address of either end under [`Self::mask`], in network byte order; IPv4 in
    /// the low half of the first word.
    pub addr: [u64; 2],
    /// Bits of the address that count.
    pub mask: [u64; 2],
    /// 4 or 6.
    pub family: u32,
    /// IP protocol number. (Of IPv6, that of the first header.)
    pub protocol: u32,
    /// Port of either end, in network byte order.
    pub port: u32,
    /// Interface by which it came in.
    pub ingress: u32,
    /// Outcomes: a bit for each [`Class`].
    pub classes: u32,
    /// [`Reason`] plus 1.
    pub reason: u32,
    /// Bytes kept of a frame: 1 to [`SNAP`].
    pub snap: u32,
    /// 0.
    pub reserved: u32,
}

/// What precedes the bytes of a captured frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Head {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time: u64,
    /// The same of a frame as it came and as it left: the processor in the upper 16
    /// bits, a count below.
    pub number: u64,
    /// Interface by which it came in.
    pub ingress: u32,
    /// Interface by which it leaves, of one that is redirected; else 0.
    pub egress: u32,
    /// Why it ended as it did: a [`Reason`].
    pub reason: u32,
    /// Length of the whole frame.
    pub length: u32,
    /// Bytes that follow.
    pub kept: u32,
    /// 0 as it came, 1 as lvx left it.
    pub after: u32,
}

impl Filter {
    /// Of every packet, whole as far as there is room.
    pub const EVERY: Self = Self {
        addr: [0; 2],
        mask: [0; 2],
        family: 0,
        protocol: 0,
        port: 0,
        ingress: 0,
        classes: 0,
        reason: 0,
        snap: SNAP,
        reserved: 0,
    };

    /// The bit of a class in [`Self::classes`].
    pub const fn bit(class: Class) -> u32 {
        match class {
            Class::Forwarded => 1,
            Class::Passed => 2,
            Class::Dropped => 4,
        }
    }

    /// Whether a packet that has just come in is one of those.
    #[inline(always)]
    pub fn takes<P: Packet>(&self, packet: &P) -> bool {
        if self.ingress != 0 && self.ingress != packet.ingress() {
            return false;
        }
        if self.family | self.protocol | self.port == 0 && self.mask == [0; 2] {
            return true;
        }
        let Some(ethernet) = parse::ethernet(packet) else {
            return false;
        };
        if ethernet.ethertype == V4::ETHERTYPE {
            self.family != 6 && self.takes_ipv4(packet, ethernet.l3).unwrap_or(false)
        } else if ethernet.ethertype == V6::ETHERTYPE {
            self.family != 4 && self.takes_ipv6(packet, ethernet.l3).unwrap_or(false)
        } else {
            false
        }
    }

    /// Whether one that ended for this reason is.
    #[inline(always)]
    pub fn takes_end(&self, reason: u32) -> bool {
        let class = Self::bit(Reason::class_of(reason));
        (self.classes == 0 || self.classes & class != 0)
            && (self.reason == 0 || self.reason == reason.wrapping_add(1))
    }

    #[inline(always)]
    fn takes_ipv4<P: Packet>(&self, packet: &P, l3: u32) -> Option<bool> {
        let first = packet.read::<u8>(l3)?;
        let fragment = packet.read::<u16>(l3.wrapping_add(6))?;
        let protocol = packet.read::<u8>(l3.wrapping_add(9))?;
        let ends: [u32; 2] = packet.read(l3.wrapping_add(12))?;
        let l4 = l3.wrapping_add(u32::from(first & 15).wrapping_mul(4));
        let is_later = u16::from_be(fragment) & 0x1fff != 0;
        Some(
            self.takes_ends([ends[0].into(), 0], [ends[1].into(), 0])
                && self.takes_transport(packet, protocol, l4, is_later),
        )
    }

    #[inline(always)]
    fn takes_ipv6<P: Packet>(&self, packet: &P, l3: u32) -> Option<bool> {
        let protocol = packet.read::<u8>(l3.wrapping_add(6))?;
        let source: [u64; 2] = packet.read(l3.wrapping_add(8))?;
        let destination: [u64; 2] = packet.read(l3.wrapping_add(24))?;
        Some(
            self.takes_ends(source, destination)
                && self.takes_transport(packet, protocol, l3.wrapping_add(40), false),
        )
    }

    #[inline(always)]
    fn takes_ends(&self, source: [u64; 2], destination: [u64; 2]) -> bool {
        let is = |end: [u64; 2]| {
            end[0] & self.mask[0] == self.addr[0] && end[1] & self.mask[1] == self.addr[1]
        };
        is(source) || is(destination)
    }

    #[inline(always)]
    fn takes_transport<P: Packet>(
        &self,
        packet: &P,
        protocol: u8,
        l4: u32,
        is_later: bool,
    ) -> bool {
        if self.protocol != 0 && self.protocol != u32::from(protocol) {
            return false;
        }
        if self.port == 0 {
            return true;
        }
        let has_ports = matches!(protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP);
        if !has_ports || is_later {
            return false;
        }
        packet
            .read::<[u16; 2]>(l4)
            .is_some_and(|[source, destination]| {
                self.port == u32::from(source) || self.port == u32::from(destination)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        forward::testing::{between, words},
        host::HostPacket,
    };

    fn takes(filter: Filter, source: &str, destination: &str) -> bool {
        filter.takes(&HostPacket::new(&between(source, destination).bytes(), 7))
    }

    #[test]
    fn every_packet_without_a_condition() {
        assert!(takes(Filter::EVERY, "1.2.3.4:2000", "10.9.9.1:80"));
        assert!(Filter::EVERY.takes(&HostPacket::new(&[0; 20], 7)));
    }

    #[test]
    fn either_end_fits_an_address_and_a_port() {
        for (source, destination, host) in [
            ("1.2.3.4:2000", "10.9.9.1:80", "10.9.9.1"),
            ("[2001:db8::1]:2000", "[2001:db8::2]:80", "2001:db8::2"),
        ] {
            let all = if host.contains(':') {
                [u64::MAX; 2]
            } else {
                [0xffff_ffff, 0]
            };
            let filter = Filter {
                addr: words(host),
                mask: all,
                port: 80_u16.to_be().into(),
                ..Filter::EVERY
            };
            assert!(takes(filter, source, destination));
            assert!(takes(filter, destination, source));
            let other = Filter {
                port: 81_u16.to_be().into(),
                ..filter
            };
            assert!(!takes(other, source, destination));
            let other = Filter {
                addr: words(if host.contains(':') {
                    "2001:db8::3"
                } else {
                    "10.9.9.2"
                }),
                ..filter
            };
            assert!(!takes(other, source, destination));
        }
    }

    #[test]
    fn family_protocol_and_interface() {
        let four = Filter {
            family: 4,
            ..Filter::EVERY
        };
        assert!(takes(four, "1.2.3.4:2000", "10.9.9.1:80"));
        assert!(!takes(four, "[2001:db8::1]:2000", "[2001:db8::2]:80"));
        let sctp = Filter {
            protocol: IPPROTO_SCTP.into(),
            ..Filter::EVERY
        };
        assert!(!takes(sctp, "1.2.3.4:2000", "10.9.9.1:80"));
        let other = Filter {
            ingress: 8,
            ..Filter::EVERY
        };
        assert!(!takes(other, "1.2.3.4:2000", "10.9.9.1:80"));
    }

    #[test]
    fn outcomes() {
        let dropped = Filter {
            classes: Filter::bit(Class::Dropped),
            ..Filter::EVERY
        };
        assert!(dropped.takes_end(Reason::DroppedTtl as u32));
        assert!(!dropped.takes_end(Reason::ForwardedTx as u32));
        let one = Filter {
            reason: Reason::PassedNoVip as u32 + 1,
            ..Filter::EVERY
        };
        assert!(one.takes_end(Reason::PassedNoVip as u32));
        assert!(!one.takes_end(Reason::PassedReply as u32));
    }
}
