use bytemuck::{Pod, Zeroable};

use crate::tables::Cell;

/// Station addresses an interface may own (its own, VLANs', macvlans').
pub const IFACE_MACS: usize = 6;
/// Slots probed for an interface.
pub const IFACE_WINDOW: u32 = 4;

/// Which (possibly tagged) interface a frame came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IfaceKey {
    /// Index of the interface XDP runs on.
    pub ifindex: u32,
    /// Outer VLAN identifier, 0 for an untagged frame.
    pub outer: u16,
    /// Inner VLAN identifier, 0 when there is at most one tag.
    pub inner: u16,
}

impl IfaceKey {
    /// The key as the first word of its entry.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.ifindex as u64 | (self.outer as u64) << 32 | (self.inner as u64) << 48
    }

    /// First slot to probe in a table of `slots` (a power of two).
    #[inline(always)]
    pub const fn home(self, slots: u32) -> u32 {
        let mixed = (self.word() ^ (self.word() >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as u32 & (slots - 1)
    }
}

/// An interface (or a VLAN on it) whose frames lvx may claim, with the station
/// addresses that are ours. A frame to any other address is the stack's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct IfaceEntry {
    /// [`IfaceKey::word`]; 0 is an empty slot.
    pub key: u64,
    /// Station addresses as the first six bytes of a little-endian word; 0 is none.
    pub macs: [u64; IFACE_MACS],
    /// Largest layer-3 length that may leave by it.
    pub mtu: u64,
}

impl IfaceEntry {
    /// A station address as it is stored.
    pub const fn mac_word(mac: [u8; 6]) -> u64 {
        u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
    }
}

/// An [`IfaceEntry`] as the engine reads it.
#[derive(Clone, Copy)]
pub struct IfaceView<C>(pub C);

impl<C: Cell> IfaceView<C> {
    /// [`IfaceEntry::key`].
    #[inline(always)]
    pub fn key(self) -> u64 {
        self.0.load(0)
    }

    /// [`IfaceEntry::mtu`].
    #[inline(always)]
    pub fn mtu(self) -> u64 {
        self.0.load(7)
    }

    /// Word `i` (1 to [`IFACE_MACS`]) of the entry: a station address, 0 is none.
    #[inline(always)]
    pub fn station(self, i: usize) -> u64 {
        self.0.load(i)
    }

    /// Whether `mac` (low 48 bits, wire order) is one of ours.
    #[inline(always)]
    pub fn owns(self, mac: u64) -> bool {
        // An empty place in the entry is no address.
        if mac == 0 {
            return false;
        }
        let mut i = 1;
        while i <= IFACE_MACS {
            if self.0.load(i) == mac {
                return true;
            }
            i += 1;
        }
        false
    }
}
