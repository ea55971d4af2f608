//! `-L`: services and their servers in columns. Blanks at the end of lines
//! are the original's.

use std::fmt::Write as _;

use super::command::{Layout, ListOptions};
use super::text::{Style, mask, protocol, sched_flags};
use super::{numbers, sort};
use crate::model::{
    Counters, DestSnapshot, Family, Listing, Method, Rates, ServiceId, ServiceSnapshot, Tunnel,
    TunnelChecksum,
};

/// The version the heading shows: that of the IPVS whose behaviour this is.
const IPVS_VERSION: &str = "1.2.1";
/// Columns of a name where others follow.
const NAME: usize = 33;
/// Columns of a server's name, after the arrow.
const SERVER: usize = 28;

/// Renders a listing; of everything it has a line about IPVS itself on top.
pub(super) fn render(
    listing: &Listing,
    everything: bool,
    options: ListOptions,
    style: Style<'_>,
) -> String {
    let mut out = String::new();
    if everything {
        let _ = writeln!(
            out,
            "IP Virtual Server version {IPVS_VERSION} (size={})",
            listing.size
        );
    }
    titles(&mut out, options.layout);
    let services = if options.sort {
        sort::services(&listing.services)
    } else {
        listing.services.iter().collect()
    };
    for service in services {
        service_line(&mut out, service, options, style);
        let dests = if options.sort {
            sort::dests(&service.dests)
        } else {
            service.dests.iter().collect()
        };
        for dest in dests {
            server_line(&mut out, service.id, dest, options, style);
        }
    }
    out
}

fn titles(out: &mut String, layout: Layout) {
    let services = "Prot LocalAddress:Port";
    let servers = "  -> RemoteAddress:Port";
    let _ = match layout {
        Layout::Plain => {
            writeln!(
                out,
                "{services} Scheduler Flags\n{servers:<NAME$} Forward Weight ActiveConn InActConn"
            )
        }
        Layout::TunInfo => {
            writeln!(
                out,
                "{services} Scheduler Flags\n{servers:<NAME$} Forward TunnelInfo    Weight ActiveConn InActConn"
            )
        }
        Layout::Thresholds => {
            let titles = ["Uthreshold", "Lthreshold", "ActiveConn", "InActConn"];
            writeln!(
                out,
                "{services:<NAME$}{}\n{servers}",
                left(&titles, [10; 4])
            )
        }
        Layout::PersistentConn => {
            let titles = ["Weight", "PersistConn", "ActiveConn", "InActConn"];
            writeln!(
                out,
                "{services:<NAME$}{}\n{servers}",
                left(&titles, PERSISTENT)
            )
        }
        Layout::Stats => {
            let titles = ["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"];
            writeln!(
                out,
                "{services:<NAME$}{}\n{servers}",
                titles.map(|title| format!(" {title:>8}")).concat()
            )
        }
        Layout::Rate => {
            let titles = ["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"];
            writeln!(
                out,
                "{services:<NAME$}{}\n{servers}",
                titles.map(|title| format!(" {title:>8}")).concat()
            )
        }
    };
}

/// Column widths of `--persistent-conn`.
const PERSISTENT: [usize; 4] = [9, 11, 10, 10];

/// Left-justified columns, each after a blank.
fn left<const N: usize>(cells: &[impl std::fmt::Display; N], widths: [usize; N]) -> String {
    cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!(" {cell:<width$}"))
        .collect()
}

fn cells(values: [u64; 5], exact: bool) -> String {
    values
        .map(if exact {
            numbers::exact
        } else {
            numbers::scaled
        })
        .concat()
}

fn counters(counters: &Counters) -> [u64; 5] {
    [
        counters.conns,
        counters.in_packets,
        counters.out_packets,
        counters.in_bytes,
        counters.out_bytes,
    ]
}

fn rates(rates: &Rates) -> [u64; 5] {
    [
        rates.conns,
        rates.in_packets,
        rates.out_packets,
        rates.in_bytes,
        rates.out_bytes,
    ]
}

fn service_line(
    out: &mut String,
    service: &ServiceSnapshot,
    options: ListOptions,
    style: Style<'_>,
) {
    let prefix = match service.id {
        ServiceId::Address {
            protocol,
            addr,
            port,
        } => {
            let prefix = format!(
                "{:<4} {}",
                protocol.name(),
                style.endpoint(addr, port, Some(protocol))
            );
            if addr.is_ipv4() {
                format!("{prefix:.NAME$}")
            } else {
                prefix
            }
        }
        ServiceId::Mark {
            mark,
            family: Family::V4,
        } => format!("FWM  {}", mark.cast_signed()),
        ServiceId::Mark {
            mark,
            family: Family::V6,
        } => format!("FWM  {} IPv6", mark.cast_signed()),
    };
    let _ = match options.layout {
        Layout::Stats => writeln!(
            out,
            "{prefix:<NAME$}{}",
            cells(counters(&service.counters), options.exact)
        ),
        Layout::Rate => writeln!(
            out,
            "{prefix:<NAME$}{}",
            cells(rates(&service.rates), options.exact)
        ),
        _ => writeln!(out, "{prefix}{}", parameters(service)),
    };
}

/// Scheduler, flags and persistence, each after a blank.
fn parameters(service: &ServiceSnapshot) -> String {
    let spec = &service.spec;
    let mut out = format!(" {}", spec.scheduler);
    if spec.sched_flags != 0 {
        let _ = write!(out, " ({})", sched_flags(spec));
    }
    if let Some(seconds) = spec.persistent {
        let _ = write!(out, " persistent {seconds}");
        if let Some(mask) = mask(service.id, spec) {
            let _ = write!(out, " mask {mask}");
        }
        if let Some(pe) = &spec.pe {
            let _ = write!(out, " pe {pe}");
        }
    }
    if spec.ops {
        out.push_str(" ops");
    }
    out
}

fn server_line(
    out: &mut String,
    service: ServiceId,
    server: &DestSnapshot,
    options: ListOptions,
    style: Style<'_>,
) {
    let (id, spec) = (server.dest.id, server.dest.spec);
    let name = style.endpoint(id.addr, id.port, protocol(service));
    // A long IPv6 address pushes the columns right; names and IPv4 are cut.
    let name = if id.addr.is_ipv4() {
        format!("{name:<SERVER$.SERVER$}")
    } else {
        format!("{name:<SERVER$}")
    };
    let connections = format!(" {:<10} {:<10}", server.active, server.inactive);
    let columns = match options.layout {
        Layout::Plain => format!(
            " {:<7} {:<6}{connections}",
            method(spec.method),
            spec.weight
        ),
        Layout::TunInfo => {
            let tunnel = tunnel(spec.method, spec.tunnel);
            format!(
                " {:<7} {tunnel:<13} {:<6}{connections}",
                method(spec.method),
                spec.weight
            )
        }
        Layout::Thresholds => format!(
            "{}{connections}",
            left(&[spec.u_threshold, spec.l_threshold], [10; 2])
        ),
        Layout::PersistentConn => left(
            &[
                spec.weight,
                server.persistent,
                server.active,
                server.inactive,
            ],
            PERSISTENT,
        ),
        Layout::Stats => cells(counters(&server.counters), options.exact),
        Layout::Rate => {
            // Of a server, the original scales only the bytes.
            let [conns, in_packets, out_packets, bytes @ ..] = rates(&server.rates);
            let plain = [conns, in_packets, out_packets]
                .map(numbers::exact)
                .concat();
            let bytes = bytes
                .map(if options.exact {
                    numbers::exact
                } else {
                    numbers::scaled
                })
                .concat();
            plain + &bytes
        }
    };
    let _ = writeln!(out, "  -> {name}{columns}");
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Masq => "Masq",
        Method::Local => "Local",
        Method::Tunnel => "Tunnel",
        Method::Route => "Route",
        Method::Fullnat => "FullNat",
    }
}

fn tunnel(method: Method, tunnel: Tunnel) -> String {
    let flag = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    let text = match tunnel {
        _ if method != Method::Tunnel => "n/a".to_owned(),
        Tunnel::Ipip => "ipip".to_owned(),
        Tunnel::Gue { port, checksum } => format!("gue:{port}:{}", flag(checksum)),
        Tunnel::Gre { checksum } => format!("gre:{}", flag(checksum)),
    };
    format!("{text:.15}")
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
