use crate::{
    layout::IfaceKey,
    packet::Packet,
    wire::{ETHERNET_LEN, ETHERTYPE_QINQ, ETHERTYPE_VLAN, TAG_LEN},
};

/// The layer-2 header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination address: low 48 bits, wire order.
    pub destination: u64,
    /// EtherType behind the tags, as loaded.
    pub ethertype: u16,
    /// Where layer 3 starts: 14, 18 or 22.
    pub l3: u32,
    /// Interface and tags.
    pub iface: IfaceKey,
}

/// Reads the Ethernet header and up to two tags; `None` when the frame ends
/// before. A third tag is left as the EtherType.
#[inline(always)]
pub fn ethernet<P: Packet>(packet: &P) -> Option<Ethernet> {
    let [low, high] = packet.read::<[u32; 2]>(0)?;
    let ethertype = packet.read::<u16>(12)?;
    let mut header = Ethernet {
        destination: u64::from(low) | u64::from(high & 0xffff) << 32,
        ethertype,
        l3: ETHERNET_LEN,
        iface: IfaceKey {
            ifindex: packet.ingress(),
            outer: 0,
            inner: 0,
        },
    };
    if is_tag(header.ethertype) {
        let (id, ethertype) = tag(packet, header.l3)?;
        header = Ethernet {
            ethertype,
            l3: header.l3 + TAG_LEN,
            ..header
        };
        header.iface.outer = id;
        if is_tag(header.ethertype) {
            let (id, ethertype) = tag(packet, header.l3)?;
            header = Ethernet {
                ethertype,
                l3: header.l3 + TAG_LEN,
                ..header
            };
            header.iface.inner = id;
        }
    }
    Some(header)
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ
}

/// VLAN identifier and the EtherType behind it. Priority and DEI do not select
/// an interface.
#[inline(always)]
fn tag<P: Packet>(packet: &P, offset: u32) -> Option<(u16, u16)> {
    let [control, ethertype] = packet.read::<[u16; 2]>(offset)?;
    Some((u16::from_be(control) & 0x0fff, ethertype))
}
