//! The recorded mappings of many clients against the engine's schedulers, on
//! plain tables: what would take an hour on this machine's clock takes a second. And
//! against the plain rendering of the kernel's tables that `lvx migrate check`
//! compares a director with.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::{
    facts::Facts,
    host::HostTables,
    layout::{ListEntry, NO_OLD_POSITION, SchedulerKind, ServiceEntry, ServiceFlags, ServiceView},
    sched::{self, Picked, try_pick, wrr},
    tables::{Params, Table, Tables as _},
};
use lb_userspace::migrate::kernel::Kernel;
use lvx_oracle::{
    batch,
    play::clients::{client, summary},
    scenario::{Action, Packet, Scenario},
};

/// An address as packets hold it.
fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [u32::from_ne_bytes(v4.octets()).into(), 0],
        IpAddr::V6(v6) => {
            let mut words = [0; 2];
            for (word, bytes) in words.iter_mut().zip(v6.octets().chunks_exact(8)) {
                *word = u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
            }
            words
        }
    }
}

/// A service as its commands make it.
#[derive(Default)]
struct Service {
    scheduler: String,
    flags: u16,
    /// The newest first.
    servers: Vec<(String, sched::Server)>,
}

/// The word behind `option`.
fn after<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| word == option)?;
    words.get(at + 1).map(String::as_str)
}

impl Service {
    fn command(&mut self, words: &[String], names: &BTreeMap<String, IpAddr>) {
        if words[0] == "-A" {
            self.scheduler = after(words, "-s").expect("a scheduler").to_owned();
            for flag in after(words, "-b").into_iter().flat_map(|it| it.split(',')) {
                self.flags |= match flag {
                    "sh-fallback" | "mh-fallback" => ServiceFlags::SCHED_1,
                    "sh-port" | "mh-port" => ServiceFlags::SCHED_2,
                    other => panic!("flag {other}"),
                };
            }
            return;
        }
        let server = after(words, "-r").expect("a server");
        let (address, port) = server.rsplit_once(':').expect("a port");
        let address: IpAddr = address
            .trim_matches(['[', ']'])
            .parse()
            .expect("an address");
        let (name, _) = names
            .iter()
            .find(|(_, known)| **known == address)
            .expect("a server's address");
        let weight = after(words, "-w").map_or(1, |text| text.parse().expect("a weight"));
        if words[0] == "-a" {
            let [a, b] = crate::words(address);
            let server = sched::Server {
                addr: [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32],
                port: port.parse().expect("a port"),
                weight,
                last_weight: weight,
            };
            self.servers.insert(0, (name.clone(), server));
        } else {
            assert_eq!(words[0], "-e");
            let known = self.servers.iter_mut().find(|it| it.0 == *name);
            let server = &mut known.expect("it was added").1;
            server.weight = weight;
            if weight > 0 {
                server.last_weight = weight;
            }
        }
    }

    /// Where clients go by the kernel's tables, in one line.
    fn by_the_kernels_tables(&self, count: u32, packet: &Packet) -> String {
        let kind = SchedulerKind::from_name(&self.scheduler).expect("a scheduler");
        let servers = self.servers.iter().map(|it| it.1).collect();
        let kernel = Kernel::new(kind, self.flags, servers);
        let receiver = |number| {
            let from = client(packet.from, number);
            let counts = self.flags & ServiceFlags::SCHED_2 != 0;
            let port = if counts { from.port() } else { 0 };
            match kernel.choose(from.ip(), port, packet.to.ip()) {
                Some(position) => self.servers[position].0.clone(),
                None => "-".to_owned(),
            }
        };
        summary(&(0..count).map(receiver).collect::<Vec<_>>())
    }

    /// Where clients go, in one line.
    fn clients(&self, count: u32, packet: &Packet) -> String {
        let params = Params {
            service_slots: 1,
            list_entries: 16,
            iface_slots: 1,
            ..Params::default()
        };
        let tables = &HostTables::new(params, 16, 1);
        let kind = SchedulerKind::from_name(&self.scheduler).expect("a scheduler");
        let servers: Vec<sched::Server> = self.servers.iter().map(|it| it.1).collect();
        let compiled = kind.compile(&servers);
        for (index, four) in (0..).zip(compiled.table.chunks(4)) {
            let word = four
                .iter()
                .rev()
                .fold(0, |word, &it| word << 16 | u64::from(it));
            tables.set::<u64>(Table::SchedTable, index, word);
        }
        for (index, server) in (0..).zip(&servers) {
            let entry = ListEntry {
                slot: index,
                weight: server.weight,
                old_position: NO_OLD_POSITION,
                method: 3,
            };
            let hint = compiled.hints.get(index as usize).copied().unwrap_or(0);
            tables.set(Table::List, index, entry.with_hint(hint));
        }
        let (max_weight, gcd) = wrr::thresholds(servers.iter().map(|server| server.weight));
        let service = ServiceEntry {
            flags: self.flags,
            scheduler: kind as u8,
            list_len: servers.len() as u32,
            max_weight,
            gcd,
            sched: [compiled.word, u64::from(kind.has_table()), 0],
            ..ServiceEntry::default()
        };
        tables.set(Table::Service, 0, service);
        let view = ServiceView(tables.cell(Table::Service, 0).expect("it is there"));
        let receiver = |number| {
            let from = client(packet.from, number);
            let facts = Facts {
                src: words(from.ip()),
                dst: words(packet.to.ip()),
                ports: u64::from(from.port().to_be()) | u64::from(packet.to.port().to_be()) << 16,
                ..Facts::default()
            };
            match try_pick(tables, &facts, 0, view) {
                Picked::Dest { slot, .. } => self.servers[slot as usize].0.clone(),
                Picked::None => "-".to_owned(),
                other => panic!("{other:?}"),
            }
        };
        summary(&(0..count).map(receiver).collect::<Vec<_>>())
    }
}

#[test]
fn clients_keep_the_servers_that_the_kernel_gave_them() {
    let directory = batch::directory();
    let mut checked = 0;
    for name in ["clients", "clients6"] {
        let path = directory.join(format!("{name}.scn"));
        let scenario = Scenario::read(&path).expect("the scenario is right");
        let (_, kernel) = batch::recording(&directory, name).expect("it is recorded");
        let mut services: BTreeMap<String, Service> = BTreeMap::new();
        for (step, recorded) in scenario.steps.iter().zip(&kernel.steps) {
            match &step.action {
                Action::Ipvsadm(words) => {
                    let id = after(words, "-u").expect("a UDP service").to_owned();
                    let service = services.entry(id).or_default();
                    service.command(words, &scenario.servers);
                }
                Action::Clients(count, packet) => {
                    let service = &services[&packet.to.to_string()];
                    for line in [
                        service.clients(*count, packet),
                        service.by_the_kernels_tables(*count, packet),
                    ] {
                        assert_eq!(
                            [line],
                            recorded.lines[..],
                            "{name}:{}: {}",
                            step.line,
                            step.text
                        );
                    }
                    checked += count;
                }
                other => panic!("{name}:{}: {other:?}", step.line),
            }
        }
    }
    assert!(checked >= 90_000, "{checked} clients");
}
