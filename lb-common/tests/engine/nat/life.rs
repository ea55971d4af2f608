//! States, time-outs and the end of NAT connections.

use lb_common::{
    conn::tcp::state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT, SYN_RECV, TIME_WAIT},
    family::Family,
    flow::{Link, SWEEP_DELAY},
    reason::Reason,
    time::seconds,
    wire::{TCP_ACK as A, TCP_FIN as F_, TCP_RST as R, TCP_SYN as S},
};

use super::bed::{Bed, DIRECT, DNS, KEPT, MAPPED, Segment, WEB, both_families};

/// Whose segment it is.
#[derive(Clone, Copy, Debug)]
enum By {
    Client,
    Server,
}
use By::{Client, Server};

/// Sends segments of one connection and checks after each the state, the
/// time-out in seconds, armed anew, and on which side of the counts it is.
fn walk<F: Family>(slot: u32, steps: &[(By, u8, u8, u32)]) {
    let bed = Bed::<F>::with(&[slot]);
    for (number, &(by, flags, state, timeout)) in steps.iter().enumerate() {
        bed.later(7);
        let segment = match by {
            Client => Bed::<F>::request(1000, WEB, flags),
            Server if slot == DIRECT => Segment {
                source: Bed::<F>::vip(WEB),
                ..Bed::<F>::reply(slot, WEB, 1000, flags)
            },
            Server => Bed::<F>::reply(slot, WEB, 1000, flags),
        };
        let reason = bed.reason(&segment);
        let wanted = if slot == DIRECT && matches!(by, Server) {
            Reason::PassedReply
        } else {
            Reason::ForwardedRedirect
        };
        assert_eq!(reason, wanted, "step {number}");
        let conn = bed.conn(1000, WEB).expect("tracked");
        assert_eq!(conn.state.protocol_state(), state, "step {number}");
        let deadline = bed.now().wrapping_add(seconds(timeout));
        assert_eq!(conn.times.deadline(), deadline, "step {number}");
        let active = [ESTABLISHED, SYN_RECV].contains(&state);
        let load = if active { (1, 0) } else { (0, 1) };
        assert_eq!(bed.load(slot), load, "step {number}");
    }
    bed.audit();
}

fn states_follow_both_sides<F: Family>() {
    let open = [
        (Client, S, SYN_RECV, 60),
        (Server, S | A, SYN_RECV, 60),
        (Client, A, ESTABLISHED, 900),
        (Server, A, ESTABLISHED, 900),
    ];
    let ends: [&[(By, u8, u8, u32)]; 5] = [
        // The client closes first.
        &[
            (Client, F_ | A, CLOSE_WAIT, 60),
            (Server, A, CLOSE_WAIT, 60),
            (Server, F_ | A, TIME_WAIT, 120),
            (Client, A, TIME_WAIT, 120),
        ],
        // The server does.
        &[
            (Server, F_ | A, FIN_WAIT, 120),
            (Client, A, FIN_WAIT, 120),
            (Client, F_ | A, TIME_WAIT, 120),
            (Server, A, TIME_WAIT, 120),
        ],
        // Both at once.
        &[
            (Client, F_ | A, CLOSE_WAIT, 60),
            (Server, F_ | A, TIME_WAIT, 120),
            (Client, A, TIME_WAIT, 120),
        ],
        &[(Client, R, CLOSE, 10)],
        &[(Server, R | A, CLOSE, 10), (Client, A, CLOSE, 10)],
    ];
    for end in ends {
        walk::<F>(MAPPED, &[&open[..], end].concat());
    }
    // Refused.
    walk::<F>(
        KEPT,
        &[(Client, S, SYN_RECV, 60), (Server, R | A, CLOSE, 10)],
    );
}

fn states_with_and_without_replies_of_direct_routing<F: Family>() {
    let open = [(Client, S, SYN_RECV, 60), (Client, A, ESTABLISHED, 900)];
    // Input-only, the client's FIN is FIN_WAIT.
    walk::<F>(
        DIRECT,
        &[&open[..], &[(Client, F_ | A, FIN_WAIT, 120)]].concat(),
    );
    // Once a reply was seen, both sides decide: now it is CLOSE_WAIT.
    let seen = [
        (Server, A, ESTABLISHED, 900),
        (Client, F_ | A, CLOSE_WAIT, 60),
        (Server, F_ | A, TIME_WAIT, 120),
    ];
    walk::<F>(DIRECT, &[&open[..], &seen].concat());
}

fn datagrams_of_both_sides_keep_it_alive<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    let reply = Bed::<F>::reply(MAPPED, DNS, 1000, 0);
    bed.run(&Bed::<F>::request(1000, DNS, 0));
    for _ in 0..5 {
        bed.later(seconds(300) - 1);
        assert_eq!(bed.reason(&reply), Reason::ForwardedRedirect);
        let deadline = bed.now().wrapping_add(seconds(300));
        let conn = bed.conn(1000, DNS).expect("tracked");
        assert_eq!(conn.times.deadline(), deadline);
        assert_eq!(bed.load(MAPPED), (0, 1));
    }
    bed.later(seconds(300));
    assert_eq!(bed.reason(&reply), Reason::PassedNoVip, "at the deadline");
}

fn the_sweep_takes_the_reverse_cell_after_its_connection<F: Family>() {
    for service in [WEB, DNS] {
        let bed = Bed::<F>::with(&[MAPPED]);
        bed.run(&Bed::<F>::request(1000, service, S));
        let reply = Bed::<F>::reply(MAPPED, service, 1000, S | A);
        let timeout = seconds(if service == WEB { 60 } else { 300 });
        bed.later(timeout - 1);
        bed.sweep();
        assert_eq!(bed.audit(), (1, 1), "the last moment");
        bed.later(SWEEP_DELAY);
        bed.sweep();
        assert_eq!(bed.audit(), (1, 1), "dead, and not yet to be freed");
        assert_eq!(bed.reason(&reply), Reason::PassedNoVip);
        bed.later(1);
        bed.sweep();
        assert_eq!((bed.audit(), bed.load(MAPPED)), ((0, 0), (0, 0)));
        assert!(bed.cell(&reply).is_none());
    }
}

fn a_new_connection_in_place_of_a_dead_one<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED, KEPT]);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    bed.later(seconds(60));
    assert_eq!(
        bed.reason(&Bed::<F>::request(1000, WEB, S)),
        Reason::ForwardedRedirect
    );
    assert_eq!((bed.load(MAPPED), bed.load(KEPT)), ((0, 0), (1, 0)));
    // The old server's reverse cell leads nowhere until it is swept.
    assert_eq!(bed.audit(), (1, 2));
    let of = |slot| Bed::<F>::reply(slot, WEB, 1000, S | A);
    assert_eq!(bed.reason(&of(MAPPED)), Reason::PassedNoVip);
    assert_eq!(bed.reason(&of(KEPT)), Reason::ForwardedRedirect);
    assert_eq!(bed.tables.stats(MAPPED).out_packets, 0);
    bed.sweep();
    assert_eq!(bed.audit(), (1, 1));
    assert_eq!(bed.reason(&of(KEPT)), Reason::ForwardedRedirect);
}

fn a_port_is_used_again<F: Family>() {
    // After TIME_WAIT, of the same server and of another one.
    for servers in [&[MAPPED][..], &[MAPPED, KEPT]] {
        let bed = Bed::<F>::with(servers);
        let request = |flags| Bed::<F>::request(1000, WEB, flags);
        let reply = |slot, flags| Bed::<F>::reply(slot, WEB, 1000, flags);
        for segment in [
            request(S),
            reply(MAPPED, S | A),
            request(A),
            request(F_ | A),
            reply(MAPPED, F_ | A),
            request(A),
        ] {
            assert_eq!(bed.reason(&segment), Reason::ForwardedRedirect);
        }
        assert_eq!(bed.state(1000, WEB), TIME_WAIT);
        let old = bed.conn(1000, WEB).expect("tracked").cell.link::<F>();
        bed.run(&request(S));
        let next = *servers.last().expect("not empty");
        assert_eq!(bed.state(1000, WEB), SYN_RECV);
        assert_eq!(bed.load(next), (1, 0));
        assert_eq!(
            bed.tables.stats(next).conns,
            if next == MAPPED { 2 } else { 1 }
        );
        let new = bed.conn(1000, WEB).expect("tracked").cell.link::<F>();
        assert!(new != old && new != Link::NONE);
        assert_eq!(bed.reason(&reply(next, S | A)), Reason::ForwardedRedirect);
        bed.sweep();
        assert_eq!(bed.audit(), (1, 1));
    }
}

both_families!(
    states_follow_both_sides,
    states_with_and_without_replies_of_direct_routing,
    datagrams_of_both_sides_keep_it_alive,
    the_sweep_takes_the_reverse_cell_after_its_connection,
    a_new_connection_in_place_of_a_dead_one,
    a_port_is_used_again,
);
