//! FULLNAT in one arm, in both families, on real traffic: servers that have no
//! route to anything beyond their segment see a local address of the director.

use std::{
    collections::BTreeSet,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use lvx_tests::{
    datagram::{self, Echo},
    director::Director,
    http,
    lab::{Namespace, OneArm, Options},
    listing::{connections, numbers},
    transfer::Payload,
};
use socket2::SockRef;

const LIMIT: Duration = Duration::from_secs(60);

/// A family's addresses, as one types them.
struct Family {
    vip: IpAddr,
    client: &'static str,
    service: &'static str,
    director: &'static str,
    servers: [&'static str; 2],
    /// Addresses that the director may be given.
    spare: [&'static str; 2],
}

const FOUR: Family = Family {
    vip: IpAddr::V4(OneArm::VIP),
    client: "172.25.254.200",
    service: "192.168.0.200",
    director: "192.168.0.50",
    servers: ["192.168.0.10", "192.168.0.20"],
    spare: ["192.168.0.61", "192.168.0.62"],
};
const SIX: Family = Family {
    vip: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x200)),
    client: "[fd01::200]",
    service: "[fd00::200]",
    director: "fd00::50",
    servers: ["[fd00::10]", "[fd00::20]"],
    spare: ["fd00::61", "fd00::62"],
};

impl Family {
    fn configure(&self, director: &Director<'_>, port: u16) {
        for server in self.servers {
            self.add(director, &format!("{server}:{port}"));
        }
    }

    /// Adds a server, and the service if it is the first.
    fn add(&self, director: &Director<'_>, server: &str) {
        let service = self.service;
        let list = director.ipvsadm(&["-Ln"]).ok();
        if !list.contains(&format!("{service}:80 ")) {
            director.configure(&format!("-A -t {service}:80 -s rr"));
        }
        director.configure(&format!("-a -t {service}:80 -r {server} --fullnat"));
    }

    fn at(&self) -> SocketAddr {
        SocketAddr::new(self.vip, 80)
    }

    /// By whom a server is asked, as it tells.
    fn asked_by(&self, client: &Namespace) -> (String, u16) {
        let url = format!("http://{}/client", self.service);
        let body = http::curl(client, &url).expect("an answer");
        let (addr, port) = body.split_once(' ').expect("address and port");
        (addr.to_owned(), port.parse().expect("a port"))
    }
}

/// The client behind a router, in both families; servers without any route but
/// that of their segment. The IPv6 VIP is one that the director sends nothing
/// from (the kernel would prefer it, as the longer prefix).
fn lab() -> OneArm {
    let lab = OneArm::with(Options {
        router: true,
        ..Options::default()
    })
    .expect("a lab");
    let router = lab.router.as_ref().expect("asked for");
    let addresses = [
        (
            &lab.client.ns,
            "addr add fd01::200/64 dev eth0 nodad\nroute add default via fd01::100",
        ),
        (
            &router.ns,
            "addr add fd01::100/64 dev eth0 nodad\naddr add fd00::100/64 dev eth1 nodad",
        ),
        (
            &lab.director.ns,
            "addr add fd00::50/64 dev eth0 nodad\naddr add fd00::200/128 dev eth0 nodad preferred_lft 0\nroute add default via fd00::100",
        ),
        (
            &lab.servers[0].node.ns,
            "addr add fd00::10/64 dev eth0 nodad\nroute del default",
        ),
        (
            &lab.servers[1].node.ns,
            "addr add fd00::20/64 dev eth0 nodad\nroute del default",
        ),
    ];
    router
        .ns
        .enable_ipv6()
        .and_then(|()| router.ns.sysctl("net/ipv6/conf/all/forwarding", "1"))
        .expect("the router has IPv6");
    for (ns, lines) in addresses {
        ns.enable_ipv6().expect("IPv6 can be switched on");
        for line in lines.lines() {
            // IPv4's default route goes only where there is one.
            ns.ip(line)
                .unwrap_or_else(|error| panic!("{line}: {error:#}"));
        }
    }
    lab
}

fn requests(family: &Family, port: u16) {
    let lab = lab();
    let director = Director::start(&lab.director.ns).expect("the lab works");
    family.configure(&director, port);
    director.wait_for_ways().expect("the lab works");
    let client = &lab.client.ns;
    let bodies = http::sequence(client, family.at(), 6).expect("the lab works");
    assert_eq!(bodies, ["rs2", "rs1", "rs2", "rs1", "rs2", "rs1"]);
    for _ in 0..10 {
        let (addr, port) = family.asked_by(client);
        assert_eq!(addr, family.director);
        // Outside the range from which the director's own connections are made.
        assert!((1024..32_768).contains(&port), "{port}");
    }
    let list = director.ipvsadm(&["-Ln"]).ok();
    let [one, two] = family.servers.map(|server| format!("{server}:{port}"));
    assert_eq!(list.matches(" FullNat ").count(), 2, "{list}");
    let listed = connections(&director.ipvsadm(&["-Lnc"]).ok()).expect("the lab works");
    assert_eq!(listed.len(), 16, "{listed:?}");
    for conn in listed {
        // In brackets or not, as the tool prints it.
        let bare = |text: &str| text.replace(['[', ']'], "");
        let source = bare(&conn.source);
        assert!(source.starts_with(&bare(family.client)), "{source}");
        assert_eq!(bare(&conn.service), bare(&format!("{}:80", family.service)));
        assert!(
            [bare(&one), bare(&two)].contains(&bare(&conn.dest)),
            "{conn:?}"
        );
    }
    let tally = http::volume(client, family.at(), 400, 8);
    assert_eq!(tally.failures, Vec::<String>::new());
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    for server in [one, two] {
        let counters = numbers(&stats, &server).expect("the lab works");
        assert_eq!(counters[0], 208, "{stats}");
        assert!(counters[2] >= 3 * 208, "replies are seen: {stats}");
    }
}

#[test]
fn requests_by_servers_without_a_route_back() {
    requests(&FOUR, 80);
}

#[test]
fn requests_by_servers_without_a_route_back_in_ipv6() {
    requests(&SIX, 80);
}

#[test]
fn requests_with_a_mapped_port() {
    requests(&FOUR, 8080);
}

#[test]
fn requests_with_a_mapped_port_in_ipv6() {
    requests(&SIX, 8080);
}

#[test]
fn a_hundred_megabytes_both_ways_in_both_families() {
    let lab = lab();
    let director = Director::start(&lab.director.ns).unwrap();
    let payload = Payload::new(&lab.lab, "big", 100 << 20).unwrap();
    for family in [FOUR, SIX] {
        family.configure(&director, 8080);
        director.wait_for_ways().unwrap();
        let client = &lab.client.ns;
        payload.download(client, family.service, LIMIT).unwrap();
        payload
            .upload(&lab.lab, client, family.service, LIMIT)
            .unwrap();
        let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
        let [conns, _, _, in_bytes, out_bytes] =
            numbers(&stats, &format!("{}:80", family.service)).unwrap()[..]
        else {
            panic!("five counters in:\n{stats}");
        };
        assert_eq!(conns, 2, "{stats}");
        assert!(in_bytes > 100 << 20 && out_bytes > 100 << 20, "{stats}");
    }
}

#[test]
fn datagrams_small_and_fragmented() {
    let lab = lab();
    let director = Director::start(&lab.director.ns).unwrap();
    for family in [FOUR, SIX] {
        let service = family.service;
        director.configure(&format!("-A -u {service}:53 -s rr"));
        let echoes: Vec<_> = lab
            .servers
            .iter()
            .zip(family.servers)
            .map(|(server, addr)| {
                director.configure(&format!("-a -u {service}:53 -r {addr}:5353 --fullnat"));
                let at: SocketAddr = format!("{addr}:5353").parse().unwrap();
                Echo::start(&server.node.ns, at, &server.name).unwrap()
            })
            .collect();
        director.wait_for_ways().unwrap();
        let to = SocketAddr::new(family.vip, 53);
        // 4096: three fragments, there and back.
        let answers: Vec<_> = [16, 1400, 4096, 4096]
            .into_iter()
            .map(|length| datagram::ask(&lab.client.ns, to, length).unwrap())
            .collect();
        assert_eq!(answers, ["rs2", "rs1", "rs2", "rs1"], "{service}");
        drop(echoes);
    }
}

/// A router's error is about a packet from the VIP to the client; the server
/// knows neither.
#[test]
fn a_routers_error_reaches_the_server() {
    let lab = lab();
    let router = lab.router.as_ref().unwrap();
    router.ns.ip("link set eth0 mtu 1300").unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    let payload = Payload::new(&lab.lab, "page", 5 << 20).unwrap();
    for family in [FOUR, SIX] {
        family.add(&director, &format!("{}:8080", family.servers[0]));
        director.wait_for_ways().unwrap();
        payload
            .download(&lab.client.ns, family.service, LIMIT)
            .unwrap();
        let route = lab.servers[0]
            .node
            .ns
            .ip_show(&["route", "get", family.director])
            .unwrap();
        assert!(route.contains("mtu 1300"), "{route}");
    }
}

fn pool_of_two(family: &Family) {
    let lab = lab();
    let director = Director::start(&lab.director.ns).expect("the lab works");
    family.configure(&director, 80);
    director.wait_for_ways().expect("the lab works");
    let client = &lab.client.ns;
    let mut open = http::KeptOpen::open(client, family.at(), LIMIT).expect("the lab works");
    assert_eq!(open.get().expect("the lab works"), "rs2");
    for addr in family.spare {
        let length = if family.vip.is_ipv4() { 32 } else { 128 };
        let line = format!("addr add {addr}/{length} dev eth0 nodad");
        lab.director.ns.ip(&line).expect("the lab works");
    }
    let [one, two] = family.spare;
    let service = format!("{}:80", family.service);
    director
        .lvx(&[
            "laddr",
            "add",
            "-t",
            &service,
            "--ports",
            "20000-20099",
            one,
            two,
        ])
        .ok();
    let asked: BTreeSet<_> = (0..40).map(|_| family.asked_by(client)).collect();
    let addresses: BTreeSet<&str> = asked.iter().map(|(addr, _)| addr.as_str()).collect();
    assert_eq!(addresses, BTreeSet::from(family.spare), "{asked:?}");
    assert!(
        asked
            .iter()
            .all(|(_, port)| (20_000..20_100).contains(port)),
        "{asked:?}"
    );
    // What exists keeps its end.
    assert_eq!(open.get().expect("the lab works"), "rs2");
    director.lvx(&["laddr", "del", "-t", &service, one]).ok();
    let asked: BTreeSet<_> = (0..10).map(|_| family.asked_by(client).0).collect();
    assert_eq!(asked, BTreeSet::from([two.to_owned()]));
}

#[test]
fn a_pool_of_two_addresses() {
    pool_of_two(&FOUR);
}

#[test]
fn a_pool_of_two_addresses_in_ipv6() {
    pool_of_two(&SIX);
}

fn no_port(director: &Director<'_>) -> u64 {
    let reasons = director.status().expect("a status").reasons;
    let found = reasons
        .iter()
        .find(|(name, _)| name == "dropped-no-local-port");
    found.map_or(0, |(_, count)| *count)
}

#[test]
fn a_pool_that_is_used_up_refuses_new_clients_and_recovers() {
    let lab = lab();
    let director = Director::start(&lab.director.ns).unwrap();
    FOUR.add(&director, "192.168.0.10:80");
    director.wait_for_ways().unwrap();
    director
        .lvx(&["laddr", "add", "192.168.0.50", "--ports", "20000-20003"])
        .ok();
    let client = &lab.client.ns;
    let mut open: Vec<TcpStream> = client.enter(|| {
        (0..4)
            .map(|_| TcpStream::connect_timeout(&FOUR.at(), Duration::from_secs(5)).unwrap())
            .collect()
    });
    assert_eq!(no_port(&director), 0);
    let refused = client.enter(|| TcpStream::connect_timeout(&FOUR.at(), Duration::from_secs(2)));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    let dropped = no_port(&director);
    assert!(
        (1..=3).contains(&dropped),
        "a SYN and its repetitions: {dropped}"
    );
    let status = director.lvx(&["status"]).ok();
    assert!(status.contains("dropped-no-local-port"), "{status}");
    for stream in &mut open {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let kind = stream.read(&mut [0]).unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::WouldBlock, "still open");
    }
    // Another address helps at once.
    let ns = &lab.director.ns;
    ns.ip("addr add 192.168.0.61/32 dev eth0").unwrap();
    director
        .lvx(&["laddr", "add", "192.168.0.61", "--ports", "20000-20003"])
        .ok();
    assert_eq!(FOUR.asked_by(client).0, "192.168.0.61");
    director.lvx(&["laddr", "del", "192.168.0.61"]).ok();

    // A connection that is reset is over after ten seconds, and its port free.
    let gone = open.pop().unwrap();
    SockRef::from(&gone)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let started = Instant::now();
    let (addr, reused) = loop {
        let url = format!("http://{}/client", FOUR.service);
        match http::curl(client, &url) {
            Ok(body) => {
                let (addr, port) = body.split_once(' ').unwrap();
                break (addr.to_owned(), port.parse::<u16>().unwrap());
            }
            Err(error) => assert!(
                started.elapsed() < Duration::from_secs(30),
                "{port}: {error:#}"
            ),
        }
        thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(addr, Ipv4Addr::new(192, 168, 0, 50).to_string());
    assert!((20_000..=20_003).contains(&reused), "{reused}");
}
