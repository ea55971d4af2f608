//! Writes `lvx.toml`: what is the default is left out.

use std::fmt::Write as _;

use super::check;
use crate::{
    model::{
        Config, Dest, DestSpec, Family, LocalRange, Method, Pool, PrefixSet, Rule, ServiceCheck,
        ServiceConfig, ServiceId, Tunnel, TunnelChecksum,
    },
    rules,
};

/// A configuration as `lvx.toml` has it.
pub fn text(config: &Config) -> String {
    let mut out = String::new();
    if let Some(timeouts) = config.timeouts {
        // Writing to a string does not fail, here and below.
        let _ = write!(
            out,
            "[timeouts]\ntcp = {}\ntcp-fin = {}\nudp = {}\n\n",
            timeouts.tcp, timeouts.tcp_fin, timeouts.udp
        );
    }
    if let Some(sysctls) = &config.sysctls {
        out.push_str("[sysctl]\n");
        for (name, value) in sysctls {
            let _ = writeln!(out, "{name} = {value}");
        }
        out.push('\n');
    }
    match config.sets.as_deref() {
        Some([]) => out.insert_str(0, "set = []\n\n"),
        Some(sets) => sets.iter().for_each(|set| out.push_str(&set_text(set))),
        None => {}
    }
    if config.marks.is_some() || config.filters.is_some() {
        out.push_str("[rules]\n");
        for (name, rules) in [("mark", &config.marks), ("filter", &config.filters)] {
            if let Some(rules) = rules {
                let _ = writeln!(out, "{name} = {}", rule_list(rules));
            }
        }
        out.push('\n');
    }
    match config.pools.as_deref() {
        Some([]) => out.insert_str(0, "local = []\n\n"),
        Some(pools) => pools.iter().for_each(|pool| out.push_str(&pool_text(pool))),
        None => {}
    }
    match config.services.as_deref() {
        Some([]) => out.insert_str(0, "service = []\n\n"),
        Some(services) => services
            .iter()
            .for_each(|service| out.push_str(&service_text(service))),
        None => {}
    }
    if let Some(declaration) = &config.declaration {
        out.insert_str(0, &format!("name = {}\n\n", quoted(&declaration.name)));
    }
    out.truncate(out.trim_end().len());
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn set_text(set: &PrefixSet) -> String {
    let members: Vec<String> = set
        .members
        .iter()
        .map(|member| format!("  {},\n", quoted(&member.to_string())))
        .collect();
    format!(
        "[[set]]\nname = {}\nfamily = \"{}\"\nmembers = [{}{}]\n\n",
        quoted(&set.name),
        family(set.family),
        if members.is_empty() { "" } else { "\n" },
        members.concat()
    )
}

/// A family as files name it.
pub fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn rule_list(rules: &[Rule]) -> String {
    if rules.is_empty() {
        return "[]".into();
    }
    let lines = rules
        .iter()
        .map(|rule| format!("  {},\n", quoted(&rules::words(rule))));
    format!("[\n{}]", lines.collect::<String>())
}

fn pool_text(pool: &Pool) -> String {
    let range = |range: &LocalRange| {
        let mut out = format!("[[local]]\naddress = \"{range}\"\n");
        if let Some((first, last)) = range.ports {
            let _ = writeln!(out, "ports = \"{first}-{last}\"");
        }
        if let Some(service) = pool.service {
            let _ = writeln!(out, "service = \"{}\"", service.name());
        }
        out + "\n"
    };
    pool.ranges.iter().map(range).collect()
}

fn service_text(service: &ServiceConfig) -> String {
    let mut out = String::from("[[service]]\n");
    let full = match service.id {
        ServiceId::Address {
            protocol,
            addr,
            port,
        } => {
            let at = std::net::SocketAddr::new(addr, port);
            let name = protocol.name().to_ascii_lowercase();
            let _ = writeln!(out, "{name} = \"{at}\"");
            if addr.is_ipv4() { u32::MAX } else { 128 }
        }
        ServiceId::Mark { mark, family } => {
            let _ = writeln!(out, "mark = {mark}");
            if family == Family::V6 {
                out.push_str("family = \"ipv6\"\n");
                128
            } else {
                u32::MAX
            }
        }
    };
    let spec = &service.spec;
    let _ = writeln!(out, "scheduler = {}", quoted(&spec.scheduler));
    let flags = super::toml::flag_names(spec);
    if !flags.is_empty() {
        let _ = writeln!(out, "flags = [\"{}\"]", flags.join("\", \""));
    }
    if let Some(seconds) = spec.persistent {
        let _ = writeln!(out, "persistent = {seconds}");
    }
    if spec.netmask != full {
        let _ = match service.id.family() {
            Family::V4 => {
                let mask = std::net::Ipv4Addr::from(spec.netmask);
                writeln!(out, "netmask = \"{mask}\"")
            }
            Family::V6 => writeln!(out, "netmask = {}", spec.netmask),
        };
    }
    for (name, set) in [("one-packet", spec.ops), ("toa", spec.toa)] {
        if set {
            let _ = writeln!(out, "{name} = true");
        }
    }
    if let Some(pe) = &spec.pe {
        let _ = writeln!(out, "pe = {}", quoted(pe));
    }
    if let Some(check) = &service.check {
        if let Some(sorry) = &check.sorry {
            let _ = writeln!(out, "sorry = {{ {} }}", server(sorry));
        }
        let _ = writeln!(out, "check = {{ {} }}", check::keys(check));
    }
    if !service.dests.is_empty() {
        out.push_str("server = [\n");
        for dest in &service.dests {
            let own = service.check.iter().flat_map(|check| &check.servers);
            let own = own.filter(|(id, _)| *id == dest.id);
            let own: String = own.map(|(_, own)| check::server_keys(own)).collect();
            let _ = writeln!(out, "  {{ {}{own} }},", server(dest));
        }
        out.push_str("]\n");
    }
    out + "\n"
}

/// A check in one line, with its sorry server and what single servers are asked.
pub(super) fn check_line(check: &ServiceCheck) -> String {
    let mut out = check::keys(check);
    if let Some(sorry) = &check.sorry {
        let _ = write!(out, ", sorry {}", sorry.id);
    }
    for (dest, own) in &check.servers {
        let _ = write!(
            out,
            ", of {dest}{}",
            check::server_keys(own).replace(',', "")
        );
    }
    out.replace(" = ", " ").replace('"', "")
}

/// The keys of a server, in one line.
pub(super) fn server(dest: &Dest) -> String {
    let DestSpec {
        method,
        weight,
        u_threshold,
        l_threshold,
        tunnel,
    } = dest.spec;
    let mut out = format!(
        "address = \"{}\", method = \"{}\", weight = {weight}",
        dest.id,
        method.name()
    );
    for (name, value) in [("upper", u_threshold), ("lower", l_threshold)] {
        if value != 0 {
            let _ = write!(out, ", {name} = {value}");
        }
    }
    if method == Method::Tunnel {
        let checksum = |kind| match kind {
            TunnelChecksum::None => "",
            TunnelChecksum::Full => ", tunnel-checksum = \"full\"",
            TunnelChecksum::Remote => ", tunnel-checksum = \"remote\"",
        };
        let _ = match tunnel {
            Tunnel::Ipip => Ok(()),
            Tunnel::Gue {
                port,
                checksum: kind,
            } => write!(
                out,
                ", tunnel = \"gue\", tunnel-port = {port}{}",
                checksum(kind)
            ),
            Tunnel::Gre { checksum: kind } => write!(out, ", tunnel = \"gre\"{}", checksum(kind)),
        };
    }
    out
}
