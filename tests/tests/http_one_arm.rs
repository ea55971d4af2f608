//! HTTP through a director on the servers' segment: forwarded by `XDP_TX`.

use std::{net::SocketAddrV4, time::Duration};

use lvx_tests::{
    director::Director,
    http,
    lab::{OneArm, Options},
    listing::numbers,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);

const ROUND_ROBIN: &str = "-A -t 192.168.0.200:80 -s rr
     -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
     -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g";

#[test]
fn round_robin_alternates_from_the_newest_server() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(ROUND_ROBIN);
    let bodies = http::sequence(&lab.client.ns, SERVICE, 10).unwrap();
    assert_eq!(
        bodies,
        [
            "rs2", "rs1", "rs2", "rs1", "rs2", "rs1", "rs2", "rs1", "rs2", "rs1"
        ]
    );
    let status = director.status().unwrap();
    assert_eq!(
        status.interfaces,
        [("eth0".to_owned(), "native".to_owned())]
    );
    assert_eq!((status.services, status.dests), (1, 2));
    assert!(status.unresolved.is_empty(), "{:?}", status.unresolved);
}

#[test]
fn a_real_curl_gets_the_page() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(ROUND_ROBIN);
    let url = format!("http://{}/", OneArm::VIP);
    for expected in ["rs2", "rs1", "rs2", "rs1"] {
        assert_eq!(http::curl(&lab.client.ns, &url).unwrap(), expected);
    }
}

/// Recipe R3: direct routing behind a router, weights 1 and 2.
#[test]
fn weighted_round_robin_behind_a_router() {
    let lab = OneArm::with(Options {
        router: true,
        ..Options::default()
    })
    .unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s wrr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g -w 1
         -a -t 192.168.0.200:80 -r 192.168.0.20:80 -g -w 2",
    );
    let bodies = http::sequence(&lab.client.ns, SERVICE, 11).unwrap();
    // A new service begins with one plain round at threshold 1, as the kernel's does.
    let expected = [
        "rs2", "rs1", "rs2", "rs2", "rs1", "rs2", "rs2", "rs1", "rs2", "rs2", "rs1",
    ];
    assert_eq!(bodies, expected);
}

#[test]
fn a_server_of_weight_zero_gets_no_new_connections() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(ROUND_ROBIN);
    let mut open = http::KeptOpen::open(&lab.client.ns, SERVICE, Duration::from_secs(5)).unwrap();
    assert_eq!(open.get().unwrap(), "rs2");
    director.configure("-e -t 192.168.0.200:80 -r 192.168.0.20:80 -g -w 0");
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 6).unwrap(),
        ["rs1"; 6]
    );
    assert_eq!(open.get().unwrap(), "rs2", "what is open stays where it is");
}

#[test]
fn many_requests_at_once_are_all_answered_and_counted() {
    let lab = OneArm::with(Options {
        servers: 3,
        ..Options::default()
    })
    .unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(ROUND_ROBIN);
    director.configure("-a -t 192.168.0.200:80 -r 192.168.0.30:80 -g");
    let tally = http::volume(&lab.client.ns, SERVICE, 300, 4);
    assert_eq!(tally.failures, Vec::<String>::new());
    assert_eq!(
        tally.answers.values().copied().collect::<Vec<_>>(),
        [100, 100, 100],
        "{tally:?}"
    );

    let forwarded = || {
        let reasons = director.status().unwrap().reasons;
        let sent = reasons.iter().find(|(name, _)| name == "forwarded-tx");
        sent.map_or(0, |(_, packets)| *packets)
    };
    // The last segments may still be on their way.
    let (stats, sent) = (0..100)
        .find_map(|_| {
            let before = forwarded();
            let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
            (forwarded() == before).then_some((stats, before))
        })
        .expect("the traffic ends");
    let mut packets = 0;
    for server in ["192.168.0.10:80", "192.168.0.20:80", "192.168.0.30:80"] {
        let [conns, in_packets, out_packets, in_bytes, out_bytes] =
            numbers(&stats, server).unwrap()[..]
        else {
            panic!("five counters of {server} in:\n{stats}");
        };
        assert_eq!(conns, 100, "{stats}");
        // SYN, ACK, request and FIN, which may carry the only ACK of the answer.
        assert!(in_packets >= 400, "{stats}");
        packets += in_packets;
        assert!(in_bytes >= in_packets * 40, "{stats}");
        assert_eq!(
            (out_packets, out_bytes),
            (0, 0),
            "replies do not pass the director:\n{stats}"
        );
    }
    assert_eq!(
        numbers(&stats, "192.168.0.200:80").unwrap()[0],
        300,
        "{stats}"
    );
    assert_eq!(sent, packets, "what left is what was counted:\n{stats}");

    // Every connection has ended, and counts as inactive until it expires.
    let list = director.ipvsadm(&["-Ln"]).ok();
    for server in ["192.168.0.10:80", "192.168.0.20:80", "192.168.0.30:80"] {
        assert_eq!(numbers(&list, server).unwrap(), [1, 0, 100], "{list}");
    }
    let connections = lvx_tests::listing::connections(&director.ipvsadm(&["-Lnc"]).ok()).unwrap();
    assert_eq!(connections.len(), 300);

    director.configure("-Z");
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    assert_eq!(
        numbers(&stats, "192.168.0.200:80").unwrap(),
        [0; 5],
        "{stats}"
    );
}

#[test]
fn deleting_the_service_ends_the_balancing() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(ROUND_ROBIN);
    assert_eq!(http::sequence(&lab.client.ns, SERVICE, 1).unwrap(), ["rs2"]);
    director.configure("-D -t 192.168.0.200:80");
    // The director's own stack answers now, with a reset: nobody listens there.
    let error = lab
        .client
        .ns
        .enter(|| http::get(SERVICE, Duration::from_secs(2)))
        .unwrap_err();
    assert!(format!("{error:#}").contains("refused"), "{error:#}");
}
