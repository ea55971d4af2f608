//! One configuration, written alike into maps and into host memory, so that the
//! engine can be run on both.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use lb_common::{
    layout::{
        DestEntry, DestFlags, DestWord, ForwardMethod, IfaceEntry, IfaceKey, ListEntry,
        LocalAddress, LocalPool, NO_OLD_POSITION, NextHop, Root, SERVICE_WINDOW, SchedulerKind,
        ServiceEntry, ServiceFlags, ServiceKey, Settings, Thresholds, TunnelChecksum, TunnelKind,
        filter_bit, reply_bit,
    },
    sched::{self, Cursor, mh, wrr},
    time::seconds,
};

pub use super::sink::{HostSink, Sink};

/// The interface frames come in by: loopback, as a test run without a context has it.
pub const INGRESS: u32 = 1;
/// Another interface.
pub const EGRESS: u32 = 7;
/// Our station address.
pub const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// VLAN that is ours too.
pub const OUR_VLAN: u16 = 100;
/// A VLAN in [`OUR_VLAN`] that is ours as well.
pub const OUR_INNER: u16 = 200;
/// The greatest length that fits out of where frames come in.
const MTU: u16 = 1500;

/// Where a server of a scene is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// By the interface the packets come in by.
    Back,
    /// By [`EGRESS`].
    Across,
    /// By [`EGRESS`], in a VLAN.
    Tagged,
    /// By a link that takes 600 bytes.
    Narrow,
    /// Not: the next hop is unknown.
    Unresolved,
    /// The director itself.
    Local,
    /// Deleted.
    Gone,
}

/// How packets get to a server of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Direct routing.
    Direct,
    /// NAT to this host (see [`nat_address`]) and port; 0 keeps the packet's.
    Nat {
        /// Number of the host: servers of several services may be one.
        host: u8,
        /// Its port.
        port: u16,
    },
    /// NAT of both ends, from an address and port of the server's own, or from
    /// none. (The pool holds that end twice: whatever is drawn, both engines
    /// choose the same.)
    Fullnat {
        /// As of NAT.
        host: u8,
        /// Its port.
        port: u16,
        /// Whether there is a local end.
        pool: bool,
    },
    /// Tunnel.
    Tunnel {
        /// Family of the outer header.
        family: u8,
        /// What is put around packets.
        kind: TunnelKind,
        /// Whether with a checksum.
        checksum: TunnelChecksum,
    },
}

/// A server of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub reached: Reached,
    /// Its weight.
    pub weight: u32,
    /// How packets get there.
    pub how: How,
}

impl From<(Reached, u32)> for Server {
    /// Direct routing.
    fn from((reached, weight): (Reached, u32)) -> Self {
        Self {
            reached,
            weight,
            how: How::Direct,
        }
    }
}

/// A service of a scene.
#[derive(Clone, Debug)]
pub struct Service {
    /// VIP.
    pub vip: IpAddr,
    /// Port.
    pub port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// Firewall mark that it is the service of, instead of its address and port;
    /// 0 for none.
    pub mark: u32,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// Its flags, as in [`ServiceFlags`].
    pub sched_flags: u16,
    /// Whether the VIP is the director's at the moment.
    pub claimed: bool,
    /// Whether FULLNAT servers are told their clients' addresses.
    pub toa: bool,
    /// [`ServiceFlags`] besides that: persistent (clients of a /24 or /64 share a
    /// template), one-packet.
    pub flags: u16,
    /// Upper threshold of its servers; 0 is none.
    pub limit: u32,
    /// Servers in list order.
    pub servers: Vec<Server>,
}

/// The NAT server with a loopback address.
pub const LOOPBACK: u8 = 0;

/// Address of a NAT server.
pub const fn nat_address(host: u8, family: u8) -> IpAddr {
    if host == LOOPBACK {
        return if family == 4 {
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9))
        } else {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        };
    }
    if family == 4 {
        IpAddr::V4(Ipv4Addr::new(10, 0, 1, host))
    } else {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, host as u16))
    }
}

/// The address and port from which connections to the FULLNAT server in `slot`
/// are made.
pub const fn local_end(slot: u32, family: u8) -> SocketAddr {
    let address = if family == 4 {
        IpAddr::V4(Ipv4Addr::new(10, 0, 3, slot as u8))
    } else {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 3, 2, 3, 4, 5, 6, slot as u16))
    };
    SocketAddr::new(address, 40_000)
}

/// Where tunnels to IPv4 servers end: the first three bytes of the address.
pub const TUNNELS4: [u8; 3] = [10, 0, 2];

fn tunnel_address(slot: u32, family: u8) -> IpAddr {
    let [a, b, c] = TUNNELS4;
    if family == 4 {
        IpAddr::V4(Ipv4Addr::new(a, b, c, slot as u8))
    } else {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 2, 3, 4, 5, 6, slot as u16))
    }
}

/// An address as it is stored: network byte order, IPv4 in the first word.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [u32::from_ne_bytes(address.octets()), 0, 0, 0],
        IpAddr::V6(address) => bytemuck::cast(address.octets()),
    }
}

fn folded(address: IpAddr) -> u32 {
    words(address).iter().fold(0, |fold, word| fold ^ word)
}

const fn version(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

fn next_hop(server: &Server, service: &Service, slot: u32) -> NextHop {
    let (ifindex, tag) = match server.reached {
        Reached::Back => (INGRESS, None),
        Reached::Tagged => (EGRESS, Some(OUR_VLAN)),
        _ => (EGRESS, None),
    };
    let family = match server.how {
        How::Tunnel { family, .. } => family,
        How::Direct | How::Nat { .. } | How::Fullnat { .. } => version(service.vip),
    };
    let mut header = vec![2, 0, 0, 1, 0, slot as u8];
    header.extend(OUR_MAC);
    if let Some(tag) = tag {
        header.extend([0x81, 0]);
        header.extend(tag.to_be_bytes());
    }
    header.extend(if family == 4 { [0x08, 0] } else { [0x86, 0xdd] });
    let header_len = header.len();
    header.resize(24, 0);
    NextHop {
        ifindex,
        mtu: match server.reached {
            Reached::Narrow => 600,
            _ => MTU,
        },
        header_len: header_len as u16,
        header: header.try_into().expect("24 bytes"),
        source: words(tunnel_address(250, family)),
        reserved: [0; 2],
    }
}

fn dest(server: &Server, service: &Service, slot: u32, locals: u32) -> DestEntry {
    let mut flags = DestFlags::AVAILABLE | DestFlags::RESOLVED;
    match server.reached {
        Reached::Unresolved => flags ^= DestFlags::RESOLVED | DestFlags::UNREACHABLE,
        Reached::Local => flags |= DestFlags::LOCAL,
        Reached::Gone => flags &= !DestFlags::AVAILABLE,
        _ => {}
    }
    if service.claimed {
        flags |= DestFlags::CLAIMED;
    }
    let family = version(service.vip);
    let entry = DestEntry {
        word: DestWord::new(slot, flags).0,
        method: method(server.how) as u8,
        thresholds: Thresholds::new(service.limit, 0).0,
        family,
        ..DestEntry::default()
    };
    match server.how {
        How::Direct => entry,
        How::Nat { host, port } => DestEntry {
            addr: words(nat_address(host, family)),
            port: port.to_be(),
            ..entry
        },
        How::Fullnat { host, port, pool } => DestEntry {
            addr: words(nat_address(host, family)),
            port: port.to_be(),
            local: LocalPool::new(locals, if pool { 2 } else { 0 }).0,
            ..entry
        },
        How::Tunnel {
            family,
            kind,
            checksum,
        } => DestEntry {
            addr: words(tunnel_address(slot, family)),
            family,
            tunnel_kind: kind as u8,
            tunnel_checksum: checksum as u8,
            tunnel_port: 6080_u16.to_be(),
            ..entry
        },
    }
}

fn flags(service: &Service) -> u16 {
    let mut flags = service.sched_flags | service.flags;
    if service.claimed {
        flags |= ServiceFlags::CLAIMED;
    }
    if service.toa {
        flags |= ServiceFlags::TOA;
    }
    flags
}

const fn method(how: How) -> ForwardMethod {
    match how {
        How::Direct => ForwardMethod::Route,
        How::Nat { .. } => ForwardMethod::Masq,
        How::Fullnat { .. } => ForwardMethod::Fullnat,
        How::Tunnel { .. } => ForwardMethod::Tunnel,
    }
}

/// Templates that live for an hour.
fn persistence(service: &Service) -> [u64; 3] {
    let mask = match service.vip {
        IpAddr::V4(_) => u32::from_ne_bytes([255, 255, 255, 0]).into(),
        IpAddr::V6(_) => u64::MAX,
    };
    [seconds(3600).into(), mask, 0]
}

/// Writes the interfaces that are ours.
fn write_ifaces(sink: &impl Sink) {
    let mut taken = BTreeSet::new();
    for (outer, inner) in [(0, 0), (OUR_VLAN, 0), (OUR_VLAN, OUR_INNER)] {
        let key = IfaceKey {
            ifindex: INGRESS,
            outer,
            inner,
        };
        let mut entry = IfaceEntry {
            key: key.word(),
            mtu: MTU.into(),
            ..IfaceEntry::default()
        };
        entry.macs[2] = IfaceEntry::mac_word(OUR_MAC);
        let slots = sink.params().iface_slots;
        let index = (0..4)
            .map(|i| key.home(slots).wrapping_add(i) & (slots - 1))
            .find(|&index| taken.insert(index))
            .expect("a place for the interface");
        sink.iface(index, entry);
    }
}

/// Servers as a scheduler's compile step sees them; `slot` is the first's.
fn compile_servers(service: &Service, slot: u32) -> Vec<sched::Server> {
    let server = |(server, slot): (&Server, u32)| sched::Server {
        addr: words(tunnel_address(slot, version(service.vip))),
        port: service.port,
        weight: server.weight,
        last_weight: server.weight,
    };
    service.servers.iter().zip(slot..).map(server).collect()
}

/// Writes `services` into `sink`, with the kernel's time-outs in `settings` or other ones.
///
/// # Panics
/// When a service finds no place: the tables are too small for the scene.
pub fn write(sink: &impl Sink, services: &[Service], settings: Settings) {
    let params = sink.params();
    sink.settings(settings);
    write_ifaces(sink);
    let mut taken = BTreeSet::new();
    let (mut slot, mut locals, mut records) = (0, 0, 0);
    for (number, service) in (0..).zip(services) {
        let list_start = slot;
        let compiled = service.scheduler.compile(&compile_servers(service, slot));
        let table = if compiled.table.is_empty() {
            0
        } else {
            u64::from(records) + 1
        };
        for (index, four) in (records..).zip(compiled.table.chunks(4)) {
            let word = four
                .iter()
                .rev()
                .fold(0, |word, &it| word << 16 | u64::from(it));
            sink.sched_table(index, word);
        }
        if table != 0 {
            records += mh::WORDS;
        }
        for (position, server) in service.servers.iter().enumerate() {
            sink.next_hop(slot, next_hop(server, service, slot));
            sink.dest(slot, dest(server, service, slot, locals));
            let entry = ListEntry {
                slot,
                weight: server.weight,
                old_position: NO_OLD_POSITION,
                method: method(server.how) as u32,
            };
            let hint = compiled.hints.get(position).copied().unwrap_or(0);
            sink.list(slot, entry.with_hint(hint));
            let family = version(service.vip);
            if let How::Fullnat { .. } = server.how {
                let local = local_end(slot, family);
                let entry = LocalAddress {
                    addr: words(local.ip()),
                    first_port: local.port(),
                    last_port: local.port(),
                    ..LocalAddress::default()
                };
                sink.local(locals, entry);
                sink.local(locals + 1, entry);
                locals += 2;
            }
            if let How::Nat { host, .. } | How::Fullnat { host, .. } = server.how {
                let address = nat_address(host, family);
                sink.filter(reply_bit(folded(address), params.filter_seed));
            }
            slot += 1;
        }
        sink.filter(filter_bit(folded(service.vip), params.filter_seed));
        let key = key(service);
        let home = key.home(params.service_seed, params.service_slots);
        let index = (0..SERVICE_WINDOW)
            .map(|i| home.wrapping_add(i) & (params.service_slots - 1))
            .find(|&index| taken.insert(index))
            .expect("a place for the service");
        let weights = service.servers.iter().map(|server| server.weight);
        let (max_weight, gcd) = wrr::thresholds(weights);
        let cursor = Cursor {
            at: 0,
            weight: 1,
            generation: 1,
        };
        sink.cursor(number, cursor.word());
        sink.service(
            index,
            ServiceEntry {
                addr: key.addr,
                port: key.port,
                protocol: key.protocol,
                family: key.family,
                flags: flags(service),
                scheduler: service.scheduler as u8,
                slot: number,
                generation: 1,
                list_start,
                list_len: service.servers.len() as u32,
                max_weight,
                gcd,
                sched: [compiled.word, table, 1],
                persistence: persistence(service),
                ..ServiceEntry::default()
            },
        );
    }
    sink.root(root(services));
}

fn key(service: &Service) -> ServiceKey {
    let family = version(service.vip);
    if service.mark != 0 {
        return ServiceKey::of_mark(service.mark, family);
    }
    ServiceKey {
        addr: words(service.vip),
        port: service.port.to_be(),
        protocol: service.protocol,
        family,
    }
}

/// The root word of the scene, without rules.
pub(super) fn root(services: &[Service]) -> Root {
    let any = |family| services.iter().any(|it| version(it.vip) == family);
    let tunnel = |outer| {
        let mut servers = services.iter().flat_map(|it| &it.servers);
        servers.any(|server| matches!(server.how, How::Tunnel { family, .. } if family == outer))
    };
    Root::new(1, 0, any(4), any(6)).with_tunnels(tunnel(4), tunnel(6))
}

/// Time-outs of a second, so that a test sees flows end.
pub fn short_timeouts() -> Settings {
    let mut settings = Settings::kernel_defaults();
    settings.tcp = [seconds(1); 12];
    settings.udp = seconds(1);
    settings.sctp = [seconds(1); 16];
    settings
}

/// Time-outs that no test outlasts, another one for each state.
pub fn long_timeouts() -> Settings {
    let mut settings = Settings::kernel_defaults();
    for (state, timeout) in (0..).zip(&mut settings.tcp) {
        *timeout = seconds(3600 + state);
    }
    for (state, timeout) in (0..).zip(&mut settings.sctp) {
        *timeout = seconds(3800 + state);
    }
    settings.udp = seconds(3700);
    settings.drop_rate = 200;
    settings
}
