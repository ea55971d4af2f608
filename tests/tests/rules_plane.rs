//! Compiled rules in the loaded program: thousands of them, and what they cost.

use std::net::{Ipv4Addr, SocketAddrV4};

use indexmap::IndexMap;
use lb_common::{
    host::frame::Frame,
    layout::{FILTER_WORDS, IfaceEntry, IfaceKey, Root, ServiceEntry, ServiceFlags, ServiceKey},
    reason::Reason,
    wire::TCP_SYN,
};
use lb_userspace::{
    dataplane::{Plane, Sizes, rule_words},
    model::{Chain, Family, Prefix, PrefixSet, Rule},
    rules::{Command, command, compile},
};
use lvx_tests::kernel::bpffs::Bpffs;

const SIZES: Sizes = Sizes {
    connections: 4096,
    connections6: 4096,
    services: 8,
    dests: 16,
    mh_services: 4,
    rule_words: rule_words(16),
};
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// `lo`, which every namespace has.
const IFACE: u32 = 1;
const PORTS: [u16; 4] = [80, 443, 8080, 25];

/// A data plane with a service without servers for mark 1, and nothing else.
struct Bed {
    plane: Plane,
    _bpffs: Bpffs,
}

impl Bed {
    fn new() -> Self {
        let bpffs = Bpffs::new().expect("root, and a bpffs");
        let plane = Plane::load(&bpffs.pins(), SIZES).expect("the program loads");
        let maps = &plane.maps;
        let key = IfaceKey {
            ifindex: IFACE,
            outer: 0,
            inner: 0,
        };
        let mut macs = [0; 6];
        macs[0] = IfaceEntry::mac_word(MAC);
        let entry = IfaceEntry {
            key: key.word(),
            macs,
            mtu: 1500,
        };
        maps.ifaces.set(key.home(maps.params.iface_slots), entry);
        let key = ServiceKey::of_mark(1, 4);
        let service = ServiceEntry {
            addr: key.addr,
            family: 4,
            flags: ServiceFlags::CLAIMED,
            ..ServiceEntry::default()
        };
        let place = key.home(maps.params.service_seed, maps.params.service_slots);
        maps.services.set(place, service);
        for word in 0..FILTER_WORDS {
            maps.filter.set(word, u64::MAX);
        }
        Self {
            plane,
            _bpffs: bpffs,
        }
    }

    fn put(&self, marks: &[Rule], filter: &[Rule], sets: &IndexMap<String, PrefixSet>) {
        let source = |chain, family| {
            let rules = if chain == Chain::Mark { marks } else { filter };
            let mine = rules.iter().zip(0..);
            mine.filter(|(rule, _)| rule.family == family).collect()
        };
        let compiled = compile(source, sets, &[].into(), SIZES.rule_words).expect("it fits");
        for (at, word) in (0..).zip(&compiled.words) {
            self.plane.maps.rules.set(at, *word);
        }
        let any = !compiled.words.is_empty();
        let root = Root::new(1, 0, true, false).with_rules(any, any);
        self.plane.maps.root.set(0, root.with_any_destination().0);
    }

    /// Why a frame ended.
    fn reason(&mut self, frame: &[u8]) -> Reason {
        let before = self.plane.maps.reasons().expect("the map is there");
        let object = self.plane.object();
        object
            .run("lvx", frame, Some(IFACE), None)
            .expect("it runs");
        let after = self.plane.maps.reasons().expect("the map is there");
        let mut counted = before
            .iter()
            .zip(after)
            .filter(|(before, after)| before.1 != after.1);
        counted.next().expect("a reason counts").1.0
    }

    /// Nanoseconds that a frame takes: the least of some turns.
    fn cost(&mut self, frame: &[u8]) -> u128 {
        let turns = (0..7).map(|_| {
            let time = self.plane.object().time("lvx", frame, IFACE, 20_000);
            time.expect("it runs").as_nanos()
        });
        turns.min().expect("some turns")
    }
}

fn syn(src: Ipv4Addr, dst: Ipv4Addr, port: u16) -> Vec<u8> {
    let (src, dst) = (SocketAddrV4::new(src, 4000), SocketAddrV4::new(dst, port));
    Frame {
        stations: [MAC, [2, 0, 0, 0, 0, 2]],
        ..Frame::tcp(src, dst, TCP_SYN)
    }
    .build()
}

fn rule(chain: Chain, text: &str) -> Rule {
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    match command(chain, &words) {
        Ok(Command::Append(mut rules)) => rules.remove(0),
        other => panic!("{text}: {other:?}"),
    }
}

fn destination(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0000 + n / 4)
}

fn marks(count: u32) -> Vec<Rule> {
    let rules = (0..count).map(|n| {
        let (dst, port) = (destination(n), PORTS[(n % 4) as usize]);
        // Mark 1 for one in three.
        let mark = if n % 3 == 1 { 1 } else { 2 };
        rule(
            Chain::Mark,
            &format!(
                "-A -d {dst} -p tcp -m multiport --dports {port},{} -j MARK --set-mark {mark}",
                port + 1
            ),
        )
    });
    rules.collect()
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

#[test]
fn ten_thousand_marks_in_the_kernel() {
    let mut bed = Bed::new();
    let none = IndexMap::new();
    // What they cost, of a packet that the last of them marks for no service.
    let mut costs = Vec::new();
    for count in [0, 1, 1_000, 10_000] {
        bed.put(&marks(count), &[], &none);
        // 0, 999 and 9,999 have mark 2: the packet is passed as it came.
        let last = count.saturating_sub(1);
        let frame = syn(CLIENT, destination(last), PORTS[(last % 4) as usize] + 1);
        let other = syn(CLIENT, Ipv4Addr::new(203, 0, 113, 1), 80);
        costs.push((count, bed.cost(&frame), bed.cost(&other)));
    }
    for (count, marked, other) in &costs {
        println!("{count} mark rules: {marked} ns a packet that one marks, {other} ns another");
    }
    for n in (0..10_000).step_by(97) {
        let port = PORTS[(n % 4) as usize];
        let want = if n % 3 == 1 {
            Reason::DroppedNoServer
        } else {
            Reason::PassedNoService
        };
        assert_eq!(
            bed.reason(&syn(CLIENT, destination(n), port)),
            want,
            "rule {n}"
        );
        assert_eq!(
            bed.reason(&syn(CLIENT, destination(n), port + 1)),
            want,
            "rule {n}"
        );
        let none = syn(CLIENT, destination(n), 7);
        assert_eq!(bed.reason(&none), Reason::PassedNoService);
    }
    // The order of a walk, bit by bit.
    let rules = [
        rule(Chain::Mark, "-A -j MARK --set-mark 0xf0"),
        rule(Chain::Mark, "-A -p tcp --dport 80 -j MARK --or-mark 0x1"),
        rule(Chain::Mark, "-A -s 198.51.100.0/24 -j MARK --and-mark 0x1"),
        rule(
            Chain::Mark,
            "-A ! -d 10.0.0.0/8 -p tcp --dport 1:100 -j MARK --xor-mark 0x4",
        ),
    ];
    bed.put(&rules, &[], &none);
    let ten = destination(0);
    let nine = Ipv4Addr::new(9, 0, 0, 1);
    for (src, dst, port, is_one) in [
        (CLIENT, ten, 80, true),
        (CLIENT, ten, 81, false),
        (Ipv4Addr::new(198, 51, 99, 1), ten, 80, false),
        (CLIENT, nine, 80, false),
    ] {
        let want = if is_one {
            Reason::DroppedNoServer
        } else {
            Reason::PassedNoService
        };
        assert_eq!(bed.reason(&syn(src, dst, port)), want, "{src} {dst} {port}");
    }
}

#[test]
fn a_hundred_thousand_prefixes_in_the_kernel() {
    let mut bed = Bed::new();
    let mark = [rule(Chain::Mark, "-A -j MARK --set-mark 1")];
    let filter = [
        rule(
            Chain::Filter,
            "-A -s 11.0.1.0/24 -p tcp --dport 81 -j ACCEPT",
        ),
        rule(
            Chain::Filter,
            "-A -m set --match-set bad src -d 10.1.0.0/16 -j DROP",
        ),
    ];
    let members = (0..100_000_u32).map(|n| {
        let addr = Ipv4Addr::from(0x0b00_0100 + (n << 9));
        Prefix::new(addr.into(), 24).expect("a prefix")
    });
    let set = PrefixSet {
        name: "bad".into(),
        family: Family::V4,
        members: members.collect(),
    };
    let sets = [("bad".to_owned(), set)].into_iter().collect();
    bed.put(&mark, &filter, &sets);
    let (there, good) = (destination(0), Ipv4Addr::new(11, 0, 2, 1));
    let bad = Ipv4Addr::from(0x0b00_0100 + (77_777 << 9) + 5);
    let accepted = Ipv4Addr::new(11, 0, 1, 9);
    for (src, dst, port, want) in [
        (bad, there, 80, Reason::DroppedFilter),
        (bad, Ipv4Addr::new(10, 2, 0, 1), 80, Reason::DroppedNoServer),
        (good, there, 80, Reason::DroppedNoServer),
        (accepted, there, 80, Reason::DroppedFilter),
        (accepted, there, 81, Reason::DroppedNoServer),
    ] {
        assert_eq!(bed.reason(&syn(src, dst, port)), want, "{src} {dst} {port}");
    }
    let maps = &bed.plane.maps;
    assert_eq!(maps.rule_stats(1).expect("a slot")[0], 2);
    assert_eq!(maps.rule_stats(0).expect("a slot")[0], 1);
    let drop = bed.cost(&syn(bad, there, 80));
    println!("100,000 prefixes: {drop} ns a packet that is dropped");
}
