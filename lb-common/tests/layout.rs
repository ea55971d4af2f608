//! The daemon writes structs, the engine reads words: both mean the same.

use lb_common::{
    conn::Tracking,
    host::{HostCell, HostTables},
    layout::*,
    tables::{Params, Table, Tables},
};

fn tables() -> HostTables {
    let params = Params {
        service_slots: 2,
        list_entries: 2,
        iface_slots: 2,
        rule_words: 1,
        reserved: 0,
        ..Params::default()
    };
    HostTables::new(params, 2, 2)
}

/// Writes a record into the second place of a table and reads it back in words.
fn written<R: bytemuck::Pod + PartialEq + core::fmt::Debug>(
    tables: &HostTables,
    table: Table,
    record: R,
) -> HostCell<'_> {
    let index = u32::from(table != Table::Settings);
    tables.set(table, index, record);
    assert_eq!(tables.get::<R>(table, index), record);
    tables.cell(table, index).expect("exists")
}

#[test]
fn sizes() {
    assert_eq!(size_of::<DestEntry>(), 64);
    assert_eq!(size_of::<DestLoad>(), 64);
    assert_eq!(size_of::<IfaceEntry>(), 64);
    assert_eq!(size_of::<ListEntry>(), 16);
    assert_eq!(size_of::<NextHop>(), 64);
    assert_eq!(size_of::<ServiceEntry>(), 128);
    assert_eq!(size_of::<ServiceState>(), 64);
    assert_eq!(size_of::<Settings>(), 136);
    assert_eq!(size_of::<Stats>(), 40);
    assert_eq!(size_of::<StatsPage>(), 192);
    assert_eq!(size_of::<SweepStatus>(), 64);
    assert_eq!(size_of::<Params>(), 96);
    assert_eq!(size_of::<RuleHeader>(), 8 * RuleHeader::WORDS as usize);
    assert_eq!(size_of::<RuleEntry>(), 8 * RuleEntry::WORDS as usize);
}

#[test]
fn service() {
    let entry = ServiceEntry {
        addr: [0x0a0b_0c0d, 2, 3, 0x8000_0004],
        port: 0x5000,
        protocol: 6,
        family: 4,
        flags: 0x8001,
        scheduler: SchedulerKind::Wrr as u8,
        reserved0: 0,
        slot: 0x0102_0304,
        generation: 0xfffe_fdfc,
        list_start: 0x1112_1314,
        list_len: 0x2122_2324,
        max_weight: 0x3132_3334,
        gcd: 0x4142_4344,
        seed_from: 0x5152_5354_5556_5758,
        seed: 0x6162_6364_6566_6768,
        sched: [0x7172_7374, 0x8182_8384_8586, 0x9192_9394],
        persistence: [21, 22, 23],
        reserved: [0; 2],
    };
    let tables = tables();
    let view = ServiceView(written(&tables, Table::Service, entry));
    assert_eq!(view.flags(), ServiceFlags(entry.flags));
    assert_eq!(view.scheduler(), entry.scheduler);
    assert_eq!(view.slot(), entry.slot);
    assert_eq!(view.generation(), entry.generation);
    assert_eq!(view.list_start(), entry.list_start);
    assert_eq!(view.list_len(), entry.list_len);
    assert_eq!(view.max_weight(), entry.max_weight);
    assert_eq!(view.gcd(), entry.gcd);
    assert_eq!(view.seed_from(), entry.seed_from);
    assert_eq!(view.seed(), entry.seed);
    assert_eq!(view.sched_word(), entry.sched[0]);
    assert_eq!(view.sched_table(), entry.sched[1]);
    assert_eq!(view.binding(), entry.sched[2]);

    let key = ServiceKey {
        addr: entry.addr,
        port: entry.port,
        protocol: 6,
        family: 4,
    };
    assert!(view.matches(&key));
    for word in 0..4 {
        let mut addr = key.addr;
        addr[word] ^= 1 << 31;
        assert!(
            !view.matches(&ServiceKey { addr, ..key }),
            "address word {word}"
        );
    }
    assert!(!view.matches(&ServiceKey {
        port: 0x5001,
        ..key
    }));
    assert!(!view.matches(&ServiceKey {
        protocol: 17,
        ..key
    }));
    assert!(!view.matches(&ServiceKey { family: 6, ..key }));
}

#[test]
fn list() {
    let entry = ListEntry {
        slot: 0x0102_0304,
        weight: 0xfffe_fdfc,
        old_position: 0x1112_1314,
        method: ForwardMethod::Tunnel as u32,
    }
    .with_hint(0xf1f2);
    let tables = tables();
    let view = ListView(written(&tables, Table::List, entry));
    assert_eq!(view.slot(), entry.slot);
    assert_eq!(view.weight(), entry.weight);
    assert_eq!(view.old_position(), entry.old_position);
    assert_eq!(view.method(), ForwardMethod::Tunnel);
    assert_eq!(view.hint(), 0xf1f2);
}

#[test]
fn dest() {
    let word = DestWord::new(0x0102_0304, DestFlags::AVAILABLE | DestFlags::LOCAL);
    let entry = DestEntry {
        word: word.0,
        addr: [1, 2, 3, 4],
        port: 5,
        family: 4,
        tunnel_kind: 8,
        service_slot: 6,
        generation: 7,
        tunnel_port: 9,
        tunnel_checksum: 10,
        method: ForwardMethod::Fullnat as u8,
        local: LocalPool::new(11, 12).0,
        path_mtu: 0x0011_2233_0000_0514,
        thresholds: Thresholds::new(13, 14).0,
    };
    let tables = tables();
    let view = DestView(written(&tables, Table::Dest, entry));
    assert_eq!([view.addr(0), view.addr(1)], [1 | 2 << 32, 3 | 4 << 32]);
    assert_eq!((view.port(), view.family()), (5, 4));
    assert_eq!((view.tunnel_kind(), view.tunnel_port()), (8, 9));
    assert_eq!(view.tunnel_checksum(), 10);
    assert_eq!(view.method(), ForwardMethod::Fullnat);
    let limits = view.thresholds();
    assert_eq!((limits.upper(), limits.lower()), (13, 14));
    assert_eq!(view.local(), LocalPool::new(11, 12));
    assert_eq!(view.path_mtu(), PathMtu(entry.path_mtu));
    view.set_path_mtu(PathMtu(1), PathMtu(2));
    assert_eq!(view.path_mtu().0, entry.path_mtu, "another was faster");
    view.set_path_mtu(PathMtu(entry.path_mtu), PathMtu(2));
    assert_eq!(view.path_mtu(), PathMtu(2));
    assert_eq!(view.tenant(3), 4 | 7 << 32);
    let read = view.word();
    assert_eq!(read, word);
    assert_eq!(read.next_hop(), 0x0102_0304);
    assert_eq!(read.flags(), DestFlags::AVAILABLE | DestFlags::LOCAL);
    assert!(read.has(DestFlags::AVAILABLE) && read.has(DestFlags::LOCAL));
    assert!(!read.has(DestFlags::CLAIMED));
    assert!(
        !read.has(DestFlags::AVAILABLE | DestFlags::CLAIMED),
        "all of them"
    );
    view.set_overloaded(true);
    assert_eq!(view.word(), word.overloaded(true));
    assert!(view.word().has(DestFlags::OVERLOAD | DestFlags::LOCAL));
    view.set_overloaded(false);
    assert_eq!(view.word(), word);

    let load = DestLoad {
        conns: 3 * DestLoad::ACTIVE + 5 * DestLoad::INACTIVE,
        ..DestLoad::default()
    };
    assert_eq!((load.active(), load.inactive()), (3, 5));
    assert_eq!(DestLoad::total(load.conns), 8);
}

#[test]
fn interface() {
    let key = IfaceKey {
        ifindex: 0x8102_0304,
        outer: 0x0fff,
        inner: 0x0abc,
    };
    let mac = [0x02, 1, 2, 3, 4, 0xff];
    for place in 0..IFACE_MACS {
        let mut macs = [0; IFACE_MACS];
        macs[place] = IfaceEntry::mac_word(mac);
        let entry = IfaceEntry {
            key: key.word(),
            macs,
            mtu: 1500,
        };
        let tables = tables();
        let view = IfaceView(written(&tables, Table::Iface, entry));
        assert_eq!(view.key(), key.word());
        assert!(view.owns(IfaceEntry::mac_word(mac)), "place {place}");
        assert!(!view.owns(IfaceEntry::mac_word([0x02, 1, 2, 3, 4, 0xfe])));
        assert!(!view.owns(0), "an empty place is nobody's address");
        assert!(!view.owns(key.word()));
    }
    // Each part of the key is in the word, in a place of its own.
    let words = [
        IfaceKey {
            ifindex: 1,
            outer: 0,
            inner: 0,
        },
        IfaceKey {
            ifindex: 0,
            outer: 1,
            inner: 0,
        },
        IfaceKey {
            ifindex: 0,
            outer: 0,
            inner: 1,
        },
    ];
    assert_eq!(words.map(IfaceKey::word), [1, 1 << 32, 1 << 48]);
}

#[test]
fn next_hop() {
    let entry = NextHop {
        ifindex: 0x8102_0304,
        mtu: 0xfffe,
        header_len: 22,
        header: core::array::from_fn(|i| 0xe0 + i as u8),
        source: [1, 2, 3, 4],
        reserved: [0; 2],
    };
    let tables = tables();
    let view = NextHopView(written(&tables, Table::NextHop, entry));
    assert_eq!(view.ifindex(), entry.ifindex);
    assert_eq!(view.mtu(), 0xfffe);
    assert_eq!(view.header_len(), 22);
    assert_eq!([view.source(0), view.source(1)], [1 | 2 << 32, 3 | 4 << 32]);
    let words: [[u8; 8]; 3] = [0, 1, 2].map(|i| view.header_word(i).to_le_bytes());
    assert_eq!(words.concat(), entry.header);
}

#[test]
fn local_address() {
    let entry = LocalAddress {
        addr: [1, 2, 3, 4],
        first_port: 1025,
        last_port: 0xfffe,
        ..LocalAddress::default()
    };
    let tables = tables();
    let view = LocalView(written(&tables, Table::Local, entry));
    assert_eq!(view.addr(), [1 | 2 << 32, 3 | 4 << 32]);
    assert_eq!((view.first_port(), view.last_port()), (1025, 0xfffe));
    let pool = LocalPool::new(7, 3);
    assert_eq!((pool.start(), pool.len(), pool.is_empty()), (7, 3, false));
    assert!(LocalPool::default().is_empty());
}

#[test]
fn settings() {
    let entry = Settings {
        tcp: core::array::from_fn(|state| 100 + state as u32),
        udp: 200,
        other: 201,
        heartbeat: 202,
        reserved: 0,
        sctp: core::array::from_fn(|state| 300 + state as u32),
        knobs: Knobs::REUSE | Knobs::SLOPPY_TCP,
        drop_rate: 0,
    };
    let tables = tables();
    let view = SettingsView(written(&tables, Table::Settings, entry));
    assert!(view.knobs().has(Knobs::SLOPPY_TCP) && !view.knobs().has(Knobs::EXPIRE_NODEST));
    for state in 0..12 {
        assert_eq!(
            view.timeout(Tracking::Flags, 0, state),
            entry.tcp[usize::from(state)]
        );
        assert_eq!(view.timeout(Tracking::Columns, Settings::UDP, 0), 200);
    }
    for state in 0..16 {
        assert_eq!(
            view.timeout(Tracking::Columns, Settings::SCTP, state),
            entry.sctp[usize::from(state)]
        );
    }
    assert_eq!(
        view.timeout(Tracking::Flags, 0, 12),
        entry.tcp[0],
        "a state that does not exist"
    );
    assert_eq!(view.timeout(Tracking::Flags, 0, 255), entry.tcp[0]);
}

#[test]
fn root() {
    let root = Root::new(0x00ab_cdef_0123_4567, 1, true, false);
    assert_eq!((root.epoch(), root.side()), (0x00ab_cdef_0123_4567, 1));
    assert!(root.has_services(4) && !root.has_services(6));
    let root = Root::new(1, 2, false, true);
    assert_eq!((root.epoch(), root.side()), (1, 0));
    assert!(!root.has_services(4) && root.has_services(6));
    for (four, six) in [(false, false), (true, false), (false, true), (true, true)] {
        let root = Root::new(5, 1, true, false).with_tunnels(four, six);
        assert_eq!((root.has_tunnels(4), root.has_tunnels(6)), (four, six));
        assert_eq!((root.epoch(), root.side()), (5, 1));
        assert!(root.has_services(4) && !root.has_services(6));
    }
}

#[test]
fn a_path_mtu_is_forgotten() {
    for now in [0, 1000, u32::MAX - 5] {
        let path = PathMtu::new(1300, now);
        let after = |ticks: u32| path.at(now.wrapping_add(ticks));
        assert_eq!(after(0), Some(1300));
        assert_eq!(after(PathMtu::LIFE), Some(1300));
        assert_eq!(after(PathMtu::LIFE + 1), None);
        assert_eq!(after(u32::MAX / 2), None, "no deadline ever comes back");
        assert_eq!(PathMtu::default().at(now), None);
    }
}

#[test]
fn methods_have_the_kernels_numbers() {
    let methods = [
        (0, ForwardMethod::Masq),
        (1, ForwardMethod::Local),
        (2, ForwardMethod::Tunnel),
        (3, ForwardMethod::Route),
        (5, ForwardMethod::Fullnat),
    ];
    for (number, method) in methods {
        assert_eq!(
            (method as u8, ForwardMethod::from_bits(number)),
            (number, method)
        );
        assert_eq!(ForwardMethod::from_bits(number | 0xf8), method);
    }
}
