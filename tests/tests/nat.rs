//! NAT between a director's two legs, on real traffic, in both families.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lvx_tests::{
    datagram::{self, Echo},
    director::{Director, Start},
    http,
    lab::{Answers, Routed},
    listing::{connections, numbers},
    transfer::Payload,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A family's service and servers, as one types them.
struct Family {
    vip: IpAddr,
    service: &'static str,
    servers: [&'static str; 2],
}

const FOUR: Family = Family {
    vip: IpAddr::V4(Routed::VIP),
    service: "172.25.254.100",
    servers: ["192.168.0.10", "192.168.0.20"],
};
const SIX: Family = Family {
    vip: IpAddr::V6(Routed::VIP6),
    service: "[fd02::100]",
    servers: ["[fd03::10]", "[fd03::20]"],
};

impl Family {
    /// Adds VIP:80 with both servers at `port`.
    fn configure(&self, director: &Director<'_>, port: u16) {
        let Self {
            service,
            servers: [one, two],
            ..
        } = self;
        director.configure(&format!(
            "-A -t {service}:80 -s rr
             -a -t {service}:80 -r {one}:{port} -m
             -a -t {service}:80 -r {two}:{port} -m"
        ));
    }
}

fn lab() -> Routed {
    Routed::new(Answers::ByDirector).expect("a lab")
}

fn director(lab: &Routed) -> Director<'_> {
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    Director::start_with(&lab.director.ns, start).expect("a director")
}

fn requests(family: &Family, port: u16) {
    let lab = lab();
    let director = director(&lab);
    family.configure(&director, port);
    let to = SocketAddr::new(family.vip, 80);
    let client = &lab.client.ns;
    let url = format!("http://{}/", family.service);
    assert_eq!(http::curl(client, &url).expect("the lab works"), "rs2");
    let bodies = http::sequence(client, to, 5).expect("the lab works");
    assert_eq!(bodies, ["rs1", "rs2", "rs1", "rs2", "rs1"]);

    let mut open = http::KeptOpen::open(client, to, LIMIT).expect("the lab works");
    assert_eq!(open.get().expect("the lab works"), "rs2");
    let [one, two] = family.servers.map(|server| format!("{server}:{port}"));
    let list = director.ipvsadm(&["-Ln"]).ok();
    assert_eq!(
        numbers(&list, &two).expect("the lab works"),
        [1, 1, 3],
        "{list}"
    );
    assert_eq!(
        numbers(&list, &one).expect("the lab works"),
        [1, 0, 3],
        "{list}"
    );
    let listed = connections(&director.ipvsadm(&["-Lnc"]).ok()).expect("the lab works");
    let states = |state: &str| listed.iter().filter(|one| one.state == state).count();
    // Both sides are seen: who closes first waits, as in the kernel.
    assert_eq!((listed.len(), states("ESTABLISHED")), (7, 1), "{listed:?}");
    assert_eq!(states("TIME_WAIT") + states("CLOSE"), 6, "{listed:?}");

    let tally = http::volume(client, to, 400, 8);
    assert_eq!(
        tally.failures,
        Vec::<String>::new(),
        "{}",
        director.lvx(&["status"])
    );
    assert_eq!(
        tally.answers.values().copied().collect::<Vec<_>>(),
        [200, 200],
        "{tally:?}"
    );
    assert_eq!(
        open.get().expect("the lab works"),
        "rs2",
        "what is open stays where it is"
    );
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    for (server, wanted) in [(one, 203), (two, 204)] {
        let counters = numbers(&stats, &server).expect("the lab works");
        assert_eq!(counters[0], wanted, "{stats}");
        // SYN+ACK, ACK of the request, answer, FIN.
        assert!(counters[2] >= 3 * wanted, "{stats}");
        assert!(counters[4] >= counters[2] * 40, "{stats}");
    }
}

#[test]
fn requests_with_a_mapped_port() {
    requests(&FOUR, 8080);
}

#[test]
fn requests_with_the_same_port() {
    requests(&FOUR, 80);
}

#[test]
fn requests_with_a_mapped_port_in_ipv6() {
    requests(&SIX, 8080);
}

#[test]
fn requests_with_the_same_port_in_ipv6() {
    requests(&SIX, 80);
}

#[test]
fn a_hundred_megabytes_both_ways_in_both_families() {
    let lab = lab();
    let director = director(&lab);
    let payload = Payload::new(&lab.lab, "big", 100 << 20).unwrap();
    for family in [FOUR, SIX] {
        family.configure(&director, 8080);
        let client = &lab.client.ns;
        payload.download(client, family.service, LIMIT).unwrap();
        payload
            .upload(&lab.lab, client, family.service, LIMIT)
            .unwrap();
        let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
        let service = format!("{}:80", family.service);
        let [conns, _, _, in_bytes, out_bytes] = numbers(&stats, &service).unwrap()[..] else {
            panic!("five counters in:\n{stats}");
        };
        assert_eq!(conns, 2, "{stats}");
        assert!(in_bytes > 100 << 20 && out_bytes > 100 << 20, "{stats}");
    }
}

#[test]
fn datagrams_small_and_fragmented() {
    let lab = lab();
    let director = director(&lab);
    for (number, family) in [FOUR, SIX].into_iter().enumerate() {
        let Family {
            vip,
            service,
            servers: [one, two],
        } = family;
        director.configure(&format!(
            "-A -u {service}:53 -s rr
             -a -u {service}:53 -r {one}:5353 -m
             -a -u {service}:53 -r {two}:5353 -m"
        ));
        director.wait_for_ways().unwrap();
        let echoes: Vec<_> = lab
            .servers
            .iter()
            .zip([one, two])
            .map(|(server, addr)| {
                let at: SocketAddr = format!("{addr}:5353").parse().unwrap();
                Echo::start(&server.node.ns, at, &server.name).unwrap()
            })
            .collect();
        let to = SocketAddr::new(vip, 53);
        // 4096: three fragments; 30,000: twenty-one, and no longer one that can be summed.
        let answers: Vec<_> = [16, 16, 1400, 4096, 4096, 30_000]
            .into_iter()
            .map(|length| datagram::ask(&lab.client.ns, to, length).unwrap())
            .collect();
        assert_eq!(
            answers,
            ["rs2", "rs1", "rs2", "rs1", "rs2", "rs1"],
            "family {number}"
        );
        drop(echoes);
        let listed = connections(&director.ipvsadm(&["-Lnc"]).ok()).unwrap();
        assert_eq!(listed.len(), 6 * (number + 1), "{listed:?}");
        assert!(
            listed
                .iter()
                .all(|one| one.protocol == "UDP" && one.state == "UDP"),
            "{listed:?}"
        );
    }
}
