//! In the machine: Linux's own tunnel devices take what lvx has wrapped, and a
//! real TCP connection passes, path MTU discovery included; and real SCTP by
//! every method.

mod sctp;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvx_tests::{
    director::{Director, Start},
    lab::{Lab, Namespace, Offload},
    xdp,
};

use crate::vm::{self, Clock, Job, Kernel};

/// One way of wrapping, and what the server has for it.
struct Case {
    name: &'static str,
    vip: &'static str,
    server: &'static str,
    /// Options of the server in `ipvsadm`.
    options: &'static str,
    /// Lines of iproute2 that make the device `t0`; `fou` lines as well.
    device: &'static str,
}

const VIP4: &str = "10.9.9.1";
const VIP6: &str = "2001:db8:9::1";
const SERVER4: &str = "10.8.0.1";
const SERVER6: &str = "fd00:8::1";

const IPIP: &str = "link add t0 type ipip local 10.8.0.1";
const SIT: &str = "link add t0 type sit local 10.8.0.1";
const IP6TNL: &str = "link add t0 type ip6tnl local fd00:8::1 remote :: mode any";
const GUE: &str = "--tun-type gue --tun-port 6080";
const GUE_CSUM: &str = "--tun-type gue --tun-port 6080 --tun-csum";
const GRE: &str = "--tun-type gre";
const GRE_CSUM: &str = "--tun-type gre --tun-csum";

const fn case(
    name: &'static str,
    ends: [&'static str; 2],
    options: &'static str,
    device: &'static str,
) -> Case {
    let [vip, server] = ends;
    Case {
        name,
        vip,
        server,
        options,
        device,
    }
}

const CASES: &[Case] = &[
    case("ipip 4 in 4", [VIP4, SERVER4], "", IPIP),
    case("ipip 6 in 4", [VIP6, SERVER4], "", SIT),
    case("ipip 4 in 6", [VIP4, SERVER6], "", IP6TNL),
    case("ipip 6 in 6", [VIP6, SERVER6], "", IP6TNL),
    case(
        "gue 4 in 4",
        [VIP4, SERVER4],
        GUE,
        "fou add port 6080 gue\nlink add t0 type ipip local 10.8.0.1",
    ),
    case(
        "gue 4 in 4, checksum",
        [VIP4, SERVER4],
        GUE_CSUM,
        "fou add port 6080 gue\nlink add t0 type ipip local 10.8.0.1",
    ),
    case(
        "gue 6 in 4",
        [VIP6, SERVER4],
        GUE,
        "fou add port 6080 gue\nlink add t0 type sit local 10.8.0.1",
    ),
    case(
        "gre 4 in 4",
        [VIP4, SERVER4],
        GRE,
        "link add t0 type gre local 10.8.0.1",
    ),
    case(
        "gre 4 in 4, checksum",
        [VIP4, SERVER4],
        GRE_CSUM,
        "link add t0 type gre local 10.8.0.1 icsum",
    ),
    case(
        "gre 6 in 4",
        [VIP6, SERVER4],
        GRE,
        "link add t0 type gre local 10.8.0.1",
    ),
    case(
        "gre 4 in 6",
        [VIP4, SERVER6],
        GRE,
        "link add t0 type ip6gre local fd00:8::1 remote ::",
    ),
    case(
        "gre 6 in 6, checksum",
        [VIP6, SERVER6],
        GRE_CSUM,
        "link add t0 type ip6gre local fd00:8::1 remote :: icsum",
    ),
];

/// Bytes of each connection, each way: many segments of full length.
const LENGTH: usize = 200_000;
/// No connection takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// Boots the machine and has all ways of wrapping tried in it; the lines that
/// tell about each.
///
/// # Errors
/// When the machine fails or one of them does; the text tells which.
pub fn in_guest(kernel: Kernel) -> Result<String> {
    let lvx = lvx_tests::director::binary()?;
    let job = Job {
        command: ["/usr/bin/lvx-oracle", "guest-devices"]
            .map(str::to_owned)
            .into(),
        files: Vec::new(),
        programs: vec![&lvx],
        modules: &["sctp"],
        limit: Duration::from_secs(600),
        clock: Clock::Virtual,
    };
    let outcome = vm::run(kernel, &job)?;
    let said = outcome.files.get("stdout").cloned().unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(
        outcome.status == 0,
        "{said}the test in the machine failed; its console:\n{}",
        outcome.console
    );
    Ok(said)
}

/// In the machine: tries them all, prints a line each.
///
/// # Errors
/// When one fails.
pub fn guest() -> Result<()> {
    bond()?;
    tunnels()?;
    sctp::associations()
}

/// lvx on the ports of a bond: a connection before and after the active port
/// loses its carrier.
fn bond() -> Result<()> {
    let stage = Stage::new(Clients::Bonded)?;
    let director = Director::start_with(
        &stage.director,
        Start::default().interfaces(&["e0", "e1", "eth1"]),
    )?;
    let case = &CASES[0];
    stage
        .try_one(&director, case, 9000)
        .context("bond, first port")?;
    println!("bond, first port: {LENGTH} bytes there and back");
    let active = || stage.director.ip_show(&["-d", "link", "show", "bond0"]);
    ensure!(active()?.contains("active_slave e0"), "{}", active()?);
    stage.client.ip("link set p0 down")?;
    thread::sleep(Duration::from_secs(1));
    ensure!(active()?.contains("active_slave e1"), "{}", active()?);
    stage
        .try_one(&director, case, 9001)
        .context("bond, second port")?;
    println!("bond, second port after a failover: {LENGTH} bytes there and back");
    let reasons = director.status()?.reasons;
    let forwarded = reasons
        .iter()
        .find(|(name, _)| name == "forwarded-redirect");
    ensure!(
        forwarded.is_some_and(|(_, packets)| *packets > 200),
        "the data plane did not see this: {reasons:?}"
    );
    Ok(())
}

fn tunnels() -> Result<()> {
    let stage = Stage::new(Clients::Plain)?;
    let director = Director::start_with(
        &stage.director,
        Start::default().interfaces(&["eth0", "eth1"]),
    )?;
    let mut failed = 0;
    for (port, case) in (8000..).zip(CASES) {
        match stage.try_one(&director, case, port) {
            Ok(()) => println!("{}: {LENGTH} bytes there and back", case.name),
            Err(error) => {
                failed += 1;
                println!("{}: {error:#}", case.name);
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} failed", CASES.len());
    Ok(())
}

/// How the director is connected with the clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clients {
    /// By `eth0`.
    Plain,
    /// By a bond of `e0` and `e1`, active and backup; the client has a bridge.
    Bonded,
}

struct Stage {
    // In the order of dropping.
    client: Namespace,
    director: Namespace,
    server: Namespace,
    _lab: Lab,
}

impl Stage {
    fn new(clients: Clients) -> Result<Self> {
        let lab = Lab::new()?;
        let client = lab.namespace("client")?;
        let director = lab.namespace("director")?;
        let server = lab.namespace("server")?;
        for ns in [&client, &director, &server] {
            for key in ["all", "default"] {
                ns.sysctl(&format!("net/ipv6/conf/{key}/disable_ipv6"), "0")?;
                ns.sysctl(&format!("net/ipv6/conf/{key}/accept_dad"), "0")?;
            }
        }
        let (here, ports) = match clients {
            Clients::Plain => {
                client.ip(&format!(
                    "link add eth0 type veth peer name eth0 netns {}",
                    director.name()
                ))?;
                ("eth0", &[("eth0", "eth0")][..])
            }
            Clients::Bonded => {
                client.ip(&format!(
                    "link add p0 type veth peer name e0 netns {0}\n\
                     link add p1 type veth peer name e1 netns {0}\n\
                     link add eth0 type bridge forward_delay 0\n\
                     link set p0 master eth0 up\nlink set p1 master eth0 up",
                    director.name()
                ))?;
                director.ip("link add bond0 type bond mode active-backup miimon 100\n\
                     link set e0 master bond0\nlink set e1 master bond0")?;
                ("bond0", &[("p0", "e0"), ("p1", "e1")][..])
            }
        };
        director.ip(&format!(
            "link add eth1 type veth peer name eth0 netns {}",
            server.name()
        ))?;
        let others = [(&client, "eth0"), (&director, "eth1"), (&server, "eth0")];
        let ports = ports
            .iter()
            .flat_map(|(theirs, ours)| [(&client, *theirs), (&director, *ours)]);
        for (ns, interface) in ports.chain(others) {
            for feature in [
                Offload::TransmitChecksum,
                Offload::TcpSegmentation,
                Offload::GenericSegmentation,
            ] {
                ns.offload(interface, feature, false)?;
            }
        }
        client.ip("addr add 10.0.0.2/24 dev eth0\naddr add fd00::2/64 dev eth0 nodad\nlink set eth0 up\nroute add default via 10.0.0.1\nroute add ::/0 via fd00::1")?;
        server.ip(&format!("addr add {SERVER4}/24 dev eth0\naddr add {SERVER6}/64 dev eth0 nodad\nlink set eth0 up\naddr add {VIP4}/32 dev lo\naddr add {VIP6}/128 dev lo nodad\nroute add default via 10.8.0.254\nroute add ::/0 via fd00:8::fe"))?;
        director.ip(&format!("addr add 10.0.0.1/24 dev {here}\naddr add fd00::1/64 dev {here} nodad\nlink set {here} up\naddr add 10.8.0.254/24 dev eth1\naddr add fd00:8::fe/64 dev eth1 nodad\nlink set eth1 up\naddr add {VIP4}/32 dev lo\naddr add {VIP6}/128 dev lo nodad"))?;
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // The servers' replies come by: they are from the VIP.
            ("net/ipv4/conf/all/accept_local", "1"),
        ] {
            director.sysctl(key, value)?;
        }
        // What XDP sends back, a veth takes only with a program of its own.
        let answered = match clients {
            Clients::Plain => &["eth0"][..],
            Clients::Bonded => &["p0", "p1"],
        };
        for port in answered {
            xdp::pass(&client, port)?;
        }
        xdp::pass(&server, "eth0")?;
        Ok(Self {
            client,
            director,
            server,
            _lab: lab,
        })
    }

    fn try_one(&self, director: &Director<'_>, case: &Case, port: u16) -> Result<()> {
        let vip: IpAddr = case.vip.parse()?;
        let server: IpAddr = case.server.parse()?;
        let (service, real) = (SocketAddr::new(vip, port), SocketAddr::new(server, port));
        director.configure(&format!(
            "-A -t {service} -s rr\n-a -t {service} -r {real} -i {}\n",
            case.options
        ));
        self.server
            .ip(&format!("{}\nlink set t0 up\n", case.device))?;
        let result = self.connect(service);
        let mut lines = String::from("link del t0\n");
        if case.device.contains("fou add") {
            lines.push_str("fou del port 6080\n");
        }
        self.server.ip(&lines)?;
        result
    }

    /// A connection to the service: what the client sends comes back to it.
    fn connect(&self, service: SocketAddr) -> Result<()> {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), service.port());
        let listener = self.server.enter(|| TcpListener::bind(any))?;
        thread::spawn(move || {
            // What goes wrong here, the client tells.
            if let Ok((mut stream, _)) = listener.accept() {
                let mut data = Vec::new();
                let _ = stream.read_to_end(&mut data);
                let _ = stream.write_all(&data);
            }
        });
        let mut stream = self
            .client
            .enter(|| TcpStream::connect_timeout(&service, LIMIT))
            .context("no connection")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let data: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
        stream.write_all(&data).context("cannot send")?;
        stream.shutdown(Shutdown::Write)?;
        let mut back = Vec::new();
        stream
            .read_to_end(&mut back)
            .with_context(|| format!("only {} bytes came back", back.len()))?;
        ensure!(back == data, "other bytes came back");
        Ok(())
    }
}
