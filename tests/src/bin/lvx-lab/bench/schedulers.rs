//! `lvx-lab bench schedulers`: what a new connection costs, by scheduler and
//! number of servers.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Result, ensure};
use comfy_table::{CellAlignment, Table};
use lb_common::{
    layout::{SchedulerKind, ServiceFlags},
    reason::Reason,
};
use lb_userspace::dataplane::Sizes;
use lvx_tests::kernel::{
    bpffs::Bpffs,
    scene::{Reached, Server, Service},
};

use super::{
    measure::median,
    stand::{Packets, Program, Stand, Subject},
    template::{Segment, Template},
};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Numbers of servers: the columns.
const SERVERS: [u32; 4] = [2, 10, 100, 1000];
/// Port of the first service.
const PORT: u16 = 1000;
const SIZES: Sizes = Sizes {
    connections: 1 << 20,
    connections6: 4096,
    services: 256,
    dests: 1 << 15,
    mh_services: 16,
    rule_words: 1 << 12,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fewer rounds: less exact
    #[arg(long)]
    quick: bool,
}

/// A row: a name, a scheduler, its flags, and whether one server alone is heavy.
struct Row {
    name: String,
    kind: SchedulerKind,
    flags: u16,
    heavy: bool,
}

fn rows() -> Vec<Row> {
    let row = |name: &str, kind, flags, heavy| Row {
        name: name.to_owned(),
        kind,
        flags,
        heavy,
    };
    let plain = SchedulerKind::ALL.iter();
    let mut rows: Vec<Row> = plain
        .map(|&kind| row(kind.name(), kind, 0, false))
        .collect();
    let ports = ServiceFlags::SCHED_2;
    rows.push(row("wrr, one heavy", SchedulerKind::Wrr, 0, true));
    rows.push(row("sh-port", SchedulerKind::Sh, ports, false));
    rows.push(row("mh-port", SchedulerKind::Mh, ports, false));
    rows
}

fn service(row: &Row, servers: u32, port: u16) -> Service {
    let weight = |number: u32| match (row.heavy, number) {
        (true, 0) => 1000,
        (true, _) => 1,
        (false, _) => number % 5 + 1,
    };
    let servers = (0..servers).map(|number| Server::from((Reached::Back, weight(number))));
    Service {
        vip: VIP.into(),
        port,
        protocol: 17,
        mark: 0,
        scheduler: row.kind,
        sched_flags: row.flags,
        toa: false,
        flags: 0,
        limit: 0,
        claimed: true,
        servers: servers.collect(),
    }
}

/// Packets of which each starts a connection, from flow `first` on.
fn new(frame: &Template, first: u32, count: u32) -> Packets<'_> {
    Packets {
        frame,
        grows: false,
        first,
        flows: 1 << 24,
        scrambled: false,
        count,
    }
}

/// Measures and prints the table.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    // Every packet is a new connection, and all of them must have room.
    let (rounds, packets) = if arguments.quick {
        (5, 500)
    } else {
        (12, 1000)
    };
    let rows = rows();
    let cells = || {
        rows.iter()
            .flat_map(|row| SERVERS.map(|servers| (row, servers)))
    };
    let services: Vec<Service> = cells()
        .zip(PORT..)
        .map(|((row, servers), port)| service(row, servers, port))
        .collect();
    let bpffs = Bpffs::new()?;
    let mut subject = Subject::load(&bpffs.pins(), SIZES, &services, &[])?;
    let mut stand = Stand::load(&subject)?;
    stand.call(&subject)?;
    let mut times: BTreeMap<u16, Vec<f64>> = BTreeMap::new();
    let mut sent = 0;
    for _ in 0..rounds {
        let frame = Template::to((VIP, PORT).into(), Segment::Datagram);
        let (base, _) = stand.run(Program::Empty, new(&frame, sent, packets), 0)?;
        for (_, port) in cells().zip(PORT..) {
            let frame = Template::to((VIP, port).into(), Segment::Datagram);
            let new = new(&frame, sent, packets);
            let gross = subject.run(&mut stand, new, Reason::ForwardedTx)?;
            sent += packets;
            let net = (gross.as_secs_f64() - base.as_secs_f64()) * 1e9;
            times
                .entry(port)
                .or_default()
                .push(net / f64::from(packets));
        }
    }
    subject.check(Reason::ForwardedTx)?;
    let made = subject.connections()?;
    ensure!(
        made == u64::from(sent),
        "{made} connections for {sent} packets"
    );
    let medians: Vec<f64> = times.into_values().map(median).collect();
    println!(
        "A new UDP connection by direct routing, ns net of the harness (median of {rounds} rounds \
         of {packets}), and as a multiple of rr with as many servers.\n"
    );
    let mut table = Table::new();
    let heading = SERVERS.map(|servers| format!("{servers} servers"));
    table.set_header([&["scheduler".to_owned()], &heading[..]].concat());
    for (row, figures) in rows.iter().zip(medians.chunks(SERVERS.len())) {
        let shown = figures
            .iter()
            .zip(&medians)
            .map(|(figure, rr)| format!("{figure:.0} ({:.2})", figure / rr));
        table.add_row([row.name.clone()].into_iter().chain(shown));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    Ok(())
}
