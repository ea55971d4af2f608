//! The files of `/proc/net` that the kernel's IPVS has, to the byte.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
};

use super::{
    connections::connections,
    state::State,
    tables::Tables,
    totals::{Idle, Totals, totals},
};
use crate::{
    dataplane::Maps,
    model::{
        Connection, Counters, Family, Method, ProcFile, Protocol, Rates, ServiceId, ServiceSpec,
    },
};

/// Ticks of the kernel's clock a second, which persistence is told in.
const HZ: u32 = 250;

/// The text of a file.
pub fn text(file: ProcFile, maps: &Maps, state: &State, idle: &Idle, zero: Counters) -> String {
    match file {
        ProcFile::IpVs => table(&Tables::from(maps), state),
        ProcFile::IpVsConn => conns(&connections(maps)),
        ProcFile::IpVsStats => stats(&totals(maps, state, idle, zero)),
        ProcFile::IpVsStatsPercpu => by_cpu(&totals(maps, state, idle, zero)),
    }
}

/// `ip_vs`. Addresses come before marks; the kernel's order within them is that
/// of a hash table with a secret, here it is the newest first.
fn table(tables: &Tables<'_>, state: &State) -> String {
    let mut out = format!(
        "IP Virtual Server version 1.2.1 (size={})\n\
         Prot LocalAddress:Port Scheduler Flags\n\
         \x20 -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n",
        tables.params.flow4_cells
    );
    for marks in [false, true] {
        let all: Vec<_> = state.services().collect();
        let all = all.into_iter().rev();
        let all = all.filter(|(id, _)| matches!(id, ServiceId::Mark { .. }) == marks);
        for (id, service) in all {
            out.push_str(&service_line(*id, &service.spec));
            for node in &service.dests {
                let load = tables.dest_loads.get(node.slot);
                let method = match node.dest.spec.method {
                    Method::Masq => "Masq",
                    Method::Local => "Local",
                    Method::Tunnel => "Tunnel",
                    Method::Route => "Route",
                    Method::Fullnat => "FullNat",
                };
                // Writing to a string does not fail, here and below.
                let _ = writeln!(
                    out,
                    "  -> {}      {method:<7} {:<6} {:<10} {:<10}",
                    endpoint(node.dest.id.addr, node.dest.id.port),
                    node.dest.spec.weight,
                    load.active(),
                    load.inactive()
                );
            }
        }
    }
    out
}

fn service_line(id: ServiceId, spec: &ServiceSpec) -> String {
    let ops = if spec.ops { "ops " } else { "" };
    let scheduler = &spec.scheduler;
    let mut out = match id {
        ServiceId::Address {
            protocol,
            addr: IpAddr::V4(addr),
            port,
        } => {
            let at = endpoint(addr.into(), port);
            format!("{}  {at} {scheduler} {ops} ", protocol.name())
        }
        // Of these the kernel does not tell one-packet scheduling.
        ServiceId::Address {
            protocol,
            addr,
            port,
        } => format!("{}  {} {scheduler} ", protocol.name(), endpoint(addr, port)),
        ServiceId::Mark { mark, .. } => format!("FWM  {mark:08X} {scheduler} {ops}"),
    };
    if let Some(seconds) = spec.persistent {
        // An IPv6 prefix length is printed with its bytes swapped.
        let mask = match id.family() {
            Family::V4 => spec.netmask,
            Family::V6 => spec.netmask.swap_bytes(),
        };
        let _ = write!(out, "persistent {} {mask:08X}", seconds.wrapping_mul(HZ));
    }
    out.push('\n');
    out
}

fn endpoint(addr: IpAddr, port: u16) -> String {
    match addr {
        IpAddr::V4(_) => format!("{}:{port:04X}", address(addr)),
        IpAddr::V6(_) => format!("[{}]:{port:04X}", address(addr)),
    }
}

fn address(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => format!("{:08X}", u32::from(addr)),
        IpAddr::V6(addr) => full(addr),
    }
}

/// All eight groups with all their digits.
fn full(addr: Ipv6Addr) -> String {
    let groups = addr.segments().map(|group| format!("{group:04x}"));
    groups.join(":")
}

/// `ip_vs_conn`.
fn conns(all: &[Connection]) -> String {
    let mut out = String::from(
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n",
    );
    for one in all {
        let protocol = Protocol::from_number(one.protocol).map_or("IP", Protocol::name);
        let [client, service, dest] = [one.client, one.service, one.dest]
            .map(|(addr, port)| format!("{} {port:04X}", address(addr)));
        let pe = one.pe.as_ref();
        let pe = pe.map_or_else(String::new, |(name, data)| format!(" {name} {data}"));
        let _ = writeln!(
            out,
            "{protocol:<3} {client} {service} {dest} {:<11} {:>7}{pe}",
            one.state, one.expires
        );
    }
    out
}

/// Counters or rates, in hexadecimal.
fn five([conns, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5]) -> String {
    format!("{conns:>8X} {in_packets:>8X} {out_packets:>8X} {in_bytes:>16X} {out_bytes:>16X}\n")
}

fn counters(all: Counters) -> String {
    let Counters {
        conns,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = all;
    five([conns, in_packets, out_packets, in_bytes, out_bytes])
}

fn rates(all: Rates) -> String {
    let Rates {
        conns,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    } = all;
    five([conns, in_packets, out_packets, in_bytes, out_bytes])
}

/// `ip_vs_stats`.
fn stats(totals: &Totals) -> String {
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n\
         \x20  Conns  Packets  Packets            Bytes            Bytes\n\
         {}\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n{}",
        counters(totals.total),
        rates(totals.rates)
    )
}

/// `ip_vs_stats_percpu`.
fn by_cpu(totals: &Totals) -> String {
    let mut out = String::from(
        "       Total Incoming Outgoing         Incoming         Outgoing\n\
         CPU    Conns  Packets  Packets            Bytes            Bytes\n",
    );
    for (cpu, all) in totals.cpus.iter().enumerate() {
        let _ = write!(out, "{cpu:>3X} {}", counters(*all));
    }
    let _ = write!(
        out,
        "  ~ {}\n     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n    {}",
        counters(totals.total),
        rates(totals.rates)
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::{state::Limits, tables::memory::Memory},
        model::{Dest, DestId, DestSpec, Request, Tunnel},
    };

    fn spec(persistent: Option<u32>, netmask: u32, ops: bool) -> ServiceSpec {
        ServiceSpec {
            scheduler: "rr".into(),
            sched_flags: 0,
            ops,
            persistent,
            netmask,
            pe: None,
            toa: false,
        }
    }

    /// The lines are those that Linux 6.12 printed.
    #[test]
    fn services_as_the_kernel_prints_them() {
        let memory = Memory::new(8, 8);
        let tables = memory.tables();
        let mut state = State::new(Limits::of(tables.sizes, tables.params));
        for (id, spec) in [
            ("mark:7", spec(Some(100), u32::MAX, false)),
            ("tcp:10.0.0.1:0", spec(Some(300), 0xffff_ff00, false)),
            ("udp:10.0.0.1:53", spec(None, u32::MAX, false)),
            ("udp:10.0.0.1:5060", spec(Some(60), u32::MAX, true)),
            ("tcp:[2001:db8::1]:80", spec(Some(60), 128, false)),
        ] {
            let id: ServiceId = id.parse().unwrap();
            let add = Request::AddService(id, spec);
            state.apply(&add, tables.raw, &tables, 0).unwrap();
            let (addr, port) = match id.family() {
                Family::V4 => ("192.168.1.1", 8080),
                Family::V6 => ("fd00:1::1", 8080),
            };
            let dest = Dest {
                id: DestId {
                    addr: addr.parse().unwrap(),
                    port,
                },
                spec: DestSpec {
                    method: Method::Masq,
                    weight: 1,
                    u_threshold: 0,
                    l_threshold: 0,
                    tunnel: Tunnel::Ipip,
                },
            };
            let add = Request::AddDest(id, dest);
            state.apply(&add, tables.raw, &tables, 0).unwrap();
        }
        assert_eq!(
            table(&tables, &state),
            "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr persistent 15000 80000000
  -> [fd00:0001:0000:0000:0000:0000:0000:0001]:1F90      Masq    1      0          0         \n\
UDP  0A000001:13C4 rr ops  persistent 15000 FFFFFFFF
  -> C0A80101:1F90      Masq    1      0          0         \n\
UDP  0A000001:0035 rr  \n\
\x20 -> C0A80101:1F90      Masq    1      0          0         \n\
TCP  0A000001:0000 rr  persistent 75000 FFFFFF00
  -> C0A80101:1F90      Masq    1      0          0         \n\
FWM  00000007 rr persistent 25000 FFFFFFFF
  -> C0A80101:1F90      Masq    1      0          0         \n"
        );
    }

    /// All forms of a service's line, recorded from Linux 6.12.
    #[test]
    fn every_form_of_a_service() {
        for (id, scheduler, ops, persistent, netmask, want) in [
            (
                "udp:[2001:db8::1]:53",
                "wrr",
                true,
                None,
                128,
                "UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 wrr ",
            ),
            (
                "udp:[2001:db8::1]:54",
                "wrr",
                true,
                Some(10),
                64,
                "UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0036 wrr persistent 2500 40000000",
            ),
            (
                "tcp:[2001:db8::1]:80",
                "wrr",
                false,
                None,
                128,
                "TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 wrr ",
            ),
            (
                "sctp:10.0.0.1:99",
                "sh",
                false,
                None,
                u32::MAX,
                "SCTP  0A000001:0063 sh  ",
            ),
            (
                "udp:10.0.0.1:53",
                "lblcr",
                true,
                None,
                u32::MAX,
                "UDP  0A000001:0035 lblcr ops  ",
            ),
            (
                "tcp:10.0.0.1:80",
                "rr",
                false,
                None,
                u32::MAX,
                "TCP  0A000001:0050 rr  ",
            ),
            (
                "mark6:4294967295",
                "rr",
                false,
                Some(100),
                48,
                "FWM  FFFFFFFF rr persistent 25000 30000000",
            ),
            (
                "mark:8",
                "rr",
                true,
                None,
                u32::MAX,
                "FWM  00000008 rr ops ",
            ),
            (
                "mark:9",
                "rr",
                true,
                Some(100),
                0xffff_0000,
                "FWM  00000009 rr ops persistent 25000 FFFF0000",
            ),
            ("mark6:11", "rr", false, None, 128, "FWM  0000000B rr "),
        ] {
            let spec = ServiceSpec {
                scheduler: scheduler.into(),
                ..spec(persistent, netmask, ops)
            };
            let line = service_line(id.parse().unwrap(), &spec);
            assert_eq!(line, format!("{want}\n"));
        }
    }

    #[test]
    fn connections_as_the_kernel_prints_them() {
        let one = |protocol, state: &str, expires, ends: [(&str, u16); 3]| {
            let [client, service, dest] = ends.map(|(addr, port)| (addr.parse().unwrap(), port));
            Connection {
                protocol,
                expires,
                state: state.into(),
                client,
                service,
                dest,
                pe: None,
            }
        };
        let all = [
            one(
                6,
                "ESTABLISHED",
                896,
                [
                    ("10.0.0.100", 0xaf7e),
                    ("10.0.0.1", 80),
                    ("192.168.1.1", 8080),
                ],
            ),
            one(
                0,
                "NONE",
                96,
                [("10.0.0.100", 0), ("0.0.0.7", 0), ("192.168.1.1", 0)],
            ),
            one(
                6,
                "SYN_RECV",
                58,
                [
                    ("2001:db8::100", 0xee28),
                    ("2001:db8::1", 80),
                    ("fd00:1::1", 8080),
                ],
            ),
        ];
        assert_eq!(
            conns(&all),
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A000064 AF7E 0A000001 0050 C0A80101 1F90 ESTABLISHED     896
IP  0A000064 0000 00000007 0000 C0A80101 0000 NONE             96
TCP 2001:0db8:0000:0000:0000:0000:0000:0100 EE28 2001:0db8:0000:0000:0000:0000:0000:0001 0050 fd00:0001:0000:0000:0000:0000:0000:0001 1F90 SYN_RECV         58
"
        );
    }

    #[test]
    fn totals_as_the_kernel_prints_them() {
        let five = |conns, in_packets, out_packets, in_bytes, out_bytes| Counters {
            conns,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        };
        let totals = Totals {
            total: five(0xc, 0x2a, 0x24, 0x9a9, 0x1b2a),
            rates: Rates {
                conns: 1,
                in_packets: 4,
                out_packets: 3,
                in_bytes: 0xd7,
                out_bytes: 0x233,
            },
            cpus: vec![Counters::default(), five(0xc, 0x2b, 0x27, 0x9f9, 0x1caa)],
        };
        assert_eq!(
            stats(&totals),
            "   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
       C       2A       24              9A9             1B2A

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
       1        4        3               D7              233
"
        );
        assert_eq!(
            by_cpu(&totals),
            "       Total Incoming Outgoing         Incoming         Outgoing
CPU    Conns  Packets  Packets            Bytes            Bytes
  0        0        0        0                0                0
  1        C       2B       27              9F9             1CAA
  ~        C       2A       24              9A9             1B2A

     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
           1        4        3               D7              233
"
        );
    }
}
