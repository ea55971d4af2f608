//! A director with a few servers behind different next hops.

use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::{
    engine::Verdict,
    family::{Family, V4},
    flow::{
        self, Found, StateWord,
        sweep::{SweepState, run},
    },
    host::{HostCell, HostPacket, HostTables, frame::Frame},
    layout::{
        DestEntry, DestFlags, DestLoad, DestWord, FILTER_WORDS, FilterVerdict, ForwardMethod,
        IFACE_WINDOW, IfaceEntry, IfaceKey, LabelList, ListEntry, NO_OLD_POSITION, NextHop, Root,
        RuleEntry, RuleHeader, RuleKind, SERVICE_WINDOW, SchedulerKind, ServiceEntry, ServiceFlags,
        ServiceKey, ServiceState, Settings, filter_bit,
    },
    reason::Reason,
    sched::Cursor,
    tables::{Param, Params, Table, Tables},
    time::seconds,
    wire::{IPPROTO_TCP, IPPROTO_UDP},
};

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(crate) const WEB: SocketAddrV4 = SocketAddrV4::new(VIP, 80);
pub(crate) const DNS: SocketAddrV4 = SocketAddrV4::new(VIP, 53);
/// The interface frames come in by, and another.
pub(crate) const IN: u32 = 2;
pub(crate) const OUT: u32 = 3;
/// Our station address, and one of a VLAN.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const VLAN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// Service slots.
const WEB_SLOT: u32 = 0;
const DNS_SLOT: u32 = 1;

/// Server slots: how they are reached.
pub(crate) const TX: u32 = 0;
pub(crate) const REDIRECT: u32 = 1;
pub(crate) const LOCAL: u32 = 2;
pub(crate) const UNRESOLVED: u32 = 3;
pub(crate) const TAGGED: u32 = 4;
pub(crate) const QINQ: u32 = 5;
pub(crate) const NARROW: u32 = 6;
pub(crate) const TX_TOO: u32 = 7;
pub(crate) const SERVERS: u32 = 8;

const PARAMS: Params = Params {
    hash: [
        0x1b87_3593,
        0xcc9e_2d51,
        0x85eb_ca6b,
        0xc2b2_ae35,
        0x27d4_eb2f,
        0x1656_67b1,
        7,
        8,
        9,
        10,
        11,
        12,
    ],
    multiplier: 0x9e37_79b9_7f4a_7c15,
    service_seed: 0x1234_5678_9abc_def0,
    filter_seed: 77,
    flow4_cells: if cfg!(miri) { 64 } else { 8192 },
    flow6_cells: 0,
    service_slots: 16,
    list_entries: 64,
    iface_slots: 8,
    rule_words: 64,
    reserved: 0,
};

pub(crate) struct Lab {
    pub(crate) tables: HostTables,
    epoch: u64,
}

/// How a service is configured: the servers of its list, first to last.
pub(crate) struct Service<'a> {
    pub(crate) slot: u32,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) servers: &'a [u32],
    pub(crate) weight: u32,
    pub(crate) claimed: bool,
    pub(crate) generation: u32,
    /// [`ServiceFlags`] besides that it is claimed.
    pub(crate) flags: u16,
    /// Time-out of templates in seconds, and the mask of clients.
    pub(crate) persistence: (u32, [u8; 4]),
}

impl<'a> Service<'a> {
    pub(crate) fn web(servers: &'a [u32]) -> Self {
        let (slot, protocol) = (WEB_SLOT, IPPROTO_TCP);
        Self {
            slot,
            protocol,
            port: 80,
            servers,
            weight: 1,
            claimed: true,
            generation: 1,
            flags: 0,
            persistence: (300, [255; 4]),
        }
    }

    pub(crate) fn dns(servers: &'a [u32]) -> Self {
        Self {
            slot: DNS_SLOT,
            protocol: IPPROTO_UDP,
            port: 53,
            ..Self::web(servers)
        }
    }
}

impl Lab {
    /// TCP port 80 and UDP port 53 of the VIP with these servers each.
    pub(crate) fn with(servers: &[u32]) -> Self {
        let lab = Self::of(PARAMS);
        lab.configure(0, &[Service::web(servers), Service::dns(servers)]);
        lab
    }

    /// As [`Lab::with`]; all flows have one home cell.
    pub(crate) fn with_one_home(servers: &[u32]) -> Self {
        let lab = Self::of(Params {
            hash: [0; 12],
            multiplier: 0,
            ..PARAMS
        });
        lab.configure(0, &[Service::web(servers), Service::dns(servers)]);
        lab
    }

    fn of(params: Params) -> Self {
        let lab = Self {
            tables: HostTables::new(params, SERVERS, 2),
            epoch: 1,
        };
        lab.tables.set_now(1000);
        lab.iface(0, 0, MAC);
        lab.iface(100, 0, VLAN_MAC);
        lab.iface(100, 200, MAC);
        let header = |tags: &[[u8; 4]]| {
            let mut bytes = vec![2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8];
            bytes.extend(tags.concat());
            bytes.extend([8, 0]);
            bytes
        };
        let (seven, eight, nine) = ([0x81, 0, 0, 7], [0x88, 0xa8, 0, 8], [0x81, 0, 0, 9]);
        for slot in [TX, NARROW, TX_TOO] {
            lab.next_hop(slot, IN, &header(&[]));
        }
        lab.next_hop(REDIRECT, OUT, &header(&[]));
        lab.next_hop(TAGGED, IN, &header(&[seven]));
        lab.next_hop(QINQ, OUT, &header(&[eight, nine]));
        for slot in 0..SERVERS {
            lab.dest(slot, Self::flags(slot));
            let cursor = Cursor {
                generation: 1,
                ..Cursor::default()
            }
            .word();
            if slot < 2 {
                lab.tables.set(
                    Table::ServiceState,
                    slot,
                    ServiceState {
                        cursor,
                        reserved: [0; 7],
                    },
                );
            }
        }
        lab
    }

    /// The flags of a server as it should be.
    pub(crate) fn flags(slot: u32) -> u32 {
        DestFlags::AVAILABLE
            | DestFlags::CLAIMED
            | match slot {
                LOCAL => DestFlags::LOCAL,
                UNRESOLVED => 0,
                _ => DestFlags::RESOLVED,
            }
    }

    /// Gives a server other flags.
    pub(crate) fn dest(&self, slot: u32, flags: u32) {
        let word = DestWord::new(slot, flags).0;
        self.tables.set(
            Table::Dest,
            slot,
            DestEntry {
                word,
                family: 4,
                ..DestEntry::default()
            },
        );
    }

    fn iface(&self, outer: u16, inner: u16, mac: [u8; 6]) {
        let key = IfaceKey {
            ifindex: IN,
            outer,
            inner,
        };
        let free = (0..IFACE_WINDOW)
            .map(|i| (key.home(PARAMS.iface_slots) + i) % PARAMS.iface_slots)
            .find(|&at| self.tables.get::<IfaceEntry>(Table::Iface, at).key == 0);
        let macs = [0, IfaceEntry::mac_word(mac), 0, 0, 0, 0];
        let entry = IfaceEntry {
            key: key.word(),
            macs,
            mtu: 1500,
        };
        self.tables
            .set(Table::Iface, free.expect("a free slot"), entry);
    }

    pub(crate) fn next_hop(&self, index: u32, ifindex: u32, bytes: &[u8]) {
        let mut header = [0; 24];
        header[..bytes.len()].copy_from_slice(bytes);
        let mtu = if index == NARROW { 100 } else { 1500 };
        let header_len = bytes.len() as u16;
        let hop = NextHop {
            ifindex,
            mtu,
            header_len,
            header,
            source: [0; 4],
            reserved: [0; 2],
        };
        self.tables.set(Table::NextHop, index, hop);
    }

    /// Gives the servers of the first half's web service another method.
    pub(crate) fn forward_by(&self, method: ForwardMethod, servers: u32) {
        for position in 0..servers {
            let index = WEB_SLOT * 16 + position;
            let entry = ListEntry {
                method: method as u32,
                ..self.tables.get(Table::List, index)
            };
            self.tables.set(Table::List, index, entry);
        }
    }

    /// Writes one half of the configuration and switches to it.
    pub(crate) fn configure(&self, side: u32, services: &[Service]) {
        self.write(side, services);
        self.tables
            .set_root(Root::new(self.epoch, side, !services.is_empty(), false));
    }

    /// Writes one half of the configuration.
    pub(crate) fn write(&self, side: u32, services: &[Service]) {
        for slot in 0..PARAMS.service_slots {
            let index = side * PARAMS.service_slots + slot;
            self.tables
                .set(Table::Service, index, ServiceEntry::default());
        }
        // The only address ever has the only bit ever set.
        let bit = filter_bit(u32::from_ne_bytes(VIP.octets()), PARAMS.filter_seed);
        let word = u64::from(!services.is_empty()) << (bit % 64);
        self.tables
            .set(Table::Filter, side * FILTER_WORDS + bit / 64, word);
        for service in services {
            let start = service.slot * 16;
            for (position, &slot) in (0..).zip(service.servers) {
                let entry = ListEntry {
                    slot,
                    weight: service.weight,
                    old_position: NO_OLD_POSITION,
                    method: ForwardMethod::Route as u32,
                };
                self.tables.set(
                    Table::List,
                    side * PARAMS.list_entries + start + position,
                    entry,
                );
            }
            self.service(side, service, start);
        }
    }

    fn service(&self, side: u32, service: &Service, list_start: u32) {
        let addr = [u32::from_ne_bytes(VIP.octets()), 0, 0, 0];
        let port = service.port.to_be();
        let key = ServiceKey {
            addr,
            port,
            protocol: service.protocol,
            family: 4,
        };
        let index = (0..SERVICE_WINDOW)
            .map(|i| {
                (key.home(PARAMS.service_seed, PARAMS.service_slots) + i) % PARAMS.service_slots
            })
            .map(|at| side * PARAMS.service_slots + at)
            .find(|&at| self.tables.get::<ServiceEntry>(Table::Service, at).family == 0)
            .expect("a free slot");
        let entry = ServiceEntry {
            addr,
            port,
            protocol: service.protocol,
            family: 4,
            flags: service.flags
                | if service.claimed {
                    ServiceFlags::CLAIMED
                } else {
                    0
                },
            scheduler: SchedulerKind::Rr as u8,
            slot: service.slot,
            generation: service.generation,
            list_start,
            list_len: service.servers.len() as u32,
            max_weight: service.weight,
            gcd: 1,
            seed_from: u64::MAX,
            persistence: Self::persistence(service),
            ..ServiceEntry::default()
        };
        self.tables.set(Table::Service, index, entry);
    }

    fn persistence(service: &Service) -> [u64; 3] {
        let (timeout, mask) = service.persistence;
        [seconds(timeout).into(), u32::from_ne_bytes(mask).into(), 0]
    }

    /// Puts a service of any port, or another one, in the place of all there are.
    pub(crate) fn of_services(services: &[Service]) -> Self {
        let lab = Self::of(PARAMS);
        lab.configure(0, services);
        lab
    }

    /// Changes a server's entry.
    pub(crate) fn edit(&self, slot: u32, change: impl FnOnce(&mut DestEntry)) {
        let mut entry = self.tables.get(Table::Dest, slot);
        change(&mut entry);
        self.tables.set(Table::Dest, slot, entry);
    }

    /// Sets the settings that packets read.
    pub(crate) fn knobs(&self, knobs: u32) {
        self.settings(|settings| settings.knobs = knobs);
    }

    /// Changes the settings that packets read.
    pub(crate) fn settings(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings: Settings = self.tables.get(Table::Settings, 0);
        change(&mut settings);
        self.tables.set(Table::Settings, 0, settings);
    }

    /// Templates of a server.
    pub(crate) fn templates(&self, slot: u32) -> u64 {
        let load: DestLoad = self.tables.get(Table::DestLoad, slot);
        load.templates
    }

    /// A whole pass of the sweep.
    pub(crate) fn sweep(&self) {
        let mut state = SweepState::default();
        for _ in 0..2 * flow::total_cells(PARAMS.flow4_cells) / flow::BLOCK + 2 {
            run::<V4, _>(&self.tables, &mut state);
        }
    }

    /// Every cell in use: its index, its state and its words.
    pub(crate) fn cells(&self) -> Vec<(u32, StateWord, [u64; 8])> {
        let all = 0..flow::total_cells(PARAMS.flow4_cells);
        let cells = all.map(|index| {
            let words: [u64; 8] = self.tables.get(Table::Flow4, index);
            (index, StateWord(words[flow::word::STATE]), words)
        });
        cells.filter(|(_, state, _)| state.is_used()).collect()
    }

    /// Checks that every count is that of the cells there are.
    pub(crate) fn check_counts(&self) {
        let cells = self.cells();
        let mut loads = [DestLoad::default(); SERVERS as usize];
        for (_, state, words) in &cells {
            let load = &mut loads[words[flow::word::DEST] as u32 as usize];
            if state.is_template() {
                load.templates += 1;
                continue;
            }
            assert!(!state.is_reverse(), "this lab has no NAT");
            load.conns += match state.counted() {
                2 => DestLoad::ACTIVE,
                1 => DestLoad::INACTIVE,
                _ => 0,
            };
        }
        for (slot, load) in (0..).zip(loads) {
            let counted: DestLoad = self.tables.get(Table::DestLoad, slot);
            assert_eq!(counted, load, "server {slot}");
        }
        for (index, state, words) in &cells {
            if !state.is_template() {
                continue;
            }
            let control = flow::Control(words[V4::LINK]);
            let mine = cells.iter().filter(|(_, state, words)| {
                let template = words[flow::word::DEST] >> flow::TEMPLATE_SHIFT;
                !state.is_template() && template == u64::from(*index) + 1
            });
            assert_eq!(control.count() as usize, mine.count(), "template {index}");
        }
    }

    /// Runs a frame that came in by [`IN`]: verdict, reason, and the frame after.
    pub(crate) fn run(&self, frame: &Frame) -> (Verdict, Reason, Vec<u8>) {
        self.run_bytes(&frame.build())
    }

    /// As [`Lab::run`]; exactly one reason must count the packet.
    pub(crate) fn run_bytes(&self, bytes: &[u8]) -> (Verdict, Reason, Vec<u8>) {
        let before: Vec<u64> = Reason::ALL.iter().map(|&r| self.tables.reason(r)).collect();
        let mut packet = HostPacket::new(bytes, IN);
        let verdict = self.tables.process(&mut packet);
        let mut counted = Vec::new();
        for (&reason, before) in Reason::ALL.iter().zip(before) {
            counted.extend(vec![reason; (self.tables.reason(reason) - before) as usize]);
        }
        assert_eq!(counted.len(), 1, "counted {counted:?} with {verdict:?}");
        (verdict, counted[0], packet.bytes().to_vec())
    }

    /// The reason of a frame.
    pub(crate) fn reason(&self, frame: &Frame) -> Reason {
        self.run(frame).1
    }

    /// The server of the client's connection from `port` to `service`.
    pub(crate) fn flow(&self, frame: &Frame) -> Option<Found<HostCell<'_>>> {
        let word = |ip: &Ipv4Addr| u64::from(u32::from_ne_bytes(ip.octets()));
        let port = |port: u16| u64::from(port.to_be());
        let (source, destination) = (frame.source, frame.destination);
        let ports = port(source.port()) | port(destination.port()) << 16;
        let key = [
            word(source.ip()) | word(destination.ip()) << 32,
            ports | u64::from(frame.protocol) << 32,
        ];
        flow::find::<V4, _>(&self.tables, &key)
    }

    /// Active and inactive connections of a server.
    pub(crate) fn load(&self, slot: u32) -> (u32, u32) {
        let load: DestLoad = self.tables.get(Table::DestLoad, slot);
        (load.active(), load.inactive())
    }

    /// Moves the clock.
    pub(crate) fn later(&self, ticks: u32) {
        self.tables
            .set_now((&self.tables).now().wrapping_add(ticks));
    }

    /// Gives the current half one filter rule, for every packet, that counts in
    /// slot 5.
    pub(crate) fn filter(&self, drop: bool) {
        let root = (&self.tables).root();
        let half = root.side() * PARAMS.rule_words;
        let header = RuleHeader {
            src_start: RuleHeader::ALL,
            src_count: 1,
            dst_start: RuleHeader::ALL,
            dst_count: 1,
            directory: RuleHeader::ALL + 2,
            ..RuleHeader::default()
        };
        let entry = RuleEntry {
            src: 1,
            dst: 1,
            order: 1,
            effect: FilterVerdict::new(5, drop).effect().word(),
            sport_high: u16::MAX,
            dport_high: u16::MAX,
            ..RuleEntry::default()
        };
        let put = |at: u32, words: &[u64]| {
            for (at, word) in (half + at..).zip(words) {
                self.tables.set(Table::Rules, at, *word);
            }
        };
        let position = RuleHeader::position(RuleKind::Filter, false);
        put(position, bytemuck::cast_slice(&[header]));
        // One point, with a list of one label; one run of one rule.
        let run = u64::from(RuleHeader::ALL + 3) | u64::from(RuleEntry::WORDS) << 32;
        let list = LabelList::new(RuleHeader::ALL + 1, 1);
        put(RuleHeader::ALL, &[list.0.into(), 1, run]);
        put(RuleHeader::ALL + 3, bytemuck::cast_slice(&[entry]));
        self.tables.set_root(root.with_rules(true, false));
    }

    /// Holds the lock of the home cell that [`Lab::with_one_home`] has.
    pub(crate) fn hold_the_lock(&self) {
        assert_eq!((&self.tables).param(Param::Multiplier), 0);
        let mut words: [u64; 8] = self.tables.get(V4::FLOW, 0);
        words[V4::HOME] |= u64::from((&self.tables).now()) << 32;
        self.tables.set(V4::FLOW, 0, words);
    }
}

pub(crate) fn client(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(CLIENT, port)
}

/// A segment to the web service.
pub(crate) fn web(port: u16, flags: u8) -> Frame {
    Frame::tcp(client(port), WEB, flags)
}

/// A datagram to the DNS service.
pub(crate) fn dns(port: u16) -> Frame {
    Frame::udp(client(port), DNS)
}
