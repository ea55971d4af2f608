//! `lvx show`: services, servers and what packets see of them.

use std::{cmp::Ordering, collections::HashMap, net::IpAddr};

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use comfy_table::{Attribute, Cell, Color};
use serde_json::{Value, json};

use super::{
    terminal::{Columns, short, show_or_watch},
    unexpected,
};
use crate::{
    config::{family_name, flag_names},
    daemon::client::Client,
    model::{
        DestSnapshot, DestState, Family, Method, Overview, Ownership, Protocol, Rates, Removed,
        Request, Response, ServiceId, ServiceSnapshot, ServiceSpec, Since, Tunnel, Way,
    },
};

/// Arguments of `lvx show`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Only this one: tcp:10.0.0.1:80, udp:…, sctp:…, mark:7, mark6:7
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceId>,
    /// As JSON; with --watch, a document a line
    #[arg(long)]
    json: bool,
    /// Again every second, until it is interrupted
    #[arg(long, short)]
    watch: bool,
}

pub(super) fn main(args: &Args) -> Result<()> {
    let mut client = Client::default();
    show_or_watch(args.watch, || picture(&mut client, args))
}

fn picture(client: &mut Client, args: &Args) -> Result<String> {
    let overview = match client.request(&Request::Overview)? {
        Response::Overview(overview) => sorted(*overview, args.service),
        other => return Err(unexpected(&other)),
    };
    if let Some(id) = args.service
        && overview.listing.services.is_empty()
        && overview.owners.is_empty()
    {
        bail!("no service {}: 'lvx show' lists them", id.name());
    }
    if !args.json {
        return Ok(text(&overview));
    }
    let value = document(&overview);
    Ok(if args.watch {
        format!("{value}\n")
    } else {
        format!("{value:#}\n")
    })
}

/// Marks come after addresses; addresses and ports are compared as numbers.
fn compare(a: ServiceId, b: ServiceId) -> Ordering {
    let key = |id| match id {
        ServiceId::Address {
            protocol,
            addr,
            port,
        } => (false, 0, place(addr), port, Some(protocol)),
        ServiceId::Mark { mark, family } => {
            let zero = place(IpAddr::from([0; 4]));
            (true, mark, (family == Family::V6, zero.1), 0, None)
        }
    };
    key(a).cmp(&key(b))
}

/// IPv4 before IPv6.
fn place(addr: IpAddr) -> (bool, u128) {
    (addr.is_ipv6(), crate::model::number(addr))
}

/// In order, and of one service alone if that is asked for.
fn sorted(overview: Overview, only: Option<ServiceId>) -> Overview {
    let Overview {
        epoch,
        mut listing,
        states,
        mut removed,
        mut owners,
    } = overview;
    let services = listing.services.into_iter().zip(states);
    let mut services: Vec<_> = services
        .filter(|(service, _)| only.is_none_or(|only| only == service.id))
        .collect();
    services.sort_by(|a, b| compare(a.0.id, b.0.id));
    for (service, states) in &mut services {
        let mut both: Vec<_> = service.dests.drain(..).zip(states.drain(..)).collect();
        both.sort_by_key(|(dest, _)| (place(dest.dest.id.addr), dest.dest.id.port));
        (service.dests, *states) = both.into_iter().unzip();
    }
    let (services, states) = services.into_iter().unzip();
    listing.services = services;
    removed.retain(|removed| only.is_none_or(|only| only == removed.service));
    removed.sort_by(|a, b| {
        let server = |removed: &Removed| (place(removed.dest.id.addr), removed.dest.id.port);
        compare(a.service, b.service).then_with(|| server(a).cmp(&server(b)))
    });
    owners.retain(|one| only.is_none_or(|only| only == one.service));
    owners.sort_by(|a, b| compare(a.service, b.service));
    Overview {
        epoch,
        listing,
        states,
        removed,
        owners,
    }
}

const TITLES: [&str; 11] = [
    "SERVICE / SERVER",
    "METHOD",
    "WEIGHT",
    "ACTIVE",
    "INACTIVE",
    "PERSIST",
    "CONN/S",
    "PKT/S",
    "IN B/S",
    "OUT B/S",
    "STATE",
];
const NUMBERS: &[usize] = &[2, 3, 4, 5, 6, 7, 8, 9];

fn text(overview: &Overview) -> String {
    let Overview {
        listing, removed, ..
    } = overview;
    if listing.services.is_empty() && removed.is_empty() && overview.owners.is_empty() {
        return "no services: 'lvx apply -f FILE' or 'ipvsadm -A' makes them\n".into();
    }
    let mut table = Columns::new(&TITLES, NUMBERS);
    let owners = owners(overview);
    for (service, states) in overview.listing.services.iter().zip(&overview.states) {
        service_row(
            &mut table,
            service,
            states,
            owners.get(&service.id).copied(),
        );
        for (dest, state) in service.dests.iter().zip(states) {
            server_row(&mut table, dest, *state);
        }
        for removed in &overview.removed {
            if removed.service == service.id {
                removed_row(&mut table, removed);
            }
        }
    }
    let known = |id| {
        overview
            .listing
            .services
            .iter()
            .any(|service| service.id == id)
    };
    let mut last = None;
    for removed in overview.removed.iter().filter(|one| !known(one.service)) {
        if last.replace(removed.service) != Some(removed.service) {
            let mut cells = vec![Cell::new(removed.service.name()).fg(Color::DarkGrey)];
            cells.resize_with(10, || Cell::new(""));
            cells.push(Cell::new("removed").fg(Color::DarkGrey));
            table.row(cells);
        }
        removed_row(&mut table, removed);
    }
    for owner in &overview.owners {
        if owner.since == Since::Removed {
            let mut cells = vec![Cell::new(owner.service.name()).fg(Color::Yellow)];
            cells.resize_with(10, || Cell::new(""));
            cells.push(Cell::new(whose(owner)).fg(Color::Yellow));
            table.row(cells);
        }
    }
    table.text()
}

fn owners(overview: &Overview) -> HashMap<ServiceId, &Ownership> {
    let owners = overview.owners.iter();
    owners.map(|one| (one.service, one)).collect()
}

/// Whose a service is, and that it is not as declared.
fn whose(owner: &Ownership) -> String {
    let Ownership {
        owner,
        file,
        line,
        since,
        ..
    } = owner;
    match since {
        Since::Kept => format!("of {owner}"),
        Since::Changed => format!("of {owner}, CHANGED since {file}:{line} was applied"),
        Since::Removed => format!("of {owner}, REMOVED since {file}:{line} was applied"),
    }
}

fn rates(rates: &Rates) -> [Cell; 4] {
    [
        rates.conns,
        rates.in_packets + rates.out_packets,
        rates.in_bytes,
        rates.out_bytes,
    ]
    .map(|rate| Cell::new(short(rate)))
}

fn service_row(
    table: &mut Columns,
    service: &ServiceSnapshot,
    states: &[DestState],
    owner: Option<&Ownership>,
) {
    let sum = |of: fn(&DestSnapshot) -> u32| -> u64 {
        service.dests.iter().map(|dest| u64::from(of(dest))).sum()
    };
    let mut cells = vec![
        Cell::new(service.id.name()).add_attribute(Attribute::Bold),
        Cell::new(&service.spec.scheduler),
        Cell::new(""),
    ];
    let counts = [
        sum(|dest| dest.active),
        sum(|dest| dest.inactive),
        sum(|dest| dest.persistent),
    ];
    cells.extend(counts.map(Cell::new));
    cells.extend(rates(&service.rates));
    let mut notes = parameters(service.id, &service.spec);
    notes.extend(owner.map(whose));
    if states.iter().any(|state| !state.claimed) {
        notes.push("not this director's address".into());
    }
    cells.push(Cell::new(notes.join(", ")));
    table.row(cells);
}

/// What is set at a service beyond its scheduler.
fn parameters(id: ServiceId, spec: &ServiceSpec) -> Vec<String> {
    let mut all: Vec<String> = flag_names(spec).into_iter().map(str::to_owned).collect();
    if let Some(seconds) = spec.persistent {
        let mask = match id.family() {
            Family::V4 if spec.netmask != u32::MAX => format!("/{}", spec.netmask.count_ones()),
            Family::V6 if spec.netmask != 128 => format!("/{}", spec.netmask),
            _ => String::new(),
        };
        let mask = if mask.is_empty() {
            mask
        } else {
            format!(" by {mask}")
        };
        all.push(format!("persistent {seconds} s{mask}"));
    }
    all.extend(spec.pe.as_ref().map(|pe| format!("engine {pe}")));
    for (name, set) in [("one packet", spec.ops), ("toa", spec.toa)] {
        if set {
            all.push(name.into());
        }
    }
    all
}

fn method(dest: &DestSnapshot) -> String {
    let spec = &dest.dest.spec;
    match (spec.method, spec.tunnel) {
        (Method::Tunnel, Tunnel::Ipip) => "tunnel ipip".into(),
        (Method::Tunnel, Tunnel::Gue { port, .. }) => format!("tunnel gue:{port}"),
        (Method::Tunnel, Tunnel::Gre { .. }) => "tunnel gre".into(),
        (method, _) => method.name().into(),
    }
}

fn server_row(table: &mut Columns, dest: &DestSnapshot, state: DestState) {
    let mut cells = vec![
        Cell::new(format!("  {}", dest.dest.id)),
        Cell::new(method(dest)),
        Cell::new(dest.dest.spec.weight),
        Cell::new(dest.active),
        Cell::new(dest.inactive),
        Cell::new(dest.persistent),
    ];
    cells.extend(rates(&dest.rates));
    let (words, color) = state_words(dest, state);
    cells.push(Cell::new(words.join(", ")).fg(color));
    table.row(cells);
}

/// What to know about a server, and how urgent it looks.
fn state_words(dest: &DestSnapshot, state: DestState) -> (Vec<String>, Color) {
    let mut words = Vec::new();
    let mut color = Color::Green;
    if dest.dest.spec.weight == 0 {
        words.push("quiesced".into());
        color = Color::Yellow;
    }
    if state.overloaded {
        let most = dest.dest.spec.u_threshold;
        words.push(format!("overloaded (at most {most})"));
        color = Color::Yellow;
    }
    match state.way {
        Way::Resolved => words.push("resolved".into()),
        Way::Local => words.push("local".into()),
        Way::Unresolved => {
            words.push("UNRESOLVED ('lvx status' says why)".into());
            color = Color::Red;
        }
    }
    (words, color)
}

fn removed_row(table: &mut Columns, removed: &Removed) {
    let grey = |text: String| Cell::new(text).fg(Color::DarkGrey);
    let mut cells = vec![
        grey(format!("  {}", removed.dest.id)),
        grey(removed.dest.spec.method.name().into()),
        grey("-".into()),
    ];
    let counts = [removed.active, removed.inactive, removed.persistent];
    cells.extend(counts.map(|count| grey(count.to_string())));
    cells.resize_with(10, || Cell::new(""));
    cells.push(grey("removed, in the trash".into()));
    table.row(cells);
}

/// The document of `--json`.
fn document(overview: &Overview) -> Value {
    let services = overview.listing.services.iter().zip(&overview.states);
    let owners = owners(overview);
    let declared = |one: &Ownership| format!("{}:{}", one.file, one.line);
    let services: Vec<Value> = services
        .map(|(service, states)| {
            let owner = owners.get(&service.id);
            let removed = overview.removed.iter();
            let removed = removed.filter(|removed| removed.service == service.id);
            let dests = service.dests.iter().zip(states);
            json!({
                "service": service.id.name(),
                "owner": owner.map_or("manual", |one| &one.owner),
                "declared": owner.map(|one| declared(one)),
                "drift": owner.is_some_and(|one| one.since != Since::Kept),
                "protocol": match service.id {
                    ServiceId::Address { protocol, .. } => Some(protocol),
                    ServiceId::Mark { .. } => None::<Protocol>,
                },
                "address": match service.id {
                    ServiceId::Address { addr, .. } => Some(addr),
                    ServiceId::Mark { .. } => None,
                },
                "port": match service.id {
                    ServiceId::Address { port, .. } => Some(port),
                    ServiceId::Mark { .. } => None,
                },
                "mark": match service.id {
                    ServiceId::Mark { mark, .. } => Some(mark),
                    ServiceId::Address { .. } => None,
                },
                "family": family_name(service.id.family()),
                "scheduler": service.spec.scheduler,
                "flags": flag_names(&service.spec),
                "persistent": service.spec.persistent,
                "netmask": service.spec.netmask,
                "one_packet": service.spec.ops,
                "toa": service.spec.toa,
                "counters": service.counters,
                "rates": service.rates,
                "servers": dests.map(|(dest, state)| server_value(dest, *state)).collect::<Vec<_>>(),
                "removed_servers": removed.map(removed_value).collect::<Vec<_>>(),
            })
        })
        .collect();
    let known = |id| {
        overview
            .listing
            .services
            .iter()
            .any(|service| service.id == id)
    };
    let removed = overview
        .removed
        .iter()
        .filter(|removed| !known(removed.service));
    let missing = overview.owners.iter();
    let missing = missing.filter(|one| one.since == Since::Removed);
    let missing = missing.map(|one| {
        json!({
            "service": one.service.name(),
            "owner": one.owner,
            "declared": declared(one),
        })
    });
    json!({
        "transaction": overview.epoch,
        "services": services,
        "declared_and_removed": missing.collect::<Vec<_>>(),
        "servers_of_removed_services": removed.map(removed_value).collect::<Vec<_>>(),
    })
}

fn server_value(dest: &DestSnapshot, state: DestState) -> Value {
    let spec = &dest.dest.spec;
    json!({
        "server": dest.dest.id.to_string(),
        "address": dest.dest.id.addr,
        "port": dest.dest.id.port,
        "method": spec.method.name(),
        "tunnel": (spec.method == Method::Tunnel).then_some(spec.tunnel),
        "weight": spec.weight,
        "upper_threshold": spec.u_threshold,
        "lower_threshold": spec.l_threshold,
        "active": dest.active,
        "inactive": dest.inactive,
        "persistent": dest.persistent,
        "counters": dest.counters,
        "rates": dest.rates,
        "way": state.way,
        "overloaded": state.overloaded,
        "quiesced": spec.weight == 0,
    })
}

fn removed_value(removed: &Removed) -> Value {
    json!({
        "service": removed.service.name(),
        "server": removed.dest.id.to_string(),
        "method": removed.dest.spec.method.name(),
        "active": removed.active,
        "inactive": removed.inactive,
        "persistent": removed.persistent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Counters, Dest, DestId, DestSpec, Listing};

    fn service(name: &str) -> ServiceSnapshot {
        let id: ServiceId = name.parse().unwrap();
        ServiceSnapshot {
            id,
            spec: ServiceSpec {
                scheduler: "wrr".into(),
                sched_flags: 0,
                ops: false,
                persistent: None,
                netmask: if id.family() == Family::V4 {
                    u32::MAX
                } else {
                    128
                },
                pe: None,
                toa: false,
            },
            counters: Counters::default(),
            rates: Rates::default(),
            dests: Vec::new(),
        }
    }

    fn server(addr: &str, port: u16, weight: u32) -> DestSnapshot {
        DestSnapshot {
            dest: Dest {
                id: DestId {
                    addr: addr.parse().unwrap(),
                    port,
                },
                spec: DestSpec {
                    method: Method::Masq,
                    weight,
                    u_threshold: 9,
                    l_threshold: 0,
                    tunnel: Tunnel::Ipip,
                },
            },
            active: 12,
            inactive: 3,
            persistent: 1,
            counters: Counters::default(),
            rates: Rates {
                conns: 5,
                in_bytes: 1234,
                ..Rates::default()
            },
        }
    }

    const FINE: DestState = DestState {
        way: Way::Resolved,
        overloaded: false,
        claimed: true,
    };

    fn overview(services: Vec<(ServiceSnapshot, Vec<DestState>)>) -> Overview {
        let (services, states) = services.into_iter().unzip();
        Overview {
            epoch: 7,
            listing: Listing {
                size: 4096,
                services,
            },
            states,
            removed: Vec::new(),
            owners: Vec::new(),
        }
    }

    #[test]
    fn services_and_servers_are_sorted_as_numbers() {
        let names = [
            "mark:4294967295",
            "mark:5",
            "tcp:[2001:db8::1]:80",
            "tcp:172.16.0.1:80",
            "tcp:10.0.0.1:443",
            "udp:10.0.0.1:53",
            "tcp:10.0.0.1:80",
            "mark6:5",
        ];
        let all = names.map(|name| (service(name), Vec::new())).to_vec();
        let sorted = sorted(overview(all), None);
        let got: Vec<_> = sorted
            .listing
            .services
            .iter()
            .map(|one| one.id.name())
            .collect();
        assert_eq!(
            got,
            [
                "udp:10.0.0.1:53",
                "tcp:10.0.0.1:80",
                "tcp:10.0.0.1:443",
                "tcp:172.16.0.1:80",
                "tcp:[2001:db8::1]:80",
                "mark:5",
                "mark6:5",
                "mark:4294967295",
            ]
        );
    }

    #[test]
    fn a_table_for_people() {
        let mut one = service("tcp:10.0.0.1:80");
        one.spec.persistent = Some(300);
        one.spec.netmask = 0xffff_ff00;
        one.dests = vec![
            server("192.168.0.20", 8080, 0),
            server("192.168.0.3", 80, 2),
        ];
        let full = DestState {
            overloaded: true,
            way: Way::Local,
            ..FINE
        };
        let mut overview = overview(vec![(one, vec![FINE, full])]);
        let removed = Removed {
            service: "tcp:10.0.0.1:80".parse().unwrap(),
            dest: server("192.168.0.9", 80, 1).dest,
            active: 4,
            inactive: 0,
            persistent: 0,
        };
        overview.removed = vec![removed];
        assert_eq!(
            text(&sorted(overview.clone(), None)),
            "\
SERVICE / SERVER     METHOD  WEIGHT  ACTIVE  INACTIVE  PERSIST  CONN/S  PKT/S  IN B/S  OUT B/S  STATE
tcp:10.0.0.1:80      wrr                 24         6        2       0      0       0        0  persistent 300 s by /24
  192.168.0.3:80     nat          2      12         3        1       5      0   1.2 K        0  overloaded (at most 9), local
  192.168.0.20:8080  nat          0      12         3        1       5      0   1.2 K        0  quiesced, resolved
  192.168.0.9:80     nat          -       4         0        0                                  removed, in the trash
"
        );
        let value = document(&sorted(overview, None));
        let server = &value["services"][0]["servers"][0];
        assert_eq!(
            (&server["server"], &server["way"]),
            (&json!("192.168.0.3:80"), &json!("local"))
        );
        assert_eq!(value["services"][0]["removed_servers"][0]["active"], 4);
        assert_eq!(value["services"][0]["address"], "10.0.0.1");
    }
}
