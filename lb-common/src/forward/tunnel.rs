use super::{
    header::Header,
    hop::{decrement_ttl, fits, lives_on, must_not_fragment},
    nat::{checksum_tail, halves},
    way::{Way, ethertype, leave_by},
};
use crate::{
    checksum::fold,
    facts::Facts,
    family::{Family, V4, V6},
    layout::{DestView, NextHopView, TunnelChecksum, TunnelKind},
    packet::Packet,
    reason::Reason,
    tables::{Cell, Tables},
    wire::{
        GRE_LEN, GUE_LEN, IPPROTO_GRE, IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_UDP, IPV4_LEN, IPV6_LEN,
        UDP_LEN,
    },
};

/// The least room that a tunnel over IPv4 or IPv6 must leave.
const LEAST: [u32; 2] = [68, 1280];
/// Source ports of GUE: the kernel's default `ip_local_port_range`.
const PORTS: [u32; 2] = [32768, 60999];

/// Puts the packet, of family `F`, whole into one to the server, of the
/// server's family.
///
/// # Errors
/// Why the packet cannot be sent.
#[inline(always)]
pub fn tunnel<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
    dest: DestView<T::Cell>,
    hop: NextHopView<T::Cell>,
) -> Result<(), Reason> {
    if dest.family() == V4::VERSION {
        wrap::<F, V4, P, T>(packet, tables, facts, dest, hop)
    } else {
        wrap::<F, V6, P, T>(packet, tables, facts, dest, hop)
    }
}

/// What stands between the outer IP header and the packet.
#[derive(Clone, Copy)]
struct Shape {
    protocol: u8,
    length: u32,
    checksum: bool,
}

impl Shape {
    #[inline(always)]
    fn of<F: Family, C: Cell>(dest: DestView<C>) -> Self {
        let (kind, checksum) = (dest.tunnel_kind(), dest.tunnel_checksum());
        if kind == TunnelKind::Gue as u8 {
            Self {
                protocol: IPPROTO_UDP,
                length: UDP_LEN + GUE_LEN,
                // Nothing is left to be offloaded in a packet that came in.
                checksum: checksum != TunnelChecksum::None as u8,
            }
        } else if kind == TunnelKind::Gre as u8 {
            let checksum = checksum == TunnelChecksum::Full as u8;
            Self {
                protocol: IPPROTO_GRE,
                length: if checksum { 2 * GRE_LEN } else { GRE_LEN },
                checksum,
            }
        } else {
            Self {
                protocol: inner_protocol::<F>(),
                length: 0,
                checksum: false,
            }
        }
    }
}

#[inline(always)]
const fn inner_protocol<F: Family>() -> u8 {
    if F::VERSION == 4 {
        IPPROTO_IPIP
    } else {
        IPPROTO_IPV6
    }
}

#[inline(always)]
fn wrap<F: Family, O: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &mut Facts,
    dest: DestView<T::Cell>,
    hop: NextHopView<T::Cell>,
) -> Result<(), Reason> {
    lives_on(facts)?;
    let shape = Shape::of::<F, _>(dest);
    let (ip_len, least) = if O::VERSION == 4 {
        (IPV4_LEN, LEAST[0])
    } else {
        (IPV6_LEN, LEAST[1])
    };
    let around = ip_len.wrapping_add(shape.length);
    if Way::mtu(hop) < around.wrapping_add(least) {
        facts.mtu = 0;
        return Err(Reason::DroppedTooBig);
    }
    decrement_ttl::<F, P>(packet, facts)?;
    let mut room = Way::mtu(hop).wrapping_sub(around);
    // A packet that routers may fragment is not held to what they have told.
    if (F::VERSION == 4 || O::VERSION == 6)
        && let Some(path) = dest.path_mtu().at(facts.tick())
        && path.wrapping_sub(around) < room
        && (O::VERSION == 6 || must_not_fragment::<F, P>(packet, facts.l3 as u32) == Some(true))
    {
        room = path.wrapping_sub(around);
    }
    fits::<F, P>(packet, facts, room)?;
    put::<F, O, P, T>(packet, tables, facts, dest, hop, shape).ok_or(Reason::DroppedInternal)
}

#[inline(always)]
fn put<F: Family, O: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: T,
    facts: &Facts,
    dest: DestView<T::Cell>,
    hop: NextHopView<T::Cell>,
    shape: Shape,
) -> Option<()> {
    let l3 = facts.l3 as u32;
    let inner_len = facts.l3_len as u32;
    let ip_len = if O::VERSION == 4 { IPV4_LEN } else { IPV6_LEN };
    let around = ip_len.wrapping_add(shape.length);
    let outer = Header {
        class: outer_class(packet.read::<u16>(l3)?, F::VERSION),
        whole: F::VERSION == 4 && must_not_fragment::<F, P>(packet, l3)?,
        ttl: (facts.ttl as u8).wrapping_sub(1),
        protocol: shape.protocol,
        length: inner_len.wrapping_add(around),
        source: [hop.source(0), hop.source(1)],
        destination: [dest.addr(0), dest.addr(1)],
    };
    let inner_sum = if shape.checksum {
        packet.sum(l3, inner_len)?
    } else {
        0
    };
    leave_by(packet, l3, around, hop).ok()?;
    let at = Way::header_len(hop);
    outer.write::<O, P, T>(packet, at, tables)?;
    let at = at.wrapping_add(ip_len);
    if shape.protocol == IPPROTO_UDP {
        let length = inner_len.wrapping_add(shape.length);
        let ports = u32::from(source_port(facts)) | u32::from(dest.tunnel_port()) << 16;
        let gue = u32::from(inner_protocol::<F>()) << 8;
        let udp_len = u32::from((length as u16).to_be());
        let check = if shape.checksum {
            let sum = inner_sum
                .wrapping_add(ports.into())
                .wrapping_add(gue.into())
                .wrapping_add(udp_len.into())
                .wrapping_add(halves::<O>(outer.source))
                .wrapping_add(halves::<O>(outer.destination))
                .wrapping_add(checksum_tail(IPPROTO_UDP, length));
            match !fold(sum) {
                0 => 0xffff,
                check => check,
            }
        } else {
            0
        };
        return packet.write(at, [ports, udp_len | u32::from(check) << 16, gue]);
    }
    if shape.protocol == IPPROTO_GRE {
        let carried = u32::from(ethertype::<F>()) << 16;
        if shape.checksum {
            // Flag "checksum present", as loaded.
            let first = carried | u32::from(0x8000_u16.to_be());
            let check = !fold(inner_sum.wrapping_add(first.into()));
            return packet.write(at, [first, check.into()]);
        }
        return packet.write(at, carried);
    }
    Some(())
}

/// The class of the outer header, from the first two bytes of the inner one:
/// as it is, but "congestion experienced" becomes ECT(0), for the tunnel has
/// seen none yet.
#[inline(always)]
fn outer_class(start: u16, version: u8) -> u8 {
    let start = u16::from_be(start);
    let class = if version == 4 { start } else { start >> 4 } as u8;
    if class & 3 == 3 { class & !1 } else { class }
}

/// The source port of a flow's GUE packets, in network byte order: always the
/// same for a flow, and spread, for the sake of hashing on the way.
#[inline(always)]
fn source_port(facts: &Facts) -> u16 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = (facts.src[0] ^ facts.dst[0].rotate_left(32)).wrapping_mul(FACTOR);
    mixed ^= mixed >> 32;
    mixed ^= facts.src[1] ^ facts.dst[1].rotate_left(32);
    mixed = (mixed ^ facts.ports).wrapping_mul(FACTOR);
    let hash = mixed >> 32;
    let port = hash.wrapping_mul((PORTS[1] - PORTS[0]).into()) >> 32;
    (port as u16).wrapping_add(PORTS[0] as u16).to_be()
}

#[cfg(test)]
pub(crate) mod tests;
