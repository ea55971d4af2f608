//! Tracked connections, read from the flow tables while packets write them.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::Ordering,
};

use bytemuck::Pod;
use lb_common::{
    conn::Protocol,
    engine::CALL_KEY,
    family::{V4, V6},
    flow::{BLOCK, CONTROLLED, Control, FlowCell, StateWord, Times},
    layout::{DestEntry, ForwardMethod},
    tables::Cell,
    time::{TICK_SHIFT, Tick},
};

use super::state::State;
use crate::{
    dataplane::{Mapping, Maps},
    model::{Connection, Family, Flow, FlowFilter, Method, ServiceId},
};

/// A cell that was in use when it was read.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its place in the table.
    pub index: u32,
    /// Its state then.
    pub state: StateWord,
    /// Slot of its server.
    pub slot: u32,
    /// What `-L -c` shows.
    pub connection: Connection,
    method: Method,
}

/// Every live connection, in the order of the tables, IPv4's first.
pub fn connections(maps: &Maps) -> Vec<Connection> {
    let families = [Family::V4, Family::V6].into_iter();
    let found = families.flat_map(|family| found(maps, family));
    found.map(|found| found.connection).collect()
}

/// The connections that `filter` asks for, one by one as they are read.
pub fn flows<'a>(
    maps: &'a Maps,
    state: &State,
    filter: &'a FlowFilter,
) -> impl Iterator<Item = Flow> + use<'a> {
    let owners = owners(state);
    let families = [Family::V4, Family::V6].into_iter();
    let flows = families.flat_map(|family| found(maps, family));
    let flows = flows.map(move |found| flow_of(&found, &owners));
    flows.filter(|flow| filter.matches(flow))
}

/// Which service the server in each slot belongs to, or did.
pub type Owners = HashMap<u32, ServiceId>;

/// The owners of every slot in use.
pub fn owners(state: &State) -> Owners {
    let nodes = state.services().flat_map(|(id, service)| {
        let nodes = service.dests.iter();
        nodes.map(|node| (node.slot, *id))
    });
    let trash = state.trash();
    nodes
        .chain(trash.map(|trashed| (trashed.slot, trashed.service)))
        .collect()
}

/// What is shown of a cell.
pub fn flow_of(found: &Found, owners: &Owners) -> Flow {
    Flow {
        connection: found.connection.clone(),
        owner: owners.get(&found.slot).copied(),
        method: found.method,
        template: found.state.is_template(),
    }
}

/// The connections and templates of a family, one by one as they are read.
pub fn found(maps: &Maps, family: Family) -> Box<dyn Iterator<Item = Found> + '_> {
    let (dests, now) = (&maps.dests, Maps::now());
    let calls = |call| maps.call(call);
    match family {
        Family::V4 => Box::new(read(&maps.flow4, &maps.blocks4, family, dests, calls, now)),
        Family::V6 => Box::new(read(&maps.flow6, &maps.blocks6, family, dests, calls, now)),
    }
}

fn read<'a, C: Pod>(
    flows: &'a Mapping<C>,
    blocks: &'a Mapping<u64>,
    family: Family,
    dests: &'a Mapping<DestEntry>,
    calls: impl Fn([u64; 2]) -> Option<String> + 'a,
    now: Tick,
) -> impl Iterator<Item = Found> + 'a {
    let occupied = (0..blocks.len()).filter(|block| blocks.get(*block) != 0);
    let cells = occupied.flat_map(|block| block * BLOCK..((block + 1) * BLOCK).min(flows.len()));
    cells.filter_map(move |index| {
        connection(FlowCell(Words { flows, index }), family, dests, &calls, now)
    })
}

/// Tells the Call-ID that stands behind two words of a template's key.
type Calls<'a> = &'a dyn Fn([u64; 2]) -> Option<String>;

fn connection<C: Pod>(
    cell: FlowCell<Words<'_, C>>,
    family: Family,
    dests: &Mapping<DestEntry>,
    calls: Calls<'_>,
    now: Tick,
) -> Option<Found> {
    let state = cell.state();
    let (times, dest) = (cell.times(), cell.dest());
    let (client, mut service, mut ports) = key(cell, family);
    let mut pe = None;
    if state.is_template() && ports & CALL_KEY != 0 {
        let sums = match family {
            Family::V4 => cell.key::<V4>()[0] >> 32,
            Family::V6 => cell.key::<V6>()[2],
        };
        let id = calls([sums, ports]).unwrap_or_default();
        pe = Some(("sip".to_owned(), id));
        // The key has no room for them.
        let (addr, port) = match family {
            Family::V4 => cell.local::<V4>(),
            Family::V6 => cell.local::<V6>(),
        };
        service = match family {
            Family::V4 => v4(addr[0] as u32),
            Family::V6 => v6(addr[0], addr[1]),
        };
        ports = ports & 0xff << 32 | u64::from(port) << 16;
    }
    // A reverse cell is part of a connection that has a row already.
    if state.is_reverse() {
        return None;
    }
    // The cell may have passed to another connection while it was read.
    if !state.is_used() || cell.state().generation() != state.generation() {
        return None;
    }
    let deadline = deadline(cell, family, state, times, now)?;
    let protocol = (ports >> 32) as u8;
    let slot = dest as u32;
    let method = match ForwardMethod::from_bits((dest >> 32) as u8 & 7) {
        ForwardMethod::Masq => Method::Masq,
        ForwardMethod::Local => Method::Local,
        ForwardMethod::Tunnel => Method::Tunnel,
        ForwardMethod::Fullnat => Method::Fullnat,
        ForwardMethod::Route => Method::Route,
    };
    let dest = (slot < dests.len()).then(|| dests.get(slot))?;
    let service_port = if state.is_retired() {
        u16::MAX
    } else {
        port((ports >> 16) as u16)
    };
    let left = u64::from(deadline.wrapping_sub(now)) << TICK_SHIFT;
    let [a, b, c, d] = dest.addr.map(u64::from);
    // In a tunnel the server may be of the other family.
    let server = match dest.family {
        6 => v6(a | b << 32, c | d << 32),
        _ => v4(dest.addr[0]),
    };
    let connection = Connection {
        protocol,
        expires: (left / 1_000_000_000) as u32,
        state: state_name(state, protocol)?.into(),
        client: (client, port(ports as u16)),
        service: (service, service_port),
        dest: (
            server,
            // A template of any port has none; one that was retired has 65535.
            if dest.port == 0 || state.is_retired() || state.is_template() && service_port == 0 {
                service_port
            } else {
                port(dest.port)
            },
        ),
        pe,
    };
    Some(Found {
        index: cell.0.index,
        state,
        slot,
        connection,
        method,
    })
}

/// When it is over; `None` when it is. A template with connections lives on in
/// steps of a minute.
fn deadline<C: Pod>(
    cell: FlowCell<Words<'_, C>>,
    family: Family,
    state: StateWord,
    times: Times,
    now: Tick,
) -> Option<Tick> {
    let deadline = times.deadline();
    if !times.is_dead(now) {
        return Some(deadline);
    }
    let control = match family {
        Family::V4 => cell.link::<V4>(),
        Family::V6 => cell.link::<V6>(),
    };
    if !state.is_template() || Control(control.0).count() == 0 {
        return None;
    }
    let steps = now.wrapping_sub(deadline) / CONTROLLED + 1;
    Some(deadline.wrapping_add(steps * CONTROLLED))
}

fn state_name(state: StateWord, protocol: u8) -> Option<&'static str> {
    if state.is_template() {
        return Some(if state.is_assured() {
            "ASSURED"
        } else {
            "NONE"
        });
    }
    Some(Protocol::from_number(protocol)?.state_name(state.protocol_state()))
}

/// Client, service, and the word with ports and protocol.
fn key<C: Pod>(cell: FlowCell<Words<'_, C>>, family: Family) -> (IpAddr, IpAddr, u64) {
    match family {
        Family::V4 => {
            let [addresses, ports] = cell.key::<V4>();
            (v4(addresses as u32), v4((addresses >> 32) as u32), ports)
        }
        Family::V6 => {
            let [from, from_too, to, to_too, ports] = cell.key::<V6>();
            (v6(from, from_too), v6(to, to_too), ports)
        }
    }
}

fn v4(word: u32) -> IpAddr {
    Ipv4Addr::from(word.to_ne_bytes()).into()
}

fn v6(first: u64, second: u64) -> IpAddr {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_ne_bytes());
    bytes[8..].copy_from_slice(&second.to_ne_bytes());
    Ipv6Addr::from(bytes).into()
}

fn port(word: u16) -> u16 {
    u16::from_be(word)
}

/// A flow cell in the mapping; only ever read.
#[derive(Clone, Copy)]
struct Words<'a, C> {
    flows: &'a Mapping<C>,
    index: u32,
}

impl<C: Pod> Cell for Words<'_, C> {
    fn load(self, word: usize) -> u64 {
        self.flows.word(self.index, word).load(Ordering::Acquire)
    }

    fn store(self, word: usize, value: u64) {
        self.flows
            .word(self.index, word)
            .store(value, Ordering::Release);
    }

    fn compare_exchange(self, word: usize, old: u64, new: u64) -> u64 {
        let word = self.flows.word(self.index, word);
        let result = word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
        result.unwrap_or_else(|found| found)
    }

    fn add(self, word: usize, value: u64) {
        self.flows
            .word(self.index, word)
            .fetch_add(value, Ordering::SeqCst);
    }

    fn set_bits(self, word: usize, bits: u64) {
        self.flows
            .word(self.index, word)
            .fetch_or(bits, Ordering::SeqCst);
    }

    fn clear_bits(self, word: usize, bits: u64) {
        self.flows
            .word(self.index, word)
            .fetch_and(!bits, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{
        conn::{Counted, sctp, tcp, udp},
        family::Family as _,
        flow::{StateWord, Times, word},
        layout::ForwardMethod,
        time::seconds,
    };

    use super::*;
    use crate::address::words;

    const NOW: Tick = 1_000_000;
    const FREE: StateWord = StateWord(7 << 32);

    /// Server 0 is IPv6, server 1 IPv4.
    fn servers() -> Mapping<DestEntry> {
        let dests = Mapping::anonymous(2).unwrap();
        for (slot, addr) in [(0, "fd00:1::1"), (1, "192.168.1.1")] {
            let (addr, family) = words(addr.parse().unwrap());
            let entry = DestEntry {
                addr,
                port: 8080u16.to_be(),
                family,
                ..DestEntry::default()
            };
            dests.set(slot, entry);
        }
        dests
    }

    fn live() -> StateWord {
        FREE.live(tcp::state::ESTABLISHED, Counted::Active)
    }

    fn ports(protocol: u64) -> u64 {
        u64::from(44926u16.to_be()) | u64::from(80u16.to_be()) << 16 | protocol << 32
    }

    fn head<const N: usize>(state: StateWord, times: Times, slot: u32) -> [u64; N] {
        let mut words = [0; N];
        words[word::STATE] = state.0;
        words[word::TIMES] = times.0;
        words[word::DEST] = FlowCell::<Words<'_, [u64; 8]>>::dest_word(slot, ForwardMethod::Route);
        words
    }

    #[test]
    fn live_cells_become_rows() {
        let flows = Mapping::anonymous(3 * BLOCK).unwrap();
        let blocks = Mapping::anonymous(3).unwrap();
        let cell = |state: StateWord, protocol: u64, times: Times| {
            let mut words: [u64; 8] = head(state, times, 1);
            let client = u32::from_ne_bytes([10, 0, 0, 100]);
            let vip = u32::from_ne_bytes([10, 0, 0, 1]);
            words[V4::KEY[0]] = u64::from(client) | u64::from(vip) << 32;
            words[V4::KEY[1]] = ports(protocol);
            words
        };
        let used = NOW - seconds(3);
        let long = Times::new(used, seconds(900));
        flows.set(BLOCK, cell(live(), 6, long));
        flows.set(BLOCK + 1, cell(FREE, 6, long));
        flows.set(BLOCK + 2, cell(live(), 6, Times::new(used, seconds(2))));
        let udp = FREE.live(udp::STATE, Counted::Inactive);
        // A cell for replies is no connection of its own.
        flows.set(BLOCK + 3, cell(StateWord::live_reverse(), 6, long));
        let shut = FREE.live(sctp::state::S_ACK_SENT, Counted::Inactive);
        flows.set(BLOCK + 4, cell(shut, 132, Times::new(used, seconds(61))));
        flows.set(2 * BLOCK - 1, cell(udp, 17, Times::new(used, seconds(300))));
        // A block without cells is not looked at.
        flows.set(2 * BLOCK, cell(live(), 6, long));
        blocks.set(1, 5);
        let servers = servers();
        let rows = read(&flows, &blocks, Family::V4, &servers, |_| None, NOW);
        let rows: Vec<_> = rows.map(|found| found.connection).collect();
        let brief: Vec<_> = rows
            .iter()
            .map(|row| (row.protocol, row.state.as_str()))
            .collect();
        let wanted = [(6, "ESTABLISHED"), (132, "S-ACK-SENT"), (17, "UDP")];
        assert_eq!(brief, wanted);
        assert!(
            (896..=897).contains(&rows[0].expires),
            "{}",
            rows[0].expires
        );
        assert_eq!(rows[0].client, ([10, 0, 0, 100].into(), 44926));
        assert_eq!(rows[0].service, ([10, 0, 0, 1].into(), 80));
        assert_eq!(rows[0].dest, ([192, 168, 1, 1].into(), 8080));
    }

    #[test]
    fn rows_of_ipv6_with_servers_of_both_families() {
        let flows = Mapping::anonymous(BLOCK).unwrap();
        let blocks = Mapping::anonymous(1).unwrap();
        let times = Times::new(NOW, seconds(60));
        for (index, slot) in [(3, 0), (4, 1)] {
            let mut words: [u64; 16] = head(live(), times, slot);
            for (at, addr) in [(0, "2001:db8::100"), (2, "2001:db8::1")] {
                let addr: Ipv6Addr = addr.parse().unwrap();
                for (i, bytes) in addr.octets().chunks_exact(8).enumerate() {
                    words[V6::KEY[at + i]] = u64::from_ne_bytes(bytes.try_into().unwrap());
                }
            }
            words[V6::KEY[4]] = ports(6);
            flows.set(index, words);
        }
        blocks.set(0, 2);
        let servers = servers();
        let rows = read(&flows, &blocks, Family::V6, &servers, |_| None, NOW);
        let rows: Vec<_> = rows.map(|found| found.connection).collect();
        let ends: Vec<_> = rows
            .iter()
            .map(|row| [row.client, row.service, row.dest].map(|end| format!("{end:?}")))
            .collect();
        let common = ["(2001:db8::100, 44926)", "(2001:db8::1, 80)"];
        assert_eq!(
            ends,
            [
                [common[0], common[1], "(fd00:1::1, 8080)"],
                [common[0], common[1], "(192.168.1.1, 8080)"]
            ]
        );
    }
}
