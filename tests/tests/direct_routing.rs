//! Direct routing with answers past the director, in both families.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lvx_tests::{
    datagram::{self, Echo},
    director::{Director, Start},
    http,
    lab::{Answers, Routed},
    listing::numbers,
    transfer::Payload,
};

const LIMIT: Duration = Duration::from_secs(60);

fn director(lab: &Routed) -> Director<'_> {
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    let director = Director::start_with(&lab.director.ns, start).expect("a director");
    director.configure(
        "-A -t 172.25.254.100:80 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.10:80 -g
         -a -t 172.25.254.100:80 -r 192.168.0.20:80 -g
         -A -t [fd02::100]:80 -s rr
         -a -t [fd02::100]:80 -r [fd03::10]:80 -g
         -a -t [fd02::100]:80 -r [fd03::20]:80 -g
         -A -u 172.25.254.100:53 -s rr
         -a -u 172.25.254.100:53 -r 192.168.0.10:53 -g
         -a -u 172.25.254.100:53 -r 192.168.0.20:53 -g
         -A -u [fd02::100]:53 -s rr
         -a -u [fd02::100]:53 -r [fd03::10]:53 -g
         -a -u [fd02::100]:53 -r [fd03::20]:53 -g",
    );
    director
}

#[test]
fn requests_and_a_hundred_megabytes_in_ipv6() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let director = director(&lab);
    let client = &lab.client.ns;
    assert_eq!(http::curl(client, "http://[fd02::100]/").unwrap(), "rs2");
    let to = SocketAddr::new(IpAddr::V6(Routed::VIP6), 80);
    let bodies = http::sequence(client, to, 4).unwrap();
    assert_eq!(bodies, ["rs1", "rs2", "rs1", "rs2"]);
    let tally = http::volume(client, to, 400, 8);
    assert_eq!(tally.failures, Vec::<String>::new());
    assert_eq!(
        tally.answers.values().copied().collect::<Vec<_>>(),
        [200, 200]
    );

    let payload = Payload::new(&lab.lab, "big", 100 << 20).unwrap();
    payload.download(client, "[fd02::100]", LIMIT).unwrap();
    payload
        .upload(&lab.lab, client, "[fd02::100]", LIMIT)
        .unwrap();
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    let counters = numbers(&stats, "[fd02::100]:80").unwrap();
    assert_eq!(counters[0], 407, "{stats}");
    assert!(counters[3] > 100 << 20, "{stats}");
    assert_eq!(
        counters[2..5],
        [0, counters[3], 0],
        "answers pass it by:\n{stats}"
    );
}

/// Servers have the VIP and must not be asked for it: who answers the gate's
/// question where the VIP is, is the director alone.
#[test]
fn only_the_director_answers_for_the_vip() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let _director = director(&lab);
    // From a neighbour on the servers' segment, where the director has no VIP.
    let gate = &lab.gate.ns;
    for (family, vip) in [("-4", "172.25.254.100"), ("-6", "fd02::100")] {
        let target = if family == "-4" {
            format!("{vip}/32")
        } else {
            format!("{vip}/128")
        };
        gate.ip(&format!("route add {target} dev eth2")).unwrap();
        let to: IpAddr = vip.parse().unwrap();
        // A question that nobody hears, to have the gate ask for the station.
        let socket = gate
            .enter(|| std::net::UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }))
            .unwrap();
        let _ = socket.send_to(b"?", SocketAddr::new(to, 9));
        std::thread::sleep(Duration::from_millis(300));
        let shown = gate
            .ip_show(&[family, "neigh", "show", vip, "dev", "eth2"])
            .unwrap();
        for server in &lab.servers {
            let [_, _, a, b, c, d] = server.node.mac();
            let mac = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
            assert!(
                !shown.contains(&mac),
                "{} answers for {vip}: {shown}",
                server.name
            );
        }
        assert!(!shown.is_empty(), "the gate has asked");
    }
}

#[test]
fn datagrams_small_and_fragmented() {
    let lab = Routed::new(Answers::ByGate).unwrap();
    let director = director(&lab);
    director.wait_for_ways().unwrap();
    for vip in [IpAddr::V4(Routed::VIP), IpAddr::V6(Routed::VIP6)] {
        let to = SocketAddr::new(vip, 53);
        let _echoes: Vec<_> = lab
            .servers
            .iter()
            .map(|server| Echo::start(&server.node.ns, to, &server.name).unwrap())
            .collect();
        let answers: Vec<_> = [16, 16, 1400, 4096, 4096, 30_000]
            .into_iter()
            .map(|length| {
                datagram::ask(&lab.client.ns, to, length).unwrap_or_else(|error| {
                    let status = director.lvx(&["status"]).ok();
                    panic!("{error:#}\n{status}")
                })
            })
            .collect();
        assert_eq!(answers, ["rs2", "rs1", "rs2", "rs1", "rs2", "rs1"], "{vip}");
    }
}
