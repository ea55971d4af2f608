//! Servers that are the director itself: up the stack, and what the stack sends
//! back.

use lb_common::{
    checksum::fold,
    conn::tcp::state,
    engine::Verdict,
    family::Family,
    host::{HostPacket, sums},
    layout::{DestEntry, DestFlags, Stats},
    reason::Reason,
    tables::Table,
    wire::{IPPROTO_TCP, TCP_ACK as A, TCP_FIN, TCP_RST as R, TCP_SYN as S},
};

use super::{
    bed::{Bed, DIRECT, DNS, FULL, KEPT, MAPPED, Segment, WEB, both_families},
    fullnat::{error, with_quoted_sum},
};

/// A director that is its only server.
fn local<F: Family>(slot: u32) -> Bed<F> {
    let bed = Bed::<F>::with(&[slot]);
    bed.set_flags(slot, local_flags());
    bed
}

fn local_flags() -> u32 {
    DestFlags::AVAILABLE | DestFlags::CLAIMED | DestFlags::LOCAL
}

/// What becomes of a frame that the stack sends. Nothing is counted where
/// packets come in, unless it ends here.
fn leave<F: Family>(bed: &Bed<F>, segment: &Segment) -> (Verdict, Vec<u8>) {
    let before = bed.tables.counted();
    let mut packet = HostPacket::new(&segment.build(), 0);
    let verdict = bed.tables.leave(&mut packet);
    let ended = u64::from(verdict == Verdict::Drop);
    assert_eq!(bed.tables.counted() - before, ended);
    sums::check(packet.bytes()).expect("right checksums");
    (verdict, packet.bytes().to_vec())
}

fn a_connection_with_the_stack<F: Family>() {
    // FULLNAT to itself is NAT.
    for (slot, service) in [
        (MAPPED, WEB),
        (KEPT, WEB),
        (MAPPED, DNS),
        (KEPT, DNS),
        (FULL, WEB),
    ] {
        let bed = local::<F>(slot);
        for ttl in [64, 1] {
            let request = Segment {
                ttl,
                ..Bed::<F>::request(1000, service, S)
            };
            let wanted = Segment {
                destination: Bed::<F>::server(slot, service),
                ..request.clone()
            };
            let (verdict, reason, bytes) = bed.run(&request);
            assert_eq!(
                (verdict, reason),
                (Verdict::Pass, Reason::PassedLocalServer)
            );
            assert_eq!(bytes, wanted.build(), "no hop: the time to live stays");
        }
        let reply = Segment {
            payload: vec![7; 40_000],
            ..Bed::<F>::reply(slot, service, 1000, S | A)
        };
        let wanted = Segment {
            source: Bed::<F>::vip(service),
            ..reply.clone()
        };
        assert_eq!(leave(&bed, &reply), (Verdict::Pass, wanted.build()));
        assert_eq!(bed.audit(), (1, 1));
        let (ip, l4) = (
            if F::VERSION == 4 { 20 } else { 40 },
            if reply.protocol == IPPROTO_TCP { 20 } else { 8 },
        );
        let stats = bed.tables.stats(slot);
        assert_eq!(
            (stats.in_packets, stats.out_packets, stats.out_bytes),
            (2, 1, ip + l4 + 40_000)
        );
    }
}

/// The hardware is to sum the segment up.
fn a_checksum_that_is_not_whole_yet<F: Family>() {
    for (slot, service, check_at) in [(MAPPED, WEB, 16), (KEPT, WEB, 16), (MAPPED, DNS, 6)] {
        let bed = local::<F>(slot);
        bed.run(&Bed::<F>::request(1000, service, S));
        let reply = Segment {
            payload: vec![9; 1001],
            ..Bed::<F>::reply(slot, service, 1000, A)
        };
        let l4 = 14 + if F::VERSION == 4 { 20 } else { 40 };
        let mut frame = reply.build();
        // From the whole checksum: what the segment adds goes, the pseudo-header stays.
        let word = |frame: &[u8], at: usize| u16::from_ne_bytes([frame[at], frame[at + 1]]);
        let segment_sum = |frame: &[u8]| {
            let mut bytes = frame[l4..].to_vec();
            bytes[check_at..check_at + 2].fill(0);
            bytes.push(0);
            bytes
                .chunks_exact(2)
                .map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]])))
                .sum::<u64>()
        };
        let whole = u64::from(!word(&frame, l4 + check_at));
        let pseudo = fold(whole + u64::from(!fold(segment_sum(&frame))));
        frame[l4 + check_at..][..2].copy_from_slice(&pseudo.to_ne_bytes());
        let mut packet = HostPacket::partial(&frame);
        assert_eq!(bed.tables.leave(&mut packet), Verdict::Pass);
        let mut sent = packet.bytes().to_vec();
        // What the hardware does.
        let left = u64::from(word(&sent, l4 + check_at));
        let whole = !fold(left + segment_sum(&sent));
        sent[l4 + check_at..][..2].copy_from_slice(&whole.to_ne_bytes());
        sums::check(&sent).expect("right checksums");
        let wanted = Segment {
            source: Bed::<F>::vip(service),
            ..reply
        };
        assert_eq!(sent, wanted.build());
    }
}

fn a_reset_of_the_stack_closes_the_connection<F: Family>() {
    for slot in [MAPPED, DIRECT] {
        let bed = local::<F>(slot);
        bed.run(&Bed::<F>::request(1000, WEB, S));
        assert_eq!(bed.state(1000, WEB), state::SYN_RECV);
        let mut reset = Bed::<F>::reply(slot, WEB, 1000, R | A);
        if slot == DIRECT {
            // By direct routing the stack answers for the service itself.
            reset.source = Bed::<F>::vip(WEB);
        }
        let (verdict, bytes) = leave(&bed, &reset);
        let wanted = Segment {
            source: Bed::<F>::vip(WEB),
            ..reset
        };
        assert_eq!((verdict, bytes), (Verdict::Pass, wanted.build()));
        assert_eq!(bed.state(1000, WEB), state::CLOSE);
        assert_eq!(bed.tables.stats(slot).out_packets, 1);
    }
}

/// By direct routing both directions decide about the state once a reply was
/// seen.
fn replies_by_direct_routing_are_followed<F: Family>() {
    let bed = local::<F>(DIRECT);
    let own = |flags| Segment {
        source: Bed::<F>::vip(WEB),
        ..Bed::<F>::reply(DIRECT, WEB, 1000, flags)
    };
    bed.run(&Bed::<F>::request(1000, WEB, S));
    leave(&bed, &own(S | A));
    bed.run(&Bed::<F>::request(1000, WEB, A));
    assert_eq!(bed.state(1000, WEB), state::ESTABLISHED);
    bed.run(&Bed::<F>::request(1000, WEB, TCP_FIN | A));
    assert_eq!(
        bed.state(1000, WEB),
        state::CLOSE_WAIT,
        "input only: FIN_WAIT"
    );
    leave(&bed, &own(TCP_FIN | A));
    assert_eq!(bed.state(1000, WEB), state::TIME_WAIT);
}

fn what_is_nobodys_leaves_as_it_is<F: Family>() {
    let bed = local::<F>(MAPPED);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    let stats = bed.tables.stats(MAPPED);
    let reply = Bed::<F>::reply(MAPPED, WEB, 1000, S | A);
    let mut to_another = reply.clone();
    to_another.destination.set_port(1001);
    let mut from_another = reply.clone();
    from_another.source.set_port(8081);
    let udp = Segment {
        protocol: 17,
        ..reply.clone()
    };
    // NAT's replies come from the server, not from the service.
    let from_vip = Segment {
        source: Bed::<F>::vip(WEB),
        ..reply.clone()
    };
    let from_client = Bed::<F>::request(1000, WEB, A);
    let other_protocol = Segment {
        protocol: 47,
        ..reply.clone()
    };
    for segment in [
        to_another,
        from_another,
        udp,
        from_vip,
        from_client,
        other_protocol,
    ] {
        let bytes = segment.build();
        let mut packet = HostPacket::new(&bytes, 0);
        assert_eq!(bed.tables.leave(&mut packet), Verdict::Pass);
        assert_eq!(packet.bytes(), bytes);
        assert_eq!(bed.state(1000, WEB), state::SYN_RECV);
    }
    assert_eq!(bed.tables.stats(MAPPED), stats);
    // Every way to be cut off.
    let whole = reply.build();
    for length in 14..whole.len() {
        let mut packet = HostPacket::new(&whole[..length], 0);
        assert_eq!(bed.tables.leave(&mut packet), Verdict::Pass);
        assert_eq!(packet.bytes(), &whole[..length]);
    }
}

fn a_removed_server_replies_and_is_not_counted<F: Family>() {
    let bed = local::<F>(MAPPED);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    bed.set_flags(MAPPED, local_flags() & !DestFlags::AVAILABLE);
    let reply = Bed::<F>::reply(MAPPED, WEB, 1000, S | A);
    let (_, bytes) = leave(&bed, &reply);
    let wanted = Segment {
        source: Bed::<F>::vip(WEB),
        ..reply
    };
    assert_eq!(bytes, wanted.build());
    assert_eq!(bed.tables.stats(MAPPED).out_packets, 0);
}

fn loopback_is_refused<F: Family>() {
    let bed = local::<F>(MAPPED);
    let mut dest: DestEntry = bed.tables.get(Table::Dest, MAPPED);
    dest.addr = if F::VERSION == 4 {
        [u32::from_ne_bytes([127, 3, 2, 1]), 0, 0, 0]
    } else {
        [0, 0, 0, 1_u32.to_be()]
    };
    bed.tables.set(Table::Dest, MAPPED, dest);
    let request = Bed::<F>::request(1000, WEB, S);
    let (verdict, reason, _) = bed.run(&request);
    assert_eq!((verdict, reason), (Verdict::Drop, Reason::DroppedLoopback));
    // The kernel has counted it by then, and made the connection.
    let wanted = Stats {
        conns: 1,
        in_packets: 1,
        in_bytes: request.build().len() as u64 - 14,
        ..Stats::default()
    };
    assert_eq!(bed.tables.stats(MAPPED), wanted);
    assert_eq!(bed.state(1000, WEB), state::SYN_RECV);
}

fn errors_about_a_connection_with_the_stack<F: Family>() {
    for service in [WEB, DNS] {
        let bed = local::<F>(MAPPED);
        let request = Bed::<F>::request(1000, service, S);
        bed.run(&request);
        let server = Bed::<F>::server(MAPPED, service);
        let to_server = Segment {
            destination: server,
            ..request.clone()
        };
        // The stack's own, about the request: from the service, about what the
        // client sent.
        let seen = error::<F>(server, &to_server);
        let wanted = with_quoted_sum::<F>(&error::<F>(Bed::<F>::vip(service), &request), &seen);
        assert_eq!(leave(&bed, &seen), (Verdict::Pass, wanted.build()));
        let stats = bed.tables.stats(MAPPED);
        assert_eq!(stats.out_packets, 1);
        assert_eq!(stats.out_bytes, seen.build().len() as u64 - 14);
        // About another connection's.
        let mut other = to_server.clone();
        other.source.set_port(1001);
        let seen = error::<F>(server, &other);
        assert_eq!(leave(&bed, &seen), (Verdict::Pass, seen.build()));

        // A client's, about a reply: the stack sees what it sent.
        let reply = Bed::<F>::reply(MAPPED, service, 1000, S | A);
        let to_client = Segment {
            source: Bed::<F>::vip(service),
            ..reply.clone()
        };
        let seen = Segment {
            ttl: 1,
            ..error::<F>(Bed::<F>::client(0), &to_client)
        };
        let wanted = Segment {
            ttl: 1,
            ..with_quoted_sum::<F>(&error::<F>(Bed::<F>::client(0), &reply), &seen)
        };
        let (verdict, reason, bytes) = bed.run(&seen);
        assert_eq!(
            (verdict, reason),
            (Verdict::Pass, Reason::PassedLocalServer)
        );
        assert_eq!(bytes, wanted.build());
        assert_eq!(bed.tables.stats(MAPPED).in_packets, 2);
    }
}

/// By direct routing the stack's error is about what the client sent.
fn an_error_by_direct_routing_counts<F: Family>() {
    let bed = local::<F>(DIRECT);
    let request = Bed::<F>::request(1000, WEB, S);
    bed.run(&request);
    let seen = error::<F>(Bed::<F>::vip(WEB), &request);
    assert_eq!(leave(&bed, &seen), (Verdict::Pass, seen.build()));
    let stats = bed.tables.stats(DIRECT);
    assert_eq!(stats.out_packets, 1);
    assert_eq!(stats.out_bytes, seen.build().len() as u64 - 14);
    // Of nobody.
    let other = Bed::<F>::request(1001, WEB, S);
    let seen = error::<F>(Bed::<F>::vip(WEB), &other);
    assert_eq!(leave(&bed, &seen), (Verdict::Pass, seen.build()));
    assert_eq!(bed.tables.stats(DIRECT).out_packets, 1);
}

both_families!(
    a_connection_with_the_stack,
    a_checksum_that_is_not_whole_yet,
    a_reset_of_the_stack_closes_the_connection,
    replies_by_direct_routing_are_followed,
    what_is_nobodys_leaves_as_it_is,
    a_removed_server_replies_and_is_not_counted,
    loopback_is_refused,
    errors_about_a_connection_with_the_stack,
    an_error_by_direct_routing_counts,
);
