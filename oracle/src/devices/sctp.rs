//! Real SCTP through lvx: the kernel's client and server, which this machine's
//! kernel may lack.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvx_tests::{director::Director, lab::Namespace};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    say,
    stage::{LENGTH, LIMIT, SERVER4, SERVER6, Stage, VIP4, VIP6},
    tunnels::IPIP,
};

/// `IPPROTO_SCTP`.
const SCTP: i32 = 132;
/// Bytes of a message: more than a packet holds.
const MESSAGE: usize = 8000;
/// Port of the services, and the one that servers are mapped to.
const PORT: u16 = 2905;
const MAPPED: u16 = 3000;
/// The client's addresses.
const CLIENT4: &str = "10.0.0.2";
const CLIENT6: &str = "fd00::2";

/// One method, and where the server listens.
struct Case {
    name: &'static str,
    vip: &'static str,
    server: &'static str,
    port: u16,
    options: &'static str,
    /// Whether the server has the VIP, or its own address.
    at_vip: bool,
    device: &'static str,
}

const fn case(
    name: &'static str,
    ends: [&'static str; 2],
    port: u16,
    options: &'static str,
    device: &'static str,
) -> Case {
    let [vip, server] = ends;
    Case {
        name,
        vip,
        server,
        port,
        options,
        at_vip: at_vip(options),
        device,
    }
}

/// Whether packets reach the server with the VIP in them: not by NAT.
const fn at_vip(options: &str) -> bool {
    !matches!(options.as_bytes(), b"-m" | b"--fullnat")
}

const FOUR: [&str; 2] = [VIP4, SERVER4];
const SIX: [&str; 2] = [VIP6, SERVER6];

const CASES: [Case; 11] = [
    case("sctp dr 4", FOUR, PORT, "-g", ""),
    case("sctp dr 6", SIX, PORT, "-g", ""),
    case("sctp nat 4, port mapped", FOUR, MAPPED, "-m", ""),
    case("sctp nat 6, port mapped", SIX, MAPPED, "-m", ""),
    case("sctp nat 4, port kept", FOUR, PORT, "-m", ""),
    case("sctp nat 6, port kept", SIX, PORT, "-m", ""),
    case("sctp fullnat 4", FOUR, MAPPED, "--fullnat", ""),
    case("sctp fullnat 6", SIX, MAPPED, "--fullnat", ""),
    case("sctp ipip 4 in 4", FOUR, PORT, "-i", IPIP),
    case(
        "sctp gue 6 in 4, checksum",
        [VIP6, SERVER4],
        PORT,
        "-i --tun-type gue --tun-port 6080 --tun-csum",
        "fou add port 6080 gue\nlink add t0 type sit local 10.8.0.1",
    ),
    case(
        "sctp gre 4 in 6",
        [VIP4, SERVER6],
        PORT,
        "-i --tun-type gre",
        "link add t0 type ip6gre local fd00:8::1 remote ::",
    ),
];

/// Whether a case is wanted.
pub(super) fn any(wanted: &dyn Fn(&str) -> bool) -> bool {
    CASES.iter().any(|case| wanted(case.name))
}

/// Tries every case that is wanted.
///
/// # Errors
/// When one fails.
pub(super) fn all(
    stage: &Stage,
    director: &Director<'_>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let cases: Vec<_> = CASES.iter().filter(|case| wanted(case.name)).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let mut failed = 0;
    for case in &cases {
        match try_one(stage, director, case) {
            Ok(()) => println!("{}: {LENGTH} bytes there and back", case.name),
            Err(error) => {
                failed += 1;
                say(&format!("{}: {error:#}", case.name));
            }
        }
    }
    for ns in [&stage.client, &stage.server] {
        let errors = checksum_errors(ns)?;
        ensure!(errors == 0, "{} saw {errors} bad checksums", ns.name());
    }
    ensure!(failed == 0, "{failed} of {} failed", cases.len());
    Ok(())
}

fn try_one(stage: &Stage, director: &Director<'_>, case: &Case) -> Result<()> {
    let service = SocketAddr::new(case.vip.parse()?, PORT);
    let real = SocketAddr::new(case.server.parse()?, case.port);
    director.configure(&format!(
        "-A --sctp-service {service} -s rr\n-a --sctp-service {service} -r {real} {}\n",
        case.options
    ));
    if !case.device.is_empty() {
        stage
            .server
            .ip(&format!("{}\nlink set t0 up\n", case.device))?;
    }
    let at = if case.at_vip { service } else { real };
    let result = associate(stage, director, service, at);
    if !case.device.is_empty() {
        let mut lines = String::from("link del t0\n");
        if case.device.contains("fou add") {
            lines.push_str("fou del port 6080\n");
        }
        stage.server.ip(&lines)?;
    }
    director.configure(&format!("-D --sctp-service {service}\n"));
    result
}

/// An association to the service: what the client sends comes back to it, and
/// the director knows its state.
fn associate(
    stage: &Stage,
    director: &Director<'_>,
    service: SocketAddr,
    at: SocketAddr,
) -> Result<()> {
    // One address each: NAT does not translate those that an INIT lists.
    let listener = stage.server.enter(|| socket(at))?;
    listener.listen(1)?;
    let answers = thread::spawn(move || -> Result<()> {
        let (mut socket, _) = listener.accept()?;
        socket.set_read_timeout(Some(LIMIT))?;
        let mut data = vec![0; LENGTH];
        socket.read_exact(&mut data)?;
        send(&mut socket, &data)?;
        // Until the client is through: SCTP has no half-open end.
        let _ = socket.read(&mut [0; 1]);
        Ok(())
    });
    let own = if service.is_ipv4() { CLIENT4 } else { CLIENT6 };
    let mut client = stage
        .client
        .enter(|| socket(SocketAddr::new(own.parse()?, 0)))?;
    client.set_read_timeout(Some(LIMIT))?;
    client.set_write_timeout(Some(LIMIT))?;
    client
        .connect_timeout(&service.into(), LIMIT)
        .context("no association")?;
    let data: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
    send(&mut client, &data).context("cannot send")?;
    let mut back = vec![0; LENGTH];
    client
        .read_exact(&mut back)
        .context("not all bytes came back")?;
    ensure!(back == data, "other bytes came back");
    let listed = |state: &str| -> Result<()> {
        let listing = director.ipvsadm(&["-Lnc"]).ok();
        let is_there = listing
            .lines()
            .any(|line| line.starts_with("SCTP") && line.contains(state));
        ensure!(is_there, "expected one in {state}:\n{listing}");
        Ok(())
    };
    listed("ESTABLISHED")?;
    client.shutdown(Shutdown::Both)?;
    drop(client);
    let answered = answers.join().ok().context("the server ended badly")?;
    answered.context("the server")?;
    thread::sleep(Duration::from_secs(1));
    listed("CLOSED")
}

fn socket(at: SocketAddr) -> Result<Socket> {
    let protocol = Some(Protocol::from(SCTP));
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, protocol)
        .context("this kernel has no SCTP")?;
    socket.bind(&at.into()).context("cannot bind")?;
    Ok(socket)
}

fn send(socket: &mut Socket, data: &[u8]) -> Result<()> {
    for message in data.chunks(MESSAGE) {
        socket.write_all(message)?;
    }
    Ok(())
}

/// Packets that a namespace's SCTP threw away for their checksum.
fn checksum_errors(ns: &Namespace) -> Result<u64> {
    let text = ns.enter(|| std::fs::read_to_string("/proc/thread-self/net/sctp/snmp"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("SctpChecksumErrors"));
    line.and_then(|rest| rest.trim().parse().ok())
        .with_context(|| format!("no count of checksum errors in\n{text}"))
}
