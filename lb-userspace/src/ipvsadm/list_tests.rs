use super::*;
use crate::ipvsadm::fake::{self, FakeNames};
use crate::model::Protocol;

fn options(layout: Layout) -> ListOptions {
    ListOptions {
        layout,
        numeric: true,
        exact: false,
        sort: true,
    }
}

fn lines(listing: &Listing, options: ListOptions) -> String {
    render(listing, false, options, Style { names: None })
}

fn of(services: Vec<ServiceSnapshot>) -> Listing {
    Listing {
        size: 4096,
        services,
    }
}

/// The service of the samples, with counters.
fn busy() -> Listing {
    let mut service = fake::service("10.0.0.1", 80);
    service.counters = Counters {
        conns: 8,
        in_packets: 1490,
        out_packets: 20315,
        in_bytes: 77635,
        out_bytes: 1_080_943_836,
    };
    service.rates = Rates {
        conns: 0,
        in_packets: 172,
        out_packets: 2388,
        in_bytes: 8952,
        out_bytes: 127_214_999,
    };
    let mut dest = fake::dest("192.168.2.1", 8080);
    dest.counters = Counters {
        conns: 4,
        in_packets: 238,
        out_packets: 2856,
        in_bytes: 12445,
        out_bytes: 150_151_544,
    };
    dest.rates = Rates {
        conns: 0,
        in_packets: 21,
        out_packets: 267,
        in_bytes: 1110,
        out_bytes: 14_076_445,
    };
    (dest.active, dest.inactive, dest.persistent) = (1, 3, 1);
    service.dests.push(dest);
    of(vec![service])
}

#[test]
fn plain() {
    let mut listing = busy();
    listing.services[0].dests[0].dest.spec.method = Method::Masq;
    let mut sctp = fake::service("10.0.0.1", 9999);
    sctp.id = ServiceId::Address {
        protocol: Protocol::Sctp,
        addr: [10, 0, 0, 1].into(),
        port: 9999,
    };
    let mut v6 = fake::service("2001:db8:1111:2222:3333:4444:5555:6666", 65535);
    v6.spec.scheduler = "lblcr".to_owned();
    v6.spec.persistent = Some(5);
    v6.spec.netmask = 64;
    let mut far = fake::dest("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 65535);
    far.dest.spec.weight = 2_147_483_647;
    far.dest.spec.method = Method::Masq;
    v6.dests.push(far);
    let mut mark = fake::service("10.0.0.1", 1);
    mark.id = ServiceId::Mark {
        mark: 6,
        family: Family::V6,
    };
    let mut sip = fake::service("10.0.0.1", 5060);
    sip.id = ServiceId::Address {
        protocol: Protocol::Udp,
        addr: [10, 0, 0, 1].into(),
        port: 5060,
    };
    (sip.spec.persistent, sip.spec.pe, sip.spec.ops) = (Some(60), Some("sip".to_owned()), true);
    let mut hash = fake::service("10.0.0.9", 8080);
    (hash.spec.scheduler, hash.spec.sched_flags) = ("sh".to_owned(), 0x18);
    listing.services.extend([sctp, v6, mark, sip, hash]);
    let want = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80 rr
  -> 192.168.2.1:8080             Masq    1      1          3         \n\
TCP  10.0.0.9:8080 sh (sh-fallback,sh-port)
UDP  10.0.0.1:5060 rr persistent 60 pe sip ops
SCTP 10.0.0.1:9999 rr
TCP  [2001:db8:1111:2222:3333:4444:5555:6666]:65535 lblcr persistent 5 mask 64
  -> [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535 Masq    2147483647 0          0         \n\
FWM  6 IPv6 rr
";
    assert_eq!(
        render(
            &listing,
            true,
            options(Layout::Plain),
            Style { names: None }
        ),
        want
    );
}

#[test]
fn stats() {
    let want = "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.0.0.1:80                         8     1490    20315    77635    1080M
  -> 192.168.2.1:8080                    4      238     2856    12445  150151K
";
    assert_eq!(lines(&busy(), options(Layout::Stats)), want);
    let want = "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.0.0.1:80                         8     1490    20315    77635 1080943836
  -> 192.168.2.1:8080                    4      238     2856    12445 150151544
";
    assert_eq!(
        lines(
            &busy(),
            ListOptions {
                exact: true,
                ..options(Layout::Stats)
            }
        ),
        want
    );
}

#[test]
fn rates_of_servers_scale_bytes_only() {
    let want = "\
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  10.0.0.1:80                         0      172     2388     8952  127214K
  -> 192.168.2.1:8080                    0       21      267     1110 14076445
";
    assert_eq!(lines(&busy(), options(Layout::Rate)), want);
    let mut fast = busy();
    fast.services[0].dests[0].rates.in_packets = 200_000_000;
    assert!(
        lines(&fast, options(Layout::Rate)).contains(" 200000000      267     1110 14076445\n")
    );
}

#[test]
fn thresholds() {
    let mut listing = busy();
    listing.services[0].dests[0].dest.spec.u_threshold = 2_147_483_647;
    let want = "\
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n\
\x20 -> RemoteAddress:Port
TCP  10.0.0.1:80 rr
  -> 192.168.2.1:8080             2147483647 0          1          3         \n";
    assert_eq!(lines(&listing, options(Layout::Thresholds)), want);
}

#[test]
fn persistent_connections() {
    let want = "\
Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n\
\x20 -> RemoteAddress:Port
TCP  10.0.0.1:80 rr
  -> 192.168.2.1:8080             1         1           1          3         \n";
    assert_eq!(lines(&busy(), options(Layout::PersistentConn)), want);
}

#[test]
fn tunnels() {
    let mut listing = busy();
    let mut add = |addr, tunnel| {
        let mut dest = fake::dest(addr, 80);
        (dest.dest.spec.method, dest.dest.spec.tunnel) = (Method::Tunnel, tunnel);
        listing.services[0].dests.push(dest);
    };
    add("192.168.10.2", Tunnel::Ipip);
    add(
        "192.168.10.32",
        Tunnel::Gue {
            port: 60800,
            checksum: TunnelChecksum::Remote,
        },
    );
    add(
        "192.168.10.35",
        Tunnel::Gre {
            checksum: TunnelChecksum::Full,
        },
    );
    let want = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  10.0.0.1:80 rr
  -> 192.168.2.1:8080             Route   n/a           1      1          3         \n\
\x20 -> 192.168.10.2:80              Tunnel  ipip          1      0          0         \n\
\x20 -> 192.168.10.32:80             Tunnel  gue:60800:r+c 1      0          0         \n\
\x20 -> 192.168.10.35:80             Tunnel  gre:+c        1      0          0         \n";
    assert_eq!(lines(&listing, options(Layout::TunInfo)), want);
}

#[test]
fn names_are_cut_where_addresses_would_be() {
    let mut service = fake::service("192.168.10.2", 80);
    service.dests.push(fake::dest("192.168.10.2", 80));
    let got = render(
        &of(vec![service]),
        false,
        options(Layout::Plain),
        Style {
            names: Some(&FakeNames),
        },
    );
    let want = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  averyveryverylonghostname.su rr
  -> averyveryverylonghostname.su Route   1      0          0         \n";
    assert_eq!(got, want);
}

#[test]
fn unsorted_keeps_the_order_given() {
    let services = vec![fake::service("10.0.0.2", 80), fake::service("10.0.0.1", 80)];
    let got = lines(
        &of(services),
        ListOptions {
            sort: false,
            ..options(Layout::Plain)
        },
    );
    assert!(
        got.find("10.0.0.2").unwrap() < got.find("10.0.0.1").unwrap(),
        "{got}"
    );
}

#[test]
fn fullnat_fits_its_column() {
    let mut service = fake::service("10.0.0.1", 80);
    let mut dest = fake::dest("10.0.1.1", 8080);
    dest.dest.spec.method = Method::Fullnat;
    service.dests.push(dest);
    let listing = Listing {
        size: 4096,
        services: vec![service],
    };
    let options = ListOptions {
        layout: Layout::TunInfo,
        numeric: true,
        exact: false,
        sort: true,
    };
    let text = render(&listing, false, options, Style { names: None });
    assert_eq!(
        text.lines().last().map(str::trim_end),
        Some("  -> 10.0.1.1:8080                FullNat n/a           1      0          0")
    );
}
