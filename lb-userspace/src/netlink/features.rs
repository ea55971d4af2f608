//! Features of network devices, as `ethtool -k` shows and `ethtool -K` sets them.

use std::{collections::BTreeMap, io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// The set of strings that names features.
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a string.
const ETH_GSTRING_LEN: usize = 32;
/// Words that tell of 32 features: available, requested, active, never changed.
const GET_BLOCK: usize = 4;
/// Words that ask for 32 features: which, and their values.
const SET_BLOCK: usize = 2;
/// Command and size.
const HEADER: usize = 2;

/// State of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// It is on.
    pub on: bool,
    /// The driver lets nobody change it.
    pub fixed: bool,
}

/// The features of an interface of the calling thread's network namespace, by
/// the names that `ethtool -k` uses.
///
/// # Errors
/// When there is no such interface, or the kernel refuses.
pub fn features(interface: &str) -> io::Result<BTreeMap<String, Feature>> {
    let names = names(interface)?;
    let mut words = vec![0; HEADER + blocks(names.len()) * GET_BLOCK];
    words[0] = ETHTOOL_GFEATURES;
    words[1] = blocks(names.len()) as u32;
    call(interface, &mut words)?;
    let feature = |index: usize| {
        let block = &words[HEADER + index / 32 * GET_BLOCK..][..GET_BLOCK];
        let has = |word: u32| word >> (index % 32) & 1 == 1;
        Feature {
            on: has(block[2]),
            fixed: !has(block[0]) || has(block[3]),
        }
    };
    let named = names.into_iter().enumerate();
    Ok(named
        .filter(|(_, name)| !name.is_empty())
        .map(|(index, name)| (name, feature(index)))
        .collect())
}

/// Switches features of an interface on or off. Those that it does not know are
/// left out; whether it complied, [`features`] tells.
///
/// # Errors
/// As [`features`].
pub fn set_features(interface: &str, wanted: &[(&str, bool)]) -> io::Result<()> {
    let names = names(interface)?;
    let mut words = vec![0; HEADER + blocks(names.len()) * SET_BLOCK];
    words[0] = ETHTOOL_SFEATURES;
    words[1] = blocks(names.len()) as u32;
    for (index, name) in names.iter().enumerate() {
        if let Some((_, on)) = wanted.iter().find(|(wanted, _)| wanted == name) {
            let at = HEADER + index / 32 * SET_BLOCK;
            words[at] |= 1 << (index % 32);
            words[at + 1] |= u32::from(*on) << (index % 32);
        }
    }
    call(interface, &mut words)
}

fn blocks(features: usize) -> usize {
    features.div_ceil(32)
}

/// Names of the features, in the order of their bits.
fn names(interface: &str) -> io::Result<Vec<String>> {
    // The mask of sets has 64 bits; of each that exists its length follows.
    let mut words = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
    call(interface, &mut words)?;
    if words[2] == 0 {
        return Ok(Vec::new());
    }
    let count = words[4] as usize;
    let mut words = vec![0; 3 + count * ETH_GSTRING_LEN / size_of::<u32>()];
    words[0] = ETHTOOL_GSTRINGS;
    words[1] = ETH_SS_FEATURES;
    words[2] = count as u32;
    call(interface, &mut words)?;
    let bytes: &[u8] = bytemuck::cast_slice(&words[3..]);
    Ok(bytes
        .chunks_exact(ETH_GSTRING_LEN)
        .map(|name| {
            let end = name.iter().position(|byte| *byte == 0);
            String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
        })
        .collect())
}

/// One ethtool command: its words, which the kernel also writes its answer to.
fn call(interface: &str, words: &mut [u32]) -> io::Result<()> {
    let bytes = interface.as_bytes();
    // A zero must fit behind it.
    if bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let control = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: request and words live through the call; each command above comes
    // with as many words as its header says, and the kernel writes no more.
    let answer = unsafe {
        libc::ioctl(
            control.as_raw_fd(),
            libc::SIOCETHTOOL as _,
            &raw mut request,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_features() {
        let found = features("lo").unwrap();
        // Fixed on this device since there is such a list.
        assert_eq!(
            found.get("loopback"),
            Some(&Feature {
                on: true,
                fixed: true
            }),
            "{found:?}"
        );
    }

    #[test]
    fn there_must_be_such_an_interface() {
        assert!(features("lvx-none").is_err());
        assert!(features("a name that is far too long for one").is_err());
    }
}
