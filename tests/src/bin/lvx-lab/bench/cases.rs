//! What is measured: one path through the program each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::{
    layout::{SchedulerKind, ServiceFlags, TunnelChecksum, TunnelKind},
    reason::Reason,
    wire::{IPPROTO_TCP, IPPROTO_UDP},
};
use lb_userspace::model::{Chain, Rule};
use lvx_tests::kernel::{
    rules,
    scene::{How, Reached, Server, Service, nat_address},
};

use super::template::{Segment, Template};

/// The measured service's address.
const VIP4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1));
const PORT: u16 = 80;
/// Host and port of a NAT server.
const HOST: u8 = 1;
const SERVER_PORT: u16 = 8080;
/// The mark of the measured service.
const MARK: u32 = 1;

/// Which packets are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of connections that are there.
    Established,
    /// Each starts a connection.
    New,
    /// For no service.
    NotOurs,
}

/// At most so many times F1's time: with one flow, and with the most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    pub(super) one: Option<f64>,
    pub(super) many: Option<f64>,
}

const fn target(one: f64, many: f64) -> Target {
    Target {
        one: Some(one),
        many: Some(many),
    }
}

/// One path through the program.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) services: Vec<Service>,
    pub(super) rules: Vec<(Chain, Rule)>,
    /// What every flow sends before, in this order.
    pub(super) before: Vec<Template>,
    /// What is measured.
    pub(super) frame: Template,
    /// Whether the program puts a header in front.
    pub(super) grows: bool,
    /// Cells of the table a connection has.
    pub(super) cells: u32,
    /// Most connections that there can be at a time, if the table is not the limit.
    pub(super) most: Option<u32>,
    /// Flows that have made templates before, if any.
    pub(super) templates: u32,
    /// Connections promised are so few that the table is full; else those measured.
    pub(super) full: bool,
    /// How every packet ends.
    pub(super) reason: Reason,
    pub(super) target: Target,
}

impl Case {
    /// Established TCP to a service with one server.
    fn established(name: &str, vip: IpAddr, how: How, target: Target) -> Self {
        let at = SocketAddr::new(vip, PORT);
        Self {
            name: name.to_owned(),
            kind: Kind::Established,
            services: vec![service(vip, IPPROTO_TCP, SchedulerKind::Rr, vec![to(how)])],
            rules: Vec::new(),
            before: vec![
                Template::to(at, Segment::Syn),
                Template::to(at, Segment::Ack),
            ],
            frame: Template::to(at, Segment::Ack),
            grows: matches!(how, How::Tunnel { .. }),
            cells: match how {
                How::Nat { .. } | How::Fullnat { .. } => 2,
                How::Direct | How::Tunnel { .. } => 1,
            },
            most: None,
            templates: 0,
            full: false,
            reason: Reason::ForwardedTx,
            target,
        }
    }

    /// New TCP connections to services of which the first is measured.
    fn new(name: &str, services: Vec<Service>) -> Self {
        let at = SocketAddr::new(services[0].vip, PORT);
        Self {
            kind: Kind::New,
            services,
            before: Vec::new(),
            frame: Template::to(at, Segment::Syn),
            ..Self::established(name, at.ip(), How::Direct, Target::default())
        }
    }
}

fn service(vip: IpAddr, protocol: u8, scheduler: SchedulerKind, servers: Vec<Server>) -> Service {
    Service {
        vip,
        port: PORT,
        protocol,
        mark: 0,
        scheduler,
        sched_flags: 0,
        claimed: true,
        toa: false,
        flags: 0,
        limit: 0,
        servers,
    }
}

fn to(how: How) -> Server {
    Server {
        reached: Reached::Back,
        weight: 1,
        how,
    }
}

const fn tunnel(family: u8, kind: TunnelKind) -> How {
    How::Tunnel {
        family,
        kind,
        checksum: TunnelChecksum::None,
    }
}

const NAT: How = How::Nat {
    host: HOST,
    port: SERVER_PORT,
};

/// Everything, in the order of the report.
pub(super) fn all() -> Vec<Case> {
    let mut cases = established();
    cases.extend(connecting());
    cases.extend(growing());
    cases.extend(beside());
    cases
}

fn established() -> Vec<Case> {
    let direct = target(1.5, 1.5);
    let tunnelled = target(1.8, 1.4);
    let translated = target(2.0, 1.5);
    let none = Target::default();
    let mut datagrams = Case::established("DR, UDP", VIP4, How::Direct, direct);
    datagrams.services[0].protocol = IPPROTO_UDP;
    datagrams.frame = Template::to(SocketAddr::new(VIP4, PORT), Segment::Datagram);
    datagrams.before = vec![datagrams.frame];
    let mut fullnat = Case::established(
        "FULLNAT",
        VIP4,
        How::Fullnat {
            host: HOST,
            port: SERVER_PORT,
            pool: true,
        },
        none,
    );
    fullnat.most = Some(1 << 14);
    vec![
        Case::established("DR", VIP4, How::Direct, direct),
        datagrams,
        Case::established("TUN, IPIP", VIP4, tunnel(4, TunnelKind::Ipip), tunnelled),
        Case::established("TUN, GUE", VIP4, tunnel(4, TunnelKind::Gue), none),
        Case::established("TUN, GRE", VIP4, tunnel(4, TunnelKind::Gre), none),
        Case::established("NAT, to the server", VIP4, NAT, translated),
        reply("NAT, to the client", VIP4, translated),
        fullnat,
        Case::established("DR, IPv6", VIP6, How::Direct, none),
        Case::established("TUN, IPv6 in IPv6", VIP6, tunnel(6, TunnelKind::Ipip), none),
        Case::established("NAT, to the server, IPv6", VIP6, NAT, none),
        reply("NAT, to the client, IPv6", VIP6, none),
    ]
}

/// Established TCP by NAT, from the server.
fn reply(name: &str, vip: IpAddr, target: Target) -> Case {
    let family = if vip.is_ipv4() { 4 } else { 6 };
    let server = SocketAddr::new(nat_address(HOST, family), SERVER_PORT);
    Case {
        frame: Template::from(server, Segment::Ack),
        ..Case::established(name, vip, NAT, target)
    }
}

fn connecting() -> Vec<Case> {
    let servers = |count: u32| -> Vec<Server> {
        let weights = (0..count).map(|number| number % 5 + 1);
        weights
            .map(|weight| (Reached::Back, weight).into())
            .collect()
    };
    let case = |name: &str, scheduler, count| {
        Case::new(
            name,
            vec![service(VIP4, IPPROTO_TCP, scheduler, servers(count))],
        )
    };
    let mut rr = case("new, rr", SchedulerKind::Rr, 10);
    rr.target = Target {
        one: None,
        many: Some(2.0),
    };
    let mut persistent = case("new, persistent client", SchedulerKind::Rr, 10);
    persistent.services[0].flags = ServiceFlags::PERSISTENT;
    persistent.templates = 1 << 16;
    let mut nat = Case::new(
        "new, rr, NAT",
        vec![service(VIP4, IPPROTO_TCP, SchedulerKind::Rr, vec![to(NAT)])],
    );
    nat.cells = 2;
    vec![
        rr,
        case("new, wlc, 10 servers", SchedulerKind::Wlc, 10),
        case("new, wlc, 100 servers", SchedulerKind::Wlc, 100),
        case("new, wlc, 1,000 servers", SchedulerKind::Wlc, 1000),
        case("new, mh", SchedulerKind::Mh, 10),
        persistent,
        nat,
        Case::new(
            "new, rr, IPv6",
            vec![service(VIP6, IPPROTO_TCP, SchedulerKind::Rr, servers(10))],
        ),
    ]
}

/// What may grow with the configuration.
fn growing() -> Vec<Case> {
    let others = |count: u32| {
        (1..count).map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            let vip = IpAddr::V4(Ipv4Addr::new(198, 18, high, low));
            service(
                vip,
                IPPROTO_TCP,
                SchedulerKind::Rr,
                vec![(Reached::Back, 1).into()],
            )
        })
    };
    let mut cases = Vec::new();
    for count in [1000, 10_000] {
        let name = format!("{} services", grouped(count));
        let mut established = Case::established(&name, VIP4, How::Direct, Target::default());
        established.services.extend(others(count));
        let mut new = Case::new(&format!("new, {name}"), established.services.clone());
        new.services[0] = service(
            VIP4,
            IPPROTO_TCP,
            SchedulerKind::Rr,
            vec![(Reached::Back, 1).into()],
        );
        cases.extend([established, new]);
    }
    for count in [1, 1000, 10_000] {
        let name = format!("new, mark rule {} of as many", grouped(count));
        let mut marked = service(
            VIP4,
            IPPROTO_TCP,
            SchedulerKind::Rr,
            vec![(Reached::Back, 1).into()],
        );
        marked.mark = MARK;
        let mut case = Case::new(&name, vec![marked]);
        let others = (1..count).map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            rules::mark(&format!(
                "-A -d 198.18.{high}.{low} -p tcp -m multiport --dports 80,443 -j MARK --set-mark {}",
                number + MARK
            ))
        });
        case.rules = others.collect();
        case.rules.push(rules::mark(&format!(
            "-A -d {VIP4} -p tcp -m multiport --dports 80,443 -j MARK --set-mark {MARK}"
        )));
        cases.push(case);
    }
    cases
}

/// What is not balanced.
fn beside() -> Vec<Case> {
    let mut not_ours = Case::established("not for a service", VIP4, How::Direct, target(0.8, 0.8));
    not_ours.kind = Kind::NotOurs;
    not_ours.before = Vec::new();
    not_ours.reason = Reason::PassedNoVip;
    not_ours.target.many = None;
    let mut full = Case::new(
        "new, table full",
        vec![service(
            VIP4,
            IPPROTO_TCP,
            SchedulerKind::Rr,
            vec![(Reached::Back, 1).into()],
        )],
    );
    full.full = true;
    full.reason = Reason::DroppedWindowFull;
    vec![not_ours, full]
}

/// `10,000`.
pub(super) fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
