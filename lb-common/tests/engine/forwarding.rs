//! What direct routing writes.

use lb_common::{
    engine::Verdict,
    host::frame::{Frame, checksum},
    layout::DestFlags,
    reason::Reason,
    wire::TCP_SYN,
};

use crate::lab::{
    IN, LOCAL, Lab, MAC, NARROW, OUT, QINQ, REDIRECT, TAGGED, TX, UNRESOLVED, VLAN_MAC, dns, web,
};

/// The station addresses and tags each next hop has.
fn header(server: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8];
    match server {
        TAGGED => bytes.extend([0x81, 0, 0, 7]),
        QINQ => bytes.extend([0x88, 0xa8, 0, 8, 0x81, 0, 0, 9]),
        _ => {}
    }
    bytes.extend([8, 0]);
    bytes
}

/// The IP packet with one less to live and a checksum summed anew.
fn one_hop_on(frame: &Frame) -> Vec<u8> {
    let mut packet = frame.packet();
    let header = 20 + frame.options.len();
    packet[8] -= 1;
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum);
    packet
}

#[test]
fn every_way_in_and_every_way_out() {
    let ways_in = [
        (vec![], MAC),
        (vec![(0x8100, 100)], VLAN_MAC),
        (vec![(0x88a8, 100), (0x8100, 200)], MAC),
    ];
    let ways_out = [
        (TX, Verdict::Transmit),
        (TAGGED, Verdict::Transmit),
        (REDIRECT, Verdict::Redirect(OUT)),
        (QINQ, Verdict::Redirect(OUT)),
    ];
    let shapes = [
        web(1, TCP_SYN),
        Frame {
            options: vec![1; 40],
            payload: vec![7; 33],
            ..web(2, TCP_SYN)
        },
        Frame {
            ttl: 2,
            misc: (0xb8, 0xffff, 0),
            padding: 6,
            ..dns(3)
        },
        Frame {
            ttl: 255,
            misc: (3, 0, 0x4000),
            options: vec![1; 4],
            ..dns(4)
        },
    ];
    for (tags, mac) in ways_in {
        for (server, wanted) in ways_out {
            let lab = Lab::with(&[server]);
            for shape in &shapes {
                let frame = Frame {
                    tags: tags.to_vec(),
                    stations: [mac, MAC],
                    ..shape.clone()
                };
                // The first packet, and one of the connection.
                for _ in 0..2 {
                    let (verdict, _, after) = lab.run(&frame);
                    let padding = vec![0; frame.padding];
                    let bytes = [header(server), one_hop_on(&frame), padding].concat();
                    assert_eq!(verdict, wanted);
                    assert_eq!(after, bytes, "{frame:?} to {server}");
                }
            }
        }
    }
}

#[test]
fn time_to_live() {
    for ttl in 0..=255 {
        let lab = Lab::with(&[TX]);
        let wanted = if ttl < 2 {
            Reason::DroppedTtl
        } else {
            Reason::ForwardedTx
        };
        assert_eq!(
            lab.reason(&Frame {
                ttl,
                ..web(1, TCP_SYN)
            }),
            wanted,
            "{ttl}"
        );
    }
}

#[test]
fn the_longest_packet_that_fits() {
    let lab = Lab::with(&[NARROW]);
    let of = |payload, padding| {
        lab.reason(&Frame {
            payload: vec![0; payload],
            padding,
            ..web(1, TCP_SYN)
        })
    };
    assert_eq!(of(60, 0), Reason::ForwardedTx);
    assert_eq!(of(60, 9), Reason::ForwardedTx, "padding does not count");
    assert_eq!(of(61, 0), Reason::DroppedTooBig);
}

#[test]
fn a_local_server_gets_the_packet_as_it_is() {
    let lab = Lab::with(&[LOCAL]);
    for _ in 0..2 {
        let frame = Frame {
            ttl: 1,
            ..web(1, TCP_SYN)
        };
        let (verdict, reason, after) = lab.run(&frame);
        assert_eq!(
            (verdict, reason),
            (Verdict::Pass, Reason::PassedLocalServer)
        );
        assert_eq!(after, frame.build());
    }
    assert_eq!(lab.load(LOCAL), (1, 0), "and is tracked");
    assert_eq!(lab.tables.stats(LOCAL).in_packets, 2);
}

#[test]
fn an_unresolved_server_is_chosen_and_the_packet_dropped() {
    let lab = Lab::with(&[UNRESOLVED]);
    let (verdict, reason, _) = lab.run(&web(1, TCP_SYN));
    assert_eq!(
        (verdict, reason),
        (Verdict::Drop, Reason::DroppedUnresolved),
        "it may answer in a moment: the client is told nothing and asks again"
    );
    lab.dest(UNRESOLVED, Lab::flags(UNRESOLVED) | DestFlags::UNREACHABLE);
    let (verdict, reason, _) = lab.run(&web(1, TCP_SYN));
    assert_eq!(
        (verdict, reason),
        (Verdict::Transmit, Reason::DroppedUnresolved),
        "it is known not to answer: the client is told"
    );
    assert_eq!(lab.load(UNRESOLVED), (1, 0));
    // Once it is resolved, the same connection goes there.
    lab.next_hop(UNRESOLVED, IN, &header(TX));
    lab.dest(UNRESOLVED, Lab::flags(TX));
    assert_eq!(lab.reason(&web(1, TCP_SYN)), Reason::ForwardedTx);
    assert_eq!(lab.load(UNRESOLVED), (1, 0));
}
