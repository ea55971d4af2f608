//! One configuration, written alike into maps and into host memory, so that the
//! engine can be run on both.

use std::net::Ipv4Addr;

use lb_common::{
    conn::{tcp, udp},
    host::HostTables,
    layout::{
        DestEntry, DestFlags, DestWord, FILTER_WORDS, ForwardMethod, IfaceEntry, IfaceKey,
        ListEntry, NO_OLD_POSITION, NextHop, Root, SchedulerKind, ServiceEntry, ServiceFlags,
        ServiceKey, Settings, filter_bit,
    },
    sched::{Cursor, wrr},
    tables::{Params, Table},
    time::seconds,
};
use lb_userspace::dataplane::Maps;

/// The interface frames come in by: loopback, as a test run without a context has it.
pub const INGRESS: u32 = 1;
/// Another interface.
pub const EGRESS: u32 = 7;
/// Our station address.
pub const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// VLAN that is ours too.
pub const OUR_VLAN: u16 = 100;

/// Where a scene is written.
pub trait Sink {
    /// Load-time parameters.
    fn params(&self) -> Params;
    /// Writes a service.
    fn service(&self, index: u32, entry: ServiceEntry);
    /// Writes a list entry.
    fn list(&self, index: u32, entry: ListEntry);
    /// Writes a server.
    fn dest(&self, slot: u32, entry: DestEntry);
    /// Writes a next hop.
    fn next_hop(&self, index: u32, entry: NextHop);
    /// Writes an interface.
    fn iface(&self, index: u32, entry: IfaceEntry);
    /// Sets a filter bit of half 0.
    fn filter(&self, bit: u32);
    /// Writes a scheduler's cursor.
    fn cursor(&self, slot: u32, word: u64);
    /// Writes the settings.
    fn settings(&self, settings: Settings);
    /// Switches to the configuration.
    fn root(&self, root: Root);
}

impl Sink for Maps {
    fn params(&self) -> Params {
        self.params
    }
    fn service(&self, index: u32, entry: ServiceEntry) {
        self.services.set(index, entry);
    }
    fn list(&self, index: u32, entry: ListEntry) {
        self.lists.set(index, entry);
    }
    fn dest(&self, slot: u32, entry: DestEntry) {
        self.dests.set(slot, entry);
    }
    fn next_hop(&self, index: u32, entry: NextHop) {
        self.next_hops.set(index, entry);
    }
    fn iface(&self, index: u32, entry: IfaceEntry) {
        self.ifaces.set(index, entry);
    }
    fn filter(&self, bit: u32) {
        let word = self.filter.get(bit / 64);
        self.filter.set(bit / 64, word | 1 << (bit % 64));
    }
    fn cursor(&self, slot: u32, word: u64) {
        let mut state = self.service_states.get(slot);
        state.cursor = word;
        self.service_states.set(slot, state);
    }
    fn settings(&self, settings: Settings) {
        self.settings.set(0, settings);
    }
    fn root(&self, root: Root) {
        self.root.set(0, root.0);
    }
}

/// Host memory with the parameters it was made with.
pub struct HostSink<'a>(pub &'a HostTables, pub Params);

impl Sink for HostSink<'_> {
    fn params(&self) -> Params {
        self.1
    }
    fn service(&self, index: u32, entry: ServiceEntry) {
        self.0.set(Table::Service, index, entry);
    }
    fn list(&self, index: u32, entry: ListEntry) {
        self.0.set(Table::List, index, entry);
    }
    fn dest(&self, slot: u32, entry: DestEntry) {
        self.0.set(Table::Dest, slot, entry);
    }
    fn next_hop(&self, index: u32, entry: NextHop) {
        self.0.set(Table::NextHop, index, entry);
    }
    fn iface(&self, index: u32, entry: IfaceEntry) {
        self.0.set(Table::Iface, index, entry);
    }
    fn filter(&self, bit: u32) {
        assert!(bit / 64 < FILTER_WORDS);
        let word: u64 = self.0.get(Table::Filter, bit / 64);
        self.0.set(Table::Filter, bit / 64, word | 1 << (bit % 64));
    }
    fn cursor(&self, slot: u32, word: u64) {
        let mut state: [u64; 8] = self.0.get(Table::ServiceState, slot);
        state[0] = word;
        self.0.set(Table::ServiceState, slot, state);
    }
    fn settings(&self, settings: Settings) {
        self.0.set(Table::Settings, 0, settings);
    }
    fn root(&self, root: Root) {
        self.0.set_root(root);
    }
}

/// What a server of a scene is like.
#[derive(Clone, Copy, Debug)]
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

/// A service of a scene.
pub struct Service {
    /// VIP.
    pub vip: Ipv4Addr,
    /// Port.
    pub port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// Whether the VIP is the director's at the moment.
    pub claimed: bool,
    /// Servers in list order with their weights.
    pub servers: Vec<(Reached, u32)>,
}

/// Every kind of service and server this version has.
pub fn services() -> Vec<Service> {
    use Reached::{Across, Back, Gone, Local, Narrow, Tagged, Unresolved};
    let service = |last, port, protocol, scheduler, claimed, servers: &[(Reached, u32)]| Service {
        vip: Ipv4Addr::new(192, 0, 2, last),
        port,
        protocol,
        scheduler,
        claimed,
        servers: servers.to_vec(),
    };
    use SchedulerKind::{Rr, Wrr};
    vec![
        service(
            1,
            80,
            6,
            Rr,
            true,
            &[(Back, 1), (Across, 1), (Back, 0), (Tagged, 1)],
        ),
        service(1, 53, 17, Wrr, true, &[(Back, 4), (Across, 3), (Narrow, 2)]),
        service(
            2,
            80,
            6,
            Wrr,
            true,
            &[(Unresolved, 1), (Local, 2), (Gone, 1), (Back, 5)],
        ),
        service(3, 80, 6, Rr, false, &[(Back, 1)]),
        service(4, 80, 6, Rr, true, &[]),
        service(4, 53, 17, Wrr, true, &[(Back, 0)]),
    ]
}

fn next_hop(reached: Reached, slot: u32) -> NextHop {
    let (ifindex, tag) = match reached {
        Reached::Back => (INGRESS, None),
        Reached::Tagged => (EGRESS, Some(OUR_VLAN)),
        _ => (EGRESS, None),
    };
    let mut header = [0; 24];
    header[..6].copy_from_slice(&[2, 0, 0, 1, 0, slot as u8]);
    header[6..12].copy_from_slice(&OUR_MAC);
    let header_len = match tag {
        Some(tag) => {
            header[12..14].copy_from_slice(&[0x81, 0]);
            header[14..16].copy_from_slice(&tag.to_be_bytes());
            header[16..18].copy_from_slice(&[0x08, 0]);
            18
        }
        None => {
            header[12..14].copy_from_slice(&[0x08, 0]);
            14
        }
    };
    let mtu = if matches!(reached, Reached::Narrow) {
        600
    } else {
        1500
    };
    NextHop {
        ifindex,
        mtu,
        header_len,
        header,
        source: [0; 4],
        reserved: [0; 2],
    }
}

/// Writes `services` into `sink`, with the kernel's time-outs in `settings` or shorter ones.
///
/// # Panics
/// When a service finds no place: the tables are too small for the scene.
pub fn write(sink: &impl Sink, services: &[Service], settings: Settings) {
    let params = sink.params();
    sink.settings(settings);
    for (key, mac) in [
        (
            IfaceKey {
                ifindex: INGRESS,
                outer: 0,
                inner: 0,
            },
            OUR_MAC,
        ),
        (
            IfaceKey {
                ifindex: INGRESS,
                outer: OUR_VLAN,
                inner: 0,
            },
            OUR_MAC,
        ),
    ] {
        let index = key.home(params.iface_slots);
        let mut entry = IfaceEntry {
            key: key.word(),
            ..IfaceEntry::default()
        };
        entry.macs[2] = IfaceEntry::mac_word(mac);
        sink.iface(index, entry);
    }
    let mut taken = std::collections::BTreeSet::new();
    let mut slot = 0;
    for (number, service) in services.iter().enumerate() {
        let list_start = slot;
        for &(reached, weight) in &service.servers {
            let mut flags = DestFlags::AVAILABLE | DestFlags::RESOLVED;
            match reached {
                Reached::Unresolved => flags &= !DestFlags::RESOLVED,
                Reached::Local => flags |= DestFlags::LOCAL,
                Reached::Gone => flags &= !DestFlags::AVAILABLE,
                _ => {}
            }
            if service.claimed {
                flags |= DestFlags::CLAIMED;
            }
            sink.next_hop(slot, next_hop(reached, slot));
            let word = DestWord::new(slot, flags).0;
            sink.dest(
                slot,
                DestEntry {
                    word,
                    family: 4,
                    ..DestEntry::default()
                },
            );
            sink.list(
                slot,
                ListEntry {
                    slot,
                    weight,
                    old_position: NO_OLD_POSITION,
                    method: ForwardMethod::Route as u32,
                },
            );
            slot += 1;
        }
        let address = u32::from_ne_bytes(service.vip.octets());
        sink.filter(filter_bit(address, params.filter_seed));
        let key = ServiceKey {
            addr: [address, 0, 0, 0],
            port: service.port.to_be(),
            protocol: service.protocol,
            family: 4,
        };
        let home = key.home(params.service_seed, params.service_slots);
        let index = (0..lb_common::layout::SERVICE_WINDOW)
            .map(|i| home.wrapping_add(i) & (params.service_slots - 1))
            .find(|&index| taken.insert(index))
            .expect("a place for the service");
        let (max_weight, gcd) = wrr::thresholds(service.servers.iter().map(|&(_, weight)| weight));
        let number = number as u32;
        sink.cursor(
            number,
            Cursor {
                at: 0,
                weight: 1,
                generation: 1,
            }
            .word(),
        );
        sink.service(
            index,
            ServiceEntry {
                addr: key.addr,
                port: key.port,
                protocol: key.protocol,
                family: 4,
                flags: if service.claimed {
                    ServiceFlags::CLAIMED
                } else {
                    0
                },
                scheduler: service.scheduler as u8,
                slot: number,
                generation: 1,
                list_start,
                list_len: service.servers.len() as u32,
                max_weight,
                gcd,
                ..ServiceEntry::default()
            },
        );
    }
    sink.root(Root::new(1, 0, true, false));
}

/// Time-outs of a second, so that a test sees flows end.
pub fn short_timeouts() -> Settings {
    let one = seconds(1);
    let mut settings = Settings::kernel_defaults();
    settings.tcp = [one; 12];
    settings.udp = one;
    assert!(settings.tcp.len() > tcp::STATES && udp::TIMEOUT > 1);
    settings
}
