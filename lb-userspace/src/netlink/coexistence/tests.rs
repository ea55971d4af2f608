//! The samples were recorded with iptables 1.8.9 and nft 1.0.6.

use super::*;
use crate::netlink::testing::{link, links, macvlan, vlan};

const IPTABLES: &str = include_str!("samples/iptables.txt");
const IP6TABLES: &str = include_str!("samples/ip6tables.txt");
const NFT: &str = include_str!("samples/nft.json");
const NFT_OF_IPTABLES: &str = include_str!("samples/nft-of-iptables.json");

fn vip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn eth0() -> Inputs {
    Inputs(vec![(2, "eth0".into())])
}

/// The sentences, without the ending that all share.
fn rules(v4: &[&str], v6: &[&str], nft: &str, address: &str) -> Vec<String> {
    let end = format!(" does not apply to VIP {address}");
    let lines = firewall(v4, v6, nft, [&[vip(address)], &[]], &eth0());
    lines
        .iter()
        .map(|line| line.strip_suffix(&end).unwrap().to_owned())
        .collect()
}

#[test]
fn iptables_rules_that_would_apply_are_named() {
    let expected = [
        "mangle PREROUTING rule 1 (MARK)",
        "raw PREROUTING rule 1 (NOTRACK)",
        "f2b-nginx rule 1 (REJECT from 203.0.113.9)",
        "INPUT rule 4 (DROP from 203.0.113.7)",
        "INPUT rule 5 (LOG)",
        "INPUT policy DROP",
        "nat PREROUTING rule 1 (DNAT)",
    ];
    assert_eq!(rules(&[IPTABLES], &[], "", "192.0.2.1"), expected);
    // Another VIP: the rules for 192.0.2.1 do not match, that for all others does.
    let other = rules(&[IPTABLES], &[], "", "10.1.2.3");
    assert_eq!(
        other[1..],
        [
            "f2b-nginx rule 1 (REJECT from 203.0.113.9)",
            "INPUT rule 4 (DROP from 203.0.113.7)",
            "INPUT rule 6 (DROP)",
            "INPUT rule 7 (DROP)",
            "INPUT policy DROP",
        ]
    );
}

#[test]
fn ip6tables_rules_apply_to_ipv6_only() {
    assert_eq!(
        rules(&[], &[IP6TABLES], "", "2001:db8::1"),
        ["INPUT rule 1 (DROP from 2001:db8:bad::/48)"]
    );
    assert_eq!(
        rules(&[], &[IP6TABLES], "", "192.0.2.1"),
        Vec::<String>::new()
    );
    assert_eq!(
        rules(&[IPTABLES], &[], "", "2001:db8::1"),
        Vec::<String>::new()
    );
}

#[test]
fn the_whole_sentence_is_as_promised() {
    let text = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\n-A INPUT -i lo -j DROP\n\
                [3:180] -A INPUT -m set --match-set bad src -j DROP\nCOMMIT\n";
    let lines = firewall(&[text], &[], "", [&[vip("192.0.2.1")], &[]], &eth0());
    assert_eq!(
        lines,
        ["INPUT rule 3 (DROP from @bad) does not apply to VIP 192.0.2.1"]
    );
}

/// The sentences about replies, without the ending that all share.
fn of_replies(v4: &str, nft: &str, servers: &[&str]) -> Vec<String> {
    let servers: Vec<_> = servers.iter().map(|server| vip(server)).collect();
    let lines = firewall(&[v4], &[], nft, [&[], &servers], &eth0());
    let end = " does not apply to replies of servers by NAT";
    lines
        .iter()
        .map(|line| line.strip_suffix(end).unwrap().to_owned())
        .collect()
}

#[test]
fn rules_that_would_apply_to_replies_are_named_once() {
    let text = "*filter\n:FORWARD DROP [0:0]\n:out - [0:0]\n\
                -A FORWARD -m conntrack --ctstate INVALID -j DROP\n\
                -A FORWARD -s 10.8.0.0/24 -j out\n\
                -A FORWARD ! -s 10.8.0.0/16 -j LOG\n\
                -A FORWARD -s 10.8.0.2/32 -d 192.0.2.0/24 -j REJECT\n\
                -A FORWARD -i wan+ -j DROP\n\
                -A out -p icmp -j DROP\n-A out -p tcp -j MARK\nCOMMIT\n\
                *nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE\nCOMMIT\n";
    assert_eq!(
        of_replies(text, "", &["10.8.0.1", "10.8.0.2"]),
        [
            "FORWARD rule 1 (DROP)",
            "out rule 2 (MARK)",
            "FORWARD rule 4 (REJECT from 10.8.0.2)",
            "FORWARD policy DROP",
            "nat POSTROUTING rule 1 (MASQUERADE from 10.8.0.0/24)",
        ]
    );
    assert_eq!(
        of_replies(text, "", &["10.9.0.1"]),
        [
            "FORWARD rule 1 (DROP)",
            "FORWARD rule 3 (LOG not from 10.8.0.0/16)",
            "FORWARD policy DROP",
        ]
    );
    // Without servers by NAT, or for those of the other family, there is nothing to say.
    assert_eq!(of_replies(text, "", &[]), Vec::<String>::new());
    assert_eq!(of_replies(text, "", &["fd00::1"]), Vec::<String>::new());
}

#[test]
fn the_recorded_rules_for_forwarding_are_named() {
    assert_eq!(
        of_replies(IPTABLES, "", &["10.8.0.1"]),
        ["FORWARD rule 1 (REJECT)", "FORWARD policy DROP"]
    );
    let nft = of_replies("", NFT_OF_IPTABLES, &["10.8.0.1"]);
    assert!(
        nft.contains(&"ip filter FORWARD policy drop".to_owned()),
        "{nft:?}"
    );
}

#[test]
fn interfaces_in_rules_are_compared_with_the_attached_ones() {
    let rule = |condition: &str| {
        let text = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {condition} -j DROP\nCOMMIT\n");
        rules(&[&text], &[], "", "192.0.2.1").len()
    };
    for (condition, applies) in [
        ("-i eth0", 1),
        ("-i eth1", 0),
        ("! -i eth0", 0),
        ("! -i lo", 1),
        ("-i eth+", 1),
        ("-i wan+", 0),
    ] {
        assert_eq!(rule(condition), applies, "{condition}");
    }
}

#[test]
fn nft_rules_that_would_apply_are_named() {
    let expected = [
        "inet filter early rule 1 (set mark)",
        "inet filter early rule 2 (drop)",
        "inet filter input rule 3 (drop from @bad)",
        "inet filter input rule 4 (drop from 203.0.113.7)",
        "inet filter input rule 5 (reject)",
        "inet filter ssh rule 1 (drop)",
        "inet filter input rule 11 (drop)",
        "inet filter input rule 12 (log)",
        "inet filter input rule 16 (vmap)",
        "inet filter input policy drop",
        "inet filter natp rule 1 (dnat)",
        "netdev nd in rule 1 (drop from 203.0.113.9)",
    ];
    assert_eq!(rules(&[], &[], NFT, "192.0.2.1"), expected);
    let v6 = rules(&[], &[], NFT, "2001:db8::1");
    assert!(
        v6.contains(&"inet filter input rule 8 (drop from 2001:db8:bad::/48)".to_owned()),
        "{v6:?}"
    );
    assert!(
        !v6.iter()
            .any(|line| line.contains("203.0.113") || line.contains("@bad")),
        "{v6:?}"
    );
}

#[test]
fn rules_of_iptables_are_not_repeated_from_nft() {
    let alone = rules(&[IPTABLES], &[], "", "192.0.2.1");
    assert_eq!(
        rules(&[IPTABLES], &[IP6TABLES], NFT_OF_IPTABLES, "192.0.2.1"),
        alone
    );
    // Without iptables-save they are still seen.
    let nft = rules(&[], &[], NFT_OF_IPTABLES, "192.0.2.1");
    assert!(
        nft.contains(&"ip filter INPUT rule 4 (drop from 203.0.113.7)".to_owned()),
        "{nft:?}"
    );
    assert!(
        nft.contains(&"ip filter INPUT policy drop".to_owned()),
        "{nft:?}"
    );
}

#[test]
fn one_firewall_listed_by_two_tools_is_told_once() {
    let legacy = IPTABLES.replace(" (nf_tables)", "");
    let once = rules(&[&legacy], &[], "", "192.0.2.1");
    assert_eq!(rules(&[&legacy, &legacy], &[], "", "192.0.2.1"), once);
    assert_eq!(rules(&["", &legacy], &[], "", "192.0.2.1"), once);
    assert_eq!(
        rules(&[IPTABLES, &legacy], &[], "", "192.0.2.1").len(),
        2 * once.len()
    );
}

#[test]
fn output_that_is_not_understood_has_no_rules() {
    for text in [
        "",
        "garbage",
        "*filter",
        "-A INPUT -j DROP",
        ":INPUT",
        "*filter\n:INPUT\n-A",
        "{\"nftables\": 3}",
    ] {
        assert_eq!(
            firewall(&[text], &[text], text, [&[vip("192.0.2.1")], &[]], &eth0()),
            Vec::<String>::new(),
            "{text}"
        );
    }
}

#[test]
fn ranges_hold_their_ends_and_nothing_more() {
    let has = |range: &str, ip: &str| {
        firewall(
            &[&format!(
                "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -d {range} -j DROP\nCOMMIT\n"
            )],
            &[],
            "",
            [&[vip(ip)], &[]],
            &eth0(),
        )
        .len()
            == 1
    };
    assert!(has("192.0.2.0/28", "192.0.2.0") && has("192.0.2.0/28", "192.0.2.15"));
    assert!(!has("192.0.2.0/28", "192.0.2.16") && !has("192.0.2.0/28", "192.0.1.255"));
    assert!(has("0.0.0.0/0", "192.0.2.1") && has("192.0.2.1", "192.0.2.1"));
    assert!(
        has("192.0.2.0/255.255.255.0", "192.0.2.77")
            && !has("192.0.2.0/255.255.255.0", "192.0.3.1")
    );
}

#[test]
fn links_past_the_attached_ones_are_named() {
    let view = View {
        links: links([
            link(1, "lo"),
            link(2, "eth0"),
            link(3, "eth1"),
            vlan(4, "eth0.5", 2, 5, 0x8100),
            macvlan(5, "vrrp", 4),
            Link {
                up: false,
                ..link(6, "eth2")
            },
            link(7, "eth3"),
            vlan(8, "eth1.5", 3, 5, 0x8100),
        ]),
        addresses: (1..=8)
            .filter(|index| *index != 7)
            .map(|index| (IpAddr::from([10, 0, index as u8, 1]), index))
            .collect(),
        ..View::default()
    };
    let lines = unattached(
        &[vip("192.0.2.1"), vip("2001:db8::1")],
        &BTreeSet::from([2]),
        &view,
    );
    assert_eq!(
        lines,
        [
            "192.0.2.1 is also reachable through eth1, which is not attached",
            "192.0.2.1 is also reachable through eth1.5, which is not attached",
        ]
    );
}

#[test]
fn a_bond_is_covered_by_itself_or_by_all_its_ports() {
    let view = View {
        links: links([
            Link {
                master: Some(9),
                ..link(2, "eth0")
            },
            Link {
                master: Some(9),
                ..link(3, "eth1")
            },
            link(9, "bond0"),
        ]),
        addresses: [(vip("10.0.0.1"), 9), (vip("10.0.0.2"), 3)].into(),
        ..View::default()
    };
    let lines = |attached: &[u32]| {
        unattached(
            &[vip("192.0.2.1")],
            &attached.iter().copied().collect(),
            &view,
        )
    };
    assert_eq!(lines(&[9]), Vec::<String>::new());
    assert_eq!(lines(&[2, 3]), Vec::<String>::new());
    assert_eq!(lines(&[2]).len(), 2);
}

#[test]
fn many_lines_are_counted() {
    let lines = |n: usize| cap((0..n).map(|i| i.to_string()).collect());
    assert_eq!(lines(20).len(), 20);
    assert_eq!(lines(23).len(), 21);
    assert_eq!(lines(23)[20], "… and 3 more");
}

#[tokio::test]
async fn missing_tools_count_as_no_rules() {
    assert_eq!(output("lvx-no-such-tool", &[]).await, "");
    assert_eq!(output("false", &[]).await, "");
    assert_eq!(output("echo", &["-n", "x"]).await, "x");
}
