//! Where FULLNAT connections come from.

use super::*;
use crate::model::LocalRange;

const VIP4: &str = "10.9.9.1";

fn service4() -> ServiceId {
    ServiceId::Address {
        protocol: Protocol::Tcp,
        addr: VIP4.parse().unwrap(),
        port: 80,
    }
}

fn server(method: Method) -> Dest {
    Dest {
        id: DestId {
            addr: SERVER.parse().unwrap(),
            port: 8080,
        },
        spec: DestSpec {
            method,
            weight: 1,
            u_threshold: 0,
            l_threshold: 0,
            tunnel: Tunnel::Ipip,
        },
    }
}

fn range(text: &str, ports: Option<(u16, u16)>) -> LocalRange {
    LocalRange {
        ports,
        ..text.parse().unwrap()
    }
}

fn add(owner: Option<ServiceId>, text: &str) -> Request {
    Request::AddLocal(owner, vec![range(text, Some((2000, 2999)))])
}

impl Lab {
    /// A lab with one FULLNAT server of an IPv4 service.
    fn with_server() -> Self {
        let mut lab = Self::new();
        let spec = lab.state.service(&service()).unwrap().spec.clone();
        lab.change(Request::AddService(service4(), spec));
        let found = lab.change(Request::AddDest(service4(), server(Method::Fullnat)));
        assert_eq!(found, Found::default());
        lab
    }

    fn run(&self) -> LocalPool {
        let slot = self.state.service(&service4()).unwrap().dests[0].slot;
        LocalPool(self.memory.tables().dests.get(slot).local)
    }

    /// What the engine may choose from.
    fn pool(&self) -> Vec<(String, u16, u16)> {
        let run = self.run();
        let entries = run.start()..run.start() + run.len();
        let locals = entries.map(|index| self.memory.tables().locals.get(index));
        let text = |local: LocalAddress| IpAddr::from(local.addr[0].to_ne_bytes()).to_string();
        locals
            .map(|local| (text(local), local.first_port, local.last_port))
            .collect()
    }
}

fn entry(addr: &str, first: u16, last: u16) -> (String, u16, u16) {
    (addr.into(), first, last)
}

#[test]
fn the_services_own_pool_then_the_directors_then_the_address_towards_the_server() {
    let mut lab = Lab::with_server();
    let own = [entry("10.8.0.254", 1024, 32_767)];
    assert_eq!(lab.pool(), own);
    // A pool without an address of the family is none.
    lab.change(add(None, "fd00::1"));
    assert_eq!(lab.pool(), own);
    lab.change(add(None, "10.7.0.4/31"));
    let director = [entry("10.7.0.4", 2000, 2999), entry("10.7.0.5", 2000, 2999)];
    assert_eq!(lab.pool(), director);
    lab.change(Request::AddLocal(
        Some(service4()),
        vec![range("10.7.0.9", None)],
    ));
    assert_eq!(lab.pool(), [entry("10.7.0.9", 1024, 32_767)]);
    lab.change(Request::DeleteLocal(
        Some(service4()),
        vec![range("10.7.0.9", None)],
    ));
    assert_eq!(lab.pool(), director);
    lab.change(Request::DeleteLocal(None, vec![range("10.7.0.4/31", None)]));
    assert_eq!(lab.pool(), own);
}

#[test]
fn a_run_that_a_packet_may_read_is_not_written() {
    let mut lab = Lab::with_server();
    let old = lab.run();
    let before = lab.memory.tables().locals.get(old.start());
    lab.change(add(None, "10.7.0.4"));
    let new = lab.run();
    assert_ne!(new.start(), old.start());
    assert_eq!(lab.memory.tables().locals.get(old.start()), before);
    // A grace period later its place is free.
    lab.change(add(None, "10.7.0.5"));
    assert_eq!(lab.run().len(), 2);
    lab.change(Request::DeleteLocal(None, vec![range("10.7.0.5", None)]));
    assert_eq!(lab.run().start(), old.start());
}

#[test]
fn a_server_that_becomes_another_keeps_its_pool_for_packets_on_their_way() {
    let mut lab = Lab::with_server();
    let pool = lab.pool();
    lab.change(Request::EditDest(service4(), server(Method::Masq)));
    assert_eq!(lab.pool(), pool);
    // Until its slot is another server's.
    lab.change(Request::DeleteDest(service4(), server(Method::Masq).id));
    let mut other = server(Method::Masq);
    other.id.port = 81;
    let slot = lab.state.trash().next().unwrap().slot;
    let tables = lab.memory.tables();
    for now in [1000, 1200] {
        lab.state.expire_trash(&tables, &lab.memory.counters, now);
    }
    lab.state.begin();
    lab.change(Request::AddDest(service4(), other));
    assert_eq!(lab.state.service(&service4()).unwrap().dests[0].slot, slot);
    assert!(lab.run().is_empty());
}

#[test]
fn what_does_not_work_is_told() {
    let mut lab = Lab::with_server();
    let found = lab.change(add(Some(service4()), "10.7.0.4/30"));
    assert_eq!(
        found.warnings,
        [format!(
            "{FOREIGN}10.7.0.4, 10.7.0.5, 10.7.0.6, 10.7.0.7 in the pool of -t 10.9.9.1:80 \
             ('ip address add' takes it, 'lvx laddr del' does without)"
        )]
    );
    let mut view = view();
    for last in 4..=6 {
        view.addresses.insert((IpAddr::from([10, 7, 0, last]), 2));
    }
    // By a local route: as good as an address of an interface.
    view.targets
        .insert(IpAddr::from([10, 7, 0, 7]), Resolution::Local);
    lab.view = Arc::new(view);
    let found = lab.change(add(None, "10.7.0.6"));
    assert_eq!(found.warnings, Vec::<String>::new());

    // The director's own connections use every port.
    lab.ports = None;
    let gone = Request::DeleteLocal(Some(service4()), vec![range("10.7.0.4/30", None)]);
    lab.change(gone);
    let pool = lab.pool();
    let found = lab.change(Request::DeleteLocal(None, vec![range("10.7.0.6", None)]));
    assert!(
        found.warnings[0].starts_with("net.ipv4.ip_local_port_range leaves no port"),
        "{found:?}"
    );
    assert_eq!(lab.pool(), pool, "the old pool rather than none");

    let found = lab.change(add(None, "10.7.1.0/25"));
    assert!(
        found.warnings[0].starts_with("the table of local addresses is full (64)"),
        "{found:?}"
    );
    assert_eq!(lab.pool(), pool);
}
