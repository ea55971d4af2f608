//! Every outcome: reached, counted once, and of the class it says.

use lb_common::{
    engine::Verdict,
    host::frame::Frame,
    layout::{DestEntry, DestFlags, ForwardMethod, ListEntry, Root, ServiceFlags, ServiceState},
    reason::{Class, Reason},
    sched::Cursor,
    tables::Table,
    wire::{IPPROTO_SCTP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
};

use crate::lab::{
    IN, LOCAL, Lab, MAC, NARROW, OUT, REDIRECT, Service, TX, UNRESOLVED, VLAN_MAC, dns, web,
};

fn syn() -> Frame {
    web(1000, TCP_SYN)
}

/// A director and a frame that ends in `reason` there.
fn case(reason: Reason) -> Option<(Lab, Vec<u8>)> {
    let lab = |server| Lab::with(&[server]);
    let frame = |frame: Frame| (lab(TX), frame.build());
    Some(match reason {
        Reason::ForwardedTx => frame(syn()),
        Reason::ForwardedRedirect => (lab(REDIRECT), syn().build()),
        Reason::PassedLocalServer => (lab(LOCAL), syn().build()),
        Reason::PassedNotIp => {
            let mut arp = syn().build();
            arp[12..14].copy_from_slice(&[0x08, 0x06]);
            (lab(TX), arp)
        }
        Reason::PassedNotOurs => frame(Frame {
            stations: [[2, 0, 0, 0, 0, 9], MAC],
            ..syn()
        }),
        Reason::PassedNoVip => frame(Frame {
            destination: "192.0.2.2:80".parse().expect("an address"),
            ..syn()
        }),
        Reason::PassedMalformed => {
            let mut bytes = syn().build();
            bytes[14 + 10] ^= 1;
            (lab(TX), bytes)
        }
        Reason::PassedReply => {
            let lab = lab(TX);
            lab.run(&syn());
            let reply = Frame {
                source: syn().destination,
                destination: syn().source,
                ..syn()
            };
            (lab, reply.build())
        }
        Reason::DroppedNoLocalPort => {
            // A server without a pool.
            let lab = lab(TX);
            let entry: ListEntry = lab.tables.get(Table::List, 0);
            let method = ForwardMethod::Fullnat as u32;
            lab.tables
                .set(Table::List, 0, ListEntry { method, ..entry });
            (lab, syn().build())
        }
        Reason::DroppedDefence => {
            let lab = lab(TX);
            lab.settings(|settings| settings.drop_rate = 5);
            (lab, syn().build())
        }
        Reason::DroppedNoCallId => {
            let web = Service {
                flags: ServiceFlags::PERSISTENT | ServiceFlags::SIP,
                ..Service::web(&[TX])
            };
            (Lab::of_services(&[web]), syn().build())
        }
        Reason::DroppedNoChunk => {
            let signal = Service {
                protocol: IPPROTO_SCTP,
                ..Service::web(&[TX])
            };
            let (from, to) = (syn().source, syn().destination);
            let bare = Frame::sctp(from, to, Vec::new());
            (Lab::of_services(&[signal]), bare.build())
        }
        Reason::DroppedFilter => {
            let lab = lab(TX);
            lab.filter(true);
            (lab, syn().build())
        }
        Reason::DroppedLoopback => {
            let lab = lab(LOCAL);
            lab.forward_by(ForwardMethod::Masq, 1);
            let dest: DestEntry = lab.tables.get(Table::Dest, LOCAL);
            let addr = [u32::from_ne_bytes([127, 0, 0, 1]), 0, 0, 0];
            lab.tables
                .set(Table::Dest, LOCAL, DestEntry { addr, ..dest });
            (lab, syn().build())
        }
        Reason::DroppedFragment => frame(Frame {
            misc: (0, 1, 0x2001),
            ..syn()
        }),
        Reason::DroppedIcmp => {
            let lab = lab(TX);
            lab.run(&syn());
            let reply = Frame {
                source: syn().destination,
                destination: syn().source,
                ..syn()
            };
            let about = [&[3, 1, 0, 1, 0, 0, 0, 0], &reply.packet()[..]].concat();
            let error = Frame {
                protocol: 1,
                payload: about,
                ..syn()
            };
            (lab, error.build())
        }
        // See tunnel_errors and nat/toa.
        Reason::DroppedTunnelError | Reason::ForwardedUntold => return None,
        Reason::PassedProtocol => frame(Frame {
            protocol: 1,
            payload: vec![8; 16],
            ..syn()
        }),
        Reason::PassedNoService => frame(Frame {
            destination: "192.0.2.1:81".parse().expect("an address"),
            ..syn()
        }),
        Reason::PassedNotClaimed => {
            let lab = lab(TX);
            lab.configure(
                0,
                &[Service {
                    claimed: false,
                    ..Service::web(&[TX])
                }],
            );
            (lab, syn().build())
        }
        Reason::PassedNoConnection => frame(web(1000, TCP_ACK)),
        Reason::DroppedNoDest => {
            let lab = lab(TX);
            lab.run(&syn());
            lab.dest(TX, Lab::flags(TX) & !DestFlags::AVAILABLE);
            (lab, web(1000, TCP_ACK).build())
        }
        Reason::DroppedNoServer => (Lab::with(&[]), syn().build()),
        Reason::DroppedUnresolved => {
            let lab = lab(UNRESOLVED);
            lab.dest(UNRESOLVED, Lab::flags(UNRESOLVED) | DestFlags::UNREACHABLE);
            (lab, syn().build())
        }
        Reason::DroppedTtl => frame(Frame { ttl: 1, ..syn() }),
        Reason::DroppedTooBig => (
            lab(NARROW),
            Frame {
                payload: vec![0; 61],
                ..syn()
            }
            .build(),
        ),
        Reason::DroppedWindowFull => {
            let lab = Lab::with_one_home(&[TX]);
            // Its window and then, window by window, the stash fill up.
            let full = (100..2100)
                .map(|port| web(port, TCP_SYN))
                .find(|frame| lab.reason(frame) != Reason::ForwardedTx);
            (lab, full?.build())
        }
        Reason::DroppedContended => {
            let lab = Lab::with_one_home(&[TX]);
            lab.hold_the_lock();
            (lab, syn().build())
        }
        Reason::DroppedCursor => {
            // A cursor of a list that is never switched to.
            let lab = lab(TX);
            let cursor = Cursor {
                generation: 2,
                ..Cursor::default()
            }
            .word();
            lab.tables.set(
                Table::ServiceState,
                0,
                ServiceState {
                    cursor,
                    reserved: [0; 7],
                },
            );
            (lab, syn().build())
        }
        // A defect, so that there is no packet for it.
        Reason::DroppedInternal => return None,
    })
}

/// Whether the kernel would tell the client by ICMP.
pub(crate) fn is_answered(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DroppedNoServer
            | Reason::DroppedUnresolved
            | Reason::DroppedTtl
            | Reason::DroppedTooBig
    )
}

#[test]
fn every_reason_has_its_packet() {
    for &reason in Reason::ALL {
        let Some((lab, bytes)) = case(reason) else {
            assert!(matches!(
                reason,
                Reason::DroppedInternal | Reason::DroppedTunnelError | Reason::ForwardedUntold
            ));
            continue;
        };
        let packets = lab.tables.counted();
        let (verdict, counted, after) = lab.run_bytes(&bytes);
        assert_eq!(counted, reason);
        assert_eq!(lab.tables.counted(), packets + 1, "{reason:?}");
        match reason.class() {
            Class::Passed => assert_eq!((verdict, after), (Verdict::Pass, bytes), "{reason:?}"),
            Class::Dropped if is_answered(reason) => {
                assert_eq!(verdict, Verdict::Transmit, "{reason:?}");
                // To the client: ICMP from the service.
                assert_eq!((&after[..6], after[23]), (&bytes[6..12], 1));
                assert_eq!(
                    (&after[26..30], &after[30..34]),
                    (&bytes[30..34], &bytes[26..30])
                );
                lb_common::host::sums::check(&after).expect("right checksums");
            }
            Class::Dropped => assert_eq!(verdict, Verdict::Drop, "{reason:?}"),
            Class::Forwarded => {
                let wanted = if lab.load(TX).0 == 1 {
                    Verdict::Transmit
                } else {
                    Verdict::Redirect(OUT)
                };
                assert_eq!(verdict, wanted);
            }
        }
    }
}

#[test]
fn names_are_unique_and_tell_the_class() {
    let names: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index);
        let class = format!("{:?}-", reason.class()).to_lowercase();
        assert!(reason.name().starts_with(&class), "{}", reason.name());
    }
}

#[test]
fn a_frame_for_somebody_else_is_passed() {
    let lab = Lab::with(&[TX]);
    let to = |mac| Frame {
        stations: [mac, MAC],
        ..syn()
    };
    // Flooded, broadcast, multicast, and the address that stands for "none".
    for mac in [
        [2, 0, 0, 0, 0, 9],
        [0xff; 6],
        [1, 0, 0x5e, 0, 2, 1],
        [0; 6],
        VLAN_MAC,
    ] {
        assert_eq!(lab.reason(&to(mac)), Reason::PassedNotOurs, "{mac:x?}");
    }
    assert_eq!(lab.reason(&to(MAC)), Reason::ForwardedTx);
}

#[test]
fn a_tag_is_another_interface() {
    let lab = Lab::with(&[TX]);
    let tagged = |tags: &[(u16, u16)], mac| {
        let frame = Frame {
            stations: [mac, MAC],
            tags: tags.to_vec(),
            ..syn()
        };
        lab.reason(&frame)
    };
    assert_eq!(tagged(&[(0x8100, 100)], VLAN_MAC), Reason::ForwardedTx);
    assert_eq!(
        tagged(&[(0x8100, 0x6000 | 100)], VLAN_MAC),
        Reason::ForwardedTx,
        "priority 3"
    );
    assert_eq!(
        tagged(&[(0x88a8, 100), (0x8100, 200)], MAC),
        Reason::ForwardedTx
    );
    assert_eq!(
        tagged(&[(0x8100, 0)], MAC),
        Reason::ForwardedTx,
        "a priority tag is no VLAN"
    );
    assert_eq!(tagged(&[(0x8100, 100)], MAC), Reason::PassedNotOurs);
    assert_eq!(tagged(&[(0x8100, 101)], VLAN_MAC), Reason::PassedNotOurs);
    assert_eq!(
        tagged(&[(0x88a8, 100), (0x8100, 201)], MAC),
        Reason::PassedNotOurs
    );
    let three = [(0x88a8, 100), (0x8100, 200), (0x8100, 1)];
    assert_eq!(tagged(&three, MAC), Reason::PassedNotIp);
}

#[test]
fn without_services_everything_is_the_stacks() {
    let lab = Lab::with(&[TX]);
    assert_eq!(lab.reason(&syn()), Reason::ForwardedTx);
    lab.tables.set_root(Root::new(2, 0, false, true));
    assert_eq!(
        lab.reason(&web(1000, TCP_ACK)),
        Reason::PassedNoVip,
        "also of a connection"
    );
}

#[test]
fn which_segments_start_a_connection() {
    let (s, a, f, r) = (TCP_SYN, TCP_ACK, TCP_FIN, TCP_RST);
    let lab = Lab::with(&[TX]);
    for (port, flags) in (2000..).zip([s, s | a, s | f, s | f | a]) {
        assert_eq!(
            lab.reason(&web(port, flags)),
            Reason::ForwardedTx,
            "{flags:#x}"
        );
        let found = lab.flow(&web(port, flags)).expect("tracked");
        assert_eq!(
            found.state.protocol_state(),
            lb_common::conn::tcp::state::SYN_RECV
        );
    }
    for (port, flags) in (3000..).zip([s | r, f, r, a, 0, f | a]) {
        assert_eq!(
            lab.reason(&web(port, flags)),
            Reason::PassedNoConnection,
            "{flags:#x}"
        );
        assert!(lab.flow(&web(port, flags)).is_none());
    }
    assert_eq!(
        lab.reason(&web(20, s)),
        Reason::PassedNoConnection,
        "FTP's data port"
    );
    assert_eq!(lab.reason(&dns(20)), Reason::PassedNoConnection);
}

#[test]
fn a_protocol_belongs_to_the_service() {
    let lab = Lab::with(&[TX]);
    let to = |frame: Frame, port| {
        let destination = std::net::SocketAddrV4::new(*frame.destination.ip(), port);
        lab.reason(&Frame {
            destination,
            ..frame
        })
    };
    assert_eq!(
        to(dns(1), 80),
        Reason::PassedNoService,
        "80 is a TCP service"
    );
    assert_eq!(to(syn(), 53), Reason::PassedNoService);
    assert_eq!(to(syn(), 0), Reason::PassedNoService);
    assert_eq!(
        lab.reason(&web(0, TCP_SYN)),
        Reason::ForwardedTx,
        "source port 0"
    );
    for protocol in [0, 1, 4, 41, 47, 50, 51, 255] {
        let other = Frame {
            protocol,
            payload: vec![0; 64],
            ..syn()
        };
        assert_eq!(lab.reason(&other), Reason::PassedProtocol, "{protocol}");
    }
    const { assert!(IN != OUT) };
}

#[test]
fn malformed_headers_are_the_stacks() {
    let lab = Lab::with(&[TX]);
    let whole = Frame {
        options: vec![1; 8],
        ..syn()
    }
    .build();
    assert_eq!(lab.run_bytes(&whole).1, Reason::ForwardedTx);
    for length in 14..whole.len() {
        assert_eq!(
            lab.run_bytes(&whole[..length]).1,
            Reason::PassedMalformed,
            "{length} bytes"
        );
    }
    for length in 0..14 {
        assert_eq!(
            lab.run_bytes(&whole[..length]).1,
            Reason::PassedNotIp,
            "{length} bytes"
        );
    }
    // Version, header length, total length; the checksum is made right again.
    let with = |at: usize, value: u8| {
        let mut bytes = syn().build();
        bytes[14 + at] = value;
        bytes[24..26].fill(0);
        let sum = lb_common::host::frame::checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum);
        lab.run_bytes(&bytes).1
    };
    assert_eq!(with(0, 0x45), Reason::ForwardedTx);
    for (at, value) in [
        (0, 0x65),
        (0, 0x05),
        (0, 0x44),
        (0, 0x40),
        (3, 39),
        (3, 19),
        (3, 41),
    ] {
        assert_eq!(
            with(at, value),
            Reason::PassedMalformed,
            "byte {at} is {value:#x}"
        );
    }
    for (fragment, reason) in [
        (0x0001, Reason::DroppedFragment),
        (0x2000, Reason::ForwardedTx),
        (0x1fff, Reason::ForwardedTx),
        (0x3fff, Reason::ForwardedTx),
    ] {
        let piece = Frame {
            misc: (0, 1, fragment),
            ..syn()
        };
        assert_eq!(lab.reason(&piece), reason, "{fragment:#x}");
    }
    for flags in [0x4000, 0x8000, 0] {
        let whole = Frame {
            misc: (0, 1, flags),
            ..syn()
        };
        assert_eq!(lab.reason(&whole), Reason::ForwardedTx, "{flags:#x}");
    }
}
