use crate::{
    checksum::{fold, replaced, updated},
    facts::Facts,
    family::Family,
    forward::{
        Ends, Part, Way,
        hop::lives_on,
        nat::{addresses_at, changed, checksum_tail, halves, translate, write_address},
        way::leave_by,
    },
    packet::Packet,
    parse::Quoted,
    reason::Reason,
    wire::IPPROTO_ICMPV6,
};

/// Whether an ICMP message's checksum is right. The kernel drops errors about
/// its connections that have a wrong one.
#[inline(always)]
pub fn is_intact<F: Family, P: Packet>(packet: &P, facts: &Facts) -> bool {
    let header = facts.l4.wrapping_sub(facts.l3) as u32;
    let length = (facts.l3_len as u32).wrapping_sub(header);
    let Some(mut sum) = packet.sum(facts.l4 as u32, length) else {
        return false;
    };
    if F::VERSION == 6 {
        sum = sum
            .wrapping_add(halves::<F>(facts.src))
            .wrapping_add(halves::<F>(facts.dst))
            .wrapping_add(checksum_tail(IPPROTO_ICMPV6, length));
    }
    fold(sum) == 0xffff
}

/// NAT: an error about a packet of a connection, to the connection's other
/// side. The error's own ends become `ends`, whoever sent it; what it quotes,
/// the same ones the other way round. (By other methods errors go unchanged:
/// [`route`](crate::forward::route), [`tunnel`](crate::forward::tunnel).)
///
/// # Errors
/// Why it cannot be sent; there is nobody to tell.
#[inline(always)]
pub fn relay<F: Family, P: Packet, W: Way>(
    packet: &mut P,
    facts: &mut Facts,
    quoted: &Quoted,
    ends: Ends,
    way: W,
) -> Result<(), Reason> {
    lives_on(facts)?;
    if facts.l3_len > u64::from(way.mtu()) {
        facts.mtu = 0;
        return Err(Reason::DroppedTooBig);
    }
    retell::<F, P>(packet, facts, quoted, ends, 1)?;
    leave_by(packet, facts.l3 as u32, 0, way)
}

/// As [`relay`], of an error that stays on this director or comes from it: takes
/// `hops` (0 or 1) off its time to live, and asks for no room.
///
/// # Errors
/// [`Reason::DroppedInternal`] when the frame ends before what is rewritten.
#[inline(always)]
pub fn retell<F: Family, P: Packet>(
    packet: &mut P,
    facts: &Facts,
    quoted: &Quoted,
    ends: Ends,
    hops: u8,
) -> Result<(), Reason> {
    requote::<F, P>(packet, facts, quoted, ends).ok_or(Reason::DroppedInternal)?;
    translate::<F, P>(packet, facts, ends, Part::Later, hops)
}

/// Rewrites what is quoted, with the ends the other way round, and the ICMP
/// checksum. The quoted transport checksum stays as it is.
#[inline(always)]
fn requote<F: Family, P: Packet>(
    packet: &mut P,
    facts: &Facts,
    quoted: &Quoted,
    ends: Ends,
) -> Option<()> {
    let (src_at, dst_at) = addresses_at::<F>(quoted.l3);
    let mut ports = quoted.ports as u32;
    let mut sum = 0;
    if let Some(end) = ends.dst {
        write_address::<F, P>(packet, src_at, end.addr)?;
        sum = changed::<F>(quoted.src, end.addr);
        if end.port != 0 {
            ports = ports & 0xffff_0000 | u32::from(end.port);
        }
        if F::VERSION == 6 {
            sum = sum.wrapping_add(changed::<F>(facts.dst, end.addr));
        }
    }
    if let Some(end) = ends.src {
        write_address::<F, P>(packet, dst_at, end.addr)?;
        sum = sum.wrapping_add(changed::<F>(quoted.dst, end.addr));
        if end.port != 0 {
            ports = ports & 0xffff | u32::from(end.port) << 16;
        }
        if F::VERSION == 6 {
            sum = sum.wrapping_add(changed::<F>(facts.src, end.addr));
        }
    }
    packet.write(quoted.l4, ports)?;
    sum = sum.wrapping_add(replaced(quoted.ports & 0xffff_ffff, ports.into()));
    if F::VERSION == 4 {
        // As the kernel does: right whatever it was before.
        let at = quoted.l3.wrapping_add(10);
        let old = packet.read::<u16>(at)?;
        packet.write(at, 0_u16)?;
        let header = quoted.l4.wrapping_sub(quoted.l3);
        let new = !fold(packet.sum(quoted.l3, header)?);
        packet.write(at, new)?;
        sum = sum.wrapping_add(replaced(old.into(), new.into()));
    }
    let at = (facts.l4 as u32).wrapping_add(2);
    let check = packet.read::<u16>(at)?;
    packet.write(at, updated(check, sum))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forward::End;
    use crate::{
        family::{V4, V6},
        forward::testing::{about, about_from, any_frame, between, end, facts, header, way, words},
        host::{HostPacket, sums},
        parse,
    };

    const CLIENT: &str = "1.2.3.4:2000";
    const SERVICE: &str = "10.9.9.1:80";
    const SERVER: &str = "10.7.0.1:8080";

    fn end_of(text: &str) -> End {
        let at: std::net::SocketAddr = text.parse().unwrap();
        End {
            addr: words(&at.ip().to_string()),
            port: at.port().to_be(),
        }
    }

    /// Relays an error, to the server or the client.
    fn relayed(frame: &[u8], end: End, to_server: bool) -> Result<Vec<u8>, Reason> {
        let mut packet = HostPacket::new(frame, 7);
        let mut facts = facts(frame);
        let way = way(facts.family as u8, 1, 1500);
        let ends = if to_server {
            Ends::destination(end)
        } else {
            Ends::source(end)
        };
        if facts.family == 4 {
            assert!(is_intact::<V4, _>(&packet, &facts));
            let quoted = parse::quoted::<V4, _>(&packet, &facts).unwrap();
            relay::<V4, _, _>(&mut packet, &mut facts, &quoted, ends, way)
        } else {
            assert!(is_intact::<V6, _>(&packet, &facts));
            let quoted = parse::quoted::<V6, _>(&packet, &facts).unwrap();
            relay::<V6, _, _>(&mut packet, &mut facts, &quoted, ends, way)
        }?;
        Ok(packet.bytes().to_vec())
    }

    /// The error with one hop less, behind the header of the way on. The quoted
    /// transport checksum is that of `original`, as relays leave it.
    fn wanted(error: &[u8], original: &[u8], six: bool) -> Vec<u8> {
        let mut rest = error[14..].to_vec();
        let (ip, ttl) = if six { (40, 7) } else { (20, 8) };
        let at = ip + 8 + ip + 16;
        rest[at..at + 2].copy_from_slice(&original[14 + ip + 16..14 + ip + 18]);
        rest[ttl] -= 1;
        let family = if six { 6 } else { 4 };
        [header(family, 1), rest].concat()
    }

    /// Clears what checksums are not compared but checked.
    fn without_sums(mut frame: Vec<u8>, six: bool) -> Vec<u8> {
        let at = 18 + if six { 42 } else { 22 };
        frame[at..at + 2].fill(0);
        if !six {
            frame[28..30].fill(0);
        }
        frame
    }

    #[test]
    fn too_big_from_the_path_reaches_the_server_as_the_kernel_was_seen_to_send_it() {
        let reply = between(SERVICE, CLIENT).bytes();
        let error = about_from("5.5.5.5", "10.9.9.1", &reply, [3, 4], 1300, 999);
        let sent = relayed(&error, end_of(SERVER), true).unwrap();
        sums::check(&sent).unwrap();
        let as_sent = between(SERVER, CLIENT).bytes();
        let error = about_from("5.5.5.5", "10.7.0.1", &as_sent, [3, 4], 1300, 999);
        let wanted = wanted(&error, &reply, false);
        assert_eq!(without_sums(sent, false), without_sums(wanted, false));
    }

    #[test]
    fn errors_of_servers_and_routers_reach_the_client_from_the_service() {
        let seen = between(CLIENT, SERVER).bytes();
        for (from, kind) in [("10.7.0.1", [3, 3]), ("10.7.0.77", [11, 0])] {
            let error = about_from(from, "1.2.3.4", &seen, kind, 0, 999);
            let sent = relayed(&error, end_of(SERVICE), false).unwrap();
            sums::check(&sent).unwrap();
            let as_sent = between(CLIENT, SERVICE).bytes();
            let error = about_from("10.9.9.1", "1.2.3.4", &as_sent, kind, 0, 999);
            let wanted = wanted(&error, &seen, false);
            assert_eq!(without_sums(sent, false), without_sums(wanted, false));
        }
    }

    #[test]
    fn ipv6_errors_are_translated_the_same_way() {
        let client = "[2001:db8::1]:2000";
        let (service, server) = ("[2001:db8::2]:80", "[fd00::7]:8080");
        let reply = between(service, client).bytes();
        let error = about_from("2001:db8::99", "2001:db8::2", &reply, [2, 0], 1300, 999);
        let sent = relayed(&error, end_of(server), true).unwrap();
        sums::check(&sent).unwrap();
        let as_sent = between(server, client).bytes();
        let error = about_from("2001:db8::99", "fd00::7", &as_sent, [2, 0], 1300, 999);
        let wanted = wanted(&error, &reply, true);
        assert_eq!(without_sums(sent, true), without_sums(wanted, true));
    }

    #[test]
    fn a_wrong_quoted_header_checksum_is_mended_and_a_wrong_icmp_checksum_seen() {
        let mut reply = between(SERVICE, CLIENT).bytes();
        reply[24] ^= 0x55;
        let error = about(&reply, 3, 3, 0, 28);
        let sent = relayed(&error, end_of(SERVER), true).unwrap();
        sums::check(&sent).unwrap();
        let quoted = &sent[18 + 28..18 + 48];
        assert_eq!(crate::host::frame::checksum(quoted), [0, 0], "sums to ffff");

        for at in 34..error.len() {
            let mut broken = error.clone();
            broken[at] ^= 1;
            let packet = HostPacket::new(&broken, 7);
            assert!(!is_intact::<V4, _>(&packet, &facts(&broken)), "byte {at}");
        }
    }

    #[test]
    fn ttl_and_length_are_checked_first() {
        let mut error = about(&between(SERVICE, CLIENT).bytes(), 3, 3, 0, 28);
        error[22] = 1;
        let refused = relayed(&error, end_of(SERVER), true);
        assert_eq!(refused, Err(Reason::DroppedTtl));
        let mut long = between(SERVICE, CLIENT);
        if let crate::forward::testing::Any::Four(frame) = &mut long {
            frame.payload = vec![0; 1500];
        }
        let error = about(&long.bytes(), 3, 3, 0, 1473);
        let refused = relayed(&error, end_of(SERVER), true);
        assert_eq!(refused, Err(Reason::DroppedTooBig));
        let error = about(&long.bytes(), 3, 3, 0, 1472);
        assert!(relayed(&error, end_of(SERVER), true).is_ok());
    }

    proptest! {
        #[test]
        fn relayed_errors_have_right_checksums(
            frame in any_frame(),
            quote in 28..200_usize,
            new in any::<([u8; 16], u16)>(),
            to_server in any::<bool>(),
        ) {
            let bytes = frame.bytes();
            let inner = facts(&bytes);
            let header = (inner.l4 - inner.l3) as usize;
            let end = end(inner.family, new.0, new.1);
            let error = about(&bytes, 3, 0, 0, quote.max(header + 8));
            let sent = relayed(&error, end, to_server).unwrap();
            prop_assert_eq!(sums::check(&sent), Ok(()));
            let after = facts(&sent);
            prop_assert_eq!(if to_server { after.dst } else { after.src }, end.addr);
            // The quoted packet, as a frame of its own.
            let quoted = [&sent[..after.l3 as usize], &sent[after.l4 as usize + 8..]].concat();
            let quoted = facts(&quoted);
            prop_assert_eq!(if to_server { quoted.src } else { quoted.dst }, end.addr);
            let (port, was) = if to_server {
                (quoted.src_port(), inner.src_port())
            } else {
                (quoted.dst_port(), inner.dst_port())
            };
            prop_assert_eq!(port, if end.port == 0 { was } else { end.port });
        }
    }
}
