//! What an operator would expect to happen to service traffic and does not,
//! because XDP takes the packets before the firewall sees them, or because they
//! come in by an interface without XDP.

mod iptables;
mod nft;
mod ruleset;

use std::{collections::BTreeSet, net::IpAddr, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use self::ruleset::{Inputs, Table};
use super::{Link, LinkKind, View, claims::ports};

/// A firewall tool that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most lines returned, before the one that counts the rest.
const MOST_LINES: usize = 20;
/// The kernel gives every namespace's `lo` this index.
const LOOPBACK: u32 = 1;
/// More stacked links than any configuration has.
const MAX_DEPTH: usize = 8;

/// One sentence for every interface by which a VIP can be reached past lvx, and
/// for every firewall rule that would have applied to a VIP's traffic, or to the
/// replies of `servers` (those by NAT), and does not; at most 20, then `… and N
/// more`. `attached` are the indexes of the interfaces that lvx runs on.
///
/// The rules are read with `iptables-save`, `ip6tables-save` and `nft` in the
/// calling thread's network namespace. A tool that is missing or fails counts
/// as having no rules.
pub async fn warnings(
    vips: &[IpAddr],
    servers: &[IpAddr],
    attached: &BTreeSet<u32>,
    view: &View,
) -> Vec<String> {
    let mut lines = unattached(vips, attached, view);
    let (v4, v6, old_v4, old_v6, nft) = tokio::join!(
        output("iptables-save", &[]),
        output("ip6tables-save", &[]),
        output("iptables-legacy-save", &[]),
        output("ip6tables-legacy-save", &[]),
        output("nft", &["-j", "list", "ruleset"]),
    );
    lines.extend(firewall(
        &[&v4, &old_v4],
        &[&v6, &old_v6],
        &nft,
        [vips, servers],
        &inputs(attached, view),
    ));
    cap(lines)
}

/// Rules in the texts of the tools. Where iptables is a front of nf_tables, its
/// tables appear in nft's listing again and are left out there.
fn firewall(
    v4: &[&str],
    v6: &[&str],
    nft: &str,
    [vips, servers]: [&[IpAddr]; 2],
    inputs: &Inputs,
) -> Vec<String> {
    let mut tables: Vec<Table> = Vec::new();
    let mut covered = BTreeSet::new();
    for (family, texts) in [("ip", v4), ("ip6", v6)] {
        for (i, text) in texts.iter().enumerate() {
            // Where the plain tool is the legacy one, it and its alias say the same.
            if texts[..i].iter().any(|earlier| {
                !earlier.is_empty() && iptables::is_nft(earlier) == iptables::is_nft(text)
            }) {
                continue;
            }
            let found = iptables::parse(text, family == "ip6");
            if iptables::is_nft(text) {
                covered.extend(
                    found
                        .iter()
                        .map(|(name, _)| (family.to_owned(), name.clone())),
                );
            }
            tables.extend(found.into_iter().map(|(_, table)| table));
        }
    }
    tables.extend(nft::parse(nft, &covered));
    tables
        .iter()
        .flat_map(|table| table.warnings(vips, servers, inputs))
        .collect()
}

/// Reads what any of the tools may have printed.
#[cfg(any(test, fuzzing))]
pub(crate) fn read(text: &str) {
    let vips = [IpAddr::from([10, 0, 0, 1])];
    for (v4, v6, nft) in [(text, "", ""), ("", text, ""), ("", "", text)] {
        firewall(
            &[v4],
            &[v6],
            nft,
            [&vips, &vips],
            &Inputs(vec![(2, "eth0".into())]),
        );
    }
}

async fn output(program: &str, arguments: &[&str]) -> String {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(PATIENCE, child).await {
        Ok(Ok(output)) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(Ok(output)) => {
            tracing::debug!("{program}: {}", output.status);
            String::new()
        }
        Ok(Err(error)) => {
            tracing::debug!("{program}: {error}");
            String::new()
        }
        Err(_) => {
            tracing::warn!(
                "{program} takes longer than {} s: its rules are not compared with the VIPs",
                PATIENCE.as_secs()
            );
            String::new()
        }
    }
}

fn cap(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_LINES);
    if more > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("… and {more} more"));
    }
    lines
}

/// VIPs that can come in by a link without XDP.
fn unattached(vips: &[IpAddr], attached: &BTreeSet<u32>, view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for link in view.links.values() {
        if !link.up || link.index == LOOPBACK || covered(link, attached, view, 0) {
            continue;
        }
        for vip in vips {
            // Without an address of the family nobody sends such packets there.
            if view
                .addresses
                .iter()
                .any(|(ip, index)| *index == link.index && ip.is_ipv4() == vip.is_ipv4())
            {
                lines.push(format!(
                    "{vip} is also reachable through {}, which is not attached",
                    link.name
                ));
            }
        }
    }
    lines
}

/// Whether all frames for `link` pass an attached interface first.
fn covered(link: &Link, attached: &BTreeSet<u32>, view: &View, depth: usize) -> bool {
    if attached.contains(&link.index) || depth == MAX_DEPTH {
        return attached.contains(&link.index);
    }
    let at = |index: u32| {
        view.links
            .get(&index)
            .is_some_and(|l| covered(l, attached, view, depth + 1))
    };
    let below = match link.kind {
        LinkKind::Vlan { parent, .. } | LinkKind::Macvlan { parent } => at(parent),
        _ => false,
    };
    let mut ports = ports(link.index, view).peekable();
    let by_ports =
        ports.peek().is_some() && ports.all(|port| covered(port, attached, view, depth + 1));
    below || by_ports || link.master.is_some_and(|master| attached.contains(&master))
}

/// The interfaces that rules may name for traffic that lvx takes.
fn inputs(attached: &BTreeSet<u32>, view: &View) -> Inputs {
    let links = view
        .links
        .values()
        .filter(|link| covered(link, attached, view, 0));
    Inputs(links.map(|link| (link.index, link.name.clone())).collect())
}

#[cfg(test)]
mod tests;
