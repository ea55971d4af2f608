//! The lab itself, without lvx: what the other tests take for granted.

use std::{net::SocketAddrV4, process::Command, time::Duration};

use lvx_tests::{
    http,
    lab::{self, Lab, Node, OneArm, Options, TwoArm},
    packet::{Flags, Flow, Tap, ping},
    xdp::{Foreign, Verdict},
};

const SECOND: Duration = Duration::from_secs(1);

/// Lets plain routing stand in for lvx: the director sends the VIP to one server.
fn route_to_first_server(
    client: &Node,
    director: &Node,
    interface: &str,
    vip: std::net::Ipv4Addr,
    rip: std::net::Ipv4Addr,
) {
    director
        .remove_address(vip, "eth0")
        .expect("the director has the VIP");
    director
        .ns
        .sysctl("net/ipv4/ip_forward", "1")
        .expect("a router");
    director
        .ns
        .sysctl("net/ipv4/conf/all/send_redirects", "0")
        .expect("no redirects");
    director
        .ns
        .sysctl("net/ipv4/conf/eth0/send_redirects", "0")
        .expect("no redirects");
    director
        .ns
        .ip(&format!("route add {vip}/32 via {rip} dev {interface}"))
        .expect("a route");
    client
        .fixed_neighbour(vip, director.mac())
        .expect("a neighbour");
}

#[test]
fn frames_sent_by_xdp_tx_reach_the_segment() {
    let lab = OneArm::new().unwrap();
    let _program = Foreign::attach(&lab.director.ns, "eth0", Verdict::Transmit).unwrap();
    // What the director sends back as it came is a broadcast from an unknown
    // station: the bridge brings it to everybody.
    let flow = Flow {
        macs: ([2, 0, 0, 0, 0, 1], [0xff; 6]),
        from: "192.168.0.150:1000".parse().unwrap(),
        to: "192.168.0.200:80".parse().unwrap(),
    };
    let frame = flow.tcp(Flags::SYN);
    let server = Tap::open(&lab.servers[0].node.ns, "eth0").unwrap();
    let client = Tap::open(&lab.client.ns, "eth0").unwrap();
    for _ in 0..100 {
        client.send(&frame).unwrap();
    }
    // Each once from the client and once from the director.
    assert_eq!(server.count(SECOND, |seen| seen == frame).unwrap(), 200);
}

#[test]
fn one_arm_answers_from_the_server_itself() {
    let lab = OneArm::new().unwrap();
    let rip = lab.rip(1);
    assert_eq!(
        http::curl(&lab.client.ns, &format!("http://{}/", lab.rip(2))).unwrap(),
        "rs2"
    );
    ping(&lab.client.ns, lab.director.addr, SECOND).unwrap();
    route_to_first_server(&lab.client, &lab.director, "eth0", OneArm::VIP, rip);
    let bodies = http::sequence(&lab.client.ns, SocketAddrV4::new(OneArm::VIP, 80), 20).unwrap();
    assert_eq!(bodies, ["rs1"; 20]);
    assert_eq!(
        http::curl(&lab.client.ns, &format!("http://{}/", OneArm::VIP)).unwrap(),
        "rs1"
    );
}

#[test]
fn servers_do_not_tell_the_segment_that_they_have_the_vip() {
    let lab = OneArm::new().unwrap();
    lab.director.remove_address(OneArm::VIP, "eth0").unwrap();
    let to = SocketAddrV4::new(OneArm::VIP, 80);
    let error = lab.client.ns.enter(|| http::get(to, SECOND)).unwrap_err();
    assert!(format!("{error:#}").contains("cannot connect"), "{error:#}");
}

#[test]
fn behind_a_router() {
    let lab = OneArm::with(Options {
        router: true,
        ..Options::default()
    })
    .unwrap();
    let router = lab.router.as_ref().unwrap();
    router
        .ns
        .ip(&format!(
            "neigh replace {} lladdr 02:00:c0:a8:00:0a dev eth1 nud permanent",
            OneArm::VIP
        ))
        .unwrap();
    assert_eq!(
        http::curl(&lab.client.ns, &format!("http://{}/", OneArm::VIP)).unwrap(),
        "rs1"
    );
}

#[test]
fn two_arm_replies_pass_beside_the_director() {
    let lab = TwoArm::new().unwrap();
    let rip = lab.servers[0].node.addr;
    route_to_first_server(&lab.client, &lab.director, "eth1", TwoArm::VIP, rip);
    ping(&lab.director.ns, rip, SECOND).unwrap();
    let before = (
        lab.director.ns.received("eth0").unwrap(),
        lab.director.ns.received("eth1").unwrap(),
    );
    let bodies = http::sequence(&lab.client.ns, SocketAddrV4::new(TwoArm::VIP, 80), 100).unwrap();
    assert_eq!(bodies, ["rs1"; 100]);
    assert!(
        lab.director.ns.received("eth0").unwrap() - before.0 >= 400,
        "the client's packets pass the director"
    );
    assert!(
        lab.director.ns.received("eth1").unwrap() - before.1 < 20,
        "the replies do not"
    );
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let lab = OneArm::new().unwrap();
    let name = lab.lab.name().to_owned();
    let listed = || {
        let output = lab::run(Command::new(lab::tool("ip")).args(["netns", "list"])).unwrap();
        String::from_utf8_lossy(&output.stdout)
            .matches(&format!("{name}-"))
            .count()
    };
    assert_eq!(listed(), 5);
    drop(lab);
    assert_eq!(listed(), 0);
    assert!(!lab::clean::names().contains(&name));
}

#[test]
fn a_kept_lab_is_removed_by_name() {
    let lab = OneArm::new().unwrap();
    let name = lab.lab.name().to_owned();
    let vip = lab.rip(1);
    lab.lab.keep();
    drop(lab);
    let client = format!("{name}-client");
    let curl = || {
        Command::new(lab::tool("ip"))
            .args([
                "netns",
                "exec",
                &client,
                "curl",
                "-s",
                "--max-time",
                "3",
                &format!("http://{vip}/"),
            ])
            .output()
            .unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&curl().stdout), "rs1\n");
    lab::clean::remove(&name).unwrap();
    assert!(!curl().status.success());
    assert!(!lab::clean::names().contains(&name));
}

#[test]
fn a_process_of_the_lab_ends_with_it() {
    let lab = Lab::new().unwrap();
    let ns = lab.namespace("host").unwrap();
    let mut command = ns.command("sleep");
    command.arg("60");
    let process = ns.spawn("sleep", command).unwrap();
    let stat = format!("/proc/{}", process.pid());
    assert!(std::path::Path::new(&stat).exists());
    drop(process);
    assert!(!std::path::Path::new(&stat).exists());
}
