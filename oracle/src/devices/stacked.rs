//! Bonds, VLANs and bridges that `--interface` names: connections by NAT, so that
//! both ways pass lvx, in both families.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lvx_tests::{
    director::{Director, Start},
    lab::features,
};

use super::{
    say,
    stage::{LENGTH, Links, SERVER4, SERVER6, Stage, VIP4, VIP6},
};

/// What the server listens on.
const REAL_PORT: u16 = 7000;
/// The features that take VLAN tags out of frames.
const TAGS: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// One way of naming interfaces.
struct Case {
    name: &'static str,
    links: Links,
    /// What `--interface` names.
    interfaces: &'static [&'static str],
    /// Devices that carry the program then.
    devices: &'static [&'static str],
    /// What `lvx status` says about it.
    places: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "bond",
        links: Links::Bonded,
        interfaces: &["bond0", "eth1"],
        devices: &["bond0", "eth1"],
        places: &[],
    },
    Case {
        name: "bond by its ports",
        links: Links::Bonded,
        interfaces: &["e0", "bond0", "eth1"],
        devices: &["e0", "e1", "eth1"],
        places: &[
            "bond0: on its ports, e0, e1 (not on bond0 itself: a port is attached by itself)",
        ],
    },
    Case {
        name: "VLAN on a bond",
        links: Links::BondedVlan,
        interfaces: &["bond0.100", "eth1"],
        devices: &["bond0", "eth1"],
        places: &["bond0.100: on what is below it, bond0"],
    },
    Case {
        name: "VLAN",
        links: Links::Vlan,
        interfaces: &["eth0", "eth0.100", "eth1.200"],
        devices: &["eth0", "eth1"],
        places: &[
            "eth0.100: on what is below it, eth0",
            "eth1.200: on what is below it, eth1",
        ],
    },
    Case {
        name: "VLAN in VLAN",
        links: Links::TwoVlans,
        interfaces: &["eth0.100.7", "eth1.200"],
        devices: &["eth0", "eth1"],
        places: &[
            "eth0.100.7: on what is below it, eth0",
            "eth1.200: on what is below it, eth1",
        ],
    },
    Case {
        name: "bridge",
        links: Links::Bridged,
        interfaces: &["br0", "br1"],
        devices: &["eth0", "eth1"],
        places: &["br0: on its ports, eth0", "br1: on its ports, eth1"],
    },
];

/// Tries every case, prints a line each.
pub(super) fn all(wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    for case in CASES.iter().filter(|case| wanted(case.name)) {
        try_one(case).with_context(|| case.name)?;
    }
    Ok(())
}

fn try_one(case: &Case) -> Result<()> {
    let stage = Stage::new(case.links)?;
    let start = Start::default().interfaces(case.interfaces);
    let director = Director::start_with(&stage.director, start)?;
    check_places(case, &director)?;
    connections(&stage, &director, 9000)?;
    say(&format!(
        "{}: {LENGTH} bytes there and back, both families",
        case.name
    ));
    if matches!(case.links, Links::Bonded | Links::BondedVlan) {
        fail_over(&stage)?;
        connections(&stage, &director, 9001).context("after the failover")?;
        say(&format!("{}: the same after a failover", case.name));
        if case.name == "bond" {
            port_leaves_and_joins(&stage, &director)?;
        }
    }
    if matches!(case.links, Links::Vlan | Links::TwoVlans) {
        offloads(&stage, &director)?;
        say(&format!(
            "{}: the offload was off, and is on after 'lvx down'",
            case.name
        ));
    }
    Ok(())
}

fn check_places(case: &Case, director: &Director<'_>) -> Result<()> {
    let status = director.status()?;
    let native = |name: &&str| ((*name).to_owned(), "native".to_owned());
    let wanted: Vec<_> = case.devices.iter().map(native).collect();
    ensure!(status.interfaces == wanted, "{:?}", status.interfaces);
    ensure!(status.places == case.places, "{:?}", status.places);
    for place in case.places {
        ensure!(director.log().contains(place), "{}", director.log());
    }
    Ok(())
}

/// A connection in each family, which the data plane must have seen.
fn connections(stage: &Stage, director: &Director<'_>, port: u16) -> Result<()> {
    for (vip, server) in [(VIP4, SERVER4), (VIP6, SERVER6)] {
        let (vip, server): (IpAddr, IpAddr) = (vip.parse()?, server.parse()?);
        let service = SocketAddr::new(vip, port);
        let real = SocketAddr::new(server, REAL_PORT);
        director.configure(&format!(
            "-A -t {service} -s rr\n-a -t {service} -r {real} -m\n"
        ));
        director.wait_for_ways()?;
        let before = forwarded(director)?;
        let result = stage.connect(service, REAL_PORT);
        let log = || format!("{service}; {:?}\n{}", director.status(), director.log());
        result.with_context(log)?;
        // Both ways, in segments of at most 1460 bytes.
        let now = forwarded(director)?;
        ensure!(
            now > before + 200,
            "only {} packets of {service}",
            now - before
        );
    }
    Ok(())
}

fn forwarded(director: &Director<'_>) -> Result<u64> {
    let reasons = director.status()?.reasons;
    let sent = reasons
        .iter()
        .filter(|(name, _)| name.starts_with("forwarded"));
    Ok(sent.map(|(_, packets)| packets).sum())
}

/// The active port of the bond loses its carrier.
fn fail_over(stage: &Stage) -> Result<()> {
    let active = |port: &str| -> Result<()> {
        let shown = stage.director.ip_show(&["-d", "link", "show", "bond0"])?;
        ensure!(shown.contains(&format!("active_slave {port}")), "{shown}");
        Ok(())
    };
    active("e0")?;
    stage.client.ip("link set p0 down")?;
    thread::sleep(Duration::from_secs(1));
    active("e1")
}

/// The bond goes on with a port less, and gives the program to one that joins.
fn port_leaves_and_joins(stage: &Stage, director: &Director<'_>) -> Result<()> {
    stage.client.ip("link set p0 up")?;
    stage.director.ip("link set e0 nomaster")?;
    connections(stage, director, 9002).context("with a port less")?;
    stage
        .director
        .ip("link set e0 down\nlink set e0 master bond0")?;
    stage.client.ip("link set p1 down")?;
    thread::sleep(Duration::from_secs(1));
    connections(stage, director, 9003).context("by the port that joined")?;
    say("bond: the same after a port has left and joined again");
    Ok(())
}

/// What takes tags out of frames is off while lvx is there.
fn offloads(stage: &Stage, director: &Director<'_>) -> Result<()> {
    let are = |on: bool| -> Result<()> {
        for interface in ["eth0", "eth1"] {
            let found = stage.director.enter(|| features(interface))?;
            for tag in TAGS {
                let feature = found.get(tag).with_context(|| format!("no {tag}"))?;
                ensure!(feature.on == on, "{interface}: {tag} is {feature:?}");
            }
        }
        Ok(())
    };
    are(false)?;
    let answer = director.lvx(&["down", "--force"]);
    ensure!(answer.code == 0, "{answer}");
    let limit = Instant::now() + Duration::from_secs(2);
    while are(true).is_err() && Instant::now() < limit {
        thread::sleep(Duration::from_millis(20));
    }
    are(true)
}
