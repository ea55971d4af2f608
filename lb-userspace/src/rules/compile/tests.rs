//! The compiled rules against the ordered walk.

use std::{collections::HashMap, net::IpAddr};

use lb_common::{
    facts::Facts,
    family::{Family as _, V4, V6},
    host::{HostPacket, HostTables},
    layout::{FilterVerdict, IfaceKey, Root},
    tables::{Params, Table},
};
use proptest::prelude::*;

use super::*;
use crate::address::words;

/// A packet as rules see it.
#[derive(Clone, Debug)]
struct Seen {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    sport: u16,
    dport: u16,
    /// Index of the interface, 0 to 2.
    iface: u32,
}

/// The ordered walk, rule by rule, as netfilter does it.
fn naive(rule: &Rule, seen: &Seen, sets: &IndexMap<String, PrefixSet>) -> bool {
    let address = |end: &Option<Match<Addresses>>, addr: IpAddr| {
        end.as_ref().is_none_or(|end| {
            let number = crate::model::number(addr);
            let inside = |prefix: &Prefix| {
                let (first, last) = prefix.span();
                (first..=last).contains(&number)
            };
            let found = match &end.what {
                Addresses::Prefix(prefix) => inside(prefix),
                Addresses::Set(name) => sets[name].members.iter().any(inside),
            };
            found != end.not
        })
    };
    let within = |ports: &Ports, port: u16| {
        let mut ranges = ports.ranges.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&port))
    };
    let port = |ports: &Option<Match<Ports>>, port: u16| {
        ports
            .as_ref()
            .is_none_or(|ports| within(&ports.what, port) != ports.not)
    };
    let name = format!("eth{}", seen.iface);
    address(&rule.src, seen.src)
        && address(&rule.dst, seen.dst)
        && (rule.protocol.as_ref()).is_none_or(|one| (one.what == seen.protocol) != one.not)
        && port(&rule.sports, seen.sport)
        && port(&rule.dports, seen.dport)
        && rule.ports.as_ref().is_none_or(|ports| {
            let either = within(&ports.what, seen.sport) || within(&ports.what, seen.dport);
            either != ports.not
        })
        && rule.iface.as_ref().is_none_or(|iface| {
            let same = match iface.what.strip_suffix('+') {
                Some(start) => name.starts_with(start),
                None => name == iface.what,
            };
            same != iface.not
        })
}

fn key(iface: u32) -> IfaceKey {
    IfaceKey {
        ifindex: 2 + iface,
        outer: 0,
        inner: 0,
    }
}

/// What the engine says: mark and verdict.
struct Engine {
    tables: HostTables,
}

impl Engine {
    fn new(compiled: &Compiled) -> Self {
        let rule_words = (compiled.words.len() as u32).max(RuleHeader::ALL);
        let params = Params {
            rule_words,
            flow4_cells: 64,
            flow6_cells: 64,
            service_slots: 1,
            list_entries: 1,
            iface_slots: 1,
            ..Params::default()
        };
        let tables = HostTables::new(params, 1, 1);
        // The second half.
        for (at, word) in (rule_words..).zip(&compiled.words) {
            tables.set(Table::Rules, at, *word);
        }
        Self { tables }
    }

    fn ask(&self, seen: &Seen) -> (u32, FilterVerdict) {
        let pack = |addr| {
            let (words, _) = words(addr);
            [
                u64::from(words[0]) | u64::from(words[1]) << 32,
                u64::from(words[2]) | u64::from(words[3]) << 32,
            ]
        };
        let ports = u64::from(seen.sport.to_be()) | u64::from(seen.dport.to_be()) << 16;
        let mut facts = Facts {
            src: pack(seen.src),
            dst: pack(seen.dst),
            ports: ports | u64::from(seen.protocol) << 32,
            root: Root::new(1, 1, true, true).with_rules(true, true).0,
            ..Facts::default()
        };
        let packet = HostPacket::new(&[0; 64], key(seen.iface).ifindex);
        if seen.src.is_ipv4() {
            facts.family = V4::VERSION.into();
            lb_common::engine::classify::<V4, _, _>(&packet, &self.tables, &mut facts);
        } else {
            facts.family = V6::VERSION.into();
            lb_common::engine::classify::<V6, _, _>(&packet, &self.tables, &mut facts);
        }
        (facts.mark as u32, FilterVerdict(facts.verdict as u32))
    }
}

fn ifaces() -> IfaceNames {
    (0..3)
        .map(|iface| (format!("eth{iface}"), [key(iface).word()].into()))
        .collect()
}

/// A few addresses, so that rules and packets meet.
fn addr(v4: bool) -> impl Strategy<Value = IpAddr> {
    (0_u32..4, 0_u32..3, 0_u32..4).prop_map(move |(net, sub, host)| {
        if v4 {
            IpAddr::from([10 + net as u8 * 80, 0, sub as u8, host as u8])
        } else {
            let net = [0x2001_0db8_u32, 0xfd00_0000, 0, 0xffff_ffff][net as usize];
            IpAddr::from(
                (u128::from(net) << 96 | u128::from(sub) << 64 | u128::from(host)).to_be_bytes(),
            )
        }
    })
}

fn prefix(v4: bool) -> impl Strategy<Value = Prefix> {
    let lens: &[u8] = if v4 {
        &[0, 1, 8, 24, 30, 32]
    } else {
        &[0, 1, 16, 64, 96, 126, 128]
    };
    (addr(v4), proptest::sample::select(lens))
        .prop_map(|(addr, len)| Prefix::new(addr, len).unwrap())
}

fn end(v4: bool) -> impl Strategy<Value = Option<Match<Addresses>>> {
    let what = prop_oneof![
        4 => prefix(v4).prop_map(Addresses::Prefix),
        1 => proptest::sample::select(vec!["a", "b"]).prop_map(|name: &str| Addresses::Set(name.into())),
    ];
    proptest::option::of(
        (proptest::bool::weighted(0.2), what).prop_map(|(not, what)| Match { not, what }),
    )
}

fn port() -> impl Strategy<Value = u16> {
    proptest::sample::select(vec![0_u16, 1, 79, 80, 81, 443, 1024, 65_534, 65_535])
}

fn ports() -> impl Strategy<Value = Match<Ports>> {
    let range =
        (port(), port(), any::<bool>()).prop_map(
            |(a, b, one)| {
                if one { (a, a) } else { (a.min(b), a.max(b)) }
            },
        );
    (
        proptest::bool::weighted(0.2),
        proptest::collection::vec(range, 1..4),
    )
        .prop_map(|(not, ranges)| {
            let list = ranges.len() > 1;
            Match {
                not,
                what: Ports { ranges, list },
            }
        })
}

fn target(chain: Chain) -> BoxedStrategy<Target> {
    let bits = proptest::sample::select(vec![0_u32, 1, 3, 0xff, 0xff00, 0xffff_ffff]);
    match chain {
        Chain::Mark => (bits.clone(), prop_oneof![3 => Just(u32::MAX), 2 => bits])
            .prop_map(|(flip, clear)| Target::Mark { flip, clear })
            .boxed(),
        Chain::Filter => prop_oneof![Just(Target::Drop), Just(Target::Accept)].boxed(),
    }
}

fn a_rule(v4: bool, chain: Chain) -> impl Strategy<Value = Rule> {
    let protocol = proptest::option::of(
        (
            proptest::bool::weighted(0.1),
            proptest::sample::select(vec![6_u8, 17]),
        )
            .prop_map(|(not, what)| Match { not, what }),
    );
    let iface = proptest::option::weighted(
        0.2,
        (
            any::<bool>(),
            proptest::sample::select(vec!["eth0", "eth1", "eth+", "x"]),
        )
            .prop_map(|(not, name): (_, &str)| Match {
                not,
                what: name.into(),
            }),
    );
    let some_ports = (
        proptest::option::weighted(0.3, ports()),
        proptest::option::weighted(0.5, ports()),
        proptest::option::weighted(0.2, ports()),
    );
    (end(v4), end(v4), protocol, some_ports, iface, target(chain)).prop_map(
        move |(src, dst, protocol, (sports, dports, both), iface, target)| {
            let mut rule = Rule {
                src,
                dst,
                protocol,
                iface,
                ..Rule::of(if v4 { Family::V4 } else { Family::V6 }, target)
            };
            if rule.protocol.as_ref().is_some_and(|protocol| !protocol.not) {
                match both {
                    Some(both) => rule.ports = Some(both),
                    None => (rule.sports, rule.dports) = (sports, dports),
                }
            }
            rule
        },
    )
}

fn seen(v4: bool) -> impl Strategy<Value = Seen> {
    let protocol = proptest::sample::select(vec![6_u8, 17]);
    (addr(v4), addr(v4), protocol, port(), port(), 0_u32..3).prop_map(
        |(src, dst, protocol, sport, dport, iface)| Seen {
            src,
            dst,
            protocol,
            sport,
            dport,
            iface,
        },
    )
}

type Case = (Vec<Rule>, Vec<Rule>, [Vec<Prefix>; 2], Vec<Seen>);

fn case() -> impl Strategy<Value = (bool, Case)> {
    any::<bool>().prop_flat_map(|v4| {
        let rules = |chain| proptest::collection::vec(a_rule(v4, chain), 0..12);
        let members = || proptest::collection::vec(prefix(v4), 0..4);
        let sets = (members(), members()).prop_map(|(a, b)| [a, b]);
        let packets = proptest::collection::vec(seen(v4), 1..40);
        (
            Just(v4),
            (rules(Chain::Mark), rules(Chain::Filter), sets, packets),
        )
    })
}

fn source<'a>(marks: &'a [Rule], filter: &'a [Rule]) -> impl Fn(Chain, Family) -> Source<'a> {
    move |chain, family| {
        let rules = if chain == Chain::Mark { marks } else { filter };
        let numbered = rules.iter().zip(0..);
        numbered.filter(|(rule, _)| rule.family == family).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn as_the_ordered_walk((v4, (marks, filter, members, packets)) in case()) {
        let family = if v4 { Family::V4 } else { Family::V6 };
        let sets: IndexMap<String, PrefixSet> = ["a", "b"].into_iter().zip(members)
            .map(|(name, members)| {
                (name.to_owned(), PrefixSet { name: name.into(), family, members })
            })
            .collect();
        let compiled = compile(source(&marks, &filter), &sets, &ifaces(), u32::MAX).unwrap();
        let engine = Engine::new(&compiled);
        for seen in &packets {
            let mark = marks.iter().filter(|rule| naive(rule, seen, &sets)).fold(0, |mark, rule| {
                match rule.target {
                    Target::Mark { flip, clear } => mark & !clear ^ flip,
                    _ => unreachable!("mark rules mark"),
                }
            });
            let verdict = filter.iter().zip(0..).find(|(rule, _)| naive(rule, seen, &sets))
                .map_or(FilterVerdict::NONE, |(rule, slot)| {
                    FilterVerdict::new(slot, rule.target == Target::Drop)
                });
            prop_assert_eq!(engine.ask(seen), (mark, verdict), "{:?}", seen);
            // A packet that was marked is let through by the VIP filter.
            let there = &compiled.destinations[usize::from(!v4)];
            if mark != 0 && !there.any {
                prop_assert!(there.addresses().any(|addr| addr == seen.dst));
            }
        }
    }
}

fn rule(text: &str) -> Rule {
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    match crate::rules::command(Chain::Mark, &words).unwrap() {
        crate::rules::Command::Append(mut rules) => rules.remove(0),
        other => panic!("{other:?}"),
    }
}

/// Ten thousand rules give what ten thousand steps give, in a few kilobytes a
/// hundred rules.
#[test]
fn ten_thousand_rules() {
    let rules: Vec<Rule> = (0..10_000_u32)
        .map(|n| {
            let [_, _, a, b] = (n / 4).to_be_bytes();
            let port = [80, 443, 8080, 53][(n % 4) as usize];
            rule(&format!(
                "-A -d 10.1.{a}.{b} -p tcp --dport {port} -j MARK --set-mark {}",
                n + 1
            ))
        })
        .collect();
    let none = IndexMap::new();
    let compiled = compile(source(&rules, &[]), &none, &ifaces(), 1 << 20).unwrap();
    assert!(
        compiled.words.len() < 16 * rules.len(),
        "{} words",
        compiled.words.len()
    );
    // Destinations are more than get a bit each? 2,500 are not.
    assert!(!compiled.destinations[0].any);
    let engine = Engine::new(&compiled);
    for n in (0..10_000_u32).step_by(37) {
        let [_, _, a, b] = (n / 4).to_be_bytes();
        let seen = Seen {
            src: [192, 0, 2, 1].into(),
            dst: [10, 1, a, b].into(),
            protocol: 6,
            sport: 4000,
            dport: [80, 443, 8080, 53][(n % 4) as usize],
            iface: 0,
        };
        assert_eq!(engine.ask(&seen).0, n + 1);
        assert_eq!(
            engine
                .ask(&Seen {
                    protocol: 17,
                    ..seen
                })
                .0,
            0
        );
    }
    let error = compile(source(&rules, &[]), &none, &ifaces(), 1000).unwrap_err();
    assert!(error.to_string().contains("--rules"), "{error}");
}

/// A hundred thousand prefixes of sources, and a rule that drops them.
#[test]
fn a_large_set() {
    let members: Vec<Prefix> = (0..100_000_u32)
        .map(|n| Prefix::new(IpAddr::from((n << 12 | 0x100).to_be_bytes()), 24).unwrap())
        .collect();
    let set = PrefixSet {
        name: "bad".into(),
        family: Family::V4,
        members,
    };
    let sets = IndexMap::from([("bad".to_owned(), set)]);
    let words = "-A -m set --match-set bad src -d 192.0.2.1 -j DROP".split(' ');
    let words: Vec<String> = words.map(str::to_owned).collect();
    let crate::rules::Command::Append(filter) =
        crate::rules::command(Chain::Filter, &words).unwrap()
    else {
        panic!("-A appends");
    };
    let compiled = compile(source(&[], &filter), &sets, &ifaces(), 1 << 20).unwrap();
    let engine = Engine::new(&compiled);
    let seen = |src: [u8; 4]| Seen {
        src: src.into(),
        dst: [192, 0, 2, 1].into(),
        protocol: 6,
        sport: 1,
        dport: 80,
        iface: 0,
    };
    for (src, drops) in [
        ([0, 0, 1, 9], true),
        ([0, 0, 2, 9], false),
        ([1, 0, 17, 255], true),
        ([255, 0, 0, 1], false),
    ] {
        assert_eq!(engine.ask(&seen(src)).1.drops(), drops, "{src:?}");
    }
}

/// What iptables' options mean.
#[test]
fn marks_of_options() {
    let of = |option: &str| match rule(&format!("-A -j MARK {option}")).target {
        Target::Mark { flip, clear } => (flip, clear),
        other => panic!("{other:?}"),
    };
    let all: HashMap<&str, (u32, u32)> = [
        ("--set-mark 6666", (6666, u32::MAX)),
        ("--set-mark 0x3/0xff", (3, 0xff)),
        // What is outside the mask is set too.
        ("--set-mark 0x103/0xff", (0x103, 0x1ff)),
        ("--set-xmark 0x103/0xff", (0x103, 0xff)),
        ("--and-mark 0xf0", (0, !0xf0)),
        ("--or-mark 010", (8, 8)),
        ("--xor-mark 5", (5, 0)),
    ]
    .into();
    for (option, want) in all {
        assert_eq!(of(option), want, "{option}");
    }
}
