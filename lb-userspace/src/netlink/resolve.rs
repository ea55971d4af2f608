//! From a route to where packets go.

use std::{collections::BTreeMap, io, net::IpAddr};

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};

use super::{
    Link, Resolution,
    forwarding::Bridges,
    neighbours::{Key, Table},
    next_hop::bridge_below,
};

/// The kernel's answer for one target, before links and neighbours are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Local,
    Via {
        ifindex: u32,
        neighbour: IpAddr,
        /// MTU metric of the route.
        mtu: Option<u32>,
        /// The address that the kernel would send from.
        source: Option<IpAddr>,
    },
    Unreachable(String),
}

/// Reads the answer to `RTM_GETROUTE` for `target`.
pub(super) fn read(target: IpAddr, message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Unicast => {}
        // An anycast address is one of our own.
        RouteType::Local | RouteType::Anycast => return Route::Local,
        RouteType::Broadcast => {
            return Route::Unreachable(format!("{target} is a broadcast address"));
        }
        RouteType::Multicast => {
            return Route::Unreachable(format!("{target} is a multicast address"));
        }
        other => {
            return Route::Unreachable(
                format!("the route to {target} is of type {other:?}").to_lowercase(),
            );
        }
    }
    let (mut ifindex, mut neighbour, mut mtu, mut source) = (None, target, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => {
                neighbour = IpAddr::V4(*ip);
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => {
                neighbour = IpAddr::V6(*ip);
            }
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|m| match m {
                    RouteMetric::Mtu(mtu) if *mtu != 0 => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => source = Some(IpAddr::V4(*ip)),
            RouteAttribute::PrefSource(RouteAddress::Inet6(ip)) => source = Some(IpAddr::V6(*ip)),
            RouteAttribute::EncapType(kind) => {
                return Route::Unreachable(format!(
                    "the route to {target} encapsulates packets ({kind:?}), which lvx cannot do"
                ));
            }
            _ => {}
        }
    }
    match ifindex {
        Some(ifindex) => Route::Via {
            ifindex,
            neighbour,
            mtu,
            source,
        },
        None => Route::Unreachable(format!("the route to {target} names no interface")),
    }
}

/// The kernel refused to give a route to `target`.
pub(super) fn refused(target: IpAddr, error: &io::Error) -> Route {
    Route::Unreachable(match error.raw_os_error() {
        Some(libc::ENETUNREACH) => format!("no route to {target}"),
        Some(libc::EHOSTUNREACH) => format!("the route to {target} is of type unreachable"),
        Some(libc::EACCES) => format!("the route to {target} is of type prohibit"),
        Some(libc::EINVAL) => format!("the route to {target} is of type blackhole"),
        _ => format!("no route to {target}: {error}"),
    })
}

/// The neighbour entry that a route needs, if it leads to a usable Ethernet link.
pub(super) fn wanted(route: &Route, links: &BTreeMap<u32, Link>) -> Option<Key> {
    match route {
        Route::Via {
            ifindex, neighbour, ..
        } => {
            let link = links.get(ifindex)?;
            (link.up && link.mac != [0; 6]).then_some((*ifindex, *neighbour))
        }
        _ => None,
    }
}

/// Puts route, link and neighbour together, and where a bridge has it.
pub(super) fn resolve(
    route: &Route,
    links: &BTreeMap<u32, Link>,
    table: &Table,
    bridges: &Bridges,
) -> Resolution {
    let (ifindex, neighbour, mtu, source) = match route {
        Route::Local => return Resolution::Local,
        Route::Unreachable(text) => return Resolution::Unreachable(text.clone()),
        Route::Via {
            ifindex,
            neighbour,
            mtu,
            source,
        } => (*ifindex, *neighbour, *mtu, *source),
    };
    let Some(link) = links.get(&ifindex) else {
        return Resolution::Unreachable(format!("the interface with index {ifindex} is gone"));
    };
    if !link.up {
        return Resolution::Unreachable(format!("{} is down or has no carrier", link.name));
    }
    if link.mac == [0; 6] {
        return Resolution::Unreachable(format!(
            "{} is not an Ethernet interface: it has no station address",
            link.name
        ));
    }
    let entry = table.get(&(ifindex, neighbour));
    let mac = entry.and_then(|entry| entry.mac);
    Resolution::Via {
        ifindex,
        neighbour,
        mac,
        failed: entry.is_some_and(|entry| entry.failed),
        port: mac.and_then(|mac| bridges.port(bridge_below(link, links)?, mac)),
        mtu: mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
        source,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::{RouteHeader, RouteLwEnCapType};

    use super::{
        super::{LinkKind, neighbours::Neighbour},
        *,
    };

    const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
    const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 1));
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn message(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            kind,
            ..RouteHeader::default()
        };
        message.attributes = attributes;
        message
    }

    fn links(up: bool, mac: [u8; 6]) -> BTreeMap<u32, Link> {
        let link = Link {
            index: 7,
            name: "eth0".into(),
            mac,
            mtu: 1500,
            up,
            master: None,
            kind: LinkKind::Plain,
            xdp: None,
        };
        BTreeMap::from([(7, link)])
    }

    fn via(mtu: Option<u32>) -> Route {
        Route::Via {
            ifindex: 7,
            neighbour: TARGET,
            mtu,
            source: None,
        }
    }

    #[test]
    fn an_on_link_target_is_its_own_neighbour() {
        let route = read(
            TARGET,
            &message(RouteType::Unicast, vec![RouteAttribute::Oif(7)]),
        );
        assert_eq!(route, via(None));
    }

    #[test]
    fn gateway_mtu_and_source_are_read() {
        let source = IpAddr::from([10, 1, 0, 7]);
        let attributes = vec![
            RouteAttribute::PrefSource(source.into()),
            RouteAttribute::Oif(7),
            RouteAttribute::Gateway(GATEWAY.into()),
            RouteAttribute::Metrics(vec![RouteMetric::Hoplimit(3), RouteMetric::Mtu(1400)]),
        ];
        let route = read(TARGET, &message(RouteType::Unicast, attributes));
        assert_eq!(
            route,
            Route::Via {
                ifindex: 7,
                neighbour: GATEWAY,
                mtu: Some(1400),
                source: Some(source),
            }
        );
    }

    #[test]
    fn an_ipv4_route_may_have_an_ipv6_gateway() {
        let gateway = "fe80::1".parse().unwrap();
        let attributes = vec![
            RouteAttribute::Oif(7),
            RouteAttribute::Via(RouteVia::Inet6(gateway)),
        ];
        let route = read(TARGET, &message(RouteType::Unicast, attributes));
        assert_eq!(
            route,
            Route::Via {
                ifindex: 7,
                neighbour: gateway.into(),
                mtu: None,
                source: None,
            }
        );
    }

    #[test]
    fn local_and_impossible_routes_are_told_apart() {
        assert_eq!(
            read(TARGET, &message(RouteType::Local, vec![])),
            Route::Local
        );
        for (kind, text) in [
            (RouteType::Broadcast, "10.0.0.9 is a broadcast address"),
            (
                RouteType::BlackHole,
                "the route to 10.0.0.9 is of type blackhole",
            ),
            (
                RouteType::Unicast,
                "the route to 10.0.0.9 names no interface",
            ),
        ] {
            assert_eq!(
                read(TARGET, &message(kind, vec![])),
                Route::Unreachable(text.into())
            );
        }
        let tunnel = vec![
            RouteAttribute::Oif(7),
            RouteAttribute::EncapType(RouteLwEnCapType::Mpls),
        ];
        assert!(matches!(
            read(TARGET, &message(RouteType::Unicast, tunnel)),
            Route::Unreachable(_)
        ));
        let error = io::Error::from_raw_os_error(libc::ENETUNREACH);
        assert_eq!(
            refused(TARGET, &error),
            Route::Unreachable("no route to 10.0.0.9".into())
        );
    }

    #[test]
    fn the_smaller_mtu_and_the_usable_mac_count() {
        let table = Table::from([(
            (7, TARGET),
            Neighbour {
                mac: Some(MAC),
                ..Neighbour::default()
            },
        )]);
        for (metric, mtu) in [(None, 1500), (Some(1400), 1400), (Some(9000), 1500)] {
            assert_eq!(
                resolve(&via(metric), &links(true, MAC), &table, &Bridges::default()),
                Resolution::Via {
                    ifindex: 7,
                    neighbour: TARGET,
                    mac: Some(MAC),
                    failed: false,
                    port: None,
                    mtu,
                    source: None,
                }
            );
        }
        let unknown = resolve(
            &via(None),
            &links(true, MAC),
            &Table::new(),
            &Bridges::default(),
        );
        assert!(matches!(unknown, Resolution::Via { mac: None, .. }));
    }

    #[test]
    fn links_that_cannot_carry_frames_are_unreachable() {
        let text = |links| match resolve(&via(None), &links, &Table::new(), &Bridges::default()) {
            Resolution::Unreachable(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(links(false, MAC)), "eth0 is down or has no carrier");
        assert_eq!(
            text(links(true, [0; 6])),
            "eth0 is not an Ethernet interface: it has no station address"
        );
        assert_eq!(text(BTreeMap::new()), "the interface with index 7 is gone");
        assert_eq!(wanted(&via(None), &links(false, MAC)), None);
        assert_eq!(wanted(&via(None), &links(true, MAC)), Some((7, TARGET)));
    }
}
