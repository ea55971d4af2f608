//! `lvx-lab bench streams`: one TCP stream from client to server by each method,
//! next to direct and to plain forwarding, in turns.
//!
//! All of it is veth pairs on one machine, without segmentation offload: what
//! carries over are the ratios within one run.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table};
use lvx_tests::{
    decap::Decap,
    director::{Director, Start},
    lab::{Answers, Namespace, Routed},
};

use super::measure::median;
use crate::stop::Signals;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Shorter and fewer rounds: about 15 seconds
    #[arg(long)]
    quick: bool,
}

/// A way from client to server: name, port, and options of ipvsadm. Ports are
/// kept by all methods but NAT.
const METHODS: [(&str, u16, &str); 7] = [
    ("direct routing", 9001, "-g"),
    ("NAT", 9002, "-m"),
    ("FULLNAT", 9007, "--fullnat"),
    ("IPIP", 9003, "-i --tun-type ipip"),
    ("GUE", 9004, "-i --tun-type gue --tun-port 6080"),
    ("GRE", 9005, "-i --tun-type gre"),
    ("GRE with checksum", 9006, "-i --tun-type gre --tun-csum"),
];
const SINK: u16 = 9000;
const CHUNK: usize = 128 << 10;
/// Connecting, and the end of a stream.
const PATIENCE: Duration = Duration::from_secs(10);

struct Row {
    name: &'static str,
    /// IPv4 and IPv6, in order of rounds; Gbit/s.
    rates: [Vec<f64>; 2],
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let signals = Signals::catch()?;
    let (rounds, time) = if arguments.quick {
        (2, Duration::from_millis(400))
    } else {
        (7, Duration::from_secs(1))
    };
    // One without lvx, for what lvx is compared with.
    let plain = Routed::new(Answers::ByGate)?;
    plain
        .gate
        .ns
        .ip("route add 192.168.0.20/32 via 172.25.254.50
         route add fd03::20/128 via fd02::50")?;
    plain.director.ns.sysctl("net/ipv4/ip_forward", "1")?;
    plain
        .director
        .ns
        .sysctl("net/ipv6/conf/all/forwarding", "1")?;
    sinks(&plain.servers[0].node.ns, &[SINK])?;
    sinks(&plain.servers[1].node.ns, &[SINK])?;

    let lab = Routed::new(Answers::ByGate)?;
    let [direct, nat] = [0, 1].map(|i| &lab.servers[i].node.ns);
    nat.ip("route replace default via 192.168.0.50
         route replace default via fd03::50")?;
    let kept: Vec<u16> = METHODS.iter().map(|(_, port, _)| *port).collect();
    sinks(direct, &kept)?;
    sinks(nat, &[SINK])?;
    let _decap = Decap::start(direct, &["--interface", "eth0"])?;
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let director = Director::start_with(&lab.director.ns, start)?;
    for (_, port, options) in METHODS {
        let servers = match options {
            "-m" => [format!("192.168.0.20:{SINK}"), format!("[fd03::20]:{SINK}")],
            _ => [format!("192.168.0.10:{port}"), format!("[fd03::10]:{port}")],
        };
        for (vip, server) in ["172.25.254.100", "[fd02::100]"].iter().zip(servers) {
            director.configure(&format!(
                "-A -t {vip}:{port} -s rr
                 -a -t {vip}:{port} -r {server} {options}"
            ));
        }
    }
    director.wait_for_ways()?;

    let vips = [IpAddr::V4(Routed::VIP), IpAddr::V6(Routed::VIP6)];
    let behind = |last: u16| {
        let four = IpAddr::from([192, 168, 0, last as u8]);
        // The digits of the IPv4 address, as the lab has it.
        let six = Ipv6Addr::new(
            0xfd03,
            0,
            0,
            0,
            0,
            0,
            0,
            if last == 10 { 0x10 } else { 0x20 },
        );
        [four, IpAddr::V6(six)]
    };
    let mut ways = vec![
        ("direct", behind(10), SINK, &plain),
        ("forwarding by the kernel", behind(20), SINK, &plain),
    ];
    ways.extend(METHODS.map(|(name, port, _)| (name, vips, port, &lab)));
    let mut rows: Vec<Row> = ways
        .iter()
        .map(|way| Row {
            name: way.0,
            rates: [Vec::new(), Vec::new()],
        })
        .collect();
    for round in 0..=rounds {
        for ((name, to, port, lab), row) in ways.iter().zip(&mut rows) {
            for (to, rates) in to.iter().zip(&mut row.rates) {
                signals.check()?;
                let to = SocketAddr::new(*to, *port);
                let rate =
                    stream(&lab.client.ns, to, time).with_context(|| format!("{name}, {to}"))?;
                // The first round warms up, and lets clients learn what fits.
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
    }
    let status = director.status()?;
    let redirected = status
        .reasons
        .iter()
        .find(|(name, _)| name == "forwarded-redirect");
    ensure!(
        redirected.is_some_and(|(_, packets)| *packets > 10_000),
        "the streams did not go through lvx: {:?}",
        status.reasons
    );
    print(&rows, rounds, time);
    Ok(())
}

/// Reads and forgets, on every address of a namespace. The threads wait for
/// connections until this program ends.
fn sinks(ns: &Namespace, ports: &[u16]) -> Result<()> {
    for port in ports {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port);
        let listener = ns
            .enter(|| TcpListener::bind(any))
            .with_context(|| format!("cannot listen on port {port}"))?;
        thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            for mut stream in listener.incoming().flatten() {
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
            }
        });
    }
    Ok(())
}

/// Sends for `time`, and waits until all has been read; Gbit/s.
fn stream(from: &Namespace, to: SocketAddr, time: Duration) -> Result<f64> {
    let mut stream = from.enter(|| TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let chunk = vec![0x5a; CHUNK];
    let started = Instant::now();
    let mut sent = 0;
    while started.elapsed() < time {
        sent += stream.write(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(sent as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e9)
}

fn print(rows: &[Row], rounds: usize, time: Duration) {
    println!(
        "One TCP stream, client to server, {rounds} rounds of {time:?} each in turns; medians, and medians of the ratios within a round."
    );
    let mut table = Table::new();
    table.set_header([
        "way",
        "IPv4 Gbit/s",
        "/ direct",
        "/ forwarding",
        "IPv6 Gbit/s",
        "/ direct",
        "/ forwarding",
    ]);
    for row in rows {
        let mut cells = vec![row.name.to_owned()];
        for (family, rates) in row.rates.iter().enumerate() {
            let to = |other: &Row| {
                let ratios = rates.iter().zip(&other.rates[family]);
                median(ratios.map(|(one, other)| one / other).collect())
            };
            cells.push(format!("{:.2}", median(rates.clone())));
            cells.extend([&rows[0], &rows[1]].map(|other| format!("{:.2}", to(other))));
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}
