//! What a tunnel's outer header needs, and next hops over IPv6.

use std::{net::IpAddr, time::Duration};

use lb_userspace::netlink::{PacketFamily, Resolution, next_hop};

use super::lab::{FIRST_V6, Lab, PEER_MAC, eth0};

/// The server's link-local address, made of its station address.
const PEER_LINK_LOCAL: &str = "fe80::ff:fe00:22";

fn from(resolution: &Resolution, wanted: &str) -> bool {
    let wanted: IpAddr = wanted.parse().unwrap();
    matches!(resolution, Resolution::Via { source, .. } if *source == Some(wanted))
}

#[test]
fn the_source_is_the_one_the_kernel_would_choose() {
    let lab = Lab::new();
    lab.director("addr add 10.77.1.8/24 dev eth0");
    lab.director("addr add fd78::8/64 dev eth0 nodad");
    lab.director("route add 198.51.100.0/24 via 10.77.0.2 src 10.77.1.8");
    lab.director("route add fd88::/64 via fd77::2 src fd78::8");
    let targets = [
        "10.77.0.2",
        "10.77.1.2",
        "198.51.100.7",
        "fd77::2",
        "fd78::2",
        "fd88::7",
    ];
    lab.watch(&targets, async |eye| {
        for (target, source) in [
            ("10.77.0.2", "10.77.0.1"),
            ("10.77.1.2", "10.77.1.8"),
            ("198.51.100.7", "10.77.1.8"),
            ("fd77::2", "fd77::1"),
            ("fd78::2", "fd78::8"),
            ("fd88::7", "fd78::8"),
        ] {
            eye.sees(1000, target, |r| from(r, source)).await;
        }
        let view = eye.sees_mac(FIRST_V6, "fd88::7", PEER_MAC).await;
        let resolution = &view.targets[&"fd88::7".parse::<IpAddr>().unwrap()];
        let hop = next_hop(resolution, &view.links, PacketFamily::V6)
            .unwrap()
            .unwrap();
        let words = hop.source.map(u32::from_be);
        assert_eq!(words, [0xfd78_0000, 0, 0, 8]);

        // An address that goes takes its routes along, or leaves them another source.
        lab.director("route replace 198.51.100.0/24 via 10.77.0.2");
        eye.sees(1000, "198.51.100.7", |r| from(r, "10.77.0.1"))
            .await;
        lab.director("addr add 10.77.0.9/24 dev eth0");
        lab.director("route replace 198.51.100.0/24 via 10.77.0.2 src 10.77.0.9");
        eye.sees(1000, "198.51.100.7", |r| from(r, "10.77.0.9"))
            .await;
        lab.director("route replace fd88::/64 via fd77::2");
        lab.director("addr del fd78::8/64 dev eth0");
        eye.sees(1000, "fd88::7", |r| from(r, "fd77::1")).await;
    });
}

#[test]
fn a_gateway_by_its_link_local_address_serves_both_families() {
    let lab = Lab::new();
    lab.director(&format!(
        "route add fd99::/64 via {PEER_LINK_LOCAL} dev eth0 mtu 1400"
    ));
    lab.director(&format!(
        "route add 198.51.100.0/24 via inet6 {PEER_LINK_LOCAL} dev eth0"
    ));
    lab.watch(&["fd99::7", "198.51.100.7"], async |eye| {
        for (target, mtu, source, family, ethertype) in [
            ("fd99::7", 1400, "fd77::1", PacketFamily::V6, [0x86, 0xdd]),
            ("198.51.100.7", 1500, "10.77.0.1", PacketFamily::V4, [8, 0]),
        ] {
            let view = eye.sees_mac(FIRST_V6, target, PEER_MAC).await;
            let resolution = &view.targets[&target.parse::<IpAddr>().unwrap()];
            assert_eq!(
                *resolution,
                Resolution::Via {
                    ifindex: eth0(&view).index,
                    neighbour: PEER_LINK_LOCAL.parse().unwrap(),
                    mac: Some(PEER_MAC),
                    failed: false,
                    port: None,
                    mtu,
                    source: Some(source.parse().unwrap()),
                }
            );
            let hop = next_hop(resolution, &view.links, family).unwrap().unwrap();
            assert_eq!(
                (&hop.header[..6], &hop.header[12..14]),
                (&PEER_MAC[..], &ethertype[..])
            );
        }
    });
    let entry = lab.director(&format!("-d neigh show {PEER_LINK_LOCAL}"));
    assert!(
        entry.contains("managed") && entry.contains("proto 76"),
        "{entry}"
    );
}

#[test]
fn an_ipv6_neighbour_is_kept_resolved_and_let_go() {
    let lab = Lab::new();
    lab.watch(&["fd77::2"], async |eye| {
        eye.sees_mac(FIRST_V6, "fd77::2", PEER_MAC).await;
        let entry = lab.director("-d neigh show fd77::2");
        assert!(
            entry.contains("managed") && entry.contains("proto 76"),
            "{entry}"
        );
        // The entry is lost, as by a flush; it is made again.
        lab.director("neigh del fd77::2 dev eth0");
        eye.sees(1000, "fd77::2", |r| {
            matches!(r, Resolution::Via { mac: None, .. })
        })
        .await;
        eye.sees_mac(2000, "fd77::2", PEER_MAC).await;
        eye.set_targets(&[]);
        let mut views = eye.watch.subscribe();
        views
            .wait_for(|view| view.targets.is_empty())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    assert_eq!(lab.director("neigh show fd77::2"), "");
}

#[test]
fn an_ipv6_address_is_ours_once_it_is_proven_unique() {
    let lab = Lab::new();
    let knob = "net.ipv6.conf.eth0.accept_dad=1";
    super::lab::run(&format!("ip netns exec {} sysctl -qw {knob}", lab.director));
    lab.watch(&["2001:db8::5"], async |eye| {
        let vip: IpAddr = "2001:db8::5".parse().unwrap();
        lab.director("addr add 2001:db8::5/64 dev eth0");
        assert!(lab.director("-6 addr show dev eth0").contains("tentative"));
        let mut views = eye.watch.subscribe();
        let ours = |view: &std::sync::Arc<lb_userspace::netlink::View>| {
            view.addresses.iter().any(|(addr, _)| *addr == vip)
        };
        let wait = tokio::time::timeout(Duration::from_secs(5), views.wait_for(ours));
        wait.await.expect("the address comes").unwrap();
        let shown = lab.director("-6 addr show dev eth0");
        assert!(!shown.contains("tentative"), "{shown}");
        lab.director("addr del 2001:db8::5/64 dev eth0");
        let gone = views.wait_for(|view| !ours(view));
        tokio::time::timeout(Duration::from_secs(1), gone)
            .await
            .expect("and goes")
            .unwrap();
    });
}
