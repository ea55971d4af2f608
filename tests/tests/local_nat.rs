//! The director itself as a server by NAT: replies of its own stack are
//! translated on their way out.

use std::{
    net::{IpAddr, SocketAddr},
    thread::sleep,
    time::Duration,
};

use aya::programs::{SchedClassifier, TcAttachType};
use lvx_tests::{
    datagram::{self, Echo},
    director::{Director, Start, left_behind},
    http::{self, KeptOpen, Load},
    lab::{Answers, Namespace, Offload, Routed, nginx},
    listing::{connections, numbers},
    transfer::Payload,
};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// A family's service, the director's own address and a server.
struct Family {
    vip: IpAddr,
    service: &'static str,
    own: &'static str,
    server: &'static str,
}

const FOUR: Family = Family {
    vip: IpAddr::V4(Routed::VIP),
    service: "172.25.254.100",
    own: "192.168.0.50",
    server: "192.168.0.10",
};
const SIX: Family = Family {
    vip: IpAddr::V6(Routed::VIP6),
    service: "[fd02::100]",
    own: "[fd03::50]",
    server: "[fd03::10]",
};

fn lab() -> Routed {
    Routed::new(Answers::ByDirector).expect("a lab")
}

fn director(lab: &Routed) -> Director<'_> {
    let start = Start::default().interfaces(&["eth0", "eth1"]);
    Director::start_with(&lab.director.ns, start).expect("a director")
}

/// Names of the programs that see what leaves by an interface.
fn on_the_way_out(ns: &Namespace, interface: &str) -> Vec<String> {
    let programs = ns.enter(|| SchedClassifier::query_tcx(interface, TcAttachType::Egress));
    let (_, programs) = programs.expect("a kernel that can tell");
    let name = |program: &aya::programs::ProgramInfo| program.name_as_str().map(str::to_owned);
    programs.iter().filter_map(name).collect()
}

/// A link whose pin is removed goes soon after.
fn nothing_is_left(ns: &Namespace, interface: &str) {
    soon(ns, interface, &[]);
}

fn soon(ns: &Namespace, interface: &str, wanted: &[&str]) {
    for _ in 0..100 {
        if on_the_way_out(ns, interface) == wanted {
            return;
        }
        sleep(SECOND / 10);
    }
    panic!(
        "{interface}: {:?}, not {wanted:?}",
        on_the_way_out(ns, interface)
    );
}

fn requests(family: &Family) {
    let lab = lab();
    let ns = &lab.director.ns;
    let _nginx = nginx(ns, "director", &[8080]).expect("nginx");
    // Segments of many packets, whose checksums are not whole yet, reach the
    // program; those that leave are whole, and the client looks at them.
    ns.offload("eth0", Offload::GenericSegmentation, true)
        .expect("an offload");
    let director = director(&lab);
    assert_eq!(on_the_way_out(ns, "eth0"), Vec::<String>::new());
    let Family {
        service,
        own,
        server,
        ..
    } = family;
    director.configure(&format!(
        "-A -t {service}:80 -s rr
         -a -t {service}:80 -r {own}:8080 -m"
    ));
    for interface in ["eth0", "eth1"] {
        assert_eq!(on_the_way_out(ns, interface), ["lvx_egress"]);
    }
    let client = &lab.client.ns;
    let to = SocketAddr::new(family.vip, 80);
    let url = format!("http://{service}/");
    assert_eq!(http::curl(client, &url).expect("an answer"), "director");
    let payload = Payload::new(&lab.lab, "large", 100_000_000).expect("a file");
    payload
        .download(client, service, LIMIT)
        .expect("a download");
    payload
        .upload(&lab.lab, client, service, LIMIT)
        .expect("an upload");
    let listed = connections(&director.ipvsadm(&["-Lnc"]).ok()).expect("a list");
    // Both sides are seen.
    assert!(
        listed
            .iter()
            .all(|one| one.state == "TIME_WAIT" || one.state == "CLOSE"),
        "{listed:?}"
    );
    let line = format!("{own}:8080");
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    let counters = numbers(&stats, &line).expect("a line");
    assert_eq!(counters[0], 3, "{stats}");
    assert!(counters[3] > 100_000_000, "{stats}");
    assert!(counters[4] > 100_000_000, "{stats}");
    // Others' connections with the same listener stay as they are.
    let direct = format!("http://{own}:8080/");
    assert_eq!(http::curl(client, &direct).expect("an answer"), "director");
    let stats = director.ipvsadm(&["-Ln", "--stats", "--exact"]).ok();
    assert_eq!(numbers(&stats, &line).expect("a line"), counters);

    // Beside a server elsewhere.
    director.configure(&format!("-a -t {service}:80 -r {server}:80 -m"));
    let mut bodies = http::sequence(client, to, 6).expect("answers");
    bodies.sort();
    assert_eq!(
        bodies,
        ["director", "director", "director", "rs1", "rs1", "rs1"]
    );

    // The last local server leaves the trash only minutes later.
    director.configure(&format!("-d -t {service}:80 -r {own}:8080"));
    assert_eq!(http::sequence(client, to, 2).expect("answers"), ["rs1"; 2]);
    assert_eq!(on_the_way_out(ns, "eth0"), ["lvx_egress"]);
    director.lvx(&["down", "--force"]).ok();
    for interface in ["eth0", "eth1"] {
        nothing_is_left(ns, interface);
    }
    let left = left_behind(ns).expect("directories");
    assert!(left.iter().all(|path| path.ends_with("lock")), "{left:?}");
}

#[test]
fn a_mapped_port_of_the_director() {
    requests(&FOUR);
}

#[test]
fn a_mapped_port_of_the_director_in_ipv6() {
    requests(&SIX);
}

fn datagrams(family: &Family) {
    let lab = lab();
    let ns = &lab.director.ns;
    let director = director(&lab);
    let Family { service, own, .. } = family;
    let own: SocketAddr = format!("{own}:5353").parse().expect("an address");
    let echo = Echo::start(ns, own, "director").expect("an echo");
    director.configure(&format!(
        "-A -u {service}:53 -s rr
         -a -u {service}:53 -r {own} -m"
    ));
    let to = SocketAddr::new(family.vip, 53);
    // The last two are fragmented both ways.
    for length in [0, 1, 512, 1400, 4000, 20_000] {
        let by = datagram::ask(&lab.client.ns, to, length).expect("an echo");
        assert_eq!(by, "director");
    }
    drop(echo);
    // Now the stack says that nobody listens; the client learns it from whom it asked.
    let client = lab.client.ns.enter(|| {
        let any = if family.vip.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(2 * SECOND))?;
        socket.connect(to)?;
        // On a busy machine one may be late.
        for _ in 0..4 {
            socket.send(b"anybody?")?;
            match socket.recv(&mut [0; 10]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
        Err(std::io::ErrorKind::TimedOut.into())
    });
    let error = client.expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn datagrams_and_the_stacks_errors() {
    datagrams(&FOUR);
}

#[test]
fn datagrams_and_the_stacks_errors_in_ipv6() {
    datagrams(&SIX);
}

/// Which of the director's addresses a server has may change at any time.
#[test]
fn an_address_becomes_the_directors_and_goes() {
    let lab = lab();
    let ns = &lab.director.ns;
    let _nginx = nginx(ns, "director", &[8080]).expect("nginx");
    let director = director(&lab);
    director.configure(
        "-A -t 172.25.254.100:80 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.77:8080 -m",
    );
    assert_eq!(on_the_way_out(ns, "eth0"), Vec::<String>::new());
    ns.ip("addr add 192.168.0.77/24 dev eth1").expect("ip");
    let to = SocketAddr::new(Routed::VIP.into(), 80);
    soon(ns, "eth0", &["lvx_egress"]);
    sleep(SECOND / 5);
    assert_eq!(
        http::sequence(&lab.client.ns, to, 3).expect("answers"),
        ["director"; 3]
    );
    ns.ip("addr del 192.168.0.77/24 dev eth1").expect("ip");
    soon(ns, "eth0", &[]);
}

#[test]
fn a_killed_daemon_is_not_missed() {
    let lab = lab();
    let ns = &lab.director.ns;
    let _nginx = nginx(ns, "director", &[8080]).expect("nginx");
    let mut director = director(&lab);
    director.configure(
        "-A -t 172.25.254.100:80 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.50:8080 -m
         -a -t 172.25.254.100:80 -r 192.168.0.10:80 -m",
    );
    let to = SocketAddr::new(Routed::VIP.into(), 80);
    let mut open = KeptOpen::open(&lab.client.ns, to, 5 * SECOND).expect("a connection");
    let server = open.get().expect("an answer");
    let load = Load::start(&lab.client.ns, to, 100, 5 * SECOND);
    sleep(SECOND);
    director.kill();
    sleep(SECOND);
    director.restart().expect("the daemon comes back");
    sleep(SECOND / 2);
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new());
    let both: Vec<_> = tally.answers.keys().map(String::as_str).collect();
    assert_eq!(both, ["director", "rs1"]);
    assert_eq!(open.get().expect("an answer"), server);
    assert_eq!(on_the_way_out(ns, "eth0"), ["lvx_egress"], "one, not two");
    director.lvx(&["down", "--force"]).ok();
    nothing_is_left(ns, "eth0");
}

#[test]
fn an_interface_that_is_made_again_gets_it_again() {
    let lab = lab();
    let ns = &lab.director.ns;
    ns.ip("link add extra type veth peer name far").expect("ip");
    let start = Start::default().interfaces(&["eth0", "extra"]);
    let director = Director::start_with(ns, start).expect("a director");
    director.configure(
        "-A -t 172.25.254.100:80 -s rr
         -a -t 172.25.254.100:80 -r 192.168.0.50:8080 -m",
    );
    assert_eq!(on_the_way_out(ns, "extra"), ["lvx_egress"]);
    ns.ip("link del extra").expect("ip");
    ns.ip("link add extra type veth peer name far").expect("ip");
    // Not by that name at once.
    sleep(SECOND / 2);
    soon(ns, "extra", &["lvx_egress"]);
}
