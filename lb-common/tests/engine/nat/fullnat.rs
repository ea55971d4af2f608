//! FULLNAT: what it writes, and that no two connections share a local end.

use std::{collections::HashSet, net::SocketAddr};

use lb_common::{
    engine::Verdict,
    family::Family,
    reason::Reason,
    time::seconds,
    wire::{TCP_ACK as A, TCP_RST as R, TCP_SYN as S},
};

use super::bed::{Bed, DNS, FULL, GATEWAY, IN, MAC, OUT, Segment, WEB, both_families};

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

both_families!(
    a_connection_on_the_wire,
    twenty_thousand_connections_of_one_address_and_server_are_told_apart,
    a_pool_that_is_used_up_refuses_and_recovers,
);
