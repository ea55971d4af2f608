//! Which interfaces the program is on: devices that carry it, chosen from the
//! interfaces that were asked for by name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{Attachments, offloads::Offloads};
use crate::{
    dataplane::{Mode, Plane},
    netlink::{Link, LinkKind, Place, View, claims, places},
};

/// Bits of an interface's key that hold VLAN identifiers.
const TAGS: u64 = 0xffff_ffff_0000_0000;

/// The interfaces of a daemon.
pub struct Interfaces {
    asked: Vec<Asked>,
    mode: Mode,
    /// Devices that carry the program, by index.
    attached: BTreeMap<u32, On>,
    /// Bonds that do not carry it themselves, and why.
    by_ports: BTreeMap<u32, String>,
    /// Interfaces that frames are redirected to, with nothing to do on them but
    /// to make their driver take such frames.
    egress: BTreeSet<u32>,
    /// Pinned by an earlier daemon; not asked for any more.
    leftover: BTreeSet<u32>,
    /// Why an interface could not be attached anew, by index, as logged last.
    failed: BTreeMap<u32, String>,
    /// Whether the director's own packets are looked at on their way out.
    watches_own: bool,
    /// Where that failed, by index.
    unwatched: BTreeMap<u32, String>,
    offloads: Offloads,
    /// What was said last about where the program is.
    places: Vec<String>,
    /// What the operator must know.
    warnings: Vec<String>,
}

/// An interface that was asked for.
struct Asked {
    /// As it was called then.
    name: String,
    /// Which it is, whatever it is called now; `None` while there is none.
    index: Option<u32>,
}

/// How a device carries the program.
struct On {
    name: String,
    mode: Mode,
}

impl Interfaces {
    /// The interfaces `names`, to be attached in `mode`.
    ///
    /// # Errors
    /// When one is named twice.
    pub fn new(names: Vec<String>, mode: Mode, offloads: Offloads) -> Result<Self> {
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                bail!("interface '{name}' is named twice");
            }
        }
        let asked = names.into_iter().map(|name| Asked { name, index: None });
        Ok(Self {
            asked: asked.collect(),
            mode,
            attached: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            egress: BTreeSet::new(),
            leftover: BTreeSet::new(),
            failed: BTreeMap::new(),
            watches_own: false,
            unwatched: BTreeMap::new(),
            offloads,
            places: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Whether every interface exists and carries frames.
    ///
    /// # Errors
    /// Names the first that does not.
    pub fn check(&self, view: &View) -> Result<()> {
        for Asked { name, .. } in &self.asked {
            let link = called(view, name).ok_or_else(|| {
                anyhow!("there is no interface '{name}': 'ip link' shows those there are")
            })?;
            places(link, view)?;
        }
        Ok(())
    }

    /// Attaches to every interface.
    ///
    /// # Errors
    /// When one cannot be attached. The interfaces that this call attached are
    /// then detached again; those that were attached before stay.
    pub fn attach_all(&mut self, plane: &mut Plane, view: &View) -> Result<()> {
        self.check(view)?;
        let before: BTreeSet<u32> = plane
            .attached()?
            .into_iter()
            .map(|(index, _)| index)
            .collect();
        self.keep_to_ports(&before, view);
        self.locate(view);
        if let Err(error) = self.try_all(plane, view) {
            for index in self.devices().difference(&before) {
                self.offloads.restore(*index);
                plane
                    .detach(*index)
                    .context("while undoing a failed start")?;
            }
            return Err(error);
        }
        self.leftover = before.difference(&self.devices()).copied().collect();
        self.tell(view);
        Ok(())
    }

    fn try_all(&mut self, plane: &mut Plane, view: &View) -> Result<()> {
        for index in self.wanted(plane, view)? {
            self.attach(plane, view, index)?;
        }
        match self.turn_tags_on(view).first() {
            Some(trouble) => bail!("{trouble}"),
            None => Ok(()),
        }
    }

    /// Bonds whose ports an earlier daemon attached: they stay as they are.
    fn keep_to_ports(&mut self, before: &BTreeSet<u32>, view: &View) {
        let ports = before.iter().filter_map(|index| view.links.get(index));
        for bond in ports.filter_map(|port| view.links.get(&port.master?)) {
            if bond.kind == LinkKind::Bond && !before.contains(&bond.index) {
                let why = "they were attached before".to_owned();
                self.by_ports.insert(bond.index, why);
            }
        }
    }

    /// The devices that should carry the program. A bond is attached here, if it
    /// is to carry it itself: that it cannot is known only then.
    fn wanted(&mut self, plane: &mut Plane, view: &View) -> Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for link in self.asked.iter().filter_map(|asked| asked.link(view)) {
            found.extend(places(link, view)?);
        }
        let mut devices: BTreeSet<u32> = found.iter().filter_map(device).collect();
        for place in found {
            let Place::Bond { index, ports } = place else {
                continue;
            };
            if self.takes_itself(plane, view, index, &ports, &devices) {
                devices.insert(index);
            } else {
                devices.extend(ports);
            }
        }
        Ok(devices)
    }

    fn takes_itself(
        &mut self,
        plane: &mut Plane,
        view: &View,
        bond: u32,
        ports: &BTreeSet<u32>,
        devices: &BTreeSet<u32>,
    ) -> bool {
        // One without ports would agree to anything, and then refuse a port whose
        // driver has no XDP.
        if self.attached.contains_key(&bond)
            || self.by_ports.contains_key(&bond)
            || ports.is_empty()
        {
            return self.attached.contains_key(&bond);
        }
        let taken = |port: &&u32| devices.contains(port) || self.attached.contains_key(port);
        let why = if self.mode == Mode::Generic {
            Some("generic mode".to_owned())
        } else if ports.iter().any(|port| taken(&port)) {
            Some("a port is attached by itself".to_owned())
        } else {
            let name = name_of(view, bond);
            let present = view.links.get(&bond).and_then(|link| link.xdp);
            match plane.attach(bond, &name, Mode::Native, present) {
                Ok(_) => {
                    tracing::info!("{name}: attached in native mode, on every port of the bond");
                    let mode = Mode::Native;
                    self.attached.insert(bond, On { name, mode });
                    None
                }
                Err(error) => Some(format!("{:#}", error.root_cause())),
            }
        };
        match why {
            Some(why) => {
                self.by_ports.insert(bond, why);
                false
            }
            None => true,
        }
    }

    fn attach(&mut self, plane: &mut Plane, view: &View, index: u32) -> Result<()> {
        if self.attached.contains_key(&index) {
            return Ok(());
        }
        let name = name_of(view, index);
        let present = view.links.get(&index).and_then(|link| link.xdp);
        let attached = plane.attach(index, &name, self.mode, present)?;
        match attached.fallback {
            Some(why) => tracing::warn!("{name}: generic mode, which is slower: {why}"),
            None => tracing::info!("{name}: attached in {} mode", mode_name(attached.mode)),
        }
        if self.mode != Mode::Auto && self.mode != attached.mode {
            tracing::warn!(
                "{name}: keeps the mode of the data plane that was there; 'lvx down' first to change it"
            );
        }
        self.egress.remove(&index);
        let mode = attached.mode;
        self.attached.insert(index, On { name, mode });
        Ok(())
    }

    /// Follows the network: interfaces that come, go and get other names, ports
    /// that join and leave. Returns whether anything changed.
    pub fn follow(&mut self, plane: &mut Plane, view: &View) -> bool {
        self.by_ports
            .retain(|index, _| view.links.contains_key(index));
        self.locate(view);
        let before = self.devices();
        let mut changed = self.rename(view);
        match self.wanted(plane, view) {
            Ok(wanted) => {
                self.leave(plane, view, &wanted);
                for index in wanted {
                    match self.attach(plane, view, index) {
                        Ok(()) => {
                            self.failed.remove(&index);
                        }
                        Err(error) => self.log_failure(view, index, format!("{error:#}")),
                    }
                }
            }
            // Checked at the start; an interface that comes back as another kind.
            Err(error) => self.log_failure(view, 0, format!("{error:#}")),
        }
        if self.watches_own {
            for index in self.devices().difference(&before) {
                self.watch(plane, *index);
            }
        }
        self.failed
            .retain(|index, _| *index == 0 || view.links.contains_key(index));
        for index in self
            .egress
            .extract_if(.., |index| !view.links.contains_key(index))
        {
            if let Err(error) = plane.detach(index) {
                tracing::debug!("interface {index}: {error:#}");
            }
        }
        changed |= self.devices() != before;
        self.warnings = self.turn_tags_on(view);
        self.tell(view) || changed
    }

    /// Finds what was asked for. An interface keeps its place whatever it is
    /// called later; one that is gone is looked for by its name.
    fn locate(&mut self, view: &View) {
        for asked in &mut self.asked {
            if asked.link(view).is_some() {
                continue;
            }
            if asked.index.take().is_some() {
                tracing::warn!("{}: the interface is gone", asked.name);
            }
            asked.index = called(view, &asked.name).map(|link| link.index);
        }
    }

    fn rename(&mut self, view: &View) -> bool {
        let mut changed = false;
        for (index, on) in &mut self.attached {
            let name = name_of(view, *index);
            if view.links.contains_key(index) && on.name != name {
                tracing::info!("{}: is called {name} now", on.name);
                on.name = name;
                changed = true;
            }
        }
        changed
    }

    /// Leaves the devices that are gone or are not wanted any more.
    fn leave(&mut self, plane: &mut Plane, view: &View, wanted: &BTreeSet<u32>) {
        let gone: Vec<u32> = self.devices().difference(wanted).copied().collect();
        for index in gone {
            let Some(On { name, .. }) = self.attached.remove(&index) else {
                continue;
            };
            if view.links.contains_key(&index) {
                tracing::info!("{name}: detached, because nothing that was asked for is on it");
            }
            self.offloads.restore(index);
            self.unwatched.remove(&index);
            // Of an interface that is gone only the links' pins are left.
            for result in [plane.detach(index), plane.detach_egress(index)] {
                if let Err(error) = result {
                    tracing::debug!("{name}: {error:#}");
                }
            }
        }
    }

    /// An interface is tried again at every change of the network: only what is
    /// new is logged.
    fn log_failure(&mut self, view: &View, index: u32, text: String) {
        if self.failed.get(&index) != Some(&text) {
            tracing::error!("{}: {text}", name_of(view, index));
            self.failed.insert(index, text);
        }
    }

    /// Keeps VLAN tags in the frames of devices that have VLANs on them. Returns
    /// a sentence for each that does not.
    fn turn_tags_on(&mut self, view: &View) -> Vec<String> {
        let entries = claims(&self.devices(), view).entries;
        let tagged = entries.iter().filter(|entry| entry.key & TAGS != 0);
        let tagged = tagged.map(|entry| entry.key as u32).collect();
        self.offloads.turn_off(view, &tagged)
    }

    /// Says where the program is for interfaces that do not carry it themselves,
    /// when that has changed. Returns whether it has.
    fn tell(&mut self, view: &View) -> bool {
        let said: Vec<String> = self
            .asked
            .iter()
            .filter_map(|asked| self.place_of(asked, view))
            .collect();
        for sentence in said.iter().filter(|said| !self.places.contains(said)) {
            tracing::info!("{sentence}");
        }
        let changed = said != self.places;
        self.places = said;
        changed
    }

    fn place_of(&self, asked: &Asked, view: &View) -> Option<String> {
        let name = &asked.name;
        let Some(link) = asked.link(view) else {
            return Some(format!(
                "{name}: there is no such interface; it will be attached when there is"
            ));
        };
        let called = if link.name == *name {
            String::new()
        } else {
            format!("{name}: is called {} now", link.name)
        };
        let found = places(link, view).unwrap_or_default();
        let mut why = String::new();
        let mut devices = BTreeSet::new();
        for place in found {
            match place {
                Place::Device(index) => drop(devices.insert(index)),
                Place::Bond { index, .. } if self.attached.contains_key(&index) => {
                    devices.insert(index);
                }
                Place::Bond { index, ports } => {
                    devices.extend(ports);
                    if let Some(reason) = self.by_ports.get(&index) {
                        why = format!(" (not on {} itself: {reason})", name_of(view, index));
                    }
                }
            }
        }
        if devices == BTreeSet::from([link.index]) {
            return (!called.is_empty()).then_some(called);
        }
        let devices: Vec<&str> = devices
            .iter()
            .filter_map(|index| Some(self.attached.get(index)?.name.as_str()))
            .collect();
        let what = match link.kind {
            LinkKind::Bond | LinkKind::Bridge { .. } => "its ports",
            _ => "what is below it",
        };
        let on = if devices.is_empty() {
            format!("{}: on nothing yet, {what} cannot be attached", link.name)
        } else {
            format!("{}: on {what}, {}{why}", link.name, devices.join(", "))
        };
        Some(if called.is_empty() {
            on
        } else {
            format!("{called}; {on}")
        })
    }

    /// Makes the interfaces that frames are redirected to, take them; then
    /// leaves those that nothing needs any more.
    pub fn open_egress(&mut self, plane: &mut Plane, view: &View, wanted: &BTreeSet<u32>) {
        let native = self.attached.values().any(|on| on.mode == Mode::Native);
        for index in wanted.difference(&self.devices()) {
            // In generic mode frames leave through the stack's transmit queue.
            if !native || !self.egress.insert(*index) {
                continue;
            }
            let name = name_of(view, *index);
            match plane.attach_pass(*index, &name, Mode::Native) {
                Ok(_) => tracing::info!(
                    "{name}: takes redirected frames (a program that passes everything)"
                ),
                // Another program serves as well; a driver may need none.
                Err(error) => tracing::debug!("{name}: {error:#}"),
            }
        }
        for index in std::mem::take(&mut self.leftover) {
            if !self.egress.contains(&index) {
                tracing::warn!("interface {index}: detached, because it is not asked for any more");
                self.offloads.restore(index);
                if let Err(error) = plane.detach(index) {
                    tracing::error!("interface {index}: {error:#}");
                }
            }
        }
    }

    /// Has the director's own packets looked at on their way out, on every
    /// interface: replies of servers that are the director itself.
    pub fn watch_own(&mut self, plane: &mut Plane) {
        if self.watches_own {
            return;
        }
        self.watches_own = true;
        for index in self.devices() {
            self.watch(plane, index);
        }
    }

    fn watch(&mut self, plane: &mut Plane, index: u32) {
        let name = self.name_of(index);
        match plane.attach_egress(index) {
            Ok(()) => {
                tracing::info!("{name}: looks at what this director sends (a server is local)");
                self.unwatched.remove(&index);
            }
            Err(error) => {
                let text = format!("{error:#}");
                tracing::error!("{name}: cannot look at what this director sends: {text}");
                self.unwatched.insert(index, text);
            }
        }
    }

    fn name_of(&self, index: u32) -> String {
        match self.attached.get(&index) {
            Some(on) => on.name.clone(),
            None => format!("interface {index}"),
        }
    }

    /// Stops that, also where an earlier daemon began it.
    pub fn leave_own_alone(&mut self, plane: &mut Plane) {
        self.watches_own = false;
        self.unwatched.clear();
        let there = plane.egress().unwrap_or_else(|error| {
            tracing::error!("{error:#}");
            Vec::new()
        });
        for index in there {
            match plane.detach_egress(index) {
                Ok(()) => tracing::info!(
                    "interface {index}: what this director sends is left alone (no server is local)"
                ),
                Err(error) => tracing::error!("interface {index}: {error:#}"),
            }
        }
    }

    /// A line for each interface on which replies of local servers are not seen.
    pub fn unwatched(&self) -> impl Iterator<Item = String> {
        self.unwatched.iter().map(|(index, why)| {
            let name = self.name_of(*index);
            format!(
                "replies of local servers that leave by {name} are neither translated nor counted: {why}"
            )
        })
    }

    /// Indexes of the devices that carry the program. Of a bond that does, frames
    /// come in by its ports: see [`claims`].
    pub fn devices(&self) -> BTreeSet<u32> {
        self.attached.keys().copied().collect()
    }

    /// What the operator must know.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What status shows.
    pub fn list(&self) -> Attachments {
        let mut devices: Vec<_> = self
            .attached
            .values()
            .map(|on| (on.name.clone(), mode_name(on.mode).to_owned()))
            .collect();
        devices.sort();
        Attachments {
            devices,
            places: self.places.clone(),
        }
    }
}

impl Asked {
    fn link<'a>(&self, view: &'a View) -> Option<&'a Link> {
        view.links.get(&self.index?)
    }
}

fn device(place: &Place) -> Option<u32> {
    match place {
        Place::Device(index) => Some(*index),
        Place::Bond { .. } => None,
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
        Mode::Auto => "auto",
    }
}

fn name_of(view: &View, index: u32) -> String {
    let link = view.links.get(&index);
    link.map_or_else(|| format!("interface {index}"), |link| link.name.clone())
}

fn called<'a>(view: &'a View, name: &str) -> Option<&'a Link> {
    view.links.values().find(|link| link.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::files::Files;

    fn interfaces(names: &[&str]) -> Result<Interfaces> {
        let names = names.iter().map(|name| (*name).to_string()).collect();
        // The cookie of no namespace.
        Interfaces::new(names, Mode::Auto, Offloads::new(Files::of(0)))
    }

    #[test]
    fn names_are_checked() {
        let twice = interfaces(&["a", "b", "a"]).err().unwrap().to_string();
        assert!(twice.contains("'a' is named twice"), "{twice}");
        let missing = interfaces(&["a"]).unwrap();
        let missing = missing.check(&View::default()).unwrap_err().to_string();
        assert!(missing.contains("no interface 'a'"), "{missing}");
    }
}
