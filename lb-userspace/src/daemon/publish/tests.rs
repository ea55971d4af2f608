use std::sync::Arc;

use lb_common::layout::{NextHop, TunnelChecksum as LayoutChecksum};

use super::*;
use crate::{
    daemon::{state::Limits, tables::memory::Memory},
    model::{DestId, DestSpec, Method, Protocol, Request, ServiceSpec, Tunnel, TunnelChecksum},
    netlink::{Link, LinkKind},
};

mod fullnat;

const SERVICE: &str = "2001:db8::1";
const SERVER: &str = "10.8.0.1";

fn service() -> ServiceId {
    ServiceId::Address {
        protocol: Protocol::Tcp,
        addr: SERVICE.parse().unwrap(),
        port: 80,
    }
}

/// A server that is reached by way of an IPv6 neighbour, and a VIP on lo.
fn view() -> View {
    let link = Link {
        index: 2,
        name: "eth0".into(),
        mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
        up: true,
        master: None,
        kind: LinkKind::Plain,
        xdp: None,
    };
    let way = Resolution::Via {
        ifindex: 2,
        neighbour: "fe80::9".parse().unwrap(),
        mac: Some([2, 0, 0, 0, 0, 9]),
        failed: false,
        port: None,
        mtu: 1400,
        source: Some("10.8.0.254".parse().unwrap()),
    };
    View {
        links: BTreeMap::from([(2, link)]),
        addresses: BTreeSet::from([(SERVICE.parse().unwrap(), 1)]),
        targets: BTreeMap::from([(SERVER.parse().unwrap(), way)]),
    }
}

struct Lab {
    memory: Memory,
    state: State,
    shared: Shared,
    view: Arc<View>,
    ports: Option<RangeInclusive<u16>>,
}

impl Lab {
    fn new() -> Self {
        let memory = Memory::new(2, 4);
        let mut state = State::new(Limits::of(memory.sizes, &memory.params));
        let spec = ServiceSpec {
            scheduler: "rr".into(),
            sched_flags: 0,
            ops: false,
            persistent: None,
            netmask: 128,
            pe: None,
            toa: false,
        };
        let add = Request::AddService(service(), spec);
        state
            .apply(&add, &memory.counters, &memory.tables(), 0)
            .unwrap();
        let shared = Shared::restore(&memory.tables());
        Self {
            memory,
            state,
            shared,
            view: Arc::new(view()),
            ports: Some(1024..=32_767),
        }
    }

    fn apply(
        &mut self,
        request: impl Fn(ServiceId, Dest) -> Request,
        tunnel: Tunnel,
    ) -> Unresolved {
        let id = DestId {
            addr: SERVER.parse().unwrap(),
            port: 80,
        };
        let spec = DestSpec {
            method: Method::Tunnel,
            weight: 1,
            u_threshold: 0,
            l_threshold: 0,
            tunnel,
        };
        self.change(request(service(), Dest { id, spec }))
            .unresolved
    }

    /// A transaction with this request, the grace period before it included.
    fn change(&mut self, request: Request) -> Found {
        self.shared.begin();
        let tables = self.memory.tables();
        self.state
            .apply(&request, &self.memory.counters, &tables, 0)
            .unwrap();
        let world = World {
            view: &self.view,
            any_vip: false,
            ports: self.ports.clone(),
        };
        let found = publish(&tables, &self.state, &mut self.shared, &world);
        withdraw(&tables, &self.state, &mut self.shared, &world);
        self.state.finish();
        found
    }

    fn entry(&self) -> DestEntry {
        let slot = self.state.service(&service()).unwrap().dests[0].slot;
        self.memory.tables().dests.get(slot)
    }
}

#[test]
fn tunnels_are_edited_in_place() {
    let mut lab = Lab::new();
    let tunnel = |entry: DestEntry| {
        let port = u16::from_be(entry.tunnel_port);
        (entry.tunnel_kind, port, entry.tunnel_checksum)
    };
    let gue = |port, checksum| Tunnel::Gue { port, checksum };
    let (add, edit) = (Request::AddDest, Request::EditDest);
    let unresolved = lab.apply(add, gue(6080, TunnelChecksum::Remote));
    assert!(unresolved.is_empty(), "{unresolved:?}");
    let first = lab.entry();
    let remote = LayoutChecksum::Remote as u8;
    assert_eq!(tunnel(first), (TunnelKind::Gue as u8, 6080, remote));
    assert_eq!((first.family, first.generation), (4, 1));

    lab.apply(edit, gue(6081, TunnelChecksum::None));
    assert_eq!(tunnel(lab.entry()), (TunnelKind::Gue as u8, 6081, 0));
    let checksum = TunnelChecksum::Full;
    lab.apply(edit, Tunnel::Gre { checksum });
    let (kind, _, sum) = tunnel(lab.entry());
    assert_eq!(
        (kind, sum),
        (TunnelKind::Gre as u8, LayoutChecksum::Full as u8)
    );
    lab.apply(edit, Tunnel::Ipip);
    // A packet that still reads the old kind must not read port 0 with it.
    assert_eq!(tunnel(lab.entry()), (TunnelKind::Ipip as u8, 6081, 0));
    assert_eq!(
        (lab.entry().word, lab.entry().generation),
        (first.word, first.generation)
    );
}

#[test]
fn a_tunnel_needs_an_address_to_send_from() {
    let mut lab = Lab::new();
    let mut view = view();
    for way in view.targets.values_mut() {
        if let Resolution::Via { source, .. } = way {
            *source = None;
        }
    }
    lab.view = Arc::new(view);
    let unresolved = lab.apply(Request::AddDest, Tunnel::Ipip);
    let reason = &unresolved[&SERVER.parse::<IpAddr>().unwrap()];
    assert!(reason.contains("no address to send"), "{reason}");
    assert!(!DestWord(lab.entry().word).has(DestFlags::RESOLVED));
}

#[test]
fn a_server_of_the_other_family_is_claimed_and_reached() {
    let mut lab = Lab::new();
    lab.apply(Request::AddDest, Tunnel::Ipip);
    let word = DestWord(lab.entry().word);
    let flags = DestFlags::AVAILABLE | DestFlags::CLAIMED | DestFlags::RESOLVED;
    assert_eq!(word.flags(), flags);
    let hop: NextHop = lab.memory.tables().next_hops.get(word.next_hop());
    assert_eq!(hop.source[0].to_ne_bytes(), [10, 8, 0, 254]);
    assert_eq!((hop.mtu, &hop.header[12..14]), (1400, &[8, 0][..]));
    // The VIP moves away.
    let mut view = view();
    view.addresses.clear();
    lab.view = Arc::new(view);
    lab.apply(Request::EditDest, Tunnel::Ipip);
    assert_eq!(
        DestWord(lab.entry().word).flags(),
        DestFlags::AVAILABLE | DestFlags::RESOLVED
    );
}
