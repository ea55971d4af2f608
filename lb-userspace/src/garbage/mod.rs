//! Every reader of what others write, as functions of bytes: whatever the bytes
//! are, they must not panic, and what they read must mean the same when it is
//! written and read again. For property tests, and for fuzzers built with `--cfg fuzzing`, alone.

#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;

use lb_common::layout::Stats;
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    cli, config,
    daemon::{
        state::{Kept, Limits, Loads, RawStats, State},
        state_file,
    },
    migrate,
    model::{Chain, Config, Family, Request},
    netlink, rules,
};

/// A reader, by name.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them. The grammar of ipvsadm has tests of its own (`ipvsadm/tests`),
/// with a resolver that asks nobody.
pub const READERS: [Reader; 8] = [
    ("config", config_file),
    ("verbs", verbs),
    ("rules", rule_words),
    ("import", import),
    ("firewall", firewall),
    ("state", state),
    ("request", request),
    ("netlink", kernel),
];

const LIMITS: Limits = Limits {
    services: 64,
    dests: 256,
    table: 256,
    sched_tables: 4,
    seed: 1,
    rules: 1 << 12,
};

/// Nothing counts, nothing refers.
struct Idle;

impl RawStats for Idle {
    fn raw(&self, _: u32) -> Stats {
        Stats::default()
    }
}

impl Loads for Idle {
    fn references(&self, _: u32) -> u64 {
        0
    }
}

/// `lvx apply`, `lvx diff`, and the daemon's part of it.
fn config_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // Saved commands may hold names, which somebody would be asked for.
    let first = text.lines().map(str::trim);
    let mut first = first.filter(|line| !line.is_empty() && !line.starts_with('#'));
    if first
        .next()
        .is_some_and(|line| line.starts_with(['-', 'i']))
    {
        return;
    }
    let _ = migrate_clients(text);
    let Ok((read, places)) = config::read(text) else {
        return;
    };
    let written = config::text(&read);
    let again = config::read(&written).unwrap_or_else(|faults| panic!("{faults:?} in {written}"));
    assert_eq!(sections(again.0), sections(read.clone()), "{written}");
    let mut state = State::new(LIMITS);
    let empty = state.to_text();
    match state.apply_config(&read, &Idle, &Idle, 0) {
        Ok(()) => kept(&state),
        Err(refused) => {
            let (change, _) = *refused;
            let _ = (places.of(&change), change.subject());
            assert_eq!(state.to_text(), empty, "a part was changed");
        }
    }
}

fn migrate_clients(text: &str) -> bool {
    // A range of many addresses is a long list, which is as it should be.
    !text.contains('/') && migrate::clients::read("clients", text).is_ok()
}

/// A configuration without where it comes from.
fn sections(config: Config) -> Config {
    Config {
        declaration: None,
        ..config
    }
}

/// What is saved comes back, after a restart and after a reboot.
fn kept(state: &State) {
    let text = state.to_text();
    let back = State::from_text(&text, LIMITS).unwrap_or_else(|error| panic!("{error:#}: {text}"));
    assert_eq!(back.config(&Idle), state.config(&Idle));
    let kept = Kept::read(&text).unwrap_or_else(|error| panic!("{error:#}: {text}"));
    let mut fresh = State::new(LIMITS);
    fresh
        .restore(&kept, &Idle, &Idle, 0)
        .unwrap_or_else(|refused| panic!("{refused:?}"));
    assert_eq!(fresh.config(&Idle), state.config(&Idle));
}

/// Words of a command line, one a line.
fn words(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split(['\n', ' ']).map(str::to_owned).collect()
}

/// `lvx VERB …`.
fn verbs(bytes: &[u8]) {
    let _ = cli::understands(words(bytes));
}

/// `lvx mark`, `lvx filter`, and the rules in files.
fn rule_words(bytes: &[u8]) {
    let words = words(bytes);
    for chain in [Chain::Mark, Chain::Filter] {
        let _ = rules::command(chain, &words);
        for family in [Family::V4, Family::V6] {
            for rule in rules::rule(chain, family, &words).unwrap_or_default() {
                let text = rules::words(&rule);
                let again = rules::split(&text).and_then(|it| rules::rule(chain, family, &it));
                assert_eq!(again.as_deref(), Ok(&[rule][..]), "{text}");
            }
        }
    }
}

/// `lvx mark import`, `lvx filter set import`.
fn import(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for ip6 in [false, true] {
        let _ = rules::import::marks(&text, ip6);
    }
    let _ = rules::import::sets(&text);
}

/// What the firewall's tools print, of which the daemon warns.
fn firewall(bytes: &[u8]) {
    netlink::coexistence::read(&String::from_utf8_lossy(bytes));
}

/// The state file and the saved configuration in it.
fn state(bytes: &[u8]) {
    let _ = state_file::decodes(bytes.to_owned());
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(state) = State::from_text(text, LIMITS) {
        let again = State::from_text(&state.to_text(), LIMITS);
        assert!(again.is_ok(), "{}", state.to_text());
    }
    if let Ok(kept) = Kept::read(text) {
        let mut state = State::new(LIMITS);
        let empty = state.to_text();
        if state.restore(&kept, &Idle, &Idle, 0).is_err() {
            assert_eq!(state.to_text(), empty, "a part was restored");
        }
    }
}

/// A request on the control socket, and the daemon's configuration after it.
fn request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else {
        return;
    };
    let mut state = State::new(LIMITS);
    change(&mut state, &request);
    kept(&state);
}

fn change(state: &mut State, request: &Request) {
    let _ = (request.only_reads(), request.subject());
    if let Request::Batch(requests) | Request::Strict(requests) = request {
        return requests.iter().for_each(|request| change(state, request));
    }
    let before = state.to_text();
    let refused = match request {
        Request::Apply(wanted) => state.apply_config(wanted, &Idle, &Idle, 0).is_err(),
        request => state.apply(request, &Idle, &Idle, 0).is_err(),
    };
    if refused {
        assert_eq!(state.to_text(), before, "{request:?} changed a part");
    }
}

/// A message of the kernel about links, addresses and neighbours.
fn kernel(bytes: &[u8]) {
    if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        netlink::read(&message);
    }
}
