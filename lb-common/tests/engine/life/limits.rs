//! Thresholds (`-x`, `-y`) and one-packet scheduling (`-o`).

use lb_common::{
    host::frame::Frame,
    layout::{DestFlags, DestLoad, DestWord, ServiceFlags, Stats, Thresholds},
    reason::Reason,
    tables::Table,
    time::seconds,
    wire::{TCP_FIN as F, TCP_SYN as S},
};

use crate::lab::{Lab, Service, TX, TX_TOO, dns, web};

fn limit(lab: &Lab, slot: u32, upper: u32, lower: u32) {
    lab.edit(slot, |dest| {
        dest.thresholds = Thresholds::new(upper, lower).0
    });
}

fn is_full(lab: &Lab, slot: u32) -> bool {
    let dest: lb_common::layout::DestEntry = lab.tables.get(Table::Dest, slot);
    DestWord(dest.word).has(DestFlags::OVERLOAD)
}

#[test]
fn a_server_takes_as_many_as_its_upper_threshold() {
    let lab = Lab::with(&[TX, TX_TOO]);
    limit(&lab, TX, 2, 0);
    for port in 1..=8 {
        lab.run(&web(port, S));
    }
    assert_eq!((lab.load(TX), lab.load(TX_TOO)), ((2, 0), (6, 0)));
    limit(&lab, TX_TOO, 1, 0);
    lab.later(seconds(61));
    lab.sweep();
    assert!(!is_full(&lab, TX));
    for port in 11..=13 {
        lab.run(&web(port, S));
    }
    assert_eq!(lab.reason(&web(14, S)), Reason::DroppedNoServer);
    assert_eq!((lab.load(TX), lab.load(TX_TOO)), ((2, 0), (1, 0)));
}

#[test]
fn a_connection_given_up_counts_until_its_successor_is_scheduled() {
    let lab = Lab::with(&[TX, TX_TOO]);
    limit(&lab, TX, 1, 0);
    limit(&lab, TX_TOO, 1, 0);
    assert_eq!(lab.reason(&web(1, S)), Reason::ForwardedTx);
    lab.run(&web(1, F));
    // In TIME_WAIT the port is used again: the full server is not asked.
    lab.run(&web(1, S));
    assert_eq!((lab.load(TX), lab.load(TX_TOO)), ((0, 0), (1, 0)));
    assert!(!is_full(&lab, TX), "the old one is gone");
    lab.run(&web(2, S));
    lab.run(&web(2, F));
    // Both are full, and the old connection is given up all the same.
    assert_eq!(lab.reason(&web(2, S)), Reason::DroppedNoServer);
    assert_eq!(lab.reason(&web(2, S)), Reason::ForwardedTx);
}

/// How many connections of five, one ending after the other, are left when a
/// server that was full is not any more.
fn relieved_at(upper: u32, lower: u32) -> u32 {
    let lab = Lab::with(&[TX]);
    limit(&lab, TX, upper, lower);
    for port in 1..=upper {
        lab.run(&web(port as u16, S));
        lab.later(seconds(1));
    }
    assert!(is_full(&lab, TX));
    lab.later(seconds(60 - upper));
    for left in (0..upper).rev() {
        lab.later(seconds(1));
        lab.sweep();
        let load: DestLoad = lab.tables.get(Table::DestLoad, TX);
        assert_eq!(load.active(), left);
        if !is_full(&lab, TX) {
            return left;
        }
    }
    panic!("it stays full");
}

#[test]
fn a_full_server_waits_for_its_lower_threshold() {
    assert_eq!(relieved_at(8, 3), 2);
    assert_eq!(relieved_at(8, 8), 7);
    // Without one, for less than three quarters.
    assert_eq!(relieved_at(8, 0), 5);
    assert_eq!(relieved_at(1, 0), 0);
    assert_eq!(relieved_at(3, 0), 2);
}

#[test]
fn every_datagram_is_scheduled_for_itself() {
    let service = Service {
        flags: ServiceFlags::ONE_PACKET,
        ..Service::dns(&[TX, TX_TOO])
    };
    let lab = Lab::of_services(&[service]);
    for _ in 0..4 {
        assert_eq!(lab.reason(&dns(1)), Reason::ForwardedTx);
    }
    for slot in [TX, TX_TOO] {
        let stats = lab.tables.stats(slot);
        assert_eq!((stats.conns, stats.in_packets), (2, 2));
        assert_eq!(lab.load(slot), (0, 0));
    }
    assert!(lab.cells().is_empty());
    // Nor is there a connection that the director's own error could be about.
    let last = Frame { ttl: 1, ..dns(1) };
    assert_eq!(lab.reason(&last), Reason::DroppedTtl);
    let counted = [TX, TX_TOO].map(|slot| lab.tables.stats(slot));
    assert_eq!(counted.iter().map(|it| it.conns).sum::<u64>(), 5);
    assert!(counted.iter().all(|it| it.out_packets == 0));
}

#[test]
fn one_packet_scheduling_goes_by_the_template() {
    let service = Service {
        flags: ServiceFlags::ONE_PACKET | ServiceFlags::PERSISTENT,
        ..Service::dns(&[TX, TX_TOO])
    };
    let lab = Lab::of_services(&[service]);
    for port in 1..=4 {
        lab.run(&dns(port));
    }
    let want = Stats {
        conns: 4,
        in_packets: 4,
        in_bytes: lab.tables.stats(TX).in_bytes,
        ..Stats::default()
    };
    assert_eq!(lab.tables.stats(TX), want);
    assert_eq!(lab.cells().len(), 1, "the template alone");
    lab.check_counts();
    lab.later(seconds(303));
    lab.sweep();
    assert!(lab.cells().is_empty(), "nothing holds it");
}

#[test]
fn one_packet_scheduling_is_not_for_tcp() {
    let service = Service {
        flags: ServiceFlags::ONE_PACKET,
        ..Service::web(&[TX])
    };
    let lab = Lab::of_services(&[service]);
    lab.run(&web(1, S));
    assert_eq!((lab.load(TX), lab.cells().len()), ((1, 0), 1));
}
