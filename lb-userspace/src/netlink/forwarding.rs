//! The forwarding tables of bridges: behind which port a station is. A frame
//! that XDP sends must name the port, for the bridge itself takes none.

use std::collections::BTreeMap;

use netlink_packet_route::neighbour::NeighbourMessage;

use super::parse;

/// What the bridges of this namespace have learned.
#[derive(Debug, Default)]
pub(super) struct Bridges(BTreeMap<(u32, [u8; 6]), u32>);

impl Bridges {
    /// The port of `bridge` behind which `station` is.
    pub(super) fn port(&self, bridge: u32, station: [u8; 6]) -> Option<u32> {
        self.0.get(&(bridge, station)).copied()
    }

    /// Takes note of an entry; returns the station when that is news.
    pub(super) fn learn(&mut self, message: &NeighbourMessage) -> Option<[u8; 6]> {
        let (key, port) = parse::forwarding(message)?;
        (self.0.insert(key, port) != Some(port)).then_some(key.1)
    }

    /// Takes note of an entry that is gone; returns its station.
    pub(super) fn forget(&mut self, message: &NeighbourMessage) -> Option<[u8; 6]> {
        let (key, port) = parse::forwarding(message)?;
        // A station that moved is told of at its new port before it is at its old.
        if self.0.get(&key) != Some(&port) {
            return None;
        }
        self.0.remove(&key);
        Some(key.1)
    }
}

impl<'a> FromIterator<&'a NeighbourMessage> for Bridges {
    fn from_iter<I: IntoIterator<Item = &'a NeighbourMessage>>(messages: I) -> Self {
        Self(messages.into_iter().filter_map(parse::forwarding).collect())
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::{
        AddressFamily,
        neighbour::{NeighbourAttribute, NeighbourState},
    };

    use super::*;

    const STATION: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn entry(port: u32, state: NeighbourState) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = port;
        message.header.state = state;
        message.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(STATION.to_vec()),
            NeighbourAttribute::Controller(9),
        ];
        message
    }

    #[test]
    fn a_station_that_moves_is_behind_its_new_port() {
        let learned = |port| entry(port, NeighbourState::Reachable);
        let mut bridges: Bridges = [&learned(2)].into_iter().collect();
        assert_eq!(bridges.port(9, STATION), Some(2));
        assert_eq!(bridges.port(8, STATION), None);
        assert_eq!(bridges.learn(&learned(2)), None);
        assert_eq!(bridges.learn(&learned(3)), Some(STATION));
        assert_eq!(bridges.forget(&learned(2)), None);
        assert_eq!(bridges.port(9, STATION), Some(3));
        assert_eq!(bridges.forget(&learned(3)), Some(STATION));
        assert_eq!(bridges.port(9, STATION), None);
    }

    #[test]
    fn the_stations_of_ports_are_not_behind_them() {
        let mut bridges = Bridges::default();
        assert_eq!(bridges.learn(&entry(2, NeighbourState::Permanent)), None);
        assert_eq!(bridges.port(9, STATION), None);
    }
}
