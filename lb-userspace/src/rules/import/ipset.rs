//! `ipset save`.

use indexmap::IndexMap;

use crate::model::{Family, Prefix, PrefixSet, number};

/// Takes sets of addresses and of prefixes.
pub(super) fn sets(text: &str) -> Result<(Vec<PrefixSet>, Vec<String>), String> {
    let mut sets: IndexMap<String, PrefixSet> = IndexMap::new();
    let mut left = Vec::new();
    let mut any = false;
    for (line, number) in text.lines().zip(1..) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut leave = |why: &str| left.push(format!("line {number}: {}: {why}", line.trim()));
        match words.as_slice() {
            ["create", name, kind, options @ ..] => {
                any = true;
                if *kind != "hash:ip" && *kind != "hash:net" {
                    leave("only sets of the types hash:ip and hash:net are lists of prefixes");
                    continue;
                }
                let six = options.windows(2).any(|pair| pair == ["family", "inet6"]);
                if options.contains(&"timeout")
                    && !options.windows(2).any(|pair| pair == ["timeout", "0"])
                {
                    leave("taken, but its members do not expire here");
                }
                let family = if six { Family::V6 } else { Family::V4 };
                let set = PrefixSet {
                    name: (*name).to_owned(),
                    family,
                    members: Vec::new(),
                };
                sets.insert((*name).to_owned(), set);
            }
            ["add", name, member, rest @ ..] => {
                any = true;
                // What is in a set that was left has been told with the set.
                let Some(set) = sets.get_mut(*name) else {
                    continue;
                };
                if rest.contains(&"nomatch") {
                    leave("an exception from a set is not known here");
                    continue;
                }
                match member.parse::<Prefix>() {
                    Ok(prefix) if prefix.family() == set.family => set.members.push(prefix),
                    Ok(_) => leave("of the other family"),
                    Err(why) => leave(&why),
                }
            }
            [] | ["COMMIT"] => {}
            [word, ..] if word.starts_with('#') => {}
            _ => leave("not a line of 'ipset save'"),
        }
    }
    if !any {
        return Err("this is neither 'ipset save's nor 'nft -j list sets's output".into());
    }
    Ok((sets.into_values().map(sorted).collect(), left))
}

/// Members in order, each once.
pub(super) fn sorted(mut set: PrefixSet) -> PrefixSet {
    set.members.sort_unstable();
    set.members.dedup();
    set
}

/// The prefixes that make up a range of addresses.
pub(super) fn prefixes(first: Prefix, last: Prefix) -> Vec<Prefix> {
    let (mut at, end) = (number(first.addr()), number(last.addr()));
    let bits = if first.addr().is_ipv4() { 32 } else { 128 };
    let mut result = Vec::new();
    while at <= end {
        // The largest block that begins here and does not go beyond the end.
        let mut host = at.trailing_zeros().min(bits);
        while host > 0 && at + ((1_u128.checked_shl(host).unwrap_or(0)).wrapping_sub(1)) > end {
            host -= 1;
        }
        let addr = if bits == 32 {
            std::net::IpAddr::from((at as u32).to_be_bytes())
        } else {
            std::net::IpAddr::from(at.to_be_bytes())
        };
        result.extend(Prefix::new(addr, (bits - host) as u8));
        match at.checked_add(1_u128.checked_shl(host).unwrap_or(0)) {
            Some(next) if next > at => at = next,
            _ => break,
        }
    }
    result
}
