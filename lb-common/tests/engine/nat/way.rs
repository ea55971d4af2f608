//! The way back to the client, and whose replies they are.

use lb_common::{
    engine::Verdict,
    family::Family,
    reason::Reason,
    time::seconds,
    wire::{TCP_ACK as A, TCP_RST as R, TCP_SYN as S},
};

use super::bed::{
    Bed, DNS, GATEWAY, IN, MAC, MAPPED, OTHER_GATEWAY, Segment, WEB, WEB_TOO, both_families,
};

/// Where a reply goes: stations and tags.
fn layer_2(bytes: &[u8], tags: usize) -> &[u8] {
    &bytes[..12 + 4 * tags]
}

fn tags_are_learnt_without_their_priority<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    let request = Segment {
        tags: vec![(0x8100, 0xe000 | 100)],
        ..Bed::<F>::request(1000, WEB, S)
    };
    assert_eq!(bed.reason(&request), Reason::ForwardedRedirect);
    let (verdict, _, bytes) = bed.run(&Bed::<F>::reply(MAPPED, WEB, 1000, S | A));
    assert_eq!(verdict, Verdict::Redirect(IN));
    let wanted = [&GATEWAY[..], &MAC, &[0x81, 0, 0, 100]].concat();
    assert_eq!(layer_2(&bytes, 1), wanted);
    assert_eq!(bytes[16..18], F::ETHERTYPE.to_ne_bytes());
}

fn another_gateway_is_learnt_from_the_next_tick_on<F: Family>() {
    for service in [WEB, DNS] {
        let bed = Bed::<F>::with(&[MAPPED]);
        let by = |gateway, tags: &[(u16, u16)], flags| Segment {
            stations: [MAC, gateway],
            tags: tags.to_vec(),
            ..Bed::<F>::request(1000, service, flags)
        };
        let to = || {
            let reply = Bed::<F>::reply(MAPPED, service, 1000, A);
            let (verdict, _, bytes) = bed.run(&reply);
            assert_eq!(verdict, Verdict::Redirect(IN));
            layer_2(&bytes, 0)[..6].to_vec()
        };
        bed.run(&by(GATEWAY, &[], S));
        let generation = bed.conn(1000, service).expect("tracked").state.generation();
        assert_eq!(to(), GATEWAY);
        // Looked at once a tick.
        bed.run(&by(OTHER_GATEWAY, &[], A));
        assert_eq!(to(), GATEWAY);
        bed.later(1);
        bed.run(&by(OTHER_GATEWAY, &[], A));
        assert_eq!(to(), OTHER_GATEWAY);
        assert_eq!(bed.audit(), (1, 1), "the old one is gone");
        bed.later(1);
        bed.run(&by(OTHER_GATEWAY, &[(0x8100, 100)], A));
        let (_, _, bytes) = bed.run(&Bed::<F>::reply(MAPPED, service, 1000, A));
        assert_eq!(bytes[12..16], [0x81, 0, 0, 100]);
        // And back; nothing changes while nothing changes.
        bed.later(1);
        bed.run(&by(GATEWAY, &[], A));
        assert_eq!(to(), GATEWAY);
        let link = |bed: &Bed<F>| bed.conn(1000, service).expect("tracked").cell.link::<F>();
        let before = link(&bed);
        for _ in 0..3 {
            bed.later(1);
            bed.run(&by(GATEWAY, &[], A));
        }
        assert_eq!(link(&bed), before);
        assert_eq!(bed.audit(), (1, 1));
        let conn = bed.conn(1000, service).expect("tracked");
        assert_eq!(conn.state.generation(), generation, "the same connection");
        assert_eq!(bed.tables.stats(MAPPED).conns, 1);
    }
}

/// The port of the service that a reply came from.
fn answered<F: Family>(bed: &Bed<F>, flags: u8) -> u16 {
    let (verdict, reason, bytes) = bed.run(&Bed::<F>::reply(MAPPED, WEB, 1000, flags));
    assert_eq!(
        (verdict, reason),
        (Verdict::Redirect(IN), Reason::ForwardedRedirect)
    );
    let l4 = 14 + if F::VERSION == 4 { 20 } else { 40 };
    u16::from_be_bytes([bytes[l4], bytes[l4 + 1]])
}

fn of_two_connections_with_one_reverse_key_the_newer_has_the_replies<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    assert_eq!(answered(&bed, S | A), WEB);
    // It has noted that the way back is there.
    bed.later(1);
    bed.run(&Bed::<F>::request(1000, WEB, A));
    assert_eq!(answered(&bed, A), WEB);
    bed.run(&Bed::<F>::request(1000, WEB_TOO, S));
    assert_eq!(answered(&bed, S | A), WEB_TOO);
    // Packets of the older one do not take them back.
    for _ in 0..3 {
        bed.later(1);
        let older = Bed::<F>::request(1000, WEB, A);
        assert_eq!(bed.reason(&older), Reason::ForwardedRedirect);
        assert_eq!(answered(&bed, A), WEB_TOO);
    }
    bed.sweep();
    assert_eq!(bed.audit(), (2, 1));
    // When the newer one is over, the older one's next packet does.
    bed.run(&Bed::<F>::request(1000, WEB_TOO, R));
    bed.later(seconds(11));
    bed.run(&Bed::<F>::request(1000, WEB, A));
    assert_eq!(answered(&bed, A), WEB);
    bed.sweep();
    assert_eq!(bed.audit(), (1, 1));
}

both_families!(
    tags_are_learnt_without_their_priority,
    another_gateway_is_learnt_from_the_next_tick_on,
    of_two_connections_with_one_reverse_key_the_newer_has_the_replies,
);
