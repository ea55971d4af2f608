//! VLAN tags that a device takes out of frames before XDP sees them: where there
//! are VLANs, that is turned off, and turned on again when lvx leaves.

use std::collections::{BTreeMap, BTreeSet};

use nix::net::if_::if_indextoname;

use super::files::Files;
use crate::netlink::{Feature, LinkKind, View, features, set_features};
use crate::netns;

/// The features, as `ethtool -k` names them: 802.1Q and 802.1ad tags.
const TAGS: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// What was turned off, by interface index.
pub type TurnedOff = BTreeMap<u32, BTreeSet<String>>;

/// Keeps tags in the frames of the interfaces that have VLANs.
pub struct Offloads {
    files: Files,
    turned_off: TurnedOff,
    advised: BTreeSet<u32>,
}

impl Offloads {
    /// With what an earlier daemon turned off.
    pub fn new(files: Files) -> Self {
        let turned_off = files.turned_off();
        Self {
            files,
            turned_off,
            advised: BTreeSet::new(),
        }
    }

    /// Turns the features off on the interfaces `tagged`, which have VLANs.
    /// Returns a sentence for each that keeps them: what comes in there by a VLAN
    /// is not seen as what it is.
    pub fn turn_off(&mut self, view: &View, tagged: &BTreeSet<u32>) -> Vec<String> {
        let before = self.turned_off.clone();
        self.turned_off
            .retain(|index, _| view.links.contains_key(index));
        let mut troubles = Vec::new();
        for index in tagged {
            let Some(link) = view.links.get(index) else {
                continue;
            };
            match self.turn_off_one(*index, &link.name) {
                Ok(()) => {}
                Err(why) => troubles.push(format!(
                    "{name} takes VLAN tags out of frames before XDP sees them, and that cannot be turned off ({why}): \
                     remove the VLANs on {name}, or use a card that leaves the tags in",
                    name = link.name
                )),
            }
            if link.kind == LinkKind::Veth && self.advised.insert(*index) {
                tracing::warn!(
                    "{}: VLAN tags are seen only where the other end of this veth puts them into the frames: \
                     'ethtool -K NAME txvlan off tx-vlan-stag-hw-insert off' there",
                    link.name
                );
            }
        }
        if self.turned_off != before {
            self.save();
        }
        troubles
    }

    fn turn_off_one(&mut self, index: u32, name: &str) -> Result<(), String> {
        let Ok(before) = features(name) else {
            // A device without ethtool has no such features.
            return Ok(());
        };
        let names = to_turn_off(&before)?;
        if names.is_empty() {
            return Ok(());
        }
        let off: Vec<_> = names.iter().map(|tag| (*tag, false)).collect();
        set_features(name, &off).map_err(|error| error.to_string())?;
        let after = features(name).map_err(|error| error.to_string())?;
        if let Some(tag) = to_turn_off(&after)?.first() {
            return Err(format!("{tag} stays on"));
        }
        tracing::info!(
            "{name}: turned off {}, so that VLAN tags are seen; 'lvx down' turns it on again",
            names.join(" and ")
        );
        let kept = self.turned_off.entry(index).or_default();
        kept.extend(names.into_iter().map(str::to_owned));
        Ok(())
    }

    /// Turns on again what was turned off on one interface.
    pub fn restore(&mut self, index: u32) {
        if let Some(names) = self.turned_off.remove(&index) {
            turn_on(index, &names);
            self.save();
        }
    }

    fn save(&self) {
        if let Err(error) = self.files.save_turned_off(&self.turned_off) {
            tracing::error!("{error:#}");
        }
    }
}

/// The features that are on; an error where one of them cannot be turned off.
fn to_turn_off(features: &BTreeMap<String, Feature>) -> Result<Vec<&'static str>, String> {
    let state = |tag: &&'static str| Some((*tag, *features.get(*tag)?));
    let on = TAGS.iter().filter_map(state).filter(|(_, state)| state.on);
    let named = on.map(|(tag, state)| {
        if state.fixed {
            Err(format!("{tag} is fixed"))
        } else {
            Ok(tag)
        }
    });
    named.collect()
}

/// Turns on again whatever lvx has turned off. Of another network namespace than
/// this one nothing is known: one that is dead has no interfaces any more.
pub fn restore_all(files: &Files) {
    if netns::cookie().ok() != Some(files.netns()) {
        return;
    }
    for (index, names) in files.turned_off() {
        turn_on(index, &names);
    }
}

fn turn_on(index: u32, names: &BTreeSet<String>) {
    // Where the interface is gone there is nothing to restore.
    let Ok(name) = if_indextoname(index) else {
        return;
    };
    let name = name.to_string_lossy();
    let on: Vec<_> = names.iter().map(|name| (name.as_str(), true)).collect();
    if let Err(error) = set_features(&name, &on) {
        tracing::warn!("{name}: cannot turn its VLAN features on again: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_is_turned_off_unless_it_is_fixed() {
        let of = |states: [(bool, bool); 2]| {
            let states = TAGS.into_iter().zip(states);
            let features = states
                .map(|(tag, (on, fixed))| (tag.to_owned(), Feature { on, fixed }))
                .collect();
            to_turn_off(&features)
        };
        assert_eq!(of([(true, false), (true, false)]), Ok(TAGS.to_vec()));
        assert_eq!(of([(true, false), (false, true)]), Ok(vec![TAGS[0]]));
        assert_eq!(of([(false, true), (false, false)]), Ok(vec![]));
        let fixed = of([(true, true), (false, false)]).unwrap_err();
        assert_eq!(fixed, "rx-vlan-hw-parse is fixed");
        assert_eq!(to_turn_off(&BTreeMap::new()), Ok(vec![]));
    }
}
