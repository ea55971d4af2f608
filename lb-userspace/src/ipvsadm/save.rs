//! `-S`: the table as the commands that make it. Thresholds are not saved,
//! as in the original.

use std::fmt::Write as _;

use super::sort;
use super::text::{Style, mask, protocol, sched_flags};
use crate::model::{
    Dest, Family, Listing, Method, Protocol, ServiceId, ServiceSpec, Tunnel, TunnelChecksum,
};

/// Renders a listing as commands.
pub(super) fn render(listing: &Listing, style: Style<'_>) -> String {
    let mut out = String::new();
    for service in sort::services(&listing.services) {
        let selector = selector(service.id, style);
        let _ = writeln!(
            out,
            "-A {selector}{}",
            parameters(service.id, &service.spec)
        );
        for server in sort::dests(&service.dests) {
            let name = style.endpoint(
                server.dest.id.addr,
                server.dest.id.port,
                protocol(service.id),
            );
            let _ = writeln!(
                out,
                "-a {selector} -r {name} {}",
                server_parameters(&server.dest)
            );
        }
    }
    out
}

fn selector(id: ServiceId, style: Style<'_>) -> String {
    match id {
        ServiceId::Address {
            protocol,
            addr,
            port,
        } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            format!("{option} {}", style.endpoint(addr, port, Some(protocol)))
        }
        ServiceId::Mark {
            mark,
            family: Family::V4,
        } => format!("-f {}", mark.cast_signed()),
        ServiceId::Mark {
            mark,
            family: Family::V6,
        } => format!("-f {} -6", mark.cast_signed()),
    }
}

fn parameters(id: ServiceId, spec: &ServiceSpec) -> String {
    let mut out = format!(" -s {}", spec.scheduler);
    if let Some(seconds) = spec.persistent {
        let _ = write!(out, " -p {seconds}");
        if let Some(mask) = mask(id, spec) {
            let _ = write!(out, " -M {mask}");
        }
    }
    if let Some(pe) = &spec.pe {
        let _ = write!(out, " --pe {pe}");
    }
    if spec.ops {
        out.push_str(" -o");
    }
    if spec.sched_flags != 0 {
        let _ = write!(out, " -b {}", sched_flags(spec));
    }
    if spec.toa {
        out.push_str(" --toa");
    }
    out
}

fn server_parameters(dest: &Dest) -> String {
    let method = match dest.spec.method {
        Method::Masq => "-m",
        Method::Fullnat => "--fullnat",
        Method::Tunnel => "-i",
        Method::Route | Method::Local => "-g",
    };
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    let tunnel = match dest.spec.tunnel {
        _ if dest.spec.method != Method::Tunnel => String::new(),
        Tunnel::Ipip => " --tun-type ipip".to_owned(),
        Tunnel::Gue {
            port,
            checksum: kind,
        } => format!(" --tun-type gue --tun-port {port} {}", checksum(kind)),
        Tunnel::Gre { checksum: kind } => format!(" --tun-type gre {}", checksum(kind)),
    };
    format!("{method} -w {}{tunnel}", dest.spec.weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::fake;

    #[test]
    fn every_parameter_has_its_place() {
        let mut service = fake::service("10.0.0.1", 443);
        service.spec.persistent = Some(600);
        service.spec.netmask = 0xffff_ff00;
        service.spec.scheduler = "sh".to_owned();
        service.spec.sched_flags = 0x18;
        service.spec.pe = Some("sip".to_owned());
        service.spec.ops = true;
        service.spec.toa = true;
        let mut tunnel = fake::dest("192.168.10.30", 80);
        tunnel.dest.spec.method = Method::Tunnel;
        tunnel.dest.spec.tunnel = Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::None,
        };
        service.dests = vec![tunnel, fake::dest("192.168.10.1", 80)];
        let mut mark = fake::service("10.0.0.1", 1);
        mark.id = ServiceId::Mark {
            mark: u32::MAX,
            family: Family::V6,
        };
        mark.spec.netmask = 128;
        let listing = Listing {
            size: 4096,
            services: vec![service, mark],
        };
        // The mark comes first: see the order of sort.rs.
        let want = "\
-A -f -1 -6 -s rr
-A -t 10.0.0.1:443 -s sh -p 600 -M 255.255.255.0 --pe sip -o -b sh-fallback,sh-port --toa
-a -t 10.0.0.1:443 -r 192.168.10.1:80 -g -w 1
-a -t 10.0.0.1:443 -r 192.168.10.30:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
";
        assert_eq!(render(&listing, Style { names: None }), want);
    }
}
