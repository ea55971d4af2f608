//! Which interfaces the program is on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    dataplane::{Mode, Plane},
    netlink::View,
};

/// The interfaces of a daemon.
pub struct Interfaces {
    names: Vec<String>,
    mode: Mode,
    /// By name: index and mode.
    attached: BTreeMap<String, (u32, Mode)>,
    /// Interfaces that frames are redirected to, with nothing to do on them but
    /// to make their driver take such frames.
    egress: BTreeSet<u32>,
    /// Pinned by an earlier daemon; not asked for any more.
    leftover: BTreeSet<u32>,
    /// Why an interface could not be attached anew, by name, as logged last.
    failed: BTreeMap<String, String>,
    /// Whether the director's own packets are looked at on their way out.
    watches_own: bool,
    /// Where that failed, by name.
    unwatched: BTreeMap<String, String>,
}

impl Interfaces {
    /// The interfaces `names`, to be attached in `mode`.
    ///
    /// # Errors
    /// When one is named twice.
    pub fn new(names: Vec<String>, mode: Mode) -> Result<Self> {
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                bail!("interface '{name}' is named twice");
            }
        }
        Ok(Self {
            names,
            mode,
            attached: BTreeMap::new(),
            egress: BTreeSet::new(),
            leftover: BTreeSet::new(),
            failed: BTreeMap::new(),
            watches_own: false,
            unwatched: BTreeMap::new(),
        })
    }

    /// Whether every interface exists.
    ///
    /// # Errors
    /// Names the first that does not.
    pub fn check(&self, view: &View) -> Result<()> {
        self.names
            .iter()
            .try_for_each(|name| index_of(view, name).map(drop))
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
        for name in self.names.clone() {
            let index = index_of(view, &name)?;
            if let Err(error) = self.attach(plane, view, &name, index) {
                for index in self.indexes().difference(&before) {
                    plane
                        .detach(*index)
                        .context("while undoing a failed start")?;
                }
                return Err(error);
            }
        }
        self.leftover = before.difference(&self.indexes()).copied().collect();
        Ok(())
    }

    fn attach(&mut self, plane: &mut Plane, view: &View, name: &str, index: u32) -> Result<()> {
        let present = view.links.get(&index).and_then(|link| link.xdp);
        let attached = plane.attach(index, name, self.mode, present)?;
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
        self.attached.insert(name.into(), (index, attached.mode));
        Ok(())
    }

    /// Attaches anew to interfaces that were deleted and made again. Returns
    /// whether anything changed.
    pub fn follow(&mut self, plane: &mut Plane, view: &View) -> bool {
        let mut changed = false;
        for name in self.names.clone() {
            let now = index_of(view, &name).ok();
            let then = self.attached.get(&name).map(|(index, _)| *index);
            if now == then {
                continue;
            }
            if let Some(index) = then {
                changed = true;
                tracing::warn!("{name}: the interface is gone");
                self.attached.remove(&name);
                // The link died with its interface; what is left is its pin.
                for result in [plane.detach(index), plane.detach_egress(index)] {
                    if let Err(error) = result {
                        tracing::debug!("{name}: {error:#}");
                    }
                }
            }
            let Some(index) = now else {
                self.failed.remove(&name);
                self.unwatched.remove(&name);
                continue;
            };
            match self.attach(plane, view, &name, index) {
                Ok(()) => {
                    changed = true;
                    self.failed.remove(&name);
                    if self.watches_own {
                        self.watch(plane, &name, index);
                    }
                }
                Err(error) => self.log_failure(&name, format!("{error:#}")),
            }
        }
        for index in self
            .egress
            .extract_if(.., |index| !view.links.contains_key(index))
        {
            if let Err(error) = plane.detach(index) {
                tracing::debug!("interface {index}: {error:#}");
            }
        }
        changed
    }

    /// An interface is tried again at every change of the network: only what is
    /// new is logged.
    fn log_failure(&mut self, name: &str, text: String) {
        if self.failed.get(name) != Some(&text) {
            tracing::error!("{name}: {text}");
            self.failed.insert(name.into(), text);
        }
    }

    /// Makes the interfaces that frames are redirected to, take them; then
    /// leaves those that nothing needs any more.
    pub fn open_egress(&mut self, plane: &mut Plane, view: &View, wanted: &BTreeSet<u32>) {
        let native = self
            .attached
            .values()
            .any(|(_, mode)| *mode == Mode::Native);
        for index in wanted.difference(&self.indexes()) {
            // In generic mode frames leave through the stack's transmit queue.
            if !native || !self.egress.insert(*index) {
                continue;
            }
            let name = view.links.get(index).map_or("?", |link| link.name.as_str());
            match plane.attach_pass(*index, name, Mode::Native) {
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
        for (name, (index, _)) in self.attached.clone() {
            self.watch(plane, &name, index);
        }
    }

    fn watch(&mut self, plane: &mut Plane, name: &str, index: u32) {
        match plane.attach_egress(index) {
            Ok(()) => {
                tracing::info!("{name}: looks at what this director sends (a server is local)");
                self.unwatched.remove(name);
            }
            Err(error) => {
                let text = format!("{error:#}");
                tracing::error!("{name}: cannot look at what this director sends: {text}");
                self.unwatched.insert(name.into(), text);
            }
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
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unwatched.iter().map(|(name, why)| {
            format!(
                "replies of local servers that leave by {name} are neither translated nor counted: {why}"
            )
        })
    }

    /// Indexes of the interfaces whose frames are balanced.
    pub fn indexes(&self) -> BTreeSet<u32> {
        self.attached.values().map(|(index, _)| *index).collect()
    }

    /// Names and modes, as status shows them.
    pub fn list(&self) -> Vec<(String, String)> {
        let attached = self.attached.iter();
        attached
            .map(|(name, (_, mode))| (name.clone(), mode_name(*mode).into()))
            .collect()
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
        Mode::Auto => "auto",
    }
}

fn index_of(view: &View, name: &str) -> Result<u32> {
    let link = view.links.values().find(|link| link.name == name);
    link.map(|link| link.index)
        .ok_or_else(|| anyhow!("there is no interface '{name}': 'ip link' shows those there are"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
        let twice = Interfaces::new(names(&["a", "b", "a"]), Mode::Auto)
            .err()
            .unwrap()
            .to_string();
        assert!(twice.contains("'a' is named twice"), "{twice}");
        let missing = Interfaces::new(names(&["a"]), Mode::Auto).unwrap();
        let missing = missing.check(&View::default()).unwrap_err().to_string();
        assert!(missing.contains("no interface 'a'"), "{missing}");
    }
}
