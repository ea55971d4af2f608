use crate::{
    conn::{
        Protocol,
        sctp::{Event, chunk, columns},
        udp,
    },
    facts::Facts,
    forward::Part,
    layout::Settings,
    packet::Packet,
    reason::Reason,
    wire::{
        CHUNK_LEN, IPV6_DESTINATION, IPV6_FRAGMENT, IPV6_HOP_BY_HOP, IPV6_ROUTING, SCTP_LEN,
        TCP_LEN, UDP_LEN,
    },
};

/// Most extension headers that are skipped.
const EXTENSIONS: u32 = 8;
/// Where layer 4 may begin at most: the packet is read below offset 256.
const FARTHEST: u32 = 192;

/// Reads ports and flags (of SCTP, the event) behind the layer-3 header and
/// completes the facts.
///
/// # Errors
/// [`Reason::PassedMalformed`] when the header is cut off.
#[inline(always)]
pub fn transport<P: Packet>(
    packet: &P,
    protocol: Protocol,
    facts: &mut Facts,
) -> Result<(), Reason> {
    const CUT: Reason = Reason::PassedMalformed;
    let l4 = facts.l4 as u32;
    let needed = match protocol {
        Protocol::Tcp => TCP_LEN,
        Protocol::Udp => UDP_LEN,
        Protocol::Sctp => SCTP_LEN,
    };
    if facts.l3.wrapping_add(facts.l3_len) < u64::from(l4.wrapping_add(needed)) {
        return Err(CUT);
    }
    let ports = match protocol {
        Protocol::Tcp => {
            let words: [u32; 5] = packet.read(l4).ok_or(CUT)?;
            facts.flags = u64::from(words[3] >> 8 & 0xff);
            words[0]
        }
        Protocol::Udp => {
            let words: [u32; 2] = packet.read(l4).ok_or(CUT)?;
            facts.flags = 0;
            facts.columns = udp::COLUMNS;
            facts.timeouts = Settings::UDP;
            words[0]
        }
        Protocol::Sctp => {
            let event = sctp_event(packet, facts);
            facts.flags = event as u64;
            facts.columns = columns(event);
            facts.timeouts = Settings::SCTP;
            packet.read(l4).ok_or(CUT)?
        }
    };
    facts.ports = u64::from(ports) | u64::from(protocol.number()) << 32;
    Ok(())
}

/// What the chunks of an SCTP packet mean: the first one, and an ABORT that comes
/// second, behind a COOKIE ECHO or COOKIE ACK.
#[inline(always)]
fn sctp_event<P: Packet>(packet: &P, facts: &Facts) -> Event {
    let end = (facts.l3 as u32).wrapping_add(facts.l3_len as u32);
    let first = (facts.l4 as u32).wrapping_add(SCTP_LEN);
    if first.wrapping_add(CHUNK_LEN) > end {
        return Event::Nothing;
    }
    let Some([kind, _, high, low]) = packet.read::<[u8; 4]>(first) else {
        return Event::Nothing;
    };
    let event = Event::of_chunk(kind);
    if !matches!(event, Event::CookieEcho | Event::CookieAck) {
        return event;
    }
    let length = u32::from(high) << 8 | u32::from(low);
    let second = first.wrapping_add(length.wrapping_add(3) & !3);
    if length < CHUNK_LEN || second.wrapping_add(CHUNK_LEN) > end {
        return event;
    }
    // A cookie is longer than what can be read; one byte can be summed anywhere.
    match packet.sum(second, 1) {
        Some(kind) if kind == u64::from(chunk::ABORT) => Event::Abort,
        _ => event,
    }
}

/// Offset and "more fragments" of a fragment header, as loaded.
const OFFSET: u16 = 0xfff8_u16.to_be();
const MORE: u16 = 1_u16.to_be();

/// Skips IPv6 extension headers: moves [`Facts::l4`] and answers the number of
/// the header that is there. Of a fragment, notes which part it is.
///
/// # Errors
/// Why the packet is the stack's: cut off, or more headers than anybody sends.
#[inline(always)]
pub fn skip_extensions<P: Packet>(
    packet: &P,
    protocol: u8,
    facts: &mut Facts,
) -> Result<u8, Reason> {
    let mut next = protocol;
    let mut at = facts.l4 as u32;
    let mut headers = 0;
    while headers < EXTENSIONS {
        if at > FARTHEST {
            break;
        }
        at = packet.offset(at);
        if next == IPV6_FRAGMENT {
            let [following, offset]: [u16; 2] = packet.read(at).ok_or(Reason::PassedMalformed)?;
            let identification: u32 = packet
                .read(at.wrapping_add(4))
                .ok_or(Reason::PassedMalformed)?;
            facts.fragment = identification.into();
            next = following as u8;
            at = at.wrapping_add(8);
            headers += 1;
            if offset & OFFSET != 0 {
                // What follows is data.
                facts.part = Part::Later as u64;
                facts.l4 = at.into();
                return Ok(next);
            }
            if offset & MORE != 0 {
                facts.part = Part::First as u64;
            }
            continue;
        }
        if !matches!(next, IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_DESTINATION) {
            facts.l4 = at.into();
            return Ok(next);
        }
        let [following, eights]: [u8; 2] = packet.read(at).ok_or(Reason::PassedMalformed)?;
        next = following;
        at = at.wrapping_add(u32::from(eights).wrapping_add(1).wrapping_mul(8));
        headers += 1;
    }
    Err(Reason::PassedMalformed)
}
