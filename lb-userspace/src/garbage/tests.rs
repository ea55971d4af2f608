//! Good texts with a few changes, and random bytes, into every reader.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use netlink_packet_core::{NLM_F_MULTIPART, NetlinkHeader, NetlinkMessage};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{
    Idle, LIMITS, READERS,
    mutate::{edits, spoil},
};
use crate::{
    config,
    daemon::state::State,
    model::{Chain, Request, RuleChange},
};

const TOML: &str = include_str!("../../tests/garbage/whole.toml");

/// Texts that a reader takes.
fn good(reader: &str) -> Vec<String> {
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    match reader {
        "config" => vec![
            TOML.into(),
            format!(
                "name = \"web\"\n{}",
                &TOML[TOML.find("[[service]]").unwrap()..]
            ),
        ],
        "verbs" => lines(include_str!("../../tests/garbage/verbs.txt")),
        "rules" => lines(include_str!("../../tests/garbage/rules.txt")),
        "import" | "firewall" => ["iptables-save.txt", "nft.json", "ipset.txt"]
            .iter()
            .map(|name| fs::read_to_string(format!("tests/garbage/{name}")).unwrap())
            .collect(),
        "state" => vec![whole().to_text()],
        "request" => requests()
            .iter()
            .map(|request| serde_json::to_string(request).unwrap())
            .collect(),
        other => panic!("no texts for {other}"),
    }
}

fn whole() -> State {
    let mut state = State::new(LIMITS);
    let (config, _) = config::read(TOML).unwrap();
    state.apply_config(&config, &Idle, &Idle, 0).unwrap();
    state
}

fn requests() -> Vec<Request> {
    let state = whole();
    let config = state.config(&Idle);
    let mut all = config::changes(&State::new(LIMITS).config(&Idle), &config);
    let first = config.services.as_ref().unwrap()[0].clone();
    let (id, dest) = (first.id, first.dests[0]);
    all.extend([
        Request::EditService(id, first.spec.clone()),
        Request::EditDest(id, dest),
        Request::DeleteDest(id, dest.id),
        Request::Drain(id, dest.id),
        Request::Undrain(id, dest.id),
        Request::DeleteService(id),
        Request::Clear,
        Request::Zero(Some(id)),
        Request::List(None),
        Request::ListRules(Chain::Filter),
        Request::Down { force: true },
        Request::Apply(Box::new(config)),
        Request::Capture(7),
    ]);
    let rules = all
        .iter()
        .filter(|request| matches!(request, Request::Rules(RuleChange::Replace(..))));
    assert!(rules.count() > 0, "rules are among them");
    all.push(Request::Batch(all.clone()));
    all
}

fn messages() -> Vec<Vec<u8>> {
    let mut link = LinkMessage::default();
    link.header.index = 3;
    link.header.link_layer_type = LinkLayerType::Ether;
    link.attributes = vec![
        LinkAttribute::IfName("eth0.7".into()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        LinkAttribute::Link(2),
        LinkAttribute::Controller(9),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(7)])),
        ]),
        LinkAttribute::Xdp(vec![LinkXdp::ProgId(5)]),
    ];
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet;
    address.header.prefix_len = 24;
    address.header.index = 3;
    let here: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
    address.attributes = vec![
        AddressAttribute::Address(here),
        AddressAttribute::Local(here),
    ];
    let mut neighbour = NeighbourMessage::default();
    neighbour.header.family = AddressFamily::Inet;
    neighbour.header.ifindex = 3;
    neighbour.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(Ipv4Addr::new(10, 0, 0, 2))),
        NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 2]),
    ];
    [
        RouteNetlinkMessage::NewLink(link.clone()),
        RouteNetlinkMessage::DelLink(link),
        RouteNetlinkMessage::NewAddress(address),
        RouteNetlinkMessage::NewNeighbour(neighbour),
    ]
    .into_iter()
    .map(|message| {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_MULTIPART;
        let mut message = NetlinkMessage::new(header, message.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    })
    .collect()
}

/// Runs a reader on as many changed texts as proptest is asked for
/// (`PROPTEST_CASES`), each of which may take a moment and no more.
fn run(reader: &str) {
    const SOON: u128 = 2_000;
    let read = READERS.iter().find(|(name, _)| *name == reader).unwrap().1;
    let texts: Vec<Vec<u8>> = if reader == "netlink" {
        messages()
    } else {
        good(reader).into_iter().map(String::into_bytes).collect()
    };
    for text in &texts {
        read(text);
    }
    // What is found becomes a test; nothing is kept beside the source.
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let cases = (
        prop::sample::select(texts),
        edits(),
        prop::collection::vec(any::<u8>(), 0..200),
    );
    let started = Instant::now();
    runner
        .run(&cases, |(text, edits, random)| {
            let asked = Instant::now();
            read(&spoil(&text, &edits));
            read(&random);
            prop_assert!(asked.elapsed().as_millis() < SOON, "{:?}", asked.elapsed());
            Ok(())
        })
        .unwrap();
    println!(
        "{reader}: {} runs in {:.1?}",
        2 * runner.config().cases,
        started.elapsed()
    );
}

#[test]
fn config_files() {
    run("config");
}

#[test]
fn verbs() {
    run("verbs");
}

#[test]
fn rule_words() {
    run("rules");
}

#[test]
fn imports() {
    run("import");
}

#[test]
fn firewall_listings() {
    run("firewall");
}

#[test]
fn saved_states() {
    run("state");
}

#[test]
fn requests_on_the_socket() {
    run("request");
}

#[test]
fn kernel_messages() {
    run("netlink");
}

/// The corpus is not refused at the door.
#[test]
fn the_good_texts_are_good() {
    assert!(config::read(TOML).is_ok());
    for line in good("rules") {
        let words = crate::rules::split(&line).unwrap();
        let chain = if line.contains("MARK") {
            Chain::Mark
        } else {
            Chain::Filter
        };
        crate::rules::rule(chain, crate::model::Family::V4, &words)
            .or_else(|_| crate::rules::rule(chain, crate::model::Family::V6, &words))
            .unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    for line in good("verbs") {
        assert!(
            crate::cli::understands(line.split(' ').map(str::to_owned).collect()),
            "{line}"
        );
    }
}
