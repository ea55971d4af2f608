//! Linux's own tunnel devices take what lvx has wrapped.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lvx_tests::director::Director;

use super::{
    say,
    stage::{LENGTH, SERVER4, SERVER6, Stage, VIP4, VIP6},
};

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

pub(super) const IPIP: &str = "link add t0 type ipip local 10.8.0.1";
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
    let mut failed = 0;
    for (port, case) in (8000..).zip(&cases) {
        match try_one(stage, director, case, port) {
            Ok(()) => println!("{}: {LENGTH} bytes there and back", case.name),
            Err(error) => {
                failed += 1;
                say(&format!("{}: {error:#}", case.name));
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} failed", cases.len());
    Ok(())
}

fn try_one(stage: &Stage, director: &Director<'_>, case: &Case, port: u16) -> Result<()> {
    let vip: IpAddr = case.vip.parse()?;
    let server: IpAddr = case.server.parse()?;
    let (service, real) = (SocketAddr::new(vip, port), SocketAddr::new(server, port));
    director.configure(&format!(
        "-A -t {service} -s rr\n-a -t {service} -r {real} -i {}\n",
        case.options
    ));
    stage
        .server
        .ip(&format!("{}\nlink set t0 up\n", case.device))?;
    let result = stage.connect(service, port);
    let mut lines = String::from("link del t0\n");
    if case.device.contains("fou add") {
        lines.push_str("fou del port 6080\n");
    }
    stage.server.ip(&lines)?;
    result
}
