//! A director with NAT servers, in either family, and a check of all counts.

use std::{
    collections::{HashMap, HashSet},
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use lb_common::{
    engine::Verdict,
    family::Family,
    flow::{
        self, FlowCell, Found, HomeWord,
        sweep::{SweepState, run},
        total_cells, word,
    },
    host::{
        HostCell, HostPacket, HostTables,
        frame::{Frame, Frame6, checksum, sctp_chunk},
        sums,
    },
    layout::{
        DestEntry, DestFlags, DestLoad, DestWord, FILTER_WORDS, ForwardMethod, IFACE_WINDOW,
        IfaceEntry, IfaceKey, ListEntry, LocalAddress, LocalPool, NO_OLD_POSITION, NextHop, Root,
        SERVICE_WINDOW, SchedulerKind, ServiceEntry, ServiceFlags, ServiceKey, ServiceState,
        filter_bit, reply_bit,
    },
    reason::Reason,
    sched::Cursor,
    tables::{Cell, Params, Table, Tables},
    wire::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP},
};

/// The interface that clients are behind, and the one that servers are behind.
pub(crate) const IN: u32 = 2;
pub(crate) const OUT: u32 = 3;
/// Our station address on both.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The client's gateway, another one, and the servers' station.
pub(crate) const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0xa1];
pub(crate) const OTHER_GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0xa2];
const STATION: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// Servers: NAT to port 8080, NAT that keeps the port, direct routing, and
/// FULLNAT to port 8080.
pub(crate) const MAPPED: u32 = 0;
pub(crate) const KEPT: u32 = 1;
pub(crate) const DIRECT: u32 = 2;
pub(crate) const FULL: u32 = 3;
const SERVERS: u32 = 4;
/// Ports of the services: two of TCP, one of UDP, one of SCTP.
pub(crate) const WEB: u16 = 80;
pub(crate) const WEB_TOO: u16 = 81;
pub(crate) const DNS: u16 = 53;
pub(crate) const SIGNAL: u16 = 2905;
const SERVICES: [(u16, u8); 4] = [
    (WEB, IPPROTO_TCP),
    (WEB_TOO, IPPROTO_TCP),
    (DNS, IPPROTO_UDP),
    (SIGNAL, IPPROTO_SCTP),
];

/// Cells of either table; Miri, which looks at each, has no time for many.
const CELLS: u32 = if cfg!(miri) { 64 } else { 8192 };

const PARAMS: Params = Params {
    hash: [
        0x1b87_3593,
        0xcc9e_2d51,
        0x85eb_ca6b,
        0xc2b2_ae35,
        0x27d4_eb2f,
        0x1656_67b1,
        0x9e37_79b1,
        0x85eb_ca77,
        0xc2b2_ae3d,
        0x27d4_eb4f,
        0x1656_67c5,
        0x2545_f491,
    ],
    multiplier: 0x9e37_79b9_7f4a_7c15,
    service_seed: 0x1234_5678_9abc_def0,
    filter_seed: 77,
    flow4_cells: CELLS,
    flow6_cells: CELLS,
    service_slots: 16,
    list_entries: 64,
    iface_slots: 8,
    rule_words: 1,
    reserved: 0,
};

fn address<F: Family>(four: [u8; 4], six: u16) -> IpAddr {
    if F::VERSION == 4 {
        Ipv4Addr::from(four).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, six, four[3].into()).into()
    }
}

fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [u32::from_ne_bytes(address.octets()), 0, 0, 0],
        IpAddr::V6(address) => bytemuck::cast(address.octets()),
    }
}

fn folded(address: IpAddr) -> u32 {
    words(address).iter().fold(0, |fold, word| fold ^ word)
}

/// What FULLNAT may use: one address.
const POOL: LocalPool = LocalPool::new(1, 1);

fn is_mapped(slot: u32) -> bool {
    matches!(slot, MAPPED | FULL)
}

/// A packet to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) protocol: u8,
    pub(crate) flags: u8,
    pub(crate) ttl: u8,
    pub(crate) stations: [[u8; 6]; 2],
    pub(crate) tags: Vec<(u16, u16)>,
    pub(crate) tcp_options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// Sums up the ICMP message that the payload is.
    pub(crate) fn seal(&mut self) {
        self.payload[2..4].fill(0);
        let pseudo = match (self.source, self.destination) {
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => [
                &source.ip().octets()[..],
                &destination.ip().octets(),
                &(self.payload.len() as u32).to_be_bytes(),
                &[0, 0, 0, self.protocol],
            ]
            .concat(),
            _ => Vec::new(),
        };
        let sum = checksum(&[&pseudo[..], &self.payload].concat());
        self.payload[2..4].copy_from_slice(&sum);
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => Frame {
                protocol: self.protocol,
                ttl: self.ttl,
                stations: self.stations,
                tags: self.tags.clone(),
                tcp_options: self.tcp_options.clone(),
                payload: self.payload.clone(),
                ..Frame::tcp(source, destination, self.flags)
            }
            .build(),
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => Frame6 {
                protocol: self.protocol,
                ttl: self.ttl,
                stations: self.stations,
                tags: self.tags.clone(),
                tcp_options: self.tcp_options.clone(),
                payload: self.payload.clone(),
                ..Frame6::tcp(source, destination, self.flags)
            }
            .build(),
            _ => unreachable!("one family"),
        }
    }
}

/// The director.
pub(crate) struct Bed<F> {
    pub(crate) tables: HostTables,
    family: PhantomData<F>,
}

impl<F: Family> Bed<F> {
    /// Every service has these servers, first to last.
    pub(crate) fn with(servers: &[u32]) -> Self {
        Self::of(PARAMS, servers)
    }

    /// As [`Self::with`]; all flows have one home cell.
    pub(crate) fn with_one_home(servers: &[u32]) -> Self {
        let params = Params {
            hash: [0; 12],
            multiplier: 0,
            ..PARAMS
        };
        Self::of(params, servers)
    }

    /// As [`Self::with`]; the table has so many cells.
    pub(crate) fn with_cells(cells: u32, servers: &[u32]) -> Self {
        let params = Params {
            flow4_cells: cells,
            flow6_cells: cells,
            ..PARAMS
        };
        Self::of(params, servers)
    }

    fn of(params: Params, servers: &[u32]) -> Self {
        let bed = Self {
            tables: HostTables::new(params, SERVERS, SERVICES.len() as u32),
            family: PhantomData,
        };
        bed.tables.set_now(1000);
        for (ifindex, outer) in [(IN, 0), (IN, 100), (OUT, 0)] {
            bed.iface(ifindex, outer);
        }
        for slot in 0..SERVERS {
            bed.write_server(slot);
            bed.set_flags(slot, Self::flags());
        }
        bed.set_ports(1024, 32_767);
        bed.configure(0, servers, 1);
        bed
    }

    pub(crate) fn flags() -> u32 {
        DestFlags::AVAILABLE | DestFlags::CLAIMED | DestFlags::RESOLVED
    }

    fn iface(&self, ifindex: u32, outer: u16) {
        let key = IfaceKey {
            ifindex,
            outer,
            inner: 0,
        };
        let free = (0..IFACE_WINDOW)
            .map(|i| (key.home(PARAMS.iface_slots) + i) % PARAMS.iface_slots)
            .find(|&at| self.tables.get::<IfaceEntry>(Table::Iface, at).key == 0);
        let entry = IfaceEntry {
            key: key.word(),
            macs: [IfaceEntry::mac_word(MAC), 0, 0, 0, 0, 0],
            mtu: 1500,
        };
        self.tables
            .set(Table::Iface, free.expect("a free slot"), entry);
    }

    fn write_server(&self, slot: u32) {
        let mut header = [STATION, MAC].concat();
        header.extend(F::ETHERTYPE.to_ne_bytes());
        header.resize(24, 0);
        let hop = NextHop {
            ifindex: OUT,
            mtu: 1500,
            header_len: 14,
            header: header.try_into().expect("24 bytes"),
            source: [0; 4],
            reserved: [0; 2],
        };
        self.tables.set(Table::NextHop, slot, hop);
    }

    /// The ports of [`Self::local`], all that FULLNAT has.
    pub(crate) fn set_ports(&self, first_port: u16, last_port: u16) {
        self.set_local(POOL.start(), Self::local(0).ip(), first_port, last_port);
    }

    /// A local address and its ports.
    pub(crate) fn set_local(&self, index: u32, address: IpAddr, first_port: u16, last_port: u16) {
        let entry = LocalAddress {
            addr: words(address),
            first_port,
            last_port,
            ..LocalAddress::default()
        };
        self.tables.set(Table::Local, index, entry);
    }

    /// Gives a server other flags.
    pub(crate) fn set_flags(&self, slot: u32, flags: u32) {
        let entry = DestEntry {
            word: DestWord::new(slot, flags).0,
            addr: words(Self::server(slot, 0).ip()),
            port: if is_mapped(slot) { 8080_u16.to_be() } else { 0 },
            family: F::VERSION,
            local: if slot == FULL { POOL.0 } else { 0 },
            ..DestEntry::default()
        };
        self.tables.set(Table::Dest, slot, entry);
    }

    /// Has FULLNAT servers of all services told their clients' addresses.
    pub(crate) fn tell_clients(&self) {
        for index in 0..2 * PARAMS.service_slots {
            let mut entry: ServiceEntry = self.tables.get(Table::Service, index);
            if entry.family != 0 {
                entry.flags |= ServiceFlags::TOA;
                self.tables.set(Table::Service, index, entry);
            }
        }
    }

    /// Writes one half of the configuration and switches to it.
    pub(crate) fn configure(&self, side: u32, servers: &[u32], generation: u32) {
        let filter = |bit: u32| {
            let at = side * FILTER_WORDS + bit / 64;
            let word: u64 = self.tables.get(Table::Filter, at);
            self.tables.set(Table::Filter, at, word | 1 << (bit % 64));
        };
        filter(filter_bit(folded(Self::vip(0).ip()), PARAMS.filter_seed));
        for slot in [MAPPED, KEPT, FULL] {
            filter(reply_bit(
                folded(Self::server(slot, 0).ip()),
                PARAMS.filter_seed,
            ));
        }
        for (number, (port, protocol)) in (0..).zip(SERVICES) {
            let list_start = number * 8;
            for (position, &slot) in (0..).zip(servers) {
                let method = match slot {
                    DIRECT => ForwardMethod::Route,
                    FULL => ForwardMethod::Fullnat,
                    _ => ForwardMethod::Masq,
                };
                let entry = ListEntry {
                    slot,
                    weight: 1,
                    old_position: NO_OLD_POSITION,
                    method: method as u32,
                };
                let at = side * PARAMS.list_entries + list_start + position;
                self.tables.set(Table::List, at, entry);
            }
            let cursor = Cursor {
                generation: generation as u16,
                ..Cursor::default()
            }
            .word();
            let state = ServiceState {
                cursor,
                reserved: [0; 7],
            };
            self.tables.set(Table::ServiceState, number, state);
            self.service(
                side,
                number,
                port,
                protocol,
                servers.len() as u32,
                generation,
            );
        }
        let (four, six) = (F::VERSION == 4, F::VERSION == 6);
        self.tables
            .set_root(Root::new(generation.into(), side, four, six));
    }

    fn service(&self, side: u32, slot: u32, port: u16, protocol: u8, len: u32, generation: u32) {
        let key = ServiceKey {
            addr: words(Self::vip(0).ip()),
            port: port.to_be(),
            protocol,
            family: F::VERSION,
        };
        let slots = PARAMS.service_slots;
        let index = (0..SERVICE_WINDOW)
            .map(|i| side * slots + (key.home(PARAMS.service_seed, slots) + i) % slots)
            .find(|&at| {
                let there: ServiceEntry = self.tables.get(Table::Service, at);
                there.family == 0 || (there.port, there.protocol) == (key.port, key.protocol)
            })
            .expect("a free slot");
        let entry = ServiceEntry {
            addr: key.addr,
            port: key.port,
            protocol,
            family: F::VERSION,
            flags: ServiceFlags::CLAIMED,
            scheduler: SchedulerKind::Rr as u8,
            slot,
            generation,
            list_start: slot * 8,
            list_len: len,
            max_weight: 1,
            gcd: 1,
            seed_from: u64::MAX,
            ..ServiceEntry::default()
        };
        self.tables.set(Table::Service, index, entry);
    }

    pub(crate) fn vip(port: u16) -> SocketAddr {
        SocketAddr::new(address::<F>([192, 0, 2, 1], 1), port)
    }

    pub(crate) fn client(port: u16) -> SocketAddr {
        SocketAddr::new(address::<F>([198, 51, 100, 7], 2), port)
    }

    /// A server's end of a connection to a service's `port`.
    pub(crate) fn server(slot: u32, port: u16) -> SocketAddr {
        let port = if is_mapped(slot) { 8080 } else { port };
        SocketAddr::new(address::<F>([10, 7, 0, 1 + slot as u8], 3), port)
    }

    /// Our end of a FULLNAT connection.
    pub(crate) fn local(port: u16) -> SocketAddr {
        SocketAddr::new(address::<F>([10, 7, 0, 200], 3), port)
    }

    /// From the client to a service.
    pub(crate) fn request(from: u16, to: u16, flags: u8) -> Segment {
        let protocol = match to {
            DNS => IPPROTO_UDP,
            SIGNAL => IPPROTO_SCTP,
            _ => IPPROTO_TCP,
        };
        Segment {
            source: Self::client(from),
            destination: Self::vip(to),
            protocol,
            flags,
            ttl: 64,
            stations: [MAC, GATEWAY],
            tags: Vec::new(),
            tcp_options: Vec::new(),
            payload: b"a payload of an odd length".to_vec(),
        }
    }

    /// From a server to the client, about a connection to a service's port.
    pub(crate) fn reply(slot: u32, from: u16, to: u16, flags: u8) -> Segment {
        Segment {
            source: Self::server(slot, from),
            destination: Self::client(to),
            stations: [MAC, STATION],
            ..Self::request(to, from, flags)
        }
    }

    /// An SCTP packet of one chunk, from the client.
    pub(super) fn chunk(from: u16, kind: u8) -> Segment {
        Segment {
            payload: sctp_chunk(kind, 0, b"odd"),
            ..Self::request(from, SIGNAL, 0)
        }
    }

    /// As [`Self::chunk`], from a server.
    pub(super) fn answer_chunk(slot: u32, to: u16, kind: u8) -> Segment {
        Segment {
            payload: sctp_chunk(kind, 0, b"odd"),
            ..Self::reply(slot, SIGNAL, to, 0)
        }
    }

    /// Runs a request that came in by [`IN`], or a reply by [`OUT`]. What leaves
    /// has right checksums.
    pub(crate) fn run(&self, segment: &Segment) -> (Verdict, Reason, Vec<u8>) {
        let before: Vec<u64> = Reason::ALL.iter().map(|&r| self.tables.reason(r)).collect();
        let ingress = if segment.source.ip() == Self::client(0).ip() {
            IN
        } else {
            OUT
        };
        let mut packet = HostPacket::new(&segment.build(), ingress);
        let verdict = self.tables.process(&mut packet);
        let mut counted = Reason::ALL
            .iter()
            .zip(before)
            .filter(|&(&reason, before)| self.tables.reason(reason) != before);
        let (&reason, _) = counted.next().expect("one reason");
        assert!(counted.next().is_none());
        assert_ne!(reason, Reason::DroppedInternal);
        if verdict != Verdict::Drop {
            sums::check(packet.bytes()).expect("right checksums");
        }
        (verdict, reason, packet.bytes().to_vec())
    }

    pub(crate) fn reason(&self, segment: &Segment) -> Reason {
        self.run(segment).1
    }

    fn key(segment: &Segment) -> F::Key {
        let end = |at: SocketAddr| -> [u64; 2] { bytemuck::cast(words(at.ip())) };
        let port = |at: SocketAddr| u64::from(at.port().to_be());
        let ports = port(segment.source)
            | port(segment.destination) << 16
            | u64::from(segment.protocol) << 32;
        F::key_of(end(segment.source), end(segment.destination), ports)
    }

    /// The cell under a packet's key.
    pub(crate) fn cell(&self, segment: &Segment) -> Option<Found<HostCell<'_>>> {
        flow::find::<F, _>(&self.tables, &Self::key(segment))
    }

    /// The connection from the client's `from` to the service's `to`.
    pub(crate) fn conn(&self, from: u16, to: u16) -> Option<Found<HostCell<'_>>> {
        self.cell(&Self::request(from, to, 0))
    }

    /// Protocol state of a connection.
    pub(crate) fn state(&self, from: u16, to: u16) -> u8 {
        let conn = self.conn(from, to).expect("tracked");
        conn.state.protocol_state()
    }

    /// Active and inactive connections of a server.
    pub(crate) fn load(&self, slot: u32) -> (u32, u32) {
        let load: DestLoad = self.tables.get(Table::DestLoad, slot);
        (load.active(), load.inactive())
    }

    pub(crate) fn now(&self) -> u32 {
        (&self.tables).now()
    }

    /// Moves the clock.
    pub(crate) fn later(&self, ticks: u32) {
        self.tables.set_now(self.now().wrapping_add(ticks));
    }

    /// Sweeps all of the table, twice: a reverse cell may be met before its connection.
    pub(crate) fn sweep(&self) {
        let mut state = SweepState::default();
        let main = (&self.tables).param(F::CELLS) as u32;
        let blocks = total_cells(main).div_ceil(flow::BLOCK);
        for _ in 0..2 * blocks {
            run::<F, _>(&self.tables, &mut state);
        }
    }

    /// Numbers of connections and of reverse cells, after a check that every
    /// count says what the cells say, that no key has two cells, and that no
    /// connection has two reverse cells.
    pub(crate) fn audit(&self) -> (usize, usize) {
        let main = (&self.tables).param(F::CELLS) as u32;
        let mut blocks = HashMap::new();
        let mut spills = HashMap::new();
        let mut loads = [(0, 0); SERVERS as usize];
        let mut keys = HashSet::new();
        let mut links = HashSet::new();
        let mut connections = 0;
        for index in 0..total_cells(main) {
            let cell = FlowCell((&self.tables).cell(F::FLOW, index).expect("exists"));
            let state = cell.state();
            if state.is_free() {
                continue;
            }
            assert!(state.is_live(), "cell {index} was left busy");
            let key = cell.key::<F>();
            assert!(keys.insert(format!("{key:?}")), "{key:?} is there twice");
            *blocks.entry(index / flow::BLOCK).or_insert(0) += 1;
            if index >= main {
                *spills
                    .entry(flow::home::<F, _>(&self.tables, &key))
                    .or_insert(0) += 1;
            }
            if state.is_reverse() {
                let live = flow::linked::<F, _>(&self.tables, cell.link()).is_some();
                let first = links.insert(cell.link().0);
                assert!(!live || first, "a connection has two reverse cells");
                continue;
            }
            connections += 1;
            let load = &mut loads[cell.dest() as u32 as usize];
            match state.counted() {
                2 => load.0 += 1,
                1 => load.1 += 1,
                counted => panic!("a connection counted as {counted}"),
            }
        }
        for block in 0..total_cells(main).div_ceil(flow::BLOCK) {
            let wanted: u64 = blocks.get(&block).copied().unwrap_or(0);
            assert_eq!(self.tables.get::<u64>(F::BLOCKS, block), wanted);
        }
        for home in 0..main {
            let cell = (&self.tables).cell(F::FLOW, home).expect("exists");
            let wanted = spills.get(&home).copied().unwrap_or(0);
            let word = HomeWord(cell.load(word::HOME));
            let found = (word.is_locked(), word.spilled());
            assert_eq!(found, (false, wanted), "lock and spill of {home}");
        }
        for (slot, wanted) in (0..).zip(loads) {
            assert_eq!(self.load(slot), wanted, "load of server {slot}");
        }
        (connections, keys.len() - connections)
    }
}

/// Runs a check for both families.
macro_rules! both_families {
    ($($name:ident),+ $(,)?) => {
        mod four {$(
            #[test]
            fn $name() {
                super::$name::<lb_common::family::V4>();
            }
        )+}
        mod six {$(
            #[test]
            fn $name() {
                super::$name::<lb_common::family::V6>();
            }
        )+}
    };
}
pub(crate) use both_families;
