//! The way to the client of a tunnelled connection in one word, for the rare
//! message to it: its station, and where its first packet came in.
//!
//! Bits 0–47 the station, 48–57 slot of the interface, 58–60 which of its
//! station addresses (from 1 on), 61 and 62 whether the outer and the inner tag
//! are 802.1ad. 0 is no way.

use super::way::{Learned, ethertype};
use crate::{
    family::Family,
    layout::{IFACE_MACS, IfaceView},
    tables::Cell,
    wire::{ETHERTYPE_QINQ, ETHERTYPE_VLAN},
};

const STATION: u64 = 0xffff_ffff_ffff;
const SLOTS: u32 = 1 << 10;

/// Packs the way back of a frame that came in by the interface in `slot`; 0 when
/// that is no longer the station address that it came to.
#[inline(always)]
pub fn pack<C: Cell>(way: &Learned, slot: u32, iface: IfaceView<C>) -> u64 {
    let mut station = 1;
    while station <= IFACE_MACS {
        if iface.station(station) == way.from {
            break;
        }
        station += 1;
    }
    if slot >= SLOTS || station > IFACE_MACS {
        return 0;
    }
    let is_qinq = |tag: u32| u64::from(tag as u16 == ETHERTYPE_QINQ);
    way.to & STATION
        | u64::from(slot) << 48
        | (station as u64) << 58
        | is_qinq(way.tags[0]) << 61
        | is_qinq(way.tags[1]) << 62
}

/// Slot of the interface.
#[inline(always)]
pub const fn slot(packed: u64) -> u32 {
    (packed >> 48) as u32 & (SLOTS - 1)
}

/// The way that [`pack`] packed, for packets of family `F`; one without an
/// interface if there is none.
#[inline(always)]
pub fn unpack<F: Family, C: Cell>(packed: u64, iface: IfaceView<C>) -> Learned {
    let station = (packed >> 58) as usize & 7;
    let key = iface.key();
    let mut from = 0;
    let mut i = 1;
    while i <= IFACE_MACS {
        if i == station {
            from = iface.station(i);
        }
        i += 1;
    }
    if from == 0 || key == 0 {
        return Learned::default();
    }
    let tag = |id: u64, is_qinq: u64| {
        if id == 0 {
            return 0;
        }
        let protocol = if is_qinq != 0 {
            ETHERTYPE_QINQ
        } else {
            ETHERTYPE_VLAN
        };
        u32::from(protocol) | u32::from((id as u16).to_be()) << 16
    };
    Learned {
        ifindex: key as u32,
        mtu: iface.mtu() as u32,
        to: packed & STATION,
        from,
        tags: [
            tag(key >> 32 & 0xfff, packed >> 61 & 1),
            tag(key >> 48 & 0xfff, packed >> 62 & 1),
        ],
        ethertype: ethertype::<F>(),
    }
}
