//! SCTP: what starts a connection, states, time-outs, and what is written.

use lb_common::{
    conn::sctp::{
        chunk::{
            ABORT, COOKIE_ACK, COOKIE_ECHO, ERROR, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK,
            SHUTDOWN_COMPLETE,
        },
        state,
    },
    engine::Verdict,
    family::Family,
    host::frame::sctp_chunk,
    reason::Reason,
    time::seconds,
};

use super::bed::{
    Bed, DIRECT, FULL, GATEWAY, IN, KEPT, MAC, MAPPED, OUT, SIGNAL, Segment, WEB, both_families,
};

const STATION: [u8; 6] = [2, 0, 0, 0, 9, 9];
const DATA: u8 = 0;
const HEARTBEAT: u8 = 4;

/// Whose packet it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Client,
    Server,
}
use By::{Client, Server};

/// Sends packets of one connection and checks after each the state, the
/// time-out in seconds, armed anew, and on which side of the counts it is.
fn walk<F: Family>(slot: u32, steps: &[(By, u8, u8, u32)]) {
    let bed = Bed::<F>::with(&[slot]);
    for (number, &(by, kind, state, timeout)) in steps.iter().enumerate() {
        bed.later(7);
        let segment = match by {
            Client => Bed::<F>::chunk(1000, kind),
            Server if slot == DIRECT => Segment {
                source: Bed::<F>::vip(SIGNAL),
                ..Bed::<F>::answer_chunk(slot, 1000, kind)
            },
            Server => Bed::<F>::answer_chunk(slot, 1000, kind),
        };
        let wanted = if slot == DIRECT && by == Server {
            Reason::PassedReply
        } else {
            Reason::ForwardedRedirect
        };
        assert_eq!(bed.reason(&segment), wanted, "step {number}");
        let conn = bed.conn(1000, SIGNAL).expect("tracked");
        assert_eq!(conn.state.protocol_state(), state, "step {number}");
        let deadline = bed.now().wrapping_add(seconds(timeout));
        assert_eq!(conn.times.deadline(), deadline, "step {number}");
        let load = if state == state::ESTABLISHED {
            (1, 0)
        } else {
            (0, 1)
        };
        assert_eq!(bed.load(slot), load, "step {number}");
    }
    bed.audit();
}

fn states_follow_both_sides<F: Family>() {
    let open = [
        (Client, INIT, state::INIT1, 4),
        (Server, INIT_ACK, state::C_SENT, 61),
        (Client, COOKIE_ECHO, state::C_REPLIED, 61),
        (Server, COOKIE_ACK, state::ESTABLISHED, 900),
        (Client, DATA, state::ESTABLISHED, 900),
        (Server, HEARTBEAT, state::ESTABLISHED, 900),
    ];
    let ends: [&[(By, u8, u8, u32)]; 4] = [
        &[
            (Client, SHUTDOWN, state::S_RECEIVED, 61),
            (Server, SHUTDOWN_ACK, state::S_ACK_SENT, 61),
            (Client, SHUTDOWN_COMPLETE, state::CLOSED, 61),
        ],
        &[
            (Server, SHUTDOWN, state::S_SENT, 61),
            (Client, SHUTDOWN_ACK, state::CLOSED, 61),
        ],
        &[(Client, ABORT, state::CLOSED, 61)],
        &[
            (Server, ERROR, state::ESTABLISHED, 900),
            (Server, ABORT, state::CLOSED, 61),
        ],
    ];
    for end in ends {
        for slot in [MAPPED, KEPT] {
            walk::<F>(slot, &[&open[..], end].concat());
        }
    }
    walk::<F>(
        MAPPED,
        &[
            (Client, INIT, state::INIT1, 4),
            (Client, INIT, state::INIT, 61),
            (Server, ABORT, state::CLOSED, 61),
        ],
    );
    walk::<F>(
        KEPT,
        &[
            (Client, INIT, state::INIT1, 4),
            (Server, ABORT, state::REJECTED, 4),
        ],
    );
}

fn states_follow_the_client_alone<F: Family>() {
    let open = [
        (Client, INIT, state::INIT1, 4),
        (Client, COOKIE_ECHO, state::ESTABLISHED, 900),
        (Client, DATA, state::ESTABLISHED, 900),
    ];
    walk::<F>(
        DIRECT,
        &[
            &open[..],
            &[
                (Client, SHUTDOWN, state::S_RECEIVED, 61),
                (Client, SHUTDOWN_COMPLETE, state::CLOSED, 61),
            ],
        ]
        .concat(),
    );
    // A reply that passes by makes both sides count from then on.
    walk::<F>(
        DIRECT,
        &[
            (Client, INIT, state::INIT1, 4),
            (Server, INIT_ACK, state::C_SENT, 61),
            (Client, COOKIE_ECHO, state::C_REPLIED, 61),
        ],
    );
}

fn only_init_starts_a_connection<F: Family>() {
    let bed = Bed::<F>::with(&[DIRECT]);
    for kind in (0..=255).filter(|&kind| kind != INIT) {
        let segment = Bed::<F>::chunk(1000, kind);
        assert_eq!(bed.reason(&segment), Reason::PassedNoConnection, "{kind}");
    }
    // SCTP to a port that only TCP has.
    let mut other = Bed::<F>::chunk(1000, INIT);
    other.destination.set_port(WEB);
    assert_eq!(bed.reason(&other), Reason::PassedNoService);
    let none = Segment {
        payload: Vec::new(),
        ..Bed::<F>::chunk(1000, INIT)
    };
    assert_eq!(bed.reason(&none), Reason::DroppedNoChunk);
    let init = Bed::<F>::chunk(1000, INIT);
    assert_eq!(bed.reason(&init), Reason::ForwardedRedirect);
    // A packet without a chunk goes the connection's way and changes nothing.
    assert_eq!(bed.reason(&none), Reason::ForwardedRedirect);
    assert_eq!(bed.state(1000, SIGNAL), state::INIT1);
    assert_eq!(bed.audit(), (1, 0));
}

fn an_abort_behind_a_cookie_counts<F: Family>() {
    // A cookie is longer than what is read of a packet in place.
    for (kind, size) in [(COOKIE_ECHO, 3), (COOKIE_ECHO, 900), (COOKIE_ACK, 0)] {
        let first = sctp_chunk(kind, 0, &vec![0; size]);
        for (second, wanted) in [
            (sctp_chunk(ABORT, 0, &[]), state::CLOSED),
            (sctp_chunk(DATA, 3, b"data"), state::ESTABLISHED),
            // Not whole.
            (vec![ABORT, 0, 0], state::ESTABLISHED),
            (Vec::new(), state::ESTABLISHED),
        ] {
            let bed = Bed::<F>::with(&[DIRECT]);
            bed.run(&Bed::<F>::chunk(1000, INIT));
            bed.run(&Bed::<F>::chunk(1000, COOKIE_ECHO));
            let segment = Segment {
                payload: [&first[..], &second].concat(),
                ..Bed::<F>::chunk(1000, kind)
            };
            assert_eq!(bed.reason(&segment), Reason::ForwardedRedirect);
            assert_eq!(bed.state(1000, SIGNAL), wanted, "{kind} of {size}");
        }
    }
    // Only behind those two.
    let bed = Bed::<F>::with(&[DIRECT]);
    bed.run(&Bed::<F>::chunk(1000, INIT));
    bed.run(&Bed::<F>::chunk(1000, COOKIE_ECHO));
    let data = [sctp_chunk(DATA, 3, b"data"), sctp_chunk(ABORT, 0, &[])].concat();
    bed.run(&Segment {
        payload: data,
        ..Bed::<F>::chunk(1000, DATA)
    });
    assert_eq!(bed.state(1000, SIGNAL), state::ESTABLISHED);
    // A length that no chunk has ends the look.
    let mut odd = sctp_chunk(COOKIE_ECHO, 0, &[]);
    odd[3] = 3;
    bed.run(&Segment {
        payload: [odd, sctp_chunk(ABORT, 0, &[])].concat(),
        ..Bed::<F>::chunk(1000, COOKIE_ECHO)
    });
    assert_eq!(bed.state(1000, SIGNAL), state::ESTABLISHED);
}

fn an_init_on_a_closed_connection_is_a_new_one<F: Family>() {
    for (last, is_new) in [(SHUTDOWN, false), (ABORT, true)] {
        let bed = Bed::<F>::with(&[MAPPED, KEPT]);
        bed.run(&Bed::<F>::chunk(1000, INIT));
        let first = bed.conn(1000, SIGNAL).expect("tracked").slot();
        bed.run(&Bed::<F>::chunk(1000, COOKIE_ECHO));
        bed.run(&Bed::<F>::answer_chunk(first, 1000, COOKIE_ACK));
        bed.run(&Bed::<F>::chunk(1000, last));
        bed.run(&Bed::<F>::chunk(1000, INIT));
        let now = bed.conn(1000, SIGNAL).expect("tracked").slot();
        assert_eq!(now != first, is_new);
        let wanted = if is_new {
            state::INIT1
        } else {
            state::S_RECEIVED
        };
        assert_eq!(bed.state(1000, SIGNAL), wanted);
        // The reverse cell of the old one is swept.
        bed.sweep();
        assert_eq!(bed.audit(), (1, 1));
    }
}

fn a_connection_on_the_wire<F: Family>() {
    for slot in [MAPPED, KEPT] {
        let bed = Bed::<F>::with(&[slot]);
        let request = Bed::<F>::chunk(1000, INIT);
        let (verdict, _, bytes) = bed.run(&request);
        let wanted = Segment {
            destination: Bed::<F>::server(slot, SIGNAL),
            ttl: 63,
            stations: [STATION, MAC],
            ..request
        };
        assert_eq!((verdict, bytes), (Verdict::Redirect(OUT), wanted.build()));
        let reply = Bed::<F>::answer_chunk(slot, 1000, INIT_ACK);
        let (verdict, _, bytes) = bed.run(&reply);
        let wanted = Segment {
            source: Bed::<F>::vip(SIGNAL),
            ttl: 63,
            stations: [GATEWAY, MAC],
            ..reply
        };
        assert_eq!((verdict, bytes), (Verdict::Redirect(IN), wanted.build()));
    }
}

fn fullnat_changes_both_ends<F: Family>() {
    let bed = Bed::<F>::with(&[FULL]);
    let request = Bed::<F>::chunk(1000, INIT);
    let (verdict, _, bytes) = bed.run(&request);
    let conn = bed.conn(1000, SIGNAL).expect("tracked");
    let local = Bed::<F>::local(u16::from_be(conn.cell.local::<F>().1));
    let wanted = Segment {
        source: local,
        destination: Bed::<F>::server(FULL, SIGNAL),
        ttl: 63,
        stations: [STATION, MAC],
        ..request
    };
    assert_eq!((verdict, bytes), (Verdict::Redirect(OUT), wanted.build()));
    let reply = Segment {
        destination: local,
        ..Bed::<F>::answer_chunk(FULL, 1000, INIT_ACK)
    };
    let (verdict, _, bytes) = bed.run(&reply);
    let wanted = Segment {
        source: Bed::<F>::vip(SIGNAL),
        destination: Bed::<F>::client(1000),
        ttl: 63,
        stations: [GATEWAY, MAC],
        ..reply
    };
    assert_eq!((verdict, bytes), (Verdict::Redirect(IN), wanted.build()));
    assert_eq!(bed.state(1000, SIGNAL), state::C_SENT);
    assert_eq!(bed.audit(), (1, 1));
}

fn direct_routing_leaves_the_packet_alone<F: Family>() {
    let bed = Bed::<F>::with(&[DIRECT]);
    let request = Bed::<F>::chunk(1000, INIT);
    let (verdict, _, bytes) = bed.run(&request);
    let wanted = Segment {
        ttl: 63,
        stations: [STATION, MAC],
        ..request
    };
    assert_eq!((verdict, bytes), (Verdict::Redirect(OUT), wanted.build()));
}

fn a_packet_that_is_cut_off_is_the_stacks<F: Family>() {
    let bed = Bed::<F>::with(&[DIRECT]);
    let whole = Bed::<F>::chunk(1000, INIT).build();
    let header = if F::VERSION == 4 { 20 } else { 40 };
    for length in 0..12 {
        let mut frame = whole[..14 + header + length].to_vec();
        let l3 = 14;
        if F::VERSION == 4 {
            frame[l3 + 2..l3 + 4].copy_from_slice(&(20 + length as u16).to_be_bytes());
            frame[l3 + 10..l3 + 12].fill(0);
            let sum = lb_common::host::frame::checksum(&frame[l3..l3 + 20]);
            frame[l3 + 10..l3 + 12].copy_from_slice(&sum);
        } else {
            frame[l3 + 4..l3 + 6].copy_from_slice(&(length as u16).to_be_bytes());
        }
        // Padding is no part of the packet.
        frame.resize(90, INIT);
        let mut packet = lb_common::host::HostPacket::new(&frame, IN);
        assert_eq!(bed.tables.process(&mut packet), Verdict::Pass);
    }
    assert_eq!(bed.tables.reason(Reason::PassedMalformed), 12);
    assert_eq!(bed.audit(), (0, 0));
}

both_families!(
    states_follow_both_sides,
    states_follow_the_client_alone,
    only_init_starts_a_connection,
    an_abort_behind_a_cookie_counts,
    an_init_on_a_closed_connection_is_a_new_one,
    a_connection_on_the_wire,
    fullnat_changes_both_ends,
    direct_routing_leaves_the_packet_alone,
    a_packet_that_is_cut_off_is_the_stacks,
);
