//! FULLNAT: what it writes, and that no two connections share a local end.

use std::{collections::HashSet, net::SocketAddr};

use lb_common::{
    conn::tcp::state::{SYN_RECV, TIME_WAIT},
    engine::{LOCAL_PORT_TRIES, Verdict},
    family::Family,
    layout::{DestEntry, LocalPool},
    reason::Reason,
    tables::Table,
    time::seconds,
    wire::{TCP_ACK as A, TCP_FIN as F_, TCP_RST as R, TCP_SYN as S},
};

use super::bed::{
    Bed, DNS, FULL, GATEWAY, IN, KEPT, MAC, OTHER_GATEWAY, OUT, Segment, WEB, both_families,
};

const STATION: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// Our end of the client's connection from `from`, as its cell has it.
fn local_end<F: Family>(bed: &Bed<F>, from: u16, to: u16) -> SocketAddr {
    let conn = bed.conn(from, to).expect("tracked");
    let (addr, port) = conn.cell.local::<F>();
    let local = Bed::<F>::local(u16::from_be(port));
    let first = u32::from_ne_bytes(match local {
        SocketAddr::V4(local) => local.ip().octets(),
        SocketAddr::V6(local) => std::array::from_fn(|i| local.ip().octets()[i]),
    });
    assert_eq!(addr[0] as u32, first, "the pool has one address");
    local
}

/// From the server to our end of a connection.
fn reply<F: Family>(to: SocketAddr, service: u16, flags: u8) -> Segment {
    Segment {
        destination: to,
        ..Bed::<F>::reply(FULL, service, 1, flags)
    }
}

fn a_connection_on_the_wire<F: Family>() {
    for service in [WEB, DNS] {
        let bed = Bed::<F>::with(&[FULL]);
        let request = Bed::<F>::request(1000, service, S);
        let (verdict, _, bytes) = bed.run(&request);
        let local = local_end(&bed, 1000, service);
        assert!((1024..32_768).contains(&local.port()), "{local}");
        let wanted = Segment {
            source: local,
            destination: Bed::<F>::server(FULL, service),
            ttl: 63,
            stations: [STATION, MAC],
            ..request.clone()
        };
        assert_eq!((verdict, bytes), (Verdict::Redirect(OUT), wanted.build()));

        let reply = reply::<F>(local, service, S | A);
        let (verdict, _, bytes) = bed.run(&reply);
        let wanted = Segment {
            source: Bed::<F>::vip(service),
            destination: Bed::<F>::client(1000),
            ttl: 63,
            stations: [GATEWAY, MAC],
            ..reply
        };
        assert_eq!((verdict, bytes), (Verdict::Redirect(IN), wanted.build()));
        // Every packet of it has the same end.
        bed.run(&Bed::<F>::request(1000, service, A));
        assert_eq!(local_end(&bed, 1000, service), local);
        assert_eq!(bed.audit(), (1, 1), "a connection, a reverse cell");
    }
}

fn twenty_thousand_connections_of_one_address_and_server_are_told_apart<F: Family>() {
    const COUNT: u16 = 20_000;
    const FIRST: u16 = 10_000;
    let bed = Bed::<F>::with_cells(1 << 17, &[FULL]);
    let mut ends = HashSet::new();
    for from in FIRST..FIRST + COUNT {
        let request = Bed::<F>::request(from, WEB, S);
        assert_eq!(bed.reason(&request), Reason::ForwardedRedirect, "{from}");
        let local = local_end(&bed, from, WEB);
        assert!(ends.insert(local), "{local} serves two connections");
    }
    let all = usize::from(COUNT);
    assert_eq!((ends.len(), bed.audit()), (all, (all, all)));
    for from in (FIRST..FIRST + COUNT).step_by(37) {
        let reply = reply::<F>(local_end(&bed, from, WEB), WEB, S | A);
        let (_, _, bytes) = bed.run(&reply);
        let wanted = Segment {
            source: Bed::<F>::vip(WEB),
            destination: Bed::<F>::client(from),
            ttl: 63,
            stations: [GATEWAY, MAC],
            ..reply
        };
        assert_eq!(bytes, wanted.build(), "{from}");
    }
}

fn a_pool_that_is_used_up_refuses_and_recovers<F: Family>() {
    let bed = Bed::<F>::with(&[FULL]);
    bed.set_ports(5000, 5007);
    let mut ports = HashSet::new();
    for from in 1..=8 {
        let request = Bed::<F>::request(from, WEB, S);
        assert_eq!(bed.reason(&request), Reason::ForwardedRedirect, "{from}");
        ports.insert(local_end(&bed, from, WEB).port());
    }
    assert_eq!(ports, (5000..=5007).collect());
    let ninth = Bed::<F>::request(9, WEB, S);
    assert_eq!(bed.reason(&ninth), Reason::DroppedNoLocalPort);
    assert!(bed.conn(9, WEB).is_none(), "no half a connection is left");
    assert_eq!((bed.audit(), bed.load(FULL)), ((8, 8), (8, 0)));
    // Another service of the same server uses the same ports.
    let other = Bed::<F>::request(10, DNS, 0);
    assert_eq!(bed.reason(&other), Reason::ForwardedRedirect);

    let free = local_end(&bed, 3, WEB);
    for flags in [A, R] {
        bed.run(&Bed::<F>::request(3, WEB, flags));
    }
    bed.later(seconds(13));
    bed.sweep();
    assert_eq!(bed.reason(&ninth), Reason::ForwardedRedirect);
    assert_eq!(local_end(&bed, 9, WEB), free);
}

/// An ICMP error about `inner`, as whoever saw it quotes it.
pub(super) fn error<F: Family>(from: SocketAddr, inner: &Segment) -> Segment {
    let to = SocketAddr::new(inner.source.ip(), 0);
    let kind = if F::VERSION == 4 { [3, 1] } else { [1, 0] };
    let mut segment = Segment {
        source: from,
        destination: to,
        protocol: F::ICMP,
        stations: [MAC, GATEWAY],
        payload: [&kind[..], &[0; 6], &inner.build()[14..]].concat(),
        ..inner.clone()
    };
    segment.seal();
    segment
}

/// `sent`, but what it quotes has the transport checksum that `seen` quotes:
/// relays leave that alone.
pub(super) fn with_quoted_sum<F: Family>(sent: &Segment, seen: &Segment) -> Segment {
    let ip = if F::VERSION == 4 { 20 } else { 40 };
    let at = 8
        + ip
        + if seen.payload[8 + ip + 12] == 0x50 {
            16
        } else {
            6
        };
    let mut sent = sent.clone();
    sent.payload[at..at + 2].copy_from_slice(&seen.payload[at..at + 2]);
    sent.seal();
    sent
}

fn errors_go_both_ways_from_the_right_ends<F: Family>() {
    for service in [WEB, DNS] {
        let bed = Bed::<F>::with(&[FULL]);
        let request = Bed::<F>::request(1000, service, S);
        bed.run(&request);
        let local = local_end(&bed, 1000, service);
        let reply = reply::<F>(local, service, S | A);
        bed.run(&reply);
        let (client, vip) = (Bed::<F>::client(1000), Bed::<F>::vip(service));
        let server = Bed::<F>::server(FULL, service);

        // About the request: the server, or a router on the way to it, speaks
        // to us, and to the client it is the service that does.
        let to_server = Segment {
            source: local,
            destination: server,
            ttl: 63,
            ..request.clone()
        };
        let as_the_client_knows_it = Segment {
            ttl: 63,
            ..request.clone()
        };
        for from in [server, Bed::<F>::server(KEPT, service)] {
            let seen = error::<F>(SocketAddr::new(from.ip(), 0), &to_server);
            let (verdict, _, bytes) = bed.run(&seen);
            let sent = error::<F>(vip, &as_the_client_knows_it);
            let wanted = Segment {
                ttl: seen.ttl - 1,
                stations: [GATEWAY, MAC],
                ..with_quoted_sum::<F>(&sent, &seen)
            };
            assert_eq!((verdict, bytes), (Verdict::Redirect(IN), wanted.build()));
        }

        // About the reply: the client speaks to the service, and to the server
        // it is we who do.
        let to_client = Segment {
            source: vip,
            destination: client,
            ttl: 63,
            ..reply.clone()
        };
        let as_the_server_knows_it = Segment { ttl: 63, ..reply };
        let seen = error::<F>(client, &to_client);
        let (verdict, _, bytes) = bed.run(&seen);
        let sent = error::<F>(local, &as_the_server_knows_it);
        let wanted = Segment {
            ttl: seen.ttl - 1,
            stations: [STATION, MAC],
            ..with_quoted_sum::<F>(&sent, &seen)
        };
        assert_eq!((verdict, bytes), (Verdict::Redirect(OUT), wanted.build()));

        // Of no connection: another port of ours.
        let mut other = to_server;
        other.source.set_port(local.port() ^ 1);
        let reason = bed.reason(&error::<F>(server, &other));
        assert_eq!(reason, Reason::PassedNoConnection);
        assert_eq!(bed.audit(), (1, 1));
    }
}

/// A second address beside [`Bed::local`].
fn second_address<F: Family>() -> SocketAddr {
    Bed::<F>::server(77, 0)
}

fn a_taken_port_leads_to_another_of_any_address<F: Family>() {
    const PORTS: [u16; 4] = [65_532, 65_533, 65_534, 65_535];
    let bed = Bed::<F>::with(&[FULL]);
    let entry: DestEntry = bed.tables.get(Table::Dest, FULL);
    let pool = LocalPool::new(2, 2);
    let entry = DestEntry {
        local: pool.0,
        ..entry
    };
    bed.tables.set(Table::Dest, FULL, entry);
    let addresses = [Bed::<F>::local(0), second_address::<F>()];
    for (index, address) in (pool.start()..).zip(addresses) {
        bed.set_local(index, address.ip(), PORTS[0], PORTS[3]);
    }
    let mut ends = HashSet::new();
    let mut refused = 0;
    for from in 1001..=1200 {
        let request = Bed::<F>::request(from, WEB, S);
        let (_, reason, bytes) = bed.run(&request);
        match reason {
            Reason::ForwardedRedirect => {
                let found = addresses
                    .iter()
                    .flat_map(|at| PORTS.map(|port| SocketAddr::new(at.ip(), port)))
                    .find(|&source| {
                        let wanted = Segment {
                            source,
                            destination: Bed::<F>::server(FULL, WEB),
                            ttl: 63,
                            stations: [STATION, MAC],
                            ..request.clone()
                        };
                        wanted.build() == bytes
                    });
                assert!(ends.insert(found.expect("one of the pool")), "twice");
            }
            Reason::DroppedNoLocalPort => {
                assert!(ends.len() >= 7, "refused with {} taken", ends.len());
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((ends.len(), refused), (8, 192), "all that there are");
    assert_eq!((bed.audit(), bed.load(FULL)), ((8, 8), (8, 0)));
}

fn an_empty_pool_has_no_connections<F: Family>() {
    let bed = Bed::<F>::with(&[FULL]);
    let entry = DestEntry {
        local: 0,
        ..bed.tables.get(Table::Dest, FULL)
    };
    bed.tables.set(Table::Dest, FULL, entry);
    let syn = Bed::<F>::request(1000, WEB, S);
    for _ in 0..=LOCAL_PORT_TRIES {
        let (verdict, reason, _) = bed.run(&syn);
        assert_eq!(verdict, Verdict::Drop);
        assert_eq!(reason, Reason::DroppedNoLocalPort);
    }
    assert_eq!((bed.audit(), bed.load(FULL)), ((0, 0), (0, 0)));
}

fn another_way_back_keeps_the_local_end<F: Family>() {
    let bed = Bed::<F>::with(&[FULL]);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    let local = local_end(&bed, 1000, WEB);
    bed.later(1);
    let moved = Segment {
        stations: [MAC, OTHER_GATEWAY],
        ..Bed::<F>::request(1000, WEB, A)
    };
    assert_eq!(bed.reason(&moved), Reason::ForwardedRedirect);
    assert_eq!(local_end(&bed, 1000, WEB), local);
    let (_, _, bytes) = bed.run(&reply::<F>(local, WEB, S | A));
    assert_eq!(bytes[..6], OTHER_GATEWAY);
    assert_eq!(bed.audit(), (1, 1), "the old way is gone");
}

fn the_only_port_is_free_as_soon_as_its_connection_is_over<F: Family>() {
    let bed = Bed::<F>::with(&[FULL]);
    bed.set_ports(5000, 5000);
    let request = |flags| Bed::<F>::request(1000, WEB, flags);
    let reply = |flags| reply::<F>(Bed::<F>::local(5000), WEB, flags);
    for segment in [
        request(S),
        reply(S | A),
        request(A),
        request(F_ | A),
        reply(F_ | A),
        request(A),
    ] {
        assert_eq!(bed.reason(&segment), Reason::ForwardedRedirect);
    }
    assert_eq!(bed.state(1000, WEB), TIME_WAIT);
    let other = Bed::<F>::request(1001, WEB, S);
    assert_eq!(bed.reason(&other), Reason::DroppedNoLocalPort);
    // The client's new connection takes the old one's place, and no sweep was
    // needed before.
    assert_eq!(bed.reason(&request(S)), Reason::ForwardedRedirect);
    assert_eq!(bed.state(1000, WEB), SYN_RECV);
    assert_eq!(local_end(&bed, 1000, WEB), Bed::<F>::local(5000));
    assert_eq!(bed.audit(), (1, 1));
    // At its deadline it is another client's, who has the replies from then on.
    bed.later(seconds(60));
    assert_eq!(bed.reason(&other), Reason::ForwardedRedirect);
    let (_, _, bytes) = bed.run(&reply(S | A));
    let wanted = Segment {
        source: Bed::<F>::vip(WEB),
        destination: Bed::<F>::client(1001),
        ttl: 63,
        stations: [GATEWAY, MAC],
        ..reply(S | A)
    };
    assert_eq!(bytes, wanted.build());
    bed.later(seconds(3));
    bed.sweep();
    assert_eq!(bed.audit(), (1, 1));
}

both_families!(
    a_connection_on_the_wire,
    twenty_thousand_connections_of_one_address_and_server_are_told_apart,
    a_pool_that_is_used_up_refuses_and_recovers,
    errors_go_both_ways_from_the_right_ends,
    a_taken_port_leads_to_another_of_any_address,
    an_empty_pool_has_no_connections,
    another_way_back_keeps_the_local_end,
    the_only_port_is_free_as_soon_as_its_connection_is_over,
);
