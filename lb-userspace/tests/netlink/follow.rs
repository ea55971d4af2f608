//! Servers, gateways, links and VIPs that come, change and go.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use lb_userspace::netlink::{
    LinkKind, PacketFamily, Resolution, View, claims, coexistence, next_hop,
};
use tokio::time::timeout;

use super::lab::{FIRST_V6, Lab, OWN_MAC, PEER_MAC, eth0, run};

#[test]
fn an_on_link_server_resolves_without_traffic() {
    let lab = Lab::new();
    lab.watch(&["10.77.0.2", "fd77::2"], async |eye| {
        let view = eye.sees_mac(1000, "10.77.0.2", PEER_MAC).await;
        eye.sees_mac(FIRST_V6, "fd77::2", PEER_MAC).await;
        let link = eth0(&view);
        assert_eq!((link.mac, link.mtu, link.up, &link.kind), (OWN_MAC, 1500, true, &LinkKind::Veth));
        assert!(view.addresses.contains(&("10.77.0.1".parse().unwrap(), link.index)));
        assert!(view.addresses.contains(&("fd77::1".parse().unwrap(), link.index)));
        let resolution = &view.targets[&"10.77.0.2".parse::<IpAddr>().unwrap()];
        assert!(matches!(resolution, Resolution::Via { ifindex, mtu: 1500, .. } if *ifindex == link.index));
        let hop = next_hop(resolution, &view.links, PacketFamily::V4).unwrap().unwrap();
        assert_eq!((hop.ifindex, hop.header_len), (link.index, 14));
        assert_eq!(hop.header[..12], [PEER_MAC, OWN_MAC].concat());
    });
    let table = lab.director("-d neigh show 10.77.0.2");
    assert!(
        table.contains("managed") && table.contains("REACHABLE") && table.contains("proto 76"),
        "{table}"
    );
}

#[test]
fn a_gateway_and_its_change_are_followed() {
    let lab = Lab::new();
    lab.director("route add 198.51.100.0/24 via 10.77.0.2 mtu 1400");
    lab.director("route add fd88::/64 via fd77::2");
    lab.watch(&["198.51.100.7", "fd88::7", "203.0.113.9"], async |eye| {
        eye.sees_mac(FIRST_V6, "fd88::7", PEER_MAC).await;
        let view = eye.sees_mac(1000, "198.51.100.7", PEER_MAC).await;
        match &view.targets[&"198.51.100.7".parse::<IpAddr>().unwrap()] {
            Resolution::Via {
                neighbour,
                mtu: 1400,
                ..
            } => assert_eq!(neighbour.to_string(), "10.77.0.2"),
            other => panic!("{other:?}"),
        }
        let nowhere = Resolution::Unreachable("no route to 203.0.113.9".into());
        eye.sees(100, "203.0.113.9", |r| *r == nowhere).await;

        lab.server("addr add 10.77.0.3/24 dev eth0");
        lab.director("route replace 198.51.100.0/24 via 10.77.0.3");
        eye.sees(1000, "198.51.100.7", |r| {
            matches!(r, Resolution::Via { neighbour, mac: Some(PEER_MAC), mtu: 1500, .. }
                if neighbour.to_string() == "10.77.0.3")
        })
        .await;
        lab.director("route replace unreachable 198.51.100.0/24");
        let refused =
            Resolution::Unreachable("the route to 198.51.100.7 is of type unreachable".into());
        eye.sees(1000, "198.51.100.7", |r| *r == refused).await;
        lab.director("route add default via 10.77.0.2");
        eye.sees_mac(1000, "203.0.113.9", PEER_MAC).await;
    });
}

#[test]
fn a_new_station_address_is_followed_within_a_second() {
    let lab = Lab::new();
    // The server announces its new address, as a fail-over does.
    for knob in [
        "net.ipv4.conf.all.arp_notify=1",
        "net.ipv6.conf.eth0.ndisc_notify=1",
    ] {
        run(&format!("ip netns exec {} sysctl -qw {knob}", lab.server));
    }
    lab.watch(&["10.77.0.2", "fd77::2"], async |eye| {
        eye.sees_mac(1000, "10.77.0.2", PEER_MAC).await;
        eye.sees_mac(FIRST_V6, "fd77::2", PEER_MAC).await;
        lab.server("link set eth0 address 02:00:00:00:00:33");
        eye.sees_mac(1000, "10.77.0.2", [2, 0, 0, 0, 0, 0x33]).await;
        eye.sees_mac(1000, "fd77::2", [2, 0, 0, 0, 0, 0x33]).await;
    });
}

#[test]
fn a_link_that_goes_down_and_comes_back_is_followed() {
    let lab = Lab::new();
    lab.watch(&["10.77.0.2"], async |eye| {
        eye.sees_mac(1000, "10.77.0.2", PEER_MAC).await;
        lab.server("link set eth0 down");
        let dark = Resolution::Unreachable("eth0 is down or has no carrier".into());
        let view = eye.sees(1000, "10.77.0.2", |r| *r == dark).await;
        assert!(!eth0(&view).up);
        lab.server("link set eth0 up");
        eye.sees_mac(3000, "10.77.0.2", PEER_MAC).await;

        lab.director("link set eth0 down");
        let gone = Resolution::Unreachable("no route to 10.77.0.2".into());
        eye.sees(1000, "10.77.0.2", |r| *r == gone).await;
        lab.director("link set eth0 up");
        eye.sees_mac(3000, "10.77.0.2", PEER_MAC).await;
        lab.director("link del eth0");
        eye.sees(1000, "10.77.0.2", |r| {
            matches!(r, Resolution::Unreachable(_))
        })
        .await;
        assert!(
            eye.watch
                .view()
                .links
                .values()
                .all(|link| link.name != "eth0")
        );
    });
}

#[test]
fn a_vip_is_local_only_while_it_is_here() {
    let lab = Lab::new();
    lab.director("addr add 192.0.2.1/32 dev eth0");
    lab.watch(&["192.0.2.1", "2001:db8::1"], async |eye| {
        eye.sees(100, "192.0.2.1", |r| *r == Resolution::Local)
            .await;
        lab.director("addr del 192.0.2.1/32 dev eth0");
        eye.sees(1000, "192.0.2.1", |r| {
            matches!(r, Resolution::Unreachable(_))
        })
        .await;
        lab.director("addr add 192.0.2.1/32 dev lo");
        eye.sees(1000, "192.0.2.1", |r| *r == Resolution::Local)
            .await;
        // A whole prefix may be local too.
        lab.director("route add local 2001:db8::/64 dev lo");
        eye.sees(1000, "2001:db8::1", |r| *r == Resolution::Local)
            .await;
    });
}

#[test]
fn targets_come_and_go_with_their_managed_neighbours() {
    let lab = Lab::new();
    lab.director("neigh add 10.77.0.50 lladdr 02:00:00:00:00:50 dev eth0 nud permanent");
    lab.director("neigh replace 10.77.0.60 dev eth0 managed");
    lab.watch(&[], async |eye| {
        assert!(eye.watch.view().targets.is_empty());
        eye.set_targets(&["10.77.0.2", "10.77.0.50", "10.77.0.60"]);
        eye.sees_mac(1000, "10.77.0.2", PEER_MAC).await;
        eye.sees_mac(1000, "10.77.0.50", [2, 0, 0, 0, 0, 0x50])
            .await;
        // The entry is lost, as by a flush; it is made again.
        lab.director("neigh del 10.77.0.2 dev eth0");
        eye.sees(1000, "10.77.0.2", |r| {
            matches!(r, Resolution::Via { mac: None, .. })
        })
        .await;
        eye.sees_mac(2000, "10.77.0.2", PEER_MAC).await;

        eye.set_targets(&[]);
        let mut views = eye.watch.subscribe();
        views
            .wait_for(|view| view.targets.is_empty())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    assert_eq!(lab.director("neigh show 10.77.0.2"), "");
    assert!(lab.director("neigh show 10.77.0.50").contains("PERMANENT"));
    let operators = lab.director("-d neigh show 10.77.0.60");
    assert!(
        operators.contains("managed") && !operators.contains("proto 76"),
        "{operators}"
    );
}

#[test]
fn a_server_that_comes_up_late_is_found() {
    let lab = Lab::new();
    lab.watch(&["10.77.0.9"], async |eye| {
        eye.sees(100, "10.77.0.9", |r| {
            matches!(r, Resolution::Via { mac: None, .. })
        })
        .await;
        // Long enough for the kernel to give up (three questions, a second apart).
        tokio::time::sleep(Duration::from_millis(3500)).await;
        lab.server("addr add 10.77.0.9/24 dev eth0");
        eye.sees_mac(2500, "10.77.0.9", PEER_MAC).await;
    });
}

#[test]
fn a_macvlan_is_claimed_with_its_parent() {
    let lab = Lab::new();
    lab.watch(&[], async |eye| {
        lab.director("link add vrrp link eth0 address 00:00:5e:00:01:33 type macvlan mode private");
        lab.director("link set vrrp up");
        let mut views = eye.watch.subscribe();
        let ready = |view: &Arc<View>| {
            view.links
                .values()
                .any(|link| link.name == "vrrp" && link.up)
        };
        let view = timeout(Duration::from_secs(1), views.wait_for(ready))
            .await
            .unwrap()
            .unwrap()
            .clone();
        let parent = eth0(&view).index;
        let kinds: Vec<&LinkKind> = view
            .links
            .values()
            .filter(|l| l.name == "vrrp")
            .map(|l| &l.kind)
            .collect();
        assert_eq!(kinds, [&LinkKind::Macvlan { parent }]);
        let claimed = claims(&BTreeSet::from([parent]), &view);
        assert_eq!(claimed.entries.len(), 1);
        let macs = claimed.entries[0].macs.map(|word| word.to_le_bytes()[5]);
        assert_eq!(macs, [0x11, 0x33, 0, 0, 0, 0]);
    });
}

#[test]
fn a_link_without_station_addresses_says_so() {
    let lab = Lab::new();
    lab.director("tuntap add tun0 mode tun");
    lab.director("addr add 10.78.0.1/24 dev tun0");
    lab.director("link set tun0 up");
    lab.watch(&["10.78.0.2"], async |eye| {
        let view = eye
            .sees(500, "10.78.0.2", |r| {
                matches!(r, Resolution::Unreachable(_))
            })
            .await;
        let tun = view
            .links
            .values()
            .find(|link| link.name == "tun0")
            .unwrap();
        assert_eq!(tun.mac, [0; 6]);
    });
    assert_eq!(lab.director("neigh show dev tun0"), "");
}

#[test]
fn an_interface_that_is_not_attached_is_named() {
    let lab = Lab::new();
    lab.director("link add eth1 type veth peer name far");
    lab.director("addr add 10.79.0.1/24 dev eth1");
    lab.director("link set far up");
    lab.director("link set eth1 up");
    lab.watch(&[], async |eye| {
        let mut views = eye.watch.subscribe();
        let ready = |view: &Arc<View>| view.links.values().any(|l| l.name == "eth1" && l.up);
        let wait = timeout(Duration::from_secs(1), views.wait_for(ready));
        let view = wait.await.unwrap().unwrap().clone();
        let attached = BTreeSet::from([eth0(&view).index]);
        let vips = ["192.0.2.1".parse().unwrap()];
        let lines = coexistence::warnings(&vips, &[], &attached, &view).await;
        assert_eq!(
            lines,
            ["192.0.2.1 is also reachable through eth1, which is not attached"]
        );
    });
}

#[test]
fn a_burst_that_loses_events_ends_in_the_last_state() {
    let lab = Lab::new();
    let mut batch = String::new();
    for i in 0..4000 {
        batch.push_str(&format!(
            "route add 10.{}.{}.0/24 via 10.77.0.2\n",
            100 + i / 250,
            i % 250
        ));
    }
    batch.push_str("route add 198.51.100.0/24 via 10.77.0.2\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    lab.watch(&["198.51.100.7", "10.107.1.1"], async |eye| {
        lab.director(&format!("-batch {}", file.path().display()));
        // This thread did not read meanwhile: the socket overflowed (its column of drops).
        let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        let drops = |line: &str| {
            line.split_whitespace()
                .nth(8)
                .and_then(|n| n.parse::<u32>().ok())
        };
        let lost: u32 = sockets.lines().filter_map(drops).sum();
        assert!(lost > 0, "{sockets}");
        eye.sees_mac(2000, "198.51.100.7", PEER_MAC).await;
        eye.sees_mac(2000, "10.107.1.1", PEER_MAC).await;
    });
}

#[test]
fn a_dropped_watch_closes_its_channel() {
    let lab = Lab::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    lab.watch(&["10.77.0.2"], async |eye| {
        sender.send(eye.watch.subscribe()).unwrap();
        assert!(eye.watch.subscribe().has_changed().is_ok());
    });
    assert!(receiver.recv().unwrap().has_changed().is_err());
}
