//! The program of `lvx decap`: its maps and attachments, pinned in a directory
//! of their own.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, PerCpuArray},
    programs::Xdp,
};
use lb_common::decap::{Address, OWN, Outcome, Role, Settings, VIP};
use serde::Serialize;

use super::{Attached, Mode, ProgramFacts, links, object::not_loaded, remove};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/decap.o"));

const PROGRAM: &str = "lvx_decap";
const ADDRS: &str = "DECAP_ADDRS";
const SETTINGS: &str = "DECAP_SET";
const COUNTS: &str = "DECAP_COUNTS";

/// What is taken out of tunnels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Outer destinations.
    pub own: Vec<IpAddr>,
    /// Inner destinations; all when there are none.
    pub vips: Vec<IpAddr>,
    /// UDP port of GUE.
    pub gue_port: u16,
}

/// What is pinned, for `lvx decap --status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecapState {
    /// Index and mode of the interfaces.
    pub interfaces: Vec<(u32, &'static str)>,
    /// What is taken out.
    pub wanted: Wanted,
    /// Frames by outcome.
    pub frames: Vec<(&'static str, u64)>,
}

/// The loaded program.
pub struct Decap {
    ebpf: Ebpf,
    pins: PathBuf,
    load_time: Duration,
}

impl Decap {
    /// Loads the program and tells it what is wanted. Maps that are pinned under
    /// `pins` are taken over, with their counters.
    ///
    /// # Errors
    /// When the kernel refuses; nothing is left behind then that was not there.
    pub fn load(pins: &Path, wanted: &Wanted) -> Result<Self> {
        let is_new = !pins.exists();
        fs::create_dir_all(pins).with_context(|| format!("cannot make {}", pins.display()))?;
        let made = Self::load_into(pins, wanted);
        if made.is_err() && is_new {
            // The first error is the one to tell.
            let _ = remove(pins);
        }
        made
    }

    fn load_into(pins: &Path, wanted: &Wanted) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        let paths = [ADDRS, SETTINGS, COUNTS].map(|name| (name, pins.join(name)));
        for (name, path) in &paths {
            loader.map_pin_path(name, path.as_path());
        }
        let ebpf = loader
            .load(OBJECT)
            .context("cannot create the maps of the decapsulation")?;
        let mut decap = Self {
            ebpf,
            pins: pins.to_owned(),
            load_time: Duration::ZERO,
        };
        tell(pins, wanted)?;
        let started = Instant::now();
        let result = decap.program()?.load();
        result.map_err(|error| not_loaded(PROGRAM, error))?;
        decap.load_time = started.elapsed();
        Ok(decap)
    }

    fn program(&mut self) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(PROGRAM).context("no program")?;
        Ok(program.try_into()?)
    }

    /// What the kernel says of the program.
    ///
    /// # Errors
    /// When it does not say.
    pub fn facts(&mut self) -> Result<ProgramFacts> {
        let load_time = self.load_time;
        let info = self.program()?.info()?;
        Ok(ProgramFacts::of(PROGRAM, &info, load_time))
    }

    /// Attaches to an interface, or replaces the program behind its pinned link.
    ///
    /// # Errors
    /// When the interface carries another XDP program, or the kernel refuses.
    pub fn attach(&mut self, ifindex: u32, name: &str, mode: Mode) -> Result<Attached> {
        let pins = self.pins.clone();
        let program = self.program()?;
        if let Some(mode) = links::replace(&pins, program, ifindex)? {
            return Ok(Attached {
                mode,
                fallback: None,
            });
        }
        match links::attach_anew(&pins, program, ifindex, mode) {
            Err(error) if error.is_busy() => bail!(
                "{name} already carries another XDP program: stop who owns it \
                 ('bpftool link show' names it)"
            ),
            attached => attached.with_context(|| format!("cannot attach to {name}")),
        }
    }

    /// Detaches from every interface but these.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn keep_only(&self, interfaces: &[u32]) -> Result<()> {
        for (ifindex, _) in links::list(&self.pins)? {
            if !interfaces.contains(&ifindex) {
                links::detach(&self.pins, ifindex)?;
            }
        }
        Ok(())
    }
}

fn open(pins: &Path, name: &str) -> Result<MapData> {
    let path = pins.join(name);
    MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))
}

fn addresses(pins: &Path) -> Result<HashMap<MapData, Address, Role>> {
    Ok(Map::HashMap(open(pins, ADDRS)?).try_into()?)
}

fn settings(pins: &Path) -> Result<Array<MapData, [u64; 2]>> {
    Ok(Map::Array(open(pins, SETTINGS)?).try_into()?)
}

/// Writes what is wanted: what is new before what was goes, so that tunnels
/// which are wanted before and after never miss their address.
fn tell(pins: &Path, wanted: &Wanted) -> Result<()> {
    let mut roles = std::collections::BTreeMap::<Address, Role>::new();
    for (list, role) in [(&wanted.own, OWN), (&wanted.vips, VIP)] {
        for address in list {
            *roles.entry(key(*address)).or_default() |= role;
        }
    }
    let mut table = addresses(pins)?;
    for (address, role) in &roles {
        table
            .insert(address, role, 0)
            .context("cannot write the addresses: too many")?;
    }
    let set = Settings {
        gue_port: wanted.gue_port.to_be().into(),
        vips_only: u64::from(!wanted.vips.is_empty()),
    };
    settings(pins)?.set(0, bytemuck::cast::<_, [u64; 2]>(set), 0)?;
    let known: Vec<Address> = table.keys().collect::<Result<_, _>>()?;
    for address in known.iter().filter(|address| !roles.contains_key(*address)) {
        table.remove(address)?;
    }
    Ok(())
}

/// What is pinned under `pins`; `None` when nothing is.
///
/// # Errors
/// When it cannot be read.
pub fn decap_state(pins: &Path) -> Result<Option<DecapState>> {
    if !pins.join(COUNTS).exists() {
        return Ok(None);
    }
    let mut wanted = Wanted {
        own: Vec::new(),
        vips: Vec::new(),
        gue_port: 0,
    };
    for entry in addresses(pins)?.iter() {
        let (key, role) = entry?;
        let address = address(key);
        if role & OWN != 0 {
            wanted.own.push(address);
        }
        if role & VIP != 0 {
            wanted.vips.push(address);
        }
    }
    wanted.own.sort_unstable();
    wanted.vips.sort_unstable();
    let set: Settings = bytemuck::cast(settings(pins)?.get(&0, 0)?);
    wanted.gue_port = u16::from_be(set.gue_port as u16);
    let counts: PerCpuArray<_, u64> = Map::PerCpuArray(open(pins, COUNTS)?).try_into()?;
    let frames = Outcome::ALL.iter().map(|outcome| {
        let of_cpus = counts.get(&(*outcome as u32), 0)?;
        Ok((outcome.name(), of_cpus.iter().sum()))
    });
    let interfaces = links::list(pins)?.into_iter();
    Ok(Some(DecapState {
        interfaces: interfaces
            .map(|(ifindex, mode)| match mode {
                Mode::Generic => (ifindex, "generic"),
                Mode::Native | Mode::Auto => (ifindex, "native"),
            })
            .collect(),
        wanted,
        frames: frames.collect::<Result<_>>()?,
    }))
}

/// An address as the program looks it up.
fn key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => [u32::from_ne_bytes(address.octets()).into(), 0, 4],
        IpAddr::V6(address) => {
            let [first, second] = bytemuck::cast(address.octets());
            [first, second, 6]
        }
    }
}

fn address(key: Address) -> IpAddr {
    match key {
        [word, _, 4] => (word as u32).to_ne_bytes().into(),
        [first, second, _] => bytemuck::cast::<_, [u8; 16]>([first, second]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_map() {
        for text in ["192.0.2.1", "255.255.255.255", "2001:db8::1", "::1"] {
            let parsed: IpAddr = text.parse().unwrap();
            assert_eq!(address(key(parsed)), parsed);
        }
        let mapped: IpAddr = "c000:201::".parse().unwrap();
        assert_ne!(key(mapped), key("192.0.2.1".parse().unwrap()));
    }
}
