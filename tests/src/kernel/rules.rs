//! Mark and filter rules of a scene.

use std::net::IpAddr;

use indexmap::IndexMap;
use lb_userspace::{
    model::{Chain, Family, Rule},
    rules::{Command, command, compile},
};

use super::{
    everything::{MARK, MARKED_PORT, client_address, vip},
    scene::{Service, Sink, root},
};

/// The rules of [`everything`](super::everything): they mark what is for the
/// services of marks, and drop a few of the clients' packets.
///
/// # Panics
/// When one is no rule.
pub fn everything() -> Vec<(Chain, Rule)> {
    [4, 6].into_iter().flat_map(of_family).collect()
}

fn of_family(family: u8) -> Vec<(Chain, Rule)> {
    let vip = |number| vip(family, number);
    let client = |number| client_address(number, family);
    let rules = [
        // The mark is put together by two rules; the second alone gives one that
        // no service has.
        (
            Chain::Mark,
            format!(
                "-A -d {} -p tcp --dport {MARKED_PORT} -j MARK --set-mark {}",
                vip(4),
                MARK & !1
            ),
        ),
        (
            Chain::Mark,
            format!(
                "-A -s {} -p tcp --dport 8000:9000 -j MARK --or-mark 1",
                network(client(0))
            ),
        ),
        (
            Chain::Filter,
            format!("-A -s {} -d {} -p tcp -j ACCEPT", client(6), vip(1)),
        ),
        (
            Chain::Filter,
            format!("-A -s {} -p tcp --dport 80 -j DROP", client(6)),
        ),
        (
            Chain::Filter,
            format!(
                "-A -s {} -p udp -m multiport --sports 20,1003 -j DROP",
                client(5)
            ),
        ),
        (
            Chain::Filter,
            format!("-A -s {} -d {} -p sctp -j DROP", client(7), vip(5)),
        ),
    ];
    rules
        .into_iter()
        .map(|(chain, text)| (chain, rule(chain, &text)))
        .collect()
}

/// The clients' network.
fn network(client: IpAddr) -> String {
    format!("{client}/{}", if client.is_ipv4() { 24 } else { 112 })
}

/// The mark rule of a text like `-A -d 192.0.2.1 -j MARK --set-mark 1`.
///
/// # Panics
/// When it is none.
pub fn mark(text: &str) -> (Chain, Rule) {
    (Chain::Mark, rule(Chain::Mark, text))
}

fn rule(chain: Chain, text: &str) -> Rule {
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    match command(chain, &words) {
        Ok(Command::Append(mut rules)) => rules.remove(0),
        other => panic!("{text}: {other:?}"),
    }
}

/// Counters of filter rules: so many slots are used, from 0 on.
pub fn slots(rules: &[(Chain, Rule)]) -> u32 {
    of_chain(rules, Chain::Filter).count() as u32
}

fn of_chain(rules: &[(Chain, Rule)], wanted: Chain) -> impl Iterator<Item = &Rule> {
    rules
        .iter()
        .filter(move |(chain, _)| *chain == wanted)
        .map(|(_, rule)| rule)
}

/// Writes `rules` into `sink`, which holds `services`, and switches to them.
///
/// # Panics
/// When there is no room for them.
pub fn write(sink: &impl Sink, services: &[Service], rules: &[(Chain, Rule)]) {
    let source = |chain, family| {
        of_chain(rules, chain)
            .zip(0..)
            .filter(|(rule, _)| rule.family == family)
            .collect()
    };
    let room = sink.params().rule_words;
    let compiled = compile(source, &IndexMap::new(), &[].into(), room).expect("room for the rules");
    for (index, word) in (0..).zip(&compiled.words) {
        sink.rule(index, *word);
    }
    let any = |family| rules.iter().any(|(_, rule)| rule.family == family);
    sink.root(root(services).with_rules(any(Family::V4), any(Family::V6)));
}
