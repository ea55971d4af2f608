//! `lvx conns`: connections and templates, by what they have in common.

use std::{
    io::{self, BufWriter, Write},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use comfy_table::{Cell, Color};
use serde::Serializer as _;
use serde_json::{Value, json};

use super::{
    terminal::{Columns, show},
    unexpected,
};
use crate::{
    daemon::client::{Client, data_plane},
    model::{Connection, End, Flow, FlowFilter, Protocol, Request, Response, ServiceId, number},
};

/// Arguments of `lvx conns`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// Client: ADDRESS, ADDRESS/LENGTH or ADDRESS:PORT
    #[arg(long, value_name = "END")]
    client: Option<End>,
    /// Virtual address, likewise
    #[arg(long, value_name = "END")]
    vip: Option<End>,
    /// Server, likewise
    #[arg(long, value_name = "END")]
    server: Option<End>,
    /// tcp, udp or sctp
    #[arg(long, value_name = "NAME", value_parser = protocol)]
    protocol: Option<Protocol>,
    /// As it is listed: established, time_wait, udp, …
    #[arg(long)]
    state: Option<String>,
    /// Service: tcp:10.0.0.1:80, udp:…, sctp:…, mark:7, mark6:7
    #[arg(long)]
    service: Option<ServiceId>,
    /// Persistence templates alone
    #[arg(long, conflicts_with = "no_templates")]
    templates: bool,
    /// No persistence templates
    #[arg(long)]
    no_templates: bool,
    /// Only how many there are
    #[arg(long, conflicts_with = "json")]
    count: bool,
    /// As JSON, in the order in which they are found
    #[arg(long)]
    json: bool,
    /// End them: their next packets are new to the director
    #[arg(long, conflicts_with_all = ["json", "count"])]
    kill: bool,
    /// With --kill and no condition: all of them
    #[arg(long, requires = "kill")]
    all: bool,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err("tcp, udp or sctp".into()),
    }
}

impl Args {
    fn filter(&self) -> FlowFilter {
        FlowFilter {
            client: self.client,
            vip: self.vip,
            server: self.server,
            protocol: self.protocol,
            state: self.state.clone(),
            service: self.service,
            templates: match (self.templates, self.no_templates) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
        }
    }
}

pub(super) fn main(args: &Args) -> Result<()> {
    let filter = args.filter();
    if args.kill {
        let mut client = Client::default();
        if filter == FlowFilter::default() && !args.all {
            bail!("--kill ends connections: say which (--client, --service, …), or --all");
        }
        return match client.request(&Request::Kill(filter))? {
            Response::Ended(count) => {
                show(&format!("{count} ended\n"));
                Ok(())
            }
            other => Err(unexpected(&other)),
        };
    }
    let data_plane = data_plane()?;
    let flows = data_plane.flows(&filter);
    if args.count {
        show(&format!("{}\n", flows.count()));
    } else if args.json {
        // Whoever has read enough closes the pipe.
        if write_json(io::stdout().lock(), flows).is_err() {
            std::process::exit(0);
        }
    } else {
        let mut flows: Vec<_> = flows.collect();
        flows.sort_by_key(order);
        show(&text(&flows));
    }
    Ok(())
}

/// One array, written as connections are read: there may be millions.
fn write_json(out: impl Write, flows: impl Iterator<Item = Flow>) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    serde_json::Serializer::pretty(&mut out).collect_seq(flows.map(|flow| document(&flow)))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// By service, then by client.
fn order(flow: &Flow) -> impl Ord + use<> {
    let place = |end: (IpAddr, u16)| (end.0.is_ipv6(), number(end.0), end.1);
    let Connection {
        protocol,
        client,
        service,
        ..
    } = flow.connection;
    (place(service), protocol, flow.template, place(client))
}

fn name(protocol: u8) -> &'static str {
    // A template of a mark is of every protocol.
    Protocol::from_number(protocol).map_or("IP", Protocol::name)
}

fn end((addr, port): (IpAddr, u16)) -> String {
    SocketAddr::new(addr, port).to_string()
}

fn text(flows: &[Flow]) -> String {
    if flows.is_empty() {
        return "no connections\n".into();
    }
    let titles = [
        "PROTO", "EXPIRES", "STATE", "CLIENT", "VIP", "SERVER", "METHOD", "SERVICE",
    ];
    let mut table = Columns::new(&titles, &[1]);
    for flow in flows {
        let one = &flow.connection;
        let expires = format!("{:02}:{:02}", one.expires / 60, one.expires % 60);
        let state = Cell::new(if flow.template {
            format!("template {}", one.state)
        } else {
            one.state.clone()
        });
        let state = match one.state.as_str() {
            "ESTABLISHED" | "UDP" | "ASSURED" => state.fg(Color::Green),
            "SYN_RECV" | "SYN_SENT" => state.fg(Color::Yellow),
            _ => state,
        };
        table.row(vec![
            Cell::new(name(one.protocol)),
            Cell::new(expires),
            state,
            Cell::new(end(one.client)),
            Cell::new(end(one.service)),
            Cell::new(end(one.dest)),
            Cell::new(flow.method.name()),
            Cell::new(flow.owner.map_or("-".into(), ServiceId::name)),
        ]);
    }
    table.text()
}

fn document(flow: &Flow) -> Value {
    let one = &flow.connection;
    let end = |(addr, port): (IpAddr, u16)| json!({ "address": addr, "port": port });
    json!({
        "protocol": name(one.protocol).to_ascii_lowercase(),
        "expires": one.expires,
        "state": one.state,
        "client": end(one.client),
        "vip": end(one.service),
        "server": end(one.dest),
        "method": flow.method.name(),
        "service": flow.owner.map(ServiceId::name),
        "template": flow.template,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Method;

    fn flow(client: &str, state: &str, template: bool) -> Flow {
        let end = |text: &str| {
            let at: SocketAddr = text.parse().unwrap();
            (at.ip(), at.port())
        };
        Flow {
            connection: Connection {
                protocol: 6,
                expires: 896,
                state: state.into(),
                client: end(client),
                service: end("10.0.0.1:80"),
                dest: end("192.168.0.1:8080"),
                pe: None,
            },
            owner: Some("tcp:10.0.0.1:80".parse().unwrap()),
            method: Method::Masq,
            template,
        }
    }

    #[test]
    fn a_table_and_a_document() {
        let mut flows = vec![
            flow("10.1.0.9:0", "ASSURED", true),
            flow("10.1.0.10:4000", "ESTABLISHED", false),
            flow("10.1.0.9:40000", "ESTABLISHED", false),
        ];
        flows.sort_by_key(order);
        assert_eq!(
            text(&flows),
            "\
PROTO  EXPIRES  STATE             CLIENT          VIP          SERVER            METHOD  SERVICE
TCP      14:56  ESTABLISHED       10.1.0.9:40000  10.0.0.1:80  192.168.0.1:8080  nat     tcp:10.0.0.1:80
TCP      14:56  ESTABLISHED       10.1.0.10:4000  10.0.0.1:80  192.168.0.1:8080  nat     tcp:10.0.0.1:80
TCP      14:56  template ASSURED  10.1.0.9:0      10.0.0.1:80  192.168.0.1:8080  nat     tcp:10.0.0.1:80
"
        );
        let value = document(&flows[0]);
        assert_eq!(value["client"]["address"], "10.1.0.9");
        assert_eq!(value["service"], "tcp:10.0.0.1:80");
        assert_eq!(text(&[]), "no connections\n");
        for count in 0..=flows.len() {
            let mut written = Vec::new();
            write_json(&mut written, flows[..count].iter().cloned()).unwrap();
            let whole = Value::Array(flows[..count].iter().map(document).collect());
            assert_eq!(String::from_utf8(written).unwrap(), format!("{whole:#}\n"));
        }
    }
}
