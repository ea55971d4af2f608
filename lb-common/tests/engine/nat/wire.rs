//! What NAT writes, and who is counted.

use lb_common::{
    engine::Verdict,
    family::Family,
    layout::Stats,
    reason::Reason,
    wire::{TCP_ACK as A, TCP_SYN as S},
};

use super::bed::{
    Bed, DIRECT, DNS, GATEWAY, IN, KEPT, MAC, MAPPED, OUT, Segment, WEB, both_families,
};

const STATION: [u8; 6] = [2, 0, 0, 0, 9, 9];

fn a_connection_on_the_wire<F: Family>() {
    for (slot, service) in [(MAPPED, WEB), (KEPT, WEB), (MAPPED, DNS), (KEPT, DNS)] {
        let bed = Bed::<F>::with(&[slot]);
        let request = Bed::<F>::request(1000, service, S);
        let (verdict, _, bytes) = bed.run(&request);
        let wanted = Segment {
            destination: Bed::<F>::server(slot, service),
            ttl: 63,
            stations: [STATION, MAC],
            ..request.clone()
        };
        assert_eq!((verdict, bytes), (Verdict::Redirect(OUT), wanted.build()));

        let reply = Bed::<F>::reply(slot, service, 1000, S | A);
        let (verdict, _, bytes) = bed.run(&reply);
        let wanted = Segment {
            source: Bed::<F>::vip(service),
            ttl: 63,
            stations: [GATEWAY, MAC],
            ..reply
        };
        assert_eq!((verdict, bytes), (Verdict::Redirect(IN), wanted.build()));
        assert_eq!(bed.audit(), (1, 1), "a connection, a reverse cell");
    }
}

fn both_directions_are_counted<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    let request = Bed::<F>::request(1000, DNS, 0);
    let reply = Segment {
        payload: vec![1; 100],
        ..Bed::<F>::reply(MAPPED, DNS, 1000, 0)
    };
    for segment in [&request, &reply, &reply, &request, &reply] {
        bed.run(segment);
    }
    let header = if F::VERSION == 4 { 28 } else { 48 };
    let wanted = Stats {
        conns: 1,
        in_packets: 2,
        in_bytes: 2 * (header + request.payload.len() as u64),
        out_packets: 3,
        out_bytes: 3 * (header + 100),
    };
    assert_eq!(bed.tables.stats(MAPPED), wanted);
}

fn a_server_without_a_connection_is_the_stacks<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    let reply = Bed::<F>::reply(MAPPED, WEB, 1000, S | A);
    let mut to_another = reply.clone();
    to_another.destination.set_port(1001);
    let mut from_another = reply.clone();
    from_another.source.set_port(8081);
    let other_server = Bed::<F>::reply(KEPT, WEB, 1000, S | A);
    let udp = Segment {
        protocol: 17,
        ..reply.clone()
    };
    for segment in [to_another, from_another, other_server, udp] {
        let (verdict, reason, bytes) = bed.run(&segment);
        assert_eq!((verdict, reason), (Verdict::Pass, Reason::PassedNoVip));
        assert_eq!(bytes, segment.build());
    }
    assert_eq!(bed.tables.stats(MAPPED).out_packets, 0);
    assert_eq!(bed.reason(&reply), Reason::ForwardedRedirect);
}

fn a_reply_to_another_station_is_not_ours<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    let reply = Segment {
        stations: [STATION, STATION],
        ..Bed::<F>::reply(MAPPED, WEB, 1000, S | A)
    };
    assert_eq!(bed.reason(&reply), Reason::PassedNotOurs);
    assert_eq!(bed.tables.stats(MAPPED).out_packets, 0);
}

fn a_reply_at_the_end_of_its_life<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    let reply = |ttl| Segment {
        ttl,
        ..Bed::<F>::reply(MAPPED, WEB, 1000, S | A)
    };
    assert_eq!(bed.reason(&reply(2)), Reason::ForwardedRedirect);
    let (verdict, reason, _) = bed.run(&reply(1));
    assert_eq!(reason, Reason::DroppedTtl, "{verdict:?}");
}

fn a_reply_of_direct_routing_that_passes_by<F: Family>() {
    let bed = Bed::<F>::with(&[DIRECT]);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    let conn = bed.conn(1000, WEB).expect("tracked");
    assert!(!conn.state.sees_replies());
    let reply = Segment {
        source: Bed::<F>::vip(WEB),
        ..Bed::<F>::reply(DIRECT, WEB, 1000, S | A)
    };
    let (verdict, reason, bytes) = bed.run(&reply);
    assert_eq!((verdict, reason), (Verdict::Pass, Reason::PassedReply));
    assert_eq!(bytes, reply.build());
    assert!(bed.conn(1000, WEB).expect("tracked").state.sees_replies());
    let stats = bed.tables.stats(DIRECT);
    assert_eq!((stats.in_packets, stats.out_packets), (1, 1));
    // From a service, but of no connection.
    let mut stranger = reply;
    stranger.destination.set_port(1001);
    assert_eq!(bed.reason(&stranger), Reason::PassedNoVip);
    assert_eq!(bed.audit(), (1, 0));
}

both_families!(
    a_connection_on_the_wire,
    both_directions_are_counted,
    a_server_without_a_connection_is_the_stacks,
    a_reply_to_another_station_is_not_ours,
    a_reply_at_the_end_of_its_life,
    a_reply_of_direct_routing_that_passes_by,
);
