//! Servers that are gone, tables that are full, locks that are held.

use lb_common::{
    family::Family,
    flow::Link,
    layout::DestFlags,
    reason::Reason,
    tables::Table,
    time::seconds,
    wire::{TCP_ACK as A, TCP_SYN as S},
};

use super::bed::{Bed, KEPT, MAC, MAPPED, OTHER_GATEWAY, Segment, WEB, both_families};

fn a_removed_servers_replies_are_translated_and_not_counted<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    let reply = Bed::<F>::reply(MAPPED, WEB, 1000, S | A);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    bed.set_flags(MAPPED, Bed::<F>::flags() & !DestFlags::AVAILABLE);
    let before = bed.tables.stats(MAPPED);
    bed.later(seconds(50));
    assert_eq!(
        bed.reason(&Bed::<F>::request(1000, WEB, A)),
        Reason::DroppedNoDest
    );
    assert_eq!(bed.reason(&reply), Reason::ForwardedRedirect);
    assert_eq!(bed.tables.stats(MAPPED), before);
    // It keeps the connection alive all the same.
    let deadline = bed.now().wrapping_add(seconds(60));
    let conn = bed.conn(1000, WEB).expect("tracked");
    assert_eq!(conn.times.deadline(), deadline);
    bed.set_flags(MAPPED, Bed::<F>::flags());
    assert_eq!(
        bed.reason(&Bed::<F>::request(1000, WEB, A)),
        Reason::ForwardedRedirect
    );
    assert_eq!(bed.audit(), (1, 1));
}

fn an_unresolved_server_still_answers<F: Family>() {
    let bed = Bed::<F>::with(&[MAPPED]);
    bed.run(&Bed::<F>::request(1000, WEB, S));
    bed.set_flags(MAPPED, Bed::<F>::flags() & !DestFlags::RESOLVED);
    assert_eq!(
        bed.reason(&Bed::<F>::request(1000, WEB, A)),
        Reason::DroppedUnresolved
    );
    let reply = Bed::<F>::reply(MAPPED, WEB, 1000, S | A);
    assert_eq!(bed.reason(&reply), Reason::ForwardedRedirect);
}

fn a_full_table_leaves_no_half_a_connection<F: Family>() {
    let bed = Bed::<F>::with_one_home(&[MAPPED, KEPT]);
    let (mut refused, mut taken) = (0, 0);
    for port in 100..2100 {
        match bed.reason(&Bed::<F>::request(port, WEB, S)) {
            Reason::ForwardedRedirect => taken += 1,
            Reason::DroppedWindowFull => {
                refused += 1;
                assert!(bed.conn(port, WEB).is_none(), "{port}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 10 && taken > 100, "{refused} of {taken}");
    assert_eq!(bed.audit(), (taken, taken), "each has its reverse cell");
    let slots = [MAPPED, KEPT].map(|slot| bed.load(slot).0);
    assert_eq!(slots.iter().sum::<u32>(), taken as u32);
    bed.later(seconds(63));
    bed.sweep();
    assert_eq!(bed.audit(), (0, 0));
}

/// Holds the lock of the home cell that all flows have.
fn hold_the_lock<F: Family>(bed: &Bed<F>) {
    let at = |words: &mut [u64]| words[F::HOME] |= u64::from(bed.now()) << 32;
    if F::FLOW == Table::Flow4 {
        let mut words: [u64; 8] = bed.tables.get(F::FLOW, 0);
        at(&mut words);
        bed.tables.set(F::FLOW, 0, words);
    } else {
        let mut words: [u64; 16] = bed.tables.get(F::FLOW, 0);
        at(&mut words);
        bed.tables.set(F::FLOW, 0, words);
    }
}

fn a_held_lock_costs_a_first_packet_and_nothing_else<F: Family>() {
    let bed = Bed::<F>::with_one_home(&[MAPPED]);
    hold_the_lock(&bed);
    let syn = Bed::<F>::request(1000, WEB, S);
    assert_eq!(bed.reason(&syn), Reason::DroppedContended);
    assert!(bed.conn(1000, WEB).is_none());
    bed.later(seconds(3));
    assert_eq!(bed.reason(&syn), Reason::ForwardedRedirect, "taken over");

    // A connection that is there goes on, by its old way back, although the
    // new one cannot be noted down for the moment.
    let ack = Segment {
        stations: [MAC, OTHER_GATEWAY],
        ..Bed::<F>::request(1000, WEB, A)
    };
    bed.later(1);
    hold_the_lock(&bed);
    assert_eq!(bed.reason(&ack), Reason::ForwardedRedirect);
    let conn = bed.conn(1000, WEB).expect("not released");
    assert_ne!(conn.cell.link::<F>(), Link::NONE);
    let reply = Bed::<F>::reply(MAPPED, WEB, 1000, S | A);
    assert_eq!(bed.reason(&reply), Reason::ForwardedRedirect);
    bed.later(seconds(3));
    assert_eq!(bed.reason(&ack), Reason::ForwardedRedirect);
    let (_, _, bytes) = bed.run(&reply);
    assert_eq!(bytes[..6], OTHER_GATEWAY, "noted down in the end");
    assert_eq!(bed.audit(), (1, 1));
}

both_families!(
    a_removed_servers_replies_are_translated_and_not_counted,
    an_unresolved_server_still_answers,
    a_full_table_leaves_no_half_a_connection,
    a_held_lock_costs_a_first_packet_and_nothing_else,
);
