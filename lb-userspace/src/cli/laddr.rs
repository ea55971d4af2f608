use std::{fmt::Write as _, net::SocketAddr};

use anyhow::{Result, ensure};
use clap::{Args as ClapArgs, Subcommand};

use super::unexpected;
use crate::{
    daemon::{client::Client, publish::FOREIGN},
    model::{LocalRange, Pool, Protocol, Refusal, Request, Response, ServiceId},
};

/// Arguments of `lvx laddr`.
#[derive(ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Add local addresses to a pool
    Add {
        #[command(flatten)]
        whose: Whose,
        /// Ports to use [default: those outside net.ipv4.ip_local_port_range]
        #[arg(long, value_name = "FIRST-LAST", value_parser = ports)]
        ports: Option<(u16, u16)>,
        /// Address of this director, or all of a network: 10.0.0.5, 10.0.0.16/28
        #[arg(required = true, value_name = "ADDRESS[/PREFIX]")]
        addresses: Vec<LocalRange>,
    },
    /// Take local addresses out of a pool; connections that exist keep theirs
    Del {
        #[command(flatten)]
        whose: Whose,
        /// As it was added
        #[arg(required = true, value_name = "ADDRESS[/PREFIX]")]
        addresses: Vec<LocalRange>,
    },
    /// Show every pool
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Whose pool; without an option, the director's.
#[derive(ClapArgs)]
#[group(multiple = false)]
struct Whose {
    /// The pool of this TCP service, instead of the director's
    #[arg(short = 't', long, value_name = "VIP:PORT")]
    tcp_service: Option<SocketAddr>,
    /// The pool of this UDP service, instead of the director's
    #[arg(short = 'u', long, value_name = "VIP:PORT")]
    udp_service: Option<SocketAddr>,
    /// The pool of this SCTP service, instead of the director's
    #[arg(long, value_name = "VIP:PORT")]
    sctp_service: Option<SocketAddr>,
}

impl Whose {
    fn service(&self) -> Option<ServiceId> {
        let id = |protocol| {
            move |at: SocketAddr| ServiceId::Address {
                protocol,
                addr: at.ip(),
                port: at.port(),
            }
        };
        let tcp = self.tcp_service.map(id(Protocol::Tcp));
        let udp = self.udp_service.map(id(Protocol::Udp));
        tcp.or(udp)
            .or_else(|| self.sctp_service.map(id(Protocol::Sctp)))
    }
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let ports = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match ports {
        Some((first, last)) if 0 < first && first <= last => Ok((first, last)),
        _ => Err("two ports with a dash between them, the smaller one first: 1024-65535".into()),
    }
}

pub(super) fn main(args: Args) -> Result<()> {
    let mut client = Client::default();
    match args.verb {
        Verb::Add {
            whose,
            ports,
            addresses,
        } => {
            let ranges = addresses.into_iter();
            let ranges: Vec<_> = ranges.map(|range| LocalRange { ports, ..range }).collect();
            let service = whose.service();
            change(&mut client, &Request::AddLocal(service, ranges))?;
            notes(&mut client, service)
        }
        Verb::Del { whose, addresses } => change(
            &mut client,
            &Request::DeleteLocal(whose.service(), addresses),
        ),
        Verb::List { json } => {
            let pools = match client.request(&Request::Locals)? {
                Response::Locals(pools) => pools,
                other => return Err(unexpected(&other)),
            };
            if json {
                println!("{}", serde_json::to_string_pretty(&pools)?);
            } else {
                print!("{}", text(&pools));
            }
            Ok(())
        }
    }
}

fn change(client: &mut Client, request: &Request) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "permission denied: lvx laddr needs root"
    );
    match client.request(request)? {
        Response::Ok => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// What is legal but hardly meant, on standard error.
fn notes(client: &mut Client, service: Option<ServiceId>) -> Result<()> {
    if let Some(id) = service
        && client.request(&Request::List(Some(id)))? == Response::Refused(Refusal::NoSuchService)
    {
        eprintln!("lvx: warning: there is no service {id} yet; the pool waits for it");
    }
    if let Response::Status(status) = client.request(&Request::Status)? {
        let warnings = status.warnings.iter();
        for warning in warnings.filter(|warning| warning.starts_with(FOREIGN)) {
            eprintln!("lvx: warning: {warning}");
        }
    }
    Ok(())
}

fn text(pools: &[Pool]) -> String {
    if pools.is_empty() {
        return "no pools: FULLNAT uses the address that the director has towards each server\n"
            .into();
    }
    let mut text = String::new();
    for pool in pools {
        let whose = pool
            .service
            .map_or("director".into(), |service| service.to_string());
        for range in &pool.ranges {
            let ports = match range.ports {
                Some((first, last)) => format!("{first}-{last}"),
                None => "outside net.ipv4.ip_local_port_range".into(),
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{whose:<24} {:<24} ports {ports}", range.to_string());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        assert_eq!(ports("1024-65535"), Ok((1024, 65_535)));
        assert_eq!(ports("80-80"), Ok((80, 80)));
        for wrong in ["80", "0-5", "9-8", "1-65536", "-", "a-b"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pools_are_listed() {
        let range = |text: &str, ports| LocalRange {
            ports,
            ..text.parse().unwrap()
        };
        let pools = [
            Pool {
                service: None,
                ranges: vec![range("10.0.0.5", None)],
            },
            Pool {
                service: Some(ServiceId::Address {
                    protocol: Protocol::Tcp,
                    addr: "fd00::1".parse().unwrap(),
                    port: 80,
                }),
                ranges: vec![range("fd00::10/124", Some((1024, 65_535)))],
            },
        ];
        assert_eq!(
            text(&pools),
            "director                 10.0.0.5                 ports outside net.ipv4.ip_local_port_range\n\
             -t [fd00::1]:80          fd00::10/124             ports 1024-65535\n"
        );
        assert!(text(&[]).starts_with("no pools:"));
    }
}
