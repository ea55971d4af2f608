//! A scene with every kind of service and server there is, in both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::layout::{SchedulerKind, ServiceFlags, TunnelChecksum, TunnelKind};

use super::scene::{
    How, LOOPBACK, Reached,
    Reached::{Across, Back, Gone, Local, Narrow, Tagged, Unresolved},
    Server, Service,
};

/// The VIP with this number.
pub const fn vip(family: u8, number: u8) -> IpAddr {
    if family == 4 {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
    } else {
        IpAddr::V6(Ipv6Addr::new(
            0x2001,
            0xdb8,
            0xffff,
            0,
            1,
            2,
            3,
            number as u16,
        ))
    }
}

/// How many of the VIPs, from 1 on, have services.
pub const VIPS: u8 = 8;

/// The client with this number.
pub const fn client_address(number: u8, family: u8) -> IpAddr {
    if family == 4 {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, number))
    } else {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 9, 8, 7, 6, number as u16))
    }
}

/// The mark that has a service, by the rules of [`rules`](super::rules).
pub const MARK: u32 = 17;
/// Port of what has that mark, at the fourth VIP.
pub const MARKED_PORT: u16 = 8080;

/// Every kind of service and server.
pub fn services() -> Vec<Service> {
    [4, 6].into_iter().flat_map(of_family).collect()
}

fn nat(reached: Reached, weight: u32, host: u8, port: u16) -> Server {
    Server {
        reached,
        weight,
        how: How::Nat { host, port },
    }
}

fn fullnat(reached: Reached, host: u8, port: u16, pool: bool) -> Server {
    Server {
        reached,
        weight: 1,
        how: How::Fullnat { host, port, pool },
    }
}

fn tunnel(reached: Reached, family: u8, kind: TunnelKind, checksum: TunnelChecksum) -> Server {
    Server {
        reached,
        weight: 1,
        how: How::Tunnel {
            family,
            kind,
            checksum,
        },
    }
}

/// Number of the VIP, port, protocol, scheduler, flags.
const SCHEDULED: [(u8, u16, u8, SchedulerKind, u16); 14] = {
    use SchedulerKind::{Dh, Fo, Lblc, Lblcr, Lc, Mh, Nq, Ovf, Sed, Sh, Wlc};
    use ServiceFlags as Flags;
    [
        (1, 443, 6, Lc, 0),
        (2, 443, 6, Wlc, 0),
        (2, 53, 17, Wlc, 0),
        (3, 443, 6, Sed, 0),
        (4, 443, 6, Nq, 0),
        (5, 443, 6, Fo, 0),
        (7, 443, 6, Ovf, 0),
        (3, 53, 17, Dh, 0),
        (8, 53, 17, Sh, Flags::SCHED_1 | Flags::SCHED_2),
        (8, 80, 6, Mh, Flags::SCHED_1 | Flags::SCHED_2),
        (8, 443, 6, Lblc, 0),
        (1, 8080, 6, Lblcr, 0),
        (2, 8080, 6, Sh, 0),
        (3, 8080, 6, Mh, Flags::SCHED_2),
    ]
};

fn of_family(family: u8) -> Vec<Service> {
    use SchedulerKind::{Rr, Wrr};
    let service = |number, port, protocol, scheduler, servers| Service {
        vip: vip(family, number),
        port,
        protocol,
        mark: 0,
        scheduler,
        sched_flags: 0,
        claimed: true,
        toa: port == 443,
        flags: 0,
        limit: 0,
        servers,
    };
    let direct = |servers: &[(Reached, u32)]| servers.iter().map(|&it| it.into()).collect();
    // A service for each scheduler but twos, which is random.
    let mut scheduled: Vec<Service> = SCHEDULED
        .iter()
        .map(
            |&(number, port, protocol, scheduler, sched_flags)| Service {
                sched_flags,
                ..service(
                    number,
                    port,
                    protocol,
                    scheduler,
                    direct(&[(Back, 2), (Across, 1), (Back, 0), (Tagged, 4)]),
                )
            },
        )
        .collect();
    let mut unclaimed = service(3, 80, 6, Rr, direct(&[(Back, 1)]));
    unclaimed.claimed = false;
    let mut services = vec![
        service(
            1,
            80,
            6,
            Rr,
            direct(&[(Back, 1), (Across, 1), (Back, 0), (Tagged, 1)]),
        ),
        service(
            1,
            53,
            17,
            Wrr,
            direct(&[(Back, 4), (Across, 3), (Narrow, 2)]),
        ),
        service(
            2,
            80,
            6,
            Wrr,
            direct(&[(Unresolved, 1), (Local, 2), (Gone, 1), (Back, 5)]),
        ),
        unclaimed,
        service(4, 80, 6, Rr, Vec::new()),
        service(4, 53, 17, Wrr, direct(&[(Back, 0)])),
        service(
            5,
            80,
            6,
            Rr,
            vec![
                nat(Back, 1, 1, 8080),
                nat(Across, 1, 2, 0),
                nat(Tagged, 1, 3, 8080),
                nat(Narrow, 1, 4, 8081),
                nat(Unresolved, 1, 5, 8080),
                nat(Local, 1, 6, 8080),
                nat(Gone, 1, 7, 8080),
            ],
        ),
        service(
            5,
            53,
            17,
            Wrr,
            vec![
                nat(Back, 3, 1, 0),
                nat(Across, 2, 2, 5353),
                (Back, 1).into(),
                tunnel(Back, 4, TunnelKind::Ipip, TunnelChecksum::None),
            ],
        ),
        // The server of another service: two connections may have one reverse key.
        service(
            6,
            80,
            6,
            Rr,
            vec![nat(Back, 1, 1, 8080), nat(Local, 1, LOOPBACK, 8080)],
        ),
        service(
            6,
            53,
            17,
            Rr,
            vec![
                fullnat(Back, 1, 5353, true),
                fullnat(Across, 2, 0, true),
                fullnat(Tagged, 3, 5353, true),
                fullnat(Narrow, 4, 5353, true),
                fullnat(Gone, 5, 5353, true),
                fullnat(Unresolved, 6, 5353, true),
                fullnat(Local, 7, 5353, true),
                fullnat(Back, 8, 5353, false),
            ],
        ),
        // Connections that end make room for others.
        service(
            6,
            443,
            6,
            Rr,
            vec![fullnat(Across, 1, 8080, true), fullnat(Back, 2, 8080, true)],
        ),
        service(7, 80, 6, Rr, tunnels()),
        service(7, 53, 17, Rr, tunnels()),
        service(
            1,
            2905,
            132,
            Wrr,
            direct(&[(Back, 3), (Across, 2), (Local, 1), (Gone, 1)]),
        ),
        service(
            5,
            2905,
            132,
            Rr,
            vec![
                nat(Back, 1, 1, 3000),
                nat(Across, 1, 2, 0),
                nat(Narrow, 1, 3, 3001),
                tunnel(Tagged, 4, TunnelKind::Gue, TunnelChecksum::Full),
                tunnel(Back, 6, TunnelKind::Ipip, TunnelChecksum::None),
            ],
        ),
        service(
            6,
            2905,
            132,
            Rr,
            vec![fullnat(Back, 3, 3000, true), fullnat(Across, 4, 0, true)],
        ),
        with(service(8, 80, 6, Rr, direct(&[(Back, 1)])), PERSISTENT, 0),
        with(
            service(8, 53, 17, Rr, direct(&[(Back, 1)])),
            PERSISTENT | ONE_PACKET,
            0,
        ),
        with(
            service(8, 443, 6, Rr, direct(&[(Back, 1), (Across, 1)])),
            0,
            20,
        ),
        with(service(8, 0, 6, Rr, direct(&[(Across, 1)])), PERSISTENT, 0),
        with(
            service(8, SIP_PORT, 17, Rr, direct(&[(Back, 1), (Across, 1)])),
            PERSISTENT | ServiceFlags::SIP,
            0,
        ),
    ];
    services.append(&mut scheduled);
    services.push(Service {
        mark: MARK,
        ..service(
            4,
            MARKED_PORT,
            6,
            Wrr,
            vec![(Back, 2).into(), nat(Across, 1, 2, 0)],
        )
    });
    services
}

/// Of a service that is persistent by Call-ID.
pub const SIP_PORT: u16 = 5060;

const PERSISTENT: u16 = ServiceFlags::PERSISTENT;
const ONE_PACKET: u16 = ServiceFlags::ONE_PACKET;

/// A service with flags and an upper threshold of its servers.
fn with(service: Service, flags: u16, limit: u32) -> Service {
    Service {
        flags,
        limit,
        ..service
    }
}

/// Every tunnel, over both families.
fn tunnels() -> Vec<Server> {
    use TunnelChecksum::{Full, None, Remote};
    use TunnelKind::{Gre, Gue, Ipip};
    let mut servers = Vec::new();
    for outer in [4, 6] {
        for (reached, kind, checksum) in [
            (Back, Ipip, None),
            (Across, Gue, None),
            (Tagged, Gue, Full),
            (Back, Gue, Remote),
            (Across, Gre, None),
            (Tagged, Gre, Full),
        ] {
            servers.push(tunnel(reached, outer, kind, checksum));
        }
    }
    servers.push(tunnel(Narrow, 4, Ipip, None));
    servers.push(tunnel(Narrow, 6, Ipip, None));
    servers.push(tunnel(Unresolved, 4, Gue, Full));
    servers
}
